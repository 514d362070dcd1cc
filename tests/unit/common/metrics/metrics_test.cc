#include "common/metrics/metrics.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<MetricDef> Table() {
  return {
      {"x_tasks_total",
       MetricType::kCounter,
       "Tasks that ended.",
       {{"operation", {"noop", "copy"}}, {"result", {"succeeded", "failed"}}}},
      {"x_jobs", MetricType::kGauge, "Jobs by state.", {{"state", {"Active", "Ready"}}}},
      {"x_request_seconds",
       MetricType::kHistogram,
       "Time of a request.",
       {{"store", MetricLabel::kConfigured}},
       {0.1, 1}},
      {"x_sessions", MetricType::kGauge, "Sessions."},
  };
}

std::unique_ptr<Metrics> Make() {
  auto metrics = Metrics::Create(Table(), {{"store", {"main", "we\"ird} ,a=\""}}});
  EXPECT_TRUE(metrics.ok()) << metrics.status();
  return *std::move(metrics);
}

std::vector<MetricDef> WholeTable() {
  std::vector<MetricDef> table = Table();
  table.insert(table.end(), ProcessMetrics().begin(), ProcessMetrics().end());
  return table;
}

// The body of GET /metrics, by a plain socket.
std::string Scrape(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    char buffer[4096];
    for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;)
      answer.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return answer.substr(std::min(answer.size(), answer.find("\r\n\r\n") + 4));
}

TEST(MetricsTest, ShowsEverySeriesFromTheStartAndCounts) {
  const auto metrics = Make();
  EXPECT_THAT(metrics->Text(), HasSubstr("x_tasks_total{operation=\"copy\",result=\"failed\"} 0"));
  metrics->counter("x_tasks_total", {"copy", "failed"}).Add(3);
  metrics->counter("x_tasks_total", {"copy", "failed"}).Add();
  metrics->gauge("x_jobs", {"Active"}).Set(7);
  metrics->gauge("x_jobs", {"Active"}).Add(-2);
  metrics->histogram("x_request_seconds", {"main"}).Observe(0.5);
  const std::string text = metrics->Text();
  EXPECT_THAT(text, HasSubstr("x_tasks_total{operation=\"copy\",result=\"failed\"} 4"));
  EXPECT_THAT(text, HasSubstr("x_jobs{state=\"Active\"} 5"));
  EXPECT_THAT(text, HasSubstr("x_request_seconds_bucket{store=\"main\",le=\"0.1\"} 0"));
  EXPECT_THAT(text, HasSubstr("x_request_seconds_bucket{store=\"main\",le=\"1\"} 1"));
}

TEST(MetricsTest, ValueOutsideItsListIsCountedUnderOther) {
  const auto metrics = Make();
  for (int i = 0; i < 1000; ++i)
    metrics->counter("x_tasks_total", {"op" + std::to_string(i), "failed"}).Add();
  const std::string text = metrics->Text();
  EXPECT_THAT(text, HasSubstr("x_tasks_total{operation=\"other\",result=\"failed\"} 1000"));
  EXPECT_THAT(text, Not(HasSubstr("op17")));
}

TEST(MetricsTest, HandlesWithoutARegistryDoNothing) {
  Counter().Add();
  Gauge().Set(1);
  Gauge().Add(1);
  Histogram().Observe(1);
}

TEST(MetricsTest, ServesItsTableOverHttp) {
  const auto metrics = Make();
  auto server = MetricsServer::Start("127.0.0.1:0", *metrics);
  ASSERT_TRUE(server.ok()) << server.status();
  ASSERT_GT((*server)->port(), 0);
  metrics->gauge("x_sessions").Set(3);
  const std::string scrape = Scrape((*server)->port());
  EXPECT_THAT(scrape, HasSubstr("x_sessions 3"));
  EXPECT_THAT(DifferencesFromScrape(WholeTable(), scrape), IsEmpty());
}

