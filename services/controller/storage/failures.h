// A job's failed tasks, counted by error code and HTTP status: what both implementations of Storage do with
// the outcomes of a segment, so that both count alike.
//
//   std::vector<FailureGroup> groups = …;    // the job's, read under the lock of its job_state row
//   for (const SegmentWrite& segment : recorded) AddFailures(segment, groups);
//
// Which kinds get a group of their own depends on the order of recording, so the groups are read and written
// while the job's counters are locked.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_FAILURES_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_FAILURES_H_

#include <vector>

#include "services/controller/storage/storage.h"

namespace drover {

// Adds the failed tasks of a segment that is recorded now to its job's groups, in any order: to the group of
// their kind; to a new one while there are fewer than kMaxFailureGroups; else to the group `others`. Exactly
// segment.failed tasks are added: those that the payload does not tell of have no code and no status. Pure.
void AddFailures(const SegmentWrite& segment, std::vector<FailureGroup>& groups);

// The order in which a job's groups are shown: most tasks first, equals by code and status, the others last.
void SortFailureGroups(std::vector<FailureGroup>& groups);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_FAILURES_H_
