// Whether a segment is what a worker may send of its lease, and what it says in domain terms.
#ifndef DROVER_SERVICES_CONTROLLER_DISPATCH_SEGMENT_CHECK_H_
#define DROVER_SERVICES_CONTROLLER_DISPATCH_SEGMENT_CHECK_H_

#include "absl/status/statusor.h"
#include "common/codec/task_set.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Checks a new segment against the tasks that its lease still has open (neither recorded, nor submitted, nor
// given back) and makes what is to be recorded, texts made clean and cut to their limits. Session and the id
// of a given-back lease are left to the caller. INVALID_ARGUMENT names what is wrong: an index outside the
// lease, a task named twice or recorded before, an empty segment, an outcome without attempts.
absl::StatusOr<SegmentWrite> CheckSegment(const v1::Segment& segment, const TaskSet& open,
                                          int32_t batch_tasks);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DISPATCH_SEGMENT_CHECK_H_
