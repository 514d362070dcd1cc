#ifndef DROVER_SERVICES_WORKER_OPERATIONS_UNDELETE_OBJECT_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_UNDELETE_OBJECT_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/registry.h"

namespace drover {

// Delete markers that one task removes at most; an object under more of them fails.
inline constexpr size_t kMaxStackedMarkers = 999;

// The operation `undelete_object` of a job: undelete_object.cc says what it does. Errors as
// OperationType::make.
absl::StatusOr<std::unique_ptr<Operation>> MakeUndeleteObject(const v1::Operation& parameters,
                                                              const OperationEnvironment& env);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_UNDELETE_OBJECT_H_
