#include "services/worker/operations/copy_checks.h"

#include <algorithm>
#include <utility>

#include "common/http/http_date.h"
#include "common/strings/strings.h"
#include "services/worker/operations/acl_answer.h"

namespace drover {
namespace {

// A failure of something that was done once the copy was there already.
Attempt AfterCopy(std::string_view what, Attempt attempt) {
  if (attempt.end != Attempt::End::kCancelled) {
    attempt.outcome.message = StrCat("Copied, but ", what, ": ", attempt.outcome.message);
  }
  return attempt;
}

std::optional<Attempt> CheckTimes(const CopySettings& settings, const HttpHeaders& head) {
  if (!settings.conditional()) return std::nullopt;
  const std::string_view text = head.Get("Last-Modified");
  const std::optional<absl::Time> modified = ParseHttpDate(text);
  if (!modified.has_value()) {
    return FailedAttempt("MalformedResponse", "The store does not say when the object was last changed.");
  }
  if (settings.modified_since.has_value() && *modified <= *settings.modified_since) {
    return FailedAttempt("PreconditionFailed", StrCat("The object was last changed at ", text, ", not after ",
                                                      FormatHttpDate(*settings.modified_since), "."));
  }
  if (settings.unmodified_since.has_value() && *modified > *settings.unmodified_since) {
    return FailedAttempt("PreconditionFailed", StrCat("The object was last changed at ", text, ", after ",
                                                      FormatHttpDate(*settings.unmodified_since), "."));
  }
  return std::nullopt;
}

std::optional<Attempt> CheckChecksum(const CopySettings& settings, const S3Response& written) {
  if (settings.checksum_algorithm.empty()) return std::nullopt;
  if (!XmlText(written.body, StrCat("Checksum", settings.checksum_algorithm)).empty()) return std::nullopt;
  return FailedAttempt("ChecksumNotComputed", StrCat("Copied, but the store's answer has no ",
                                                     settings.checksum_algorithm, " checksum."));
}

// Whether `headers`, of the answer to a write or a HEAD, show the encryption that was asked for.
bool ShowsEncryption(const CopySettings& settings, const HttpHeaders& headers) {
  if (settings.encryption.empty()) return true;
  return headers.Get("x-amz-server-side-encryption") == settings.encryption &&
         (!settings.bucket_key || headers.Get("x-amz-server-side-encryption-bucket-key-enabled") == "true");
}

bool SameTags(ObjectTags a, ObjectTags b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

boost::asio::awaitable<std::optional<Attempt>> CheckStored(const CopyTask& task, const ObjectPlace& copy,
                                                           const S3Response& written) {
  const CopySettings& settings = task.settings;
  if (settings.storage_class.empty() && ShowsEncryption(settings, written.headers)) co_return std::nullopt;
  S3Request request = RequestFor("HEAD", copy, settings.read_headers);
  const absl::StatusOr<S3Response> head = co_await task.context.Send(copy.store, std::move(request));
  if (std::optional<Attempt> attempt = AttemptOf(head, task.clock.Now())) {
    co_return AfterCopy("the copy could not be looked at", *std::move(attempt));
  }
  if (!ShowsEncryption(settings, head->headers)) {
    co_return FailedAttempt(
        "EncryptionNotApplied",
        StrCat("Copied, but without the encryption ", settings.encryption,
               settings.bucket_key ? " with a bucket key" : "", ": the store passed over it."));
  }
  std::string_view stored = head->headers.Get("x-amz-storage-class");
  if (stored.empty()) stored = "STANDARD";  // which S3 does not mention
  if (!settings.storage_class.empty() && stored != settings.storage_class) {
    co_return FailedAttempt("StorageClassNotApplied", StrCat("Copied, but into the storage class ", stored,
                                                             ", not ", settings.storage_class, "."));
  }
  co_return std::nullopt;
}

boost::asio::awaitable<std::optional<Attempt>> CheckTags(const CopyTask& task, const ObjectPlace& copy,
                                                         const ObjectTags& tags) {
  ObjectTags found;
  if (std::optional<Attempt> attempt = co_await ReadTags(task, copy, found)) {
    co_return AfterCopy("its tags could not be read", *std::move(attempt));
  }
  if (SameTags(found, tags)) co_return std::nullopt;
  S3Request request = RequestFor("PUT", copy, task.settings.read_headers);
  request.query.emplace_back("tagging", "");
  request.body = TaggingXml(tags);
  request.content_md5 = true;
  const absl::StatusOr<S3Response> answer = co_await task.context.Send(copy.store, std::move(request));
  std::optional<Attempt> attempt = AttemptOf(answer, task.clock.Now());
  if (!attempt.has_value() || (attempt->end == Attempt::End::kDone && attempt->outcome.succeeded)) {
    co_return std::nullopt;
  }
  co_return AfterCopy("its tags could not be put", *std::move(attempt));
}

boost::asio::awaitable<std::optional<Attempt>> CheckAcl(const CopyTask& task, const ObjectPlace& copy) {
  const CopySettings& settings = task.settings;
  S3Request request = RequestFor("GET", copy, settings.read_headers);
  request.query.emplace_back("acl", "");
  const absl::StatusOr<S3Response> answer = co_await task.context.Send(copy.store, std::move(request));
  if (std::optional<Attempt> attempt = AttemptOf(answer, task.clock.Now())) {
    co_return AfterCopy("its access control list could not be read", *std::move(attempt));
  }
  const std::optional<std::vector<AclEntry>> entries = ParseAcl(answer->body);
  const bool shown =
      entries.has_value() &&
      std::all_of(settings.grants.begin(), settings.grants.end(), [&](const CopySettings::Grant& grant) {
        return std::any_of(entries->begin(), entries->end(), [&](const AclEntry& entry) {
          return entry.grantee == grant.grantee && entry.permission == grant.permission;
        });
      });
  const bool to_groups = entries.has_value() && std::any_of(entries->begin(), entries->end(),
                                                            [](const AclEntry& e) { return e.group; });
  if (shown && !(settings.no_group_grants && to_groups)) co_return std::nullopt;
  co_return FailedAttempt("AclNotApplied",
                          "Copied, but the copy's access control list is not the one that was asked for.");
}

}  // namespace

Attempt TransientAttempt(std::string_view code, std::string_view message) {
  Attempt attempt = FailedAttempt(code, message);
  attempt.end = Attempt::End::kTransient;
  attempt.transience = ClassifyAnswer(0, code);
  return attempt;
}

S3Request RequestFor(std::string_view method, const ObjectPlace& place, const HttpHeaders& headers) {
  S3Request request;
  request.method = method;
  request.bucket = place.bucket;
  request.key = place.key;
  if (!place.version_id.empty()) request.query.emplace_back("versionId", std::string(place.version_id));
  request.headers = headers;
  return request;
}

boost::asio::awaitable<std::optional<Attempt>> CheckSource(const CopyTask& task, S3Response& answer) {
  S3Request request = RequestFor("HEAD", task.source, task.settings.read_headers);
  absl::StatusOr<S3Response> head = co_await task.context.Send(task.source.store, std::move(request));
  if (std::optional<Attempt> attempt = AttemptOf(head, task.clock.Now())) co_return attempt;
  answer = *std::move(head);
  co_return CheckTimes(task.settings, answer.headers);
}

boost::asio::awaitable<std::optional<Attempt>> ReadTags(const CopyTask& task, const ObjectPlace& place,
                                                        ObjectTags& tags) {
  S3Request request = RequestFor("GET", place, task.settings.read_headers);
  request.query.emplace_back("tagging", "");
  const absl::StatusOr<S3Response> answer = co_await task.context.Send(place.store, std::move(request));
  if (answer.ok() && (answer->error_code == "NoSuchTagSet" || answer->error_code == "NotImplemented")) {
    tags.clear();  // stores' words for no tags, and for no tags ever
    co_return std::nullopt;
  }
  if (std::optional<Attempt> attempt = AttemptOf(answer, task.clock.Now())) co_return attempt;
  std::optional<ObjectTags> read = ParseTagging(answer->body);
  if (!read.has_value()) co_return UnreadableAttempt(*answer, "The answer is no whole set of tags.");
  tags = *std::move(read);
  co_return std::nullopt;
}

boost::asio::awaitable<std::optional<Attempt>> CheckCopy(const CopyTask& task, const S3Response& written,
                                                         const std::optional<ObjectTags>& tags) {
  if (std::optional<Attempt> attempt = CheckChecksum(task.settings, written)) co_return attempt;
  // The version that was written, so that a later one is neither looked at nor changed.
  const std::string version(written.headers.Get("x-amz-version-id"));
  const ObjectPlace copy{task.target.store, task.target.bucket, task.target.key, version};
  if (std::optional<Attempt> attempt = co_await CheckStored(task, copy, written)) co_return attempt;
  if (!task.settings.grants.empty() || task.settings.no_group_grants) {
    if (std::optional<Attempt> attempt = co_await CheckAcl(task, copy)) co_return attempt;
  }
  if (!tags.has_value()) co_return std::nullopt;
  co_return co_await CheckTags(task, copy, *tags);
}

}  // namespace drover
