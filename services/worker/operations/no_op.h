#ifndef DROVER_SERVICES_WORKER_OPERATIONS_NO_OP_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_NO_OP_H_

#include <memory>

#include "absl/status/statusor.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/registry.h"

namespace drover {

// The operation `no_op` of a job: no_op.cc says what it does. Errors as OperationType::make.
absl::StatusOr<std::unique_ptr<Operation>> MakeNoOp(const v1::Operation& parameters,
                                                    const OperationEnvironment& env);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_NO_OP_H_
