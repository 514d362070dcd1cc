#include "services/worker/operations/copy_across_stores.h"

#include <exception>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "common/hash/md5.h"
#include "common/http/event.h"
#include "common/strings/strings.h"
#include "services/worker/operations/body_pipe.h"

namespace drover {
namespace {

constexpr std::string_view kChangedMessage = "The source was changed while it was copied.";

// What a copy knows once it has begun: the source, and what will be written.
struct Transfer {
  int64_t size = 0;
  std::string etag;                // the source's, as the header has it; "": it has none
  std::optional<std::string> md5;  // 16 bytes, where the source's ETag is one
  HttpHeaders headers;             // of the PUT
};

// The MD5 that an answer's ETag is; nothing where it is something else: of objects made of parts, and of
// those encrypted by keys of others.
std::optional<std::string> Md5OfEtag(const HttpHeaders& headers) {
  const std::string_view etag = WithoutQuotes(headers.Get("ETag"));
  const bool hex = etag.size() == 32 && etag.find_first_not_of("0123456789abcdefABCDEF") == etag.npos;
  if (!hex || StartsWith(headers.Get("x-amz-server-side-encryption"), "aws:kms") ||
      headers.Has("x-amz-server-side-encryption-customer-algorithm")) {
    return std::nullopt;
  }
  return absl::HexStringToBytes(ToAbsl(etag));
}

// How a store names how an upload was framed, not the object. As a header of a PUT it would say that the body
// is framed so.
void DropFraming(HttpHeaders& metadata) {
  const std::string_view encoding = metadata.Get("Content-Encoding");
  if (encoding.find("aws-chunked") == encoding.npos) return;
  std::string kept;
  for (const std::string_view part : Split(encoding, ',')) {
    const std::string_view name = StripWhitespace(part);
    if (!name.empty() && name != "aws-chunked") StrAppend(&kept, kept.empty() ? "" : ",", name);
  }
  HttpHeaders rest;
  for (const auto& [name, value] : metadata) {
    if (!absl::EqualsIgnoreCase(name, "Content-Encoding")) rest.Add(name, value);
  }
  if (!kept.empty()) rest.Add("Content-Encoding", kept);
  metadata = std::move(rest);
}

// Success is kept for the end.
std::optional<Attempt> FailureOf(const absl::StatusOr<S3Response>& answer, absl::Time now) {
  std::optional<Attempt> attempt = AttemptOf(answer, now);
  if (attempt.has_value() && attempt->end == Attempt::End::kDone && attempt->outcome.succeeded) return {};
  return attempt;
}

Attempt TooLarge(int64_t size) {
  return FailedAttempt("EntityTooLarge",
                       StrCat("The object has ", size, " bytes; copies across two stores take at most ",
                              kMaxStreamedBytes, " so far."));
}

// Looks at the source and says what to write; tags into `tags`.
boost::asio::awaitable<std::optional<Attempt>> Prepare(const CopyTask& task, Transfer& transfer,
                                                       ObjectTags& tags) {
  S3Response head;
  if (std::optional<Attempt> attempt = co_await CheckSource(task, head)) co_return attempt;
  if (!ParseInteger(head.headers.Get("Content-Length"), &transfer.size) || transfer.size < 0) {
    co_return FailedAttempt("MalformedResponse", "The store does not say how large the object is.");
  }
  if (transfer.size > kMaxStreamedBytes) co_return TooLarge(transfer.size);
  transfer.etag = head.headers.Get("ETag");
  transfer.md5 = Md5OfEtag(head.headers);

  transfer.headers = task.settings.write_headers;
  int64_t missing = 0;
  if (!task.settings.metadata.has_value() && ParseInteger(head.headers.Get("x-amz-missing-meta"), &missing) &&
      missing > 0) {
    co_return FailedAttempt(
        "MetadataNotReadable",
        StrCat(missing, " of the object's metadata can't be had through the store's API."));
  }
  HttpHeaders metadata =
      task.settings.metadata.has_value() ? *task.settings.metadata : CarriedMetadata(head.headers);
  DropFraming(metadata);
  for (const auto& [name, value] : metadata) transfer.headers.Add(name, value);

  int64_t tag_count = 0;
  if (task.settings.tags.has_value()) {
    tags = *task.settings.tags;
  } else if (ParseInteger(head.headers.Get("x-amz-tagging-count"), &tag_count) && tag_count > 0) {
    if (std::optional<Attempt> attempt = co_await ReadTags(task, task.source, tags)) co_return attempt;
  }
  if (!tags.empty()) transfer.headers.Add("x-amz-tagging", EncodeTagging(tags));
  co_return std::nullopt;
}

S3Request ReadRequest(const CopyTask& task, const Transfer& transfer) {
  S3Request request = RequestFor("GET", task.source, task.settings.read_headers);
  if (!transfer.etag.empty()) request.headers.Add("If-Match", transfer.etag);
  return request;
}

// Of an answer to ReadRequest() that is none, or an error.
std::optional<Attempt> ReadFailure(const absl::StatusOr<S3Response>& answer, absl::Time now) {
  if (answer.ok() && answer->status == 412) return TransientAttempt("SourceChanged", kChangedMessage);
  return FailureOf(answer, now);
}

// Whether a body is that of the object which was looked at, for stores that ignore If-Match.
bool SameSource(const Transfer& transfer, int status, const HttpHeaders& headers) {
  return status == 200 && headers.Get("ETag") == transfer.etag;
}

S3Request WriteRequest(const CopyTask& task, const Transfer& transfer) {
  S3Request request = RequestFor("PUT", task.target, transfer.headers);
  if (transfer.md5.has_value()) request.headers.Add("Content-MD5", absl::Base64Escape(*transfer.md5));
  return request;
}

// Whether the store has what it was given, as far as its ETag tells.
std::optional<Attempt> CheckWritten(const S3Response& written, const std::optional<std::string>& md5) {
  const std::optional<std::string> stored = Md5OfEtag(written.headers);
  if (!stored.has_value() || !md5.has_value() || *stored == *md5) return std::nullopt;
  return TransientAttempt("TargetChecksumMismatch",
                          StrCat("What the target stored has the MD5 ", absl::BytesToHexString(*stored),
                                 ", not ", absl::BytesToHexString(*md5), " as what was read."));
}

boost::asio::awaitable<std::optional<Attempt>> CopyWhole(const CopyTask& task, Transfer& transfer,
                                                         absl::StatusOr<S3Response>& written) {
  S3Request get = ReadRequest(task, transfer);
  get.max_response_body = kWholeObjectBytes;
  absl::StatusOr<S3Response> got = co_await task.context.Send(task.source.store, std::move(get));
  if (std::optional<Attempt> attempt = ReadFailure(got, task.clock.Now())) co_return attempt;
  if (!SameSource(transfer, got->status, got->headers) ||
      static_cast<int64_t>(got->body.size()) != transfer.size) {
    co_return TransientAttempt("SourceChanged", kChangedMessage);
  }
  Md5 md5;
  md5.Update(got->body);
  const std::optional<std::string> digest = md5.Finish();
  if (transfer.md5.has_value() && digest != transfer.md5) {
    co_return TransientAttempt("SourceChecksumMismatch",
                               "What was read has another MD5 than the source's ETag.");
  }
  transfer.md5 = digest;
  S3Request put = WriteRequest(task, transfer);
  put.body = std::move(got->body);
  written = co_await task.context.Send(task.target.store, std::move(put));
  if (std::optional<Attempt> attempt = FailureOf(written, task.clock.Now())) co_return attempt;
  co_return CheckWritten(*written, digest);
}

// Why reading is to blame for a stream that ended; nothing if it isn't.
std::optional<Attempt> StreamReadFailure(const BodyPipe& pipe, bool opened,
                                         const absl::StatusOr<S3Response>& got, absl::Time now) {
  if (opened && pipe.read_error().ok()) return std::nullopt;
  if (pipe.wrong_md5()) {
    return TransientAttempt("SourceChecksumMismatch", FromAbsl(pipe.read_error().message()));
  }
  if (got.ok() || GetHttpError(got.status()).has_value() || absl::IsCancelled(got.status())) {
    if (std::optional<Attempt> attempt = ReadFailure(got, now)) return attempt;
  }
  return TransientAttempt("SourceChanged", kChangedMessage);
}

boost::asio::awaitable<std::optional<Attempt>> CopyStreamed(const CopyTask& task, Transfer& transfer,
                                                            absl::StatusOr<S3Response>& written) {
  const auto executor = co_await boost::asio::this_coro::executor;
  BodyPipe pipe(executor, static_cast<uint64_t>(transfer.size), transfer.md5,
                [&transfer](const HttpResponse& head) {
                  return SameSource(transfer, head.status, head.headers)
                             ? absl::OkStatus()
                             : absl::UnavailableError(ToAbsl(kChangedMessage));
                });
  const absl::Duration allowance = absl::Seconds(transfer.size / kMinTransferBytesPerSecond);

  S3Request get = ReadRequest(task, transfer);
  get.sink = &pipe;
  get.queue_timeout = task.source.store.config().request_timeout;
  get.total_timeout = task.source.store.config().request_timeout + allowance;
  absl::StatusOr<S3Response> got = absl::UnknownError("not ended");
  std::exception_ptr read_threw;
  Event read_over(executor);
  // Everything that it uses lives until it has ended: whatever happens, that is waited for.
  boost::asio::co_spawn(executor, task.context.Send(task.source.store, std::move(get)),
                        [&](std::exception_ptr threw, absl::StatusOr<S3Response> answer) {
                          read_threw = std::move(threw);
                          got = std::move(answer);
                          pipe.EndReading();
                          read_over.Set();
                        });

  std::exception_ptr write_threw;
  const bool opened = co_await pipe.Opened();
  if (opened) {
    try {
      S3Request put = WriteRequest(task, transfer);
      put.body_source = &pipe;
      put.expect_continue = true;
      put.queue_timeout = kTargetConnectionWait;
      put.total_timeout = task.target.store.config().request_timeout + allowance;
      written = co_await task.context.Send(task.target.store, std::move(put));
    } catch (...) {
      write_threw = std::current_exception();
    }
  }
  pipe.EndWriting();
  co_await read_over.Wait();
  if (read_threw != nullptr) std::rethrow_exception(read_threw);
  if (write_threw != nullptr) std::rethrow_exception(write_threw);

  const absl::Time now = task.clock.Now();
  if (std::optional<Attempt> attempt = StreamReadFailure(pipe, opened, got, now)) co_return attempt;
  if (std::optional<Attempt> attempt = FailureOf(written, now)) co_return attempt;
  if (!pipe.complete()) {
    co_return TransientAttempt("IncompleteBody",
                               "The target answered before it had been given the whole object.");
  }
  co_return CheckWritten(*written, pipe.md5());
}

}  // namespace

boost::asio::awaitable<std::optional<Attempt>> CopyAcrossStores(const CopyTask& task) {
  Transfer transfer;
  ObjectTags tags;
  if (std::optional<Attempt> attempt = co_await Prepare(task, transfer, tags)) co_return attempt;
  absl::StatusOr<S3Response> written = absl::UnknownError("not written");
  std::optional<Attempt> failure;
  if (transfer.size <= kWholeObjectBytes) {
    failure = co_await CopyWhole(task, transfer, written);
  } else {
    failure = co_await CopyStreamed(task, transfer, written);
  }
  if (failure.has_value()) co_return failure;
  std::optional<ObjectTags> wanted;
  if (!tags.empty()) wanted = std::move(tags);  // a new object has no others
  if (std::optional<Attempt> attempt = co_await CheckCopy(task, *written, wanted)) co_return attempt;
  co_return AttemptOf(written, task.clock.Now());
}

}  // namespace drover
