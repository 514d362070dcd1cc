#ifndef DROVER_SERVICES_WORKER_OPERATIONS_CHANGE_OBJECT_TAGGING_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_CHANGE_OBJECT_TAGGING_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/registry.h"

namespace drover {

// Tags that an object can have in S3.
inline constexpr size_t kMaxTagsOfObject = 10;

// The operation `change_object_tagging` of a job: change_object_tagging.cc says what it does. Errors as
// OperationType::make.
absl::StatusOr<std::unique_ptr<Operation>> MakeChangeObjectTagging(const v1::Operation& parameters,
                                                                   const OperationEnvironment& env);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_CHANGE_OBJECT_TAGGING_H_
