#include "services/worker/metrics/worker_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace drover {
namespace {

// The expected table is printed by a failure: it is to be copied into the page.
TEST(WorkerMetrics, ThePageHasItsTable) {
  std::ifstream file(DROVER_SOURCE_DIR "/docs/metrics.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(page, ::testing::HasSubstr("\n\n" + MetricsMarkdown(WorkerMetrics()) + "\n"));
}

TEST(WorkerMetrics, AreAValidTableThatServesItself) {
  const auto metrics = Metrics::Create(WorkerMetrics(), {{"store", {"main"}}});
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  std::vector<MetricDef> all = WorkerMetrics();
  all.insert(all.end(), ProcessMetrics().begin(), ProcessMetrics().end());
  EXPECT_THAT(DifferencesFromScrape(all, (*metrics)->Text()), ::testing::IsEmpty());
}

}  // namespace
}  // namespace drover
