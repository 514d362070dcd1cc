// What every operation does with a job's parameters before its own.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_PARAMETERS_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_PARAMETERS_H_

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/objectstore/s3_client.h"
#include "services/worker/operations/registry.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace drover {

// The client of the objects' store. NOT_FOUND (STORE_NOT_FOUND) if this worker has none of that name.
absl::StatusOr<S3Client*> FindStore(const v1::Operation& parameters, const OperationEnvironment& env);

// `rest` is a message of parameters from which those that are carried out were cleared. INVALID_ARGUMENT
// (OPERATION_INVALID) if something is left, a field of a later release for instance: it must not be ignored.
absl::Status RefuseRest(const google::protobuf::Message& rest, std::string_view operation);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_PARAMETERS_H_
