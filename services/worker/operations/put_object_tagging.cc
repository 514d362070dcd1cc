// put_object_tagging: replaces the tags of each object (S3PutObjectTagging).
//
// Requests      one for each task: PUT /bucket/key?tagging[&versionId=v] with a <Tagging> document and its
//               Content-MD5.
// Parameters    tags: at most 10, keys of 1 to 128 and values of 0 to 256 characters; none removes all tags.
// Transient     by common/objectstore/transient.h; nothing of its own.
// Twice         is the same as once: the whole set of tags is replaced. A set that others wrote in between is
//               replaced as well.
// Rights        s3:PutObjectTagging; with version ids in the manifest s3:PutObjectVersionTagging.
// Permanent     NoSuchKey, NoSuchVersion, NoSuchBucket, AccessDenied, MethodNotAllowed (a delete marker),
// InvalidTag.
#include "services/worker/operations/put_object_tagging.h"

#include <string>
#include <utility>
#include <vector>

#include "common/status/status.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/parameters.h"

namespace drover {
namespace {

class PutObjectTagging final : public Operation {
 public:
  PutObjectTagging(S3Client& store, const Clock& clock, std::string document)
      : store_(store), clock_(clock), document_(std::move(document)), md5_(ContentMd5(document_)) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    S3Request request = ObjectRequest("PUT", group[0]);
    request.query.emplace_back("tagging", "");
    request.borrowed_body = document_;
    request.headers.Add("Content-MD5", md5_);
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, std::move(request));
    if (std::optional<Attempt> attempt = AttemptOf(answer, clock_.Now())) result.Set(0, *std::move(attempt));
  }

 private:
  S3Client& store_;
  const Clock& clock_;
  const std::string document_;
  const std::string md5_;  // the same for every object
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakePutObjectTagging(const v1::Operation& parameters,
                                                                const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * store, FindStore(parameters, env));
  std::vector<std::pair<std::string, std::string>> tags;
  for (const v1::Tag& tag : parameters.put_object_tagging().tags()) tags.emplace_back(tag.key(), tag.value());
  return std::make_unique<PutObjectTagging>(*store, env.clock, TaggingXml(tags));
}

}  // namespace drover
