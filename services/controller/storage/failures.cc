#include "services/controller/storage/failures.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "common/codec/outcomes.h"

namespace drover {
namespace {

FailureGroup& GroupOf(const std::string& code, int32_t http_status, std::vector<FailureGroup>& groups) {
  size_t own = 0;
  FailureGroup* others = nullptr;
  for (FailureGroup& group : groups) {
    if (group.others) {
      others = &group;
    } else if (group.http_status == http_status && group.code == code) {
      return group;
    } else {
      ++own;
    }
  }
  if (own < static_cast<size_t>(kMaxFailureGroups)) {
    groups.push_back({code, http_status, false, 0, {}});
  } else if (others == nullptr) {
    groups.push_back({"", 0, true, 0, {}});
  } else {
    return *others;
  }
  return groups.back();
}

}  // namespace

void AddFailures(const SegmentWrite& segment, std::vector<FailureGroup>& groups) {
  int64_t left = segment.failed;
  if (left <= 0) return;
  // What can't be read is counted all the same, below.
  const absl::StatusOr<std::vector<FailureCount>> counts = CountFailures(segment.payload);
  if (counts.ok()) {
    for (const FailureCount& count : *counts) {
      const int64_t tasks = std::min<int64_t>(count.tasks, left);
      if (tasks == 0) break;
      FailureGroup& group = GroupOf(count.code, count.http_status, groups);
      group.tasks += tasks;
      left -= tasks;
      for (const uint32_t index : count.first) {
        if (group.examples.size() >= static_cast<size_t>(kMaxFailureExamples)) break;
        group.examples.push_back({segment.lease.batch_no, index});
      }
    }
  }
  if (left > 0) GroupOf("", 0, groups).tasks += left;
}

void SortFailureGroups(std::vector<FailureGroup>& groups) {
  using Key = std::tuple<bool, int64_t, const std::string&, int32_t>;
  std::sort(groups.begin(), groups.end(), [](const FailureGroup& a, const FailureGroup& b) {
    return Key(a.others, -a.tasks, a.code, a.http_status) < Key(b.others, -b.tasks, b.code, b.http_status);
  });
}

}  // namespace drover
