#include "services/controller/metrics/controller_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace drover {
namespace {

std::string Page() {
  std::ifstream file(DROVER_SOURCE_DIR "/docs/metrics.md");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The expected table is printed by a failure: it is to be copied into the page.
TEST(ControllerMetrics, ThePageHasItsTable) {
  EXPECT_THAT(Page(), ::testing::HasSubstr("\n\n" + MetricsMarkdown(ControllerMetrics()) + "\n"));
}

TEST(ControllerMetrics, ThePageHasTheTableOfEveryProcess) {
  EXPECT_THAT(Page(), ::testing::HasSubstr("\n\n" + MetricsMarkdown(ProcessMetrics()) + "\n"));
}

TEST(ControllerMetrics, AreAValidTableThatServesItself) {
  const auto metrics = Metrics::Create(ControllerMetrics());
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  std::vector<MetricDef> all = ControllerMetrics();
  all.insert(all.end(), ProcessMetrics().begin(), ProcessMetrics().end());
  EXPECT_THAT(DifferencesFromScrape(all, (*metrics)->Text()), ::testing::IsEmpty());
}

TEST(ControllerMetrics, CountRequestsToStoresByStoreMethodAndStatus) {
  const auto metrics = Metrics::Create(ControllerMetrics(), {{"store", {"main"}}});
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  CountStoreRequest(**metrics, "main", "PUT", 503, absl::Milliseconds(20), false);
  CountStoreRequest(**metrics, "main", "PUT", 200, absl::Milliseconds(20), true);
  CountStoreRequest(**metrics, "main", "GET", 0, absl::Seconds(2), false);
  CountStoreRequest(**metrics, "unheard-of", "PATCH", 999, absl::Seconds(2), false);
  const std::string text = (*metrics)->Text();
  for (const char* line : {R"(drover_store_requests_total{method="PUT",status="5xx",store="main"} 1)",
                           R"(drover_store_requests_total{method="PUT",status="2xx",store="main"} 1)",
                           R"(drover_store_requests_total{method="GET",status="none",store="main"} 1)",
                           R"(drover_store_requests_total{method="other",status="5xx",store="other"} 1)",
                           R"(drover_store_retries_total{method="PUT",store="main"} 1)",
                           R"(drover_store_retries_total{method="GET",store="main"} 0)",
                           R"(drover_store_request_seconds_count{method="PUT",store="main"} 2)"}) {
    EXPECT_THAT(text, ::testing::HasSubstr(std::string(line) + "\n"));
  }
}

TEST(ControllerMetrics, TasksAreCountedForEveryOperationThatAJobCanHave) {
  const auto metrics = Metrics::Create(ControllerMetrics());
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  metrics.value()->counter("drover_tasks_recorded_total", {"copy_object", "failed"}).Add(3);
  EXPECT_THAT(
      (*metrics)->Text(),
      ::testing::HasSubstr("drover_tasks_recorded_total{operation=\"copy_object\",result=\"failed\"} 3\n"));
}

}  // namespace
}  // namespace drover
