// head_object: looks whether each object is there and can be read, and reports its size and ETag.
//
// Requests      one for each task: HEAD /bucket/key[?versionId=v].
// Parameters    none. The outcome's message is "size=<bytes> etag=<ETag without quotes>".
// Transient     by common/objectstore/transient.h; nothing of its own.
// Twice         is the same as once: nothing is changed. The outcome tells what the last look found.
// Rights        s3:GetObject, with version ids in the manifest s3:GetObjectVersion; s3:ListBucket on the
// bucket, or a
//               missing object is answered with 403.
// Permanent     NotFound (no such object, version or bucket, or it is deleted: an answer to HEAD has no
// code),
//               Forbidden, MethodNotAllowed (the version named is a delete marker), BadRequest (e.g.
//               encrypted with a key that the client has), InvalidObjectState (archived, and not restored).
#include "services/worker/operations/head_object.h"

#include <optional>
#include <string>
#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/parameters.h"

namespace drover {
namespace {

// Whether the content can't be read before it is restored from an archive: a GET would be refused.
bool IsArchived(const HttpHeaders& headers) {
  const std::string_view storage_class = headers.Get("x-amz-storage-class");
  const bool archived =
      storage_class == "GLACIER" || storage_class == "DEEP_ARCHIVE" || headers.Has("x-amz-archive-status");
  // Restored for a time: ongoing-request="false", expiry-date="…".
  return archived && headers.Get("x-amz-restore").find("ongoing-request=\"false\"") == std::string_view::npos;
}

std::string Describe(const HttpHeaders& headers) {
  const std::string_view size = headers.Get("Content-Length");
  return StrCat("size=", size.empty() ? "?" : size, " etag=", WithoutQuotes(headers.Get("ETag")));
}

class HeadObject final : public Operation {
 public:
  HeadObject(S3Client& store, const Clock& clock) : store_(store), clock_(clock) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, ObjectRequest("HEAD", group[0]));
    std::optional<Attempt> attempt = AttemptOf(answer, clock_.Now());
    if (!attempt.has_value()) attempt.emplace();
    if (answer.ok() && answer->ok()) {
      if (IsArchived(answer->headers)) {
        attempt = FailedAttempt("InvalidObjectState", "The content is archived, and not restored.");
        attempt->outcome.http_status = static_cast<uint16_t>(answer->status);
      } else {
        attempt->outcome.message = Describe(answer->headers);
      }
    } else if (answer.ok() && answer->headers.Get("x-amz-delete-marker") == "true") {
      attempt->outcome.message = "It is a delete marker.";
    }
    result.Set(0, *std::move(attempt));
  }

 private:
  S3Client& store_;
  const Clock& clock_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeHeadObject(const v1::Operation& parameters,
                                                          const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * store, FindStore(parameters, env));
  DROVER_RETURN_IF_ERROR(RefuseRest(parameters.head_object(), "head_object"));
  return std::make_unique<HeadObject>(*store, env.clock);
}

}  // namespace drover
