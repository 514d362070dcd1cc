#ifndef DROVER_SERVICES_WORKER_OPERATIONS_DELETE_OBJECT_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_DELETE_OBJECT_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/registry.h"

namespace drover {

// Objects in one group, and in one DeleteObjects request: as many as S3 takes.
inline constexpr size_t kMaxDeleteGroup = 1000;
// Bytes of the document of one such request; a group with more of them makes several. Stores take at least 1
// MiB.
inline constexpr size_t kMaxDeleteDocument = 512 << 10;

// The operation `delete_object` of a job: delete_object.cc says what it does. Errors as OperationType::make.
absl::StatusOr<std::unique_ptr<Operation>> MakeDeleteObject(const v1::Operation& parameters,
                                                            const OperationEnvironment& env);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_DELETE_OBJECT_H_
