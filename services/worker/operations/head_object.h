#ifndef DROVER_SERVICES_WORKER_OPERATIONS_HEAD_OBJECT_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_HEAD_OBJECT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/registry.h"

namespace drover {

// The operation `head_object` of a job: head_object.cc says what it does. Errors as OperationType::make.
absl::StatusOr<std::unique_ptr<Operation>> MakeHeadObject(const v1::Operation& parameters,
                                                          const OperationEnvironment& env);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_HEAD_OBJECT_H_
