// change_object_tagging: adds tags to each object and removes named ones; the others stay.
//
// Requests      for each task: GET /bucket/key?tagging[&versionId=v], and if the change changes something
//               PUT /bucket/key?tagging[&versionId=v] with the whole new set and its Content-MD5.
// Parameters    add: tags, at most 10; remove_keys: at most 100.
// Transient     by common/objectstore/transient.h. Tags that can't be read are MalformedResponse: they are
// not written
//               back.
// Twice         is the same as once. S3 has no way to change a set of tags at once: what others change
// between the
//               GET and the PUT, a round trip or two, is lost; and without version ids the PUT meets the
//               version that is current then, which may be one newer than the GET met.
// Rights        s3:GetObjectTagging and s3:PutObjectTagging; with version ids in the manifest
// s3:GetObjectVersionTagging
//               and s3:PutObjectVersionTagging.
// Permanent     TooManyTags (the object would have more than 10; it keeps those that it has), TagNotXml (a
// tag that it
//               has could not be written back unchanged), NoSuchKey, NoSuchVersion, NoSuchBucket,
//               AccessDenied, MethodNotAllowed (a delete marker), InvalidTag.
#include "services/worker/operations/change_object_tagging.h"

#include <algorithm>
#include <optional>
#include <set>
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

using TagList = std::vector<std::pair<std::string, std::string>>;

class ChangeObjectTagging final : public Operation {
 public:
  ChangeObjectTagging(S3Client& store, const Clock& clock, TagList add, std::set<std::string> remove)
      : store_(store), clock_(clock), add_(std::move(add)), remove_(std::move(remove)) {}

  Limits limits() const override { return {}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                   GroupResult& result) override {
    std::optional<Attempt> attempt = co_await Change(group[0], context);
    if (attempt.has_value()) result.Set(0, *std::move(attempt));
  }

 private:
  boost::asio::awaitable<std::optional<Attempt>> Change(Task task, OperationContext& context) {
    S3Request get = ObjectRequest("GET", task);
    get.query.emplace_back("tagging", "");
    const absl::StatusOr<S3Response> before = co_await context.Send(store_, std::move(get));
    std::optional<TagList> tags;
    if (before.ok() && before->error_code == "NoSuchTagSet") {
      tags.emplace();  // some stores' word for no tags
    } else if (!before.ok() || !before->ok()) {
      co_return AttemptOf(before, clock_.Now());
    } else {
      tags = ParseTagging(before->body);
    }
    if (!tags.has_value()) co_return UnreadableAttempt(*before, "The answer is no whole set of tags.");

    TagList changed = Changed(*tags);
    if (changed == *tags) co_return std::nullopt;
    if (changed.size() > kMaxTagsOfObject) {
      co_return FailedAttempt(
          "TooManyTags", StrCat("The object would have ", changed.size(), " tags; at most ", kMaxTagsOfObject,
                                " are allowed. It keeps those it has."));
    }
    for (const auto& [key, value] : changed) {
      if (FitsXml(key) && FitsXml(value)) continue;
      co_return FailedAttempt("TagNotXml", "A tag of the object can't be written back as it is.");
    }
    S3Request put = ObjectRequest("PUT", task);
    put.query.emplace_back("tagging", "");
    put.body = TaggingXml(changed);
    put.content_md5 = true;
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, std::move(put));
    co_return AttemptOf(answer, clock_.Now());
  }

  // Tags that stay keep their places; new ones come last.
  TagList Changed(const TagList& tags) const {
    TagList changed;
    for (const auto& tag : tags) {
      if (!remove_.contains(tag.first)) changed.push_back(tag);
    }
    for (const auto& tag : add_) {
      const auto same = std::find_if(changed.begin(), changed.end(),
                                     [&](const auto& old) { return old.first == tag.first; });
      if (same == changed.end()) {
        changed.push_back(tag);
      } else {
        same->second = tag.second;
      }
    }
    return changed;
  }

  S3Client& store_;
  const Clock& clock_;
  const TagList add_;
  const std::set<std::string> remove_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeChangeObjectTagging(const v1::Operation& parameters,
                                                                   const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * store, FindStore(parameters, env));
  const v1::ChangeObjectTagging& change = parameters.change_object_tagging();
  v1::ChangeObjectTagging rest = change;
  rest.clear_add();
  rest.clear_remove_keys();
  DROVER_RETURN_IF_ERROR(RefuseRest(rest, "change_object_tagging"));
  TagList add;
  for (const v1::Tag& tag : change.add()) add.emplace_back(tag.key(), tag.value());
  return std::make_unique<ChangeObjectTagging>(
      *store, env.clock, std::move(add),
      std::set<std::string>(change.remove_keys().begin(), change.remove_keys().end()));
}

}  // namespace drover
