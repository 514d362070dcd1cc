// delete_object_tagging: removes all tags of each object (S3DeleteObjectTagging).
//
// Requests      one for each task: DELETE /bucket/key?tagging[&versionId=v].
// Parameters    none.
// Transient     by common/objectstore/transient.h; nothing of its own.
// Twice         is the same as once. Tags that others put in between are removed as well.
// Rights        s3:DeleteObjectTagging; with version ids in the manifest s3:DeleteObjectVersionTagging.
// Permanent     NoSuchKey, NoSuchVersion, NoSuchBucket, AccessDenied, MethodNotAllowed (a delete marker).
#include "services/worker/operations/delete_object_tagging.h"

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
    S3Request request = ObjectRequest("DELETE", group[0]);
    request.query.emplace_back("tagging", "");
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, std::move(request));
    if (std::optional<Attempt> attempt = AttemptOf(answer, clock_.Now())) result.Set(0, *std::move(attempt));
  }

 private:
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
