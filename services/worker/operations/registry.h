// Which operations there are.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_REGISTRY_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/clock/clock.h"
#include "services/worker/operations/operation.h"
#include "services/worker/operations/store_clients.h"

namespace drover {

namespace v1 {
class Operation;
}  // namespace v1

// What operations are made of. Outlives them.
struct OperationEnvironment {
  const StoreClients& stores;
  const Clock& clock;
};

struct OperationType {
  std::string_view name;  // as in Operation.kind, and in Hello
  int32_t
      revision;  // grows when the meaning of parameters does; a job's parameters fix the least that will do
  int kind;      // v1::Operation::KindCase
  // Makes it for a job. INVALID_ARGUMENT if the parameters are none, NOT_FOUND if the store is unknown here.
  absl::StatusOr<std::unique_ptr<Operation>> (*make)(const v1::Operation& parameters,
                                                     const OperationEnvironment& env);
};

// All that this worker can run.
absl::Span<const OperationType> OperationTypes();

// The type of a job's operation; null if this worker can't run it.
const OperationType* FindOperationType(const v1::Operation& operation);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_REGISTRY_H_
