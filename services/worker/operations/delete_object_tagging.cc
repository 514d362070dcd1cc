// delete_object_tagging: removes all tags of each object (S3DeleteObjectTagging).
//
// Requests      for each task DELETE /bucket/key?tagging[&versionId=v]. Without a version id GET
// /bucket/key?tagging
//               looks whether it was done: radosgw answers 204 and keeps the tags where the bucket is
//               versioned. If tags are left, PUT /bucket/key?tagging with an empty set.
// Parameters    none.
// Transient     by common/objectstore/transient.h. Tags that can't be read are MalformedResponse.
// Twice         is the same as once. Tags that others put in between are removed as well.
// Rights        s3:DeleteObjectTagging and s3:GetObjectTagging; with version ids in the manifest
//               s3:DeleteObjectVersionTagging alone. On a store that keeps tags, s3:PutObjectTagging.
// Permanent     NoSuchKey, NoSuchVersion, NoSuchBucket, AccessDenied, MethodNotAllowed (a delete marker).
#include "services/worker/operations/delete_object_tagging.h"

#include <optional>
#include <string_view>
#include <utility>

#include "common/status/status.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/parameters.h"

namespace drover {
namespace {

class DeleteObjectTagging final : public Operation {
 public:
  DeleteObjectTagging(S3Client& store, const Clock& clock) : store_(store), clock_(clock) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    std::optional<Attempt> attempt = co_await Delete(group[0], context);
    if (attempt.has_value()) result.Set(0, *std::move(attempt));
  }

 private:
  static S3Request TaggingRequest(std::string_view method, const Task& task) {
    S3Request request = ObjectRequest(method, task);
    request.query.emplace_back("tagging", "");
    return request;
  }

  boost::asio::awaitable<std::optional<Attempt>> Delete(Task task, OperationContext& context) {
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, TaggingRequest("DELETE", task));
    std::optional<Attempt> attempt = AttemptOf(answer, clock_.Now());
    if (!answer.ok() || !answer->ok() || !task.version_id.empty()) co_return attempt;

    const absl::StatusOr<S3Response> look = co_await context.Send(store_, TaggingRequest("GET", task));
    if (look.ok() && look->error_code == "NoSuchTagSet") co_return attempt;
    if (!look.ok() || !look->ok()) co_return AttemptOf(look, clock_.Now());
    const auto tags = ParseTagging(look->body);
    if (!tags.has_value()) co_return UnreadableAttempt(*look, "The answer is no whole set of tags.");
    if (tags->empty()) co_return attempt;

    S3Request put = TaggingRequest("PUT", task);
    put.body = TaggingXml({});
    put.content_md5 = true;
    const absl::StatusOr<S3Response> emptied = co_await context.Send(store_, std::move(put));
    co_return AttemptOf(emptied, clock_.Now());
  }

  S3Client& store_;
  const Clock& clock_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeDeleteObjectTagging(const v1::Operation& parameters,
                                                                   const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * store, FindStore(parameters, env));
  DROVER_RETURN_IF_ERROR(RefuseRest(parameters.delete_object_tagging(), "delete_object_tagging"));
  return std::make_unique<DeleteObjectTagging>(*store, env.clock);
}

}  // namespace drover
