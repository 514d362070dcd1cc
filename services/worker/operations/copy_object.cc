// copy_object: a server-side copy of each object within one store (S3PutObjectCopy).
//
// Requests      one for each task: PUT /target/prefix+key with x-amz-copy-source: /bucket/key[?versionId=v].
// Parameters    target_bucket (default: each object's own), target_key_prefix (put in front as it is).
// Metadata and
//               tags are carried over by the store.
// Transient     by common/objectstore/transient.h. The store may answer 200 and then fail: the error is in
// the body,
//               and is treated as if it were the status. An answer that is lost is asked for again.
// Twice         writes the same copy again: the same content under the same key, but on a versioned target
// one version
//               more; and if the source changed in between, what it is then.
// Rights        s3:GetObject (s3:GetObjectVersion with version ids), s3:GetObjectTagging on the source;
// s3:PutObject and
//               s3:PutObjectTagging on the target.
// Permanent     NoSuchKey, NoSuchVersion, NoSuchBucket, AccessDenied, InvalidObjectState (archived). Objects
// over 5 GB
//               are refused by the store (InvalidRequest, or EntityTooLarge). Refused here, without a
//               request: CopyOntoItself (the target is the source, and nothing would change) and KeyTooLong
//               (with the prefix).
#include "services/worker/operations/copy_object.h"

#include <string>
#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"

namespace drover {
namespace {

class CopyObject final : public Operation {
 public:
  CopyObject(S3Client& store, const Clock& clock, std::string bucket, std::string prefix)
      : store_(store), clock_(clock), bucket_(std::move(bucket)), prefix_(std::move(prefix)) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    const Task task = group[0];
    S3Request request;
    request.method = "PUT";
    request.bucket = bucket_.empty() ? std::string(task.bucket) : bucket_;
    request.key = StrCat(prefix_, task.key);
    if (request.key.size() > kMaxKeyBytes) {
      result.Set(0, FailedAttempt("KeyTooLong", StrCat("With the prefix the key has ", request.key.size(),
                                                       " bytes; at most 1024 are allowed.")));
      co_return;
    }
    // With a version id it is a restore of that version, which changes something.
    if (task.version_id.empty() && prefix_.empty() && request.bucket == task.bucket) {
      result.Set(
          0, FailedAttempt("CopyOntoItself", "The object would be copied onto itself with nothing changed."));
      co_return;
    }
    request.headers.Add("x-amz-copy-source", EncodeCopySource(task.bucket, task.key, task.version_id));
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, std::move(request));
    if (std::optional<Attempt> attempt = AttemptOf(answer, clock_.Now())) result.Set(0, *std::move(attempt));
  }

 private:
  S3Client& store_;
  const Clock& clock_;
  const std::string bucket_;
  const std::string prefix_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeCopyObject(const v1::Operation& parameters,
                                                          const OperationEnvironment& env) {
  S3Client* store = env.stores.Find(parameters.store());
  if (store == nullptr) {
    return Error(absl::StatusCode::kNotFound, "STORE_NOT_FOUND",
                 StrCat("no s3 store is called ", parameters.store()));
  }
  const v1::CopyObject& copy = parameters.copy_object();
  if (!copy.target_store().empty() && copy.target_store() != parameters.store()) {
    return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID", "copies stay within one store");
  }
  // What this revision doesn't carry out must not be ignored: whatever is left over here is refused.
  v1::CopyObject rest = copy;
  rest.clear_target_bucket();
  rest.clear_target_key_prefix();
  rest.clear_target_store();
  if (rest.metadata_directive() == v1::CopyObject::COPY) rest.clear_metadata_directive();
  if (rest.tagging_directive() == v1::CopyObject::COPY) rest.clear_tagging_directive();
  if (rest.ByteSizeLong() != 0) {
    return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID",
                 "copy_object has parameters that are not known");
  }
  return std::make_unique<CopyObject>(*store, env.clock, copy.target_bucket(), copy.target_key_prefix());
}

}  // namespace drover
