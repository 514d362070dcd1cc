// undelete_object: makes the newest version of each object the current one again, by removing the delete
// marker that is current, and any that lie right beneath it.
//
// Requests      for each task: GET /bucket?versions&prefix=key&max-keys=2, and where that does not tell
// enough
//               (several markers, or a store that lists otherwise) once more with max-keys=1000; then DELETE
//               /bucket/key?versionId=v for each marker to remove, mostly one. Only what was listed as a
//               delete marker is ever deleted.
// Parameters    none. A version id in the manifest names the one marker to remove.
// Transient     by common/objectstore/transient.h. A list that can't be read is MalformedResponse.
// Twice         is the same as once: an object that is not deleted is left as it is, and the task succeeds.
// Rights        s3:ListBucketVersions on the bucket, s3:DeleteObjectVersion on the objects.
// Permanent     NoSuchKey (nothing of it is listed), NothingToRestore (delete markers only), NotADeleteMarker
// and
//               NotCurrent (of the version named), TooManyDeleteMarkers; NoSuchBucket, AccessDenied.
#include "services/worker/operations/undelete_object.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/parameters.h"
#include "services/worker/operations/store_answers.h"

namespace drover {
namespace {

constexpr size_t kFewVersions = 2;
constexpr size_t kManyVersions = kMaxStackedMarkers + 1;
// Of a list: each version has its key, encoded, and some hundred bytes.
constexpr size_t kMaxAnswer = 8 << 20;

// What a list of an object's versions tells.
struct Finding {
  enum class Kind {
    kRemove,      // these markers, the newest first
    kNotDeleted,  // nothing is to be done
    kFailed,      // for `code` and `message`
    kUnclear,     // a longer list may tell; failed with `code` and `message` if there is none
  };
  Kind kind = Kind::kUnclear;
  std::vector<std::string> markers;
  std::string_view code;  // "": the list is not what S3 answers
  std::string_view message;
};

Finding Unclear(std::string_view code, std::string_view message) {
  return {Finding::Kind::kUnclear, {}, code, message};
}

Finding Failed(std::string_view code, std::string_view message) {
  return {Finding::Kind::kFailed, {}, code, message};
}

Finding Judge(const VersionPage& page, const Task& task) {
  std::vector<const ListedVersion*> own;
  for (const ListedVersion& version : page.versions) {
    if (version.key == task.key) own.push_back(&version);
  }
  if (own.empty()) {
    if (page.truncated) return Unclear("", "The object is not among the first versions listed.");
    return Failed("NoSuchKey", "The object has no version and no delete marker.");
  }
  const auto latest = std::find_if(own.begin(), own.end(), [](const auto* v) { return v->is_latest; });
  if (latest == own.end()) return Unclear("", "None of the versions listed is the latest.");
  if (!task.version_id.empty()) {
    const auto named =
        std::find_if(own.begin(), own.end(), [&](const auto* v) { return v->version_id == task.version_id; });
    if (named != own.end() && !(*named)->is_delete_marker) {
      return Failed("NotADeleteMarker", "The version named is no delete marker; nothing was removed.");
    }
    if ((*latest)->is_delete_marker && named != latest) {
      return Failed("NotCurrent", "The delete marker that is current is not the version named.");
    }
  }
  if (!(*latest)->is_delete_marker) return {Finding::Kind::kNotDeleted, {}, {}, {}};
  Finding remove{Finding::Kind::kRemove, {(*latest)->version_id}, {}, {}};
  if (!task.version_id.empty()) return remove;
  for (auto beneath = latest + 1; beneath != own.end(); ++beneath) {
    if (!(*beneath)->is_delete_marker) return remove;
    remove.markers.push_back((*beneath)->version_id);
  }
  if (page.truncated && page.versions.back().key == task.key) {
    return Unclear("TooManyDeleteMarkers", "There are too many delete markers on top of the newest version.");
  }
  return Failed("NothingToRestore", "Of the object there are delete markers only; none was removed.");
}

class UndeleteObject final : public Operation {
 public:
  UndeleteObject(S3Client& store, const Clock& clock) : store_(store), clock_(clock) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    std::optional<Attempt> attempt = co_await Undelete(group[0], context);
    if (attempt.has_value()) result.Set(0, *std::move(attempt));
  }

 private:
  boost::asio::awaitable<std::optional<Attempt>> Undelete(Task task, OperationContext& context) {
    Finding finding;
    absl::StatusOr<S3Response> list;
    for (size_t most = kFewVersions;; most = kManyVersions) {
      list = co_await context.Send(store_, ListRequest(task, most));
      if (!list.ok() || !list->ok()) co_return AttemptOf(list, clock_.Now());
      const std::optional<VersionPage> page = ParseVersions(list->body);
      if (!page.has_value()) co_return UnreadableAttempt(*list, "The answer is no whole list of versions.");
      finding = Judge(*page, task);
      if (finding.kind != Finding::Kind::kUnclear || !page->truncated || most == kManyVersions) break;
    }
    if (finding.kind == Finding::Kind::kRemove) co_return co_await Remove(task, finding.markers, context);
    Attempt attempt;
    if (finding.kind == Finding::Kind::kNotDeleted) {
      attempt.outcome.message = "The object is not deleted.";
    } else if (finding.code.empty()) {
      attempt = UnreadableAttempt(*list, finding.message);
    } else {
      attempt = FailedAttempt(finding.code, finding.message);
    }
    attempt.outcome.http_status = static_cast<uint16_t>(list->status);
    co_return attempt;
  }

  // Removes them one after the other, up to the first that fails.
  boost::asio::awaitable<std::optional<Attempt>> Remove(Task task, const std::vector<std::string>& markers,
                                                        OperationContext& context) {
    std::optional<Attempt> attempt;
    for (const std::string& marker : markers) {
      task.version_id = marker;
      const absl::StatusOr<S3Response> answer = co_await context.Send(store_, ObjectRequest("DELETE", task));
      attempt = AttemptOf(answer, clock_.Now());
      if (!answer.ok() || !answer->ok()) break;
    }
    co_return attempt;
  }

  // Versions come by key, of each the newest first: those of the key come before those of longer keys.
  static S3Request ListRequest(const Task& task, size_t most) {
    S3Request request;
    request.method = "GET";
    request.bucket = task.bucket;
    request.query.emplace_back("versions", "");
    request.query.emplace_back("prefix", std::string(task.key));
    request.query.emplace_back("max-keys", StrCat(most));
    request.query.emplace_back("encoding-type", "url");
    request.max_response_body = kMaxAnswer;
    return request;
  }

  S3Client& store_;
  const Clock& clock_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeUndeleteObject(const v1::Operation& parameters,
                                                              const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * store, FindStore(parameters, env));
  DROVER_RETURN_IF_ERROR(RefuseRest(parameters.undelete_object(), "undelete_object"));
  return std::make_unique<UndeleteObject>(*store, env.clock);
}

}  // namespace drover
