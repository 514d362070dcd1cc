// docs/lifecycle.md says what kTransitions says: its table row by row, its diagram pair by pair.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/strings/strings.h"
#include "services/controller/lifecycle/lifecycle.h"

namespace drover::lifecycle {
namespace {

std::vector<std::string> Lines() {
  std::ifstream file(DROVER_SOURCE_DIR "/docs/lifecycle.md");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::vector<std::string> lines;
  for (const std::string_view line : Split(text, '\n')) lines.emplace_back(line);
  return lines;
}

std::string Row(std::string_view from, std::string_view cause, std::string_view to) {
  return StrCat(from, " | ", cause, " | ", to);
}

TEST(LifecycleDoc, TableHasTheRowsOfTheCodeInTheirOrder) {
  std::vector<std::string> documented;
  for (const std::string& line : Lines()) {
    const std::vector<std::string_view> cells = Split(line, '|');
    if (cells.size() != 6) continue;  // "| a | b | c | d |"
    const std::string_view from = StripWhitespace(cells[1]);
    if (from == "from" || from == "---") continue;
    EXPECT_FALSE(StripWhitespace(cells[4]).empty()) << line;
    documented.push_back(Row(from, StripWhitespace(cells[2]), StripWhitespace(cells[3])));
  }
  std::vector<std::string> expected;
  for (const Transition& row : kTransitions) {
    expected.push_back(Row(StateName(row.from), CauseName(row.cause), StateName(row.to)));
  }
  EXPECT_THAT(documented, ::testing::ElementsAreArray(expected));
}

// "  READY --> PAUSED: pause, failure policy" has two rows of the table.
TEST(LifecycleDoc, DiagramHasTheRowsOfTheCode) {
  std::set<std::string> drawn;
  for (const std::string& line : Lines()) {
    constexpr std::string_view kArrow = " --> ";
    const size_t arrow = line.find(kArrow);
    const size_t colon = line.find(": ");
    if (arrow == std::string::npos || colon == std::string::npos)
      continue;  // the start and the ends have no cause
    const std::string_view view = line;
    const std::string_view from = StripWhitespace(view.substr(0, arrow));
    const std::string_view to = view.substr(arrow + kArrow.size(), colon - arrow - kArrow.size());
    for (const std::string_view cause : Split(view.substr(colon + 2), ',')) {
      EXPECT_TRUE(drawn.insert(Row(from, StripWhitespace(cause), to)).second) << line;
    }
  }
  std::set<std::string> expected;
  for (const Transition& row : kTransitions) {
    expected.insert(Row(StateName(row.from), CauseName(row.cause), StateName(row.to)));
  }
  EXPECT_EQ(drawn, expected);
}

}  // namespace
}  // namespace drover::lifecycle
