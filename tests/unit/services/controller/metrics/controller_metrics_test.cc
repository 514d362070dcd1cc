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

}  // namespace
}  // namespace drover
