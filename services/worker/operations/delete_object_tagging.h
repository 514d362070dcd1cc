#ifndef DROVER_SERVICES_WORKER_OPERATIONS_DELETE_OBJECT_TAGGING_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_DELETE_OBJECT_TAGGING_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/registry.h"

namespace drover {

// The operation `delete_object_tagging` of a job: delete_object_tagging.cc says what it does. Errors as
// OperationType::make.
absl::StatusOr<std::unique_ptr<Operation>> MakeDeleteObjectTagging(const v1::Operation& parameters,
                                                                   const OperationEnvironment& env);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_DELETE_OBJECT_TAGGING_H_