TEST(MetricsTest, AddressInUseIsUnavailable) {
  const auto metrics = Make();
  auto first = MetricsServer::Start("127.0.0.1:0", *metrics);
  ASSERT_TRUE(first.ok());
  auto second = MetricsServer::Start("127.0.0.1:" + std::to_string((*first)->port()), *metrics);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

TEST(MetricsTest, ScrapeThatDiffersFromItsTableIsNoticed) {
  const auto metrics = Make();
  std::vector<MetricDef> table = WholeTable();
  table[0].help = "Other words.";
  table[1].labels[0].name = "status";
  table[2].type = MetricType::kGauge;
  table.erase(table.begin() + 3);
  table.push_back({"x_missing", MetricType::kGauge, "Not there."});
  EXPECT_THAT(DifferencesFromScrape(table, metrics->Text()),
              ElementsAre("x_tasks_total: help is \"Tasks that ended.\"", "x_jobs: labels are state",
                          "x_request_seconds: is a histogram", "x_missing: not in the scrape",
                          "x_sessions: not in the table"));
}

TEST(MetricsTest, ProcessMetricsHavePlausibleValues) {
  const std::string text = Make()->Text();
  const auto value = [&](const std::string& name) {
    return std::stod(text.substr(text.find("\n" + name + " ") + name.size() + 2));
  };
  EXPECT_GT(value("process_resident_memory_bytes"), 1e6);
  EXPECT_GE(value("process_peak_resident_memory_bytes"), value("process_resident_memory_bytes"));
  EXPECT_GE(value("process_threads"), 1);
  EXPECT_GE(value("process_open_fds"), 3);
  EXPECT_GT(value("process_start_time_seconds"), 1.6e9);
}

TEST(MetricsTest, BadTableIsRefused) {
  const auto refused = [](MetricDef def) { return !Metrics::Create({std::move(def)}).ok(); };
  EXPECT_TRUE(refused({"X", MetricType::kGauge, "Help."}));
  EXPECT_TRUE(refused({"1x", MetricType::kGauge, "Help."}));
  EXPECT_TRUE(refused({"x", MetricType::kCounter, "Help."}));
  EXPECT_TRUE(refused({"x_total", MetricType::kGauge, "Help."}));
  EXPECT_TRUE(refused({"x", MetricType::kGauge, ""}));
  EXPECT_TRUE(refused({"x", MetricType::kGauge, "Help.", {}, {1}}));
  EXPECT_TRUE(refused({"x", MetricType::kHistogram, "Help."}));
  EXPECT_TRUE(refused({"x", MetricType::kHistogram, "Help.", {}, {1, 1}}));
  EXPECT_TRUE(refused({"x", MetricType::kGauge, "Help.", {{"a", std::vector<std::string>{}}}}));
  EXPECT_TRUE(refused({"x", MetricType::kGauge, "Help.", {{"le", {"a"}}}}));
  const std::vector<std::string> many(70, "v");
  EXPECT_TRUE(refused({"x", MetricType::kGauge, "Help.", {{"a", many}, {"b", many}}}));
  EXPECT_FALSE(Metrics::Create({{"x", MetricType::kGauge, "A."}, {"x", MetricType::kGauge, "B."}}).ok());
}

TEST(MetricsDeathTest, NameThatIsNotInTheTableAborts) {
  const auto metrics = Make();
  EXPECT_DEATH(metrics->counter("x_typo_total"), "not in the table");
  EXPECT_DEATH(metrics->counter("x_jobs", {"Active"}), "another type");
  EXPECT_DEATH(metrics->gauge("x_jobs"), "number of labels");
}

TEST(MetricsTest, MarkdownListsEachMetric) {
  EXPECT_EQ(MetricsMarkdown(Table()),
            "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
            "| `x_tasks_total` | counter | `operation`: noop, copy; `result`: succeeded, failed | Tasks that "
            "ended. |\n"
            "| `x_jobs` | gauge | `state`: Active, Ready | Jobs by state. |\n"
            "| `x_request_seconds` | histogram | `store`: as configured | Time of a request. |\n"
            "| `x_sessions` | gauge |  | Sessions. |\n");
}

}  // namespace
}  // namespace drover
