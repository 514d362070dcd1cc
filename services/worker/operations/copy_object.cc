// copy_object: a copy of each object (S3PutObjectCopy): within one store by the store itself, or to another
// store by streaming (copy_across_stores.h).
//
// Requests      within one store one for each task: PUT /target/prefix+key with
//               x-amz-copy-source: /bucket/key[?versionId=v]. Before it, with time conditions, a HEAD of the
//               source; with new metadata, GET ?tagging of it. After it, where the job asks for what some
//               stores pass over, a look at the copy (copy_checks.h): HEAD for a storage class, and for an
//               encryption that the answer does not show; GET ?acl; GET ?tagging, and PUT ?tagging where the
//               new tags are not there.
// Parameters    target_bucket (default: each object's own), target_key_prefix (put in front as it is),
//               target_store; metadata, tags, storage class, ACL, encryption, conditions, who pays, checksum:
//               see copy_settings.h.
// Transient     by common/objectstore/transient.h. The store may answer 200 and then fail: the error is in
//               the body, and is treated as if it were the status. An answer that is lost is asked for again.
// Twice         writes the same copy again: the same content under the same key, but on a versioned target
//               one version more; and if the source changed in between, what it is then.
// Rights        s3:GetObject (s3:GetObjectVersion with version ids) and s3:GetObjectTagging on the source;
//               s3:PutObject and s3:PutObjectTagging on the target; for an ACL s3:PutObjectAcl; for what is
//               looked at s3:GetObject, s3:GetObjectAcl and s3:GetObjectTagging there.
// Permanent     NoSuchKey, NoSuchVersion, NoSuchBucket, AccessDenied, InvalidObjectState (archived). Objects
//               over 5 GB are refused by the store (InvalidRequest, or EntityTooLarge). Refused here:
//               CopyOntoItself (the target is the source, and nothing would change), KeyTooLong (with the
//               prefix), PreconditionFailed.
#include "services/worker/operations/copy_object.h"

#include <string>
#include <utility>

#include "common/http/http_date.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/copy_across_stores.h"
#include "services/worker/operations/copy_checks.h"
#include "services/worker/operations/copy_settings.h"
#include "services/worker/operations/parameters.h"

namespace drover {
namespace {

boost::asio::awaitable<std::optional<Attempt>> CopyWithinStore(const CopyTask& task) {
  const CopySettings& settings = task.settings;
  if (settings.conditional()) {
    S3Response head;
    if (std::optional<Attempt> attempt = co_await CheckSource(task, head)) co_return attempt;
  }
  // With new metadata some stores (Ceph's gateway) drop the tags that should be carried over. Read before,
  // since the copy may be one onto itself.
  std::optional<ObjectTags> tags = settings.tags;
  if (settings.metadata.has_value() && !tags.has_value()) {
    ObjectTags kept;
    if (std::optional<Attempt> attempt = co_await ReadTags(task, task.source, kept)) co_return attempt;
    if (!kept.empty()) tags = std::move(kept);
  }
  S3Request request = RequestFor("PUT", task.target, settings.write_headers);
  request.headers.Add("x-amz-copy-source",
                      EncodeCopySource(task.source.bucket, task.source.key, task.source.version_id));
  // Again for the store, which can close the window between the HEAD and the copy, if it heeds them.
  if (settings.modified_since.has_value()) {
    request.headers.Add("x-amz-copy-source-if-modified-since", FormatHttpDate(*settings.modified_since));
  }
  if (settings.unmodified_since.has_value()) {
    request.headers.Add("x-amz-copy-source-if-unmodified-since", FormatHttpDate(*settings.unmodified_since));
  }
  if (settings.metadata.has_value()) {
    request.headers.Add("x-amz-metadata-directive", "REPLACE");
    for (const auto& [name, value] : *settings.metadata) request.headers.Add(name, value);
  }
  if (settings.tags.has_value()) {
    request.headers.Add("x-amz-tagging-directive", "REPLACE");
    if (!settings.tags->empty()) request.headers.Add("x-amz-tagging", EncodeTagging(*settings.tags));
  }
  if (!settings.checksum_algorithm.empty()) {
    request.headers.Add("x-amz-checksum-algorithm", settings.checksum_algorithm);
  }
  const absl::StatusOr<S3Response> written =
      co_await task.context.Send(task.target.store, std::move(request));
  std::optional<Attempt> attempt = AttemptOf(written, task.clock.Now());
  if (!written.ok() || !written->ok()) co_return attempt;
  if (std::optional<Attempt> failure = co_await CheckCopy(task, *written, tags)) co_return failure;
  co_return attempt;
}

class CopyObject final : public Operation {
 public:
  CopyObject(S3Client& source, S3Client& target, const Clock& clock, CopySettings settings)
      : source_(source),
        target_(target),
        across_(&source != &target),
        same_objects_(source.config().Fingerprint() == target.config().Fingerprint()),
        clock_(clock),
        settings_(std::move(settings)) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return source_.config().name; }
  std::string_view target_store() const override {
    return across_ ? std::string_view(target_.config().name) : std::string_view();
  }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    const Task task = group[0];
    const std::string_view bucket =
        settings_.target_bucket.empty() ? task.bucket : std::string_view(settings_.target_bucket);
    const std::string key = StrCat(settings_.target_key_prefix, task.key);
    if (key.size() > kMaxKeyBytes) {
      result.Set(0, FailedAttempt("KeyTooLong", StrCat("With the prefix the key has ", key.size(),
                                                       " bytes; at most 1024 are allowed.")));
      co_return;
    }
    // With a version id it is a restore of that version, which changes something.
    if (same_objects_ && task.version_id.empty() && bucket == task.bucket && key == task.key &&
        !settings_.ChangesObject()) {
      result.Set(
          0, FailedAttempt("CopyOntoItself", "The object would be copied onto itself with nothing changed."));
      co_return;
    }
    const CopyTask copy{.source = {source_, task.bucket, task.key, task.version_id},
                        .target = {target_, bucket, key, {}},
                        .settings = settings_,
                        .context = context,
                        .clock = clock_};
    std::optional<Attempt> attempt;
    if (across_) {
      attempt = co_await CopyAcrossStores(copy);
    } else {
      attempt = co_await CopyWithinStore(copy);
    }
    if (attempt.has_value()) result.Set(0, *std::move(attempt));
  }

 private:
  S3Client& source_;
  S3Client& target_;
  const bool across_;
  const bool same_objects_;  // the two are the same store, perhaps under two names
  const Clock& clock_;
  const CopySettings settings_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeCopyObject(const v1::Operation& parameters,
                                                          const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * source, FindStore(parameters, env));
  const v1::CopyObject& copy = parameters.copy_object();
  S3Client* target = copy.target_store().empty() ? source : env.stores.Find(copy.target_store());
  if (target == nullptr) {
    return Error(absl::StatusCode::kNotFound, "STORE_NOT_FOUND",
                 StrCat("no s3 store is called ", copy.target_store()));
  }
  DROVER_ASSIGN_OR_RETURN(CopySettings settings, CopySettingsFrom(copy));
  if (target != source && !settings.checksum_algorithm.empty()) {
    return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID",
                 "copies across two stores have no checksum algorithm");
  }
  return std::make_unique<CopyObject>(*source, *target, env.clock, std::move(settings));
}

}  // namespace drover
