#include "services/worker/operations/parameters.h"

#include <google/protobuf/message.h>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"

namespace drover {

absl::StatusOr<S3Client*> FindStore(const v1::Operation& parameters, const OperationEnvironment& env) {
  S3Client* store = env.stores.Find(parameters.store());
  if (store != nullptr) return store;
  return Error(absl::StatusCode::kNotFound, "STORE_NOT_FOUND",
               StrCat("no s3 store is called ", parameters.store()));
}

absl::Status RefuseRest(const google::protobuf::Message& rest, std::string_view operation) {
  if (rest.ByteSizeLong() == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID",
               StrCat(operation, " has parameters that are not known"));
}

}  // namespace drover
