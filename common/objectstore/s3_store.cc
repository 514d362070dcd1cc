// Blocking calls over the event-driven S3Client. Two kinds of threads: the callers', which wait, and the
// store's own, which runs the io_context. What both touch is in small shared states with a lock; everything
// else belongs to one side:
//
//   caller          Retrying(): tries, waits, tries again → Once(): hands a request over, waits for its
//   answer store's thread  S3Client::Send(), and for readers a Download that fills a bounded buffer
//
// Waiting between tries is done by the caller, on a condition that Shutdown() signals.
#include "common/objectstore/s3_store.h"

#include <openssl/evp.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "absl/strings/escaping.h"
#include "absl/types/span.h"
#include "common/http/client.h"
#include "common/http/http_date.h"
#include "common/objectstore/s3_client.h"
#include "common/objectstore/transient.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "common/sync/mutex.h"

namespace drover {
namespace {

namespace asio = boost::asio;

// For If-Match: weak ETags ("W/...") go as they came.
std::string Quoted(std::string_view etag) {
  if (StartsWith(etag, "W/")) return std::string(etag);
  return StrCat("\"", etag, "\"");
}

// Size (-1: not told), ETag, version and time. With Content-Range the size is that of the whole object.
ObjectInfo InfoOf(const HttpHeaders& headers) {
  ObjectInfo info;
  std::string_view size = headers.Get("Content-Length");
  if (const std::string_view range = headers.Get("Content-Range"); range.find('/') != range.npos) {
    size = range.substr(range.find('/') + 1);
  }
  if (!ParseInteger(size, &info.size) || info.size < 0) info.size = -1;
  info.etag = std::string(WithoutQuotes(headers.Get("ETag")));
  info.version_id = std::string(headers.Get("x-amz-version-id"));
  info.modified = ParseHttpDate(headers.Get("Last-Modified")).value_or(info.modified);
  return info;
}

QueryParams VersionQuery(const ObjectRef& ref) {
  if (ref.version_id.empty()) return {};
  return {{"versionId", ref.version_id}};
}

std::string Shown(const ObjectRef& ref) {
  const std::string_view key = std::string_view(ref.key).substr(0, 200);
  return StrCat(ref.bucket, "/", absl::CHexEscape(ToAbsl(key)), key.size() < ref.key.size() ? "…" : "");
}

std::string Hex(absl::Span<const unsigned char> bytes) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// The ETag that S3 gives an object of these parts: MD5 of the parts' MD5s, and their number. "" if a part's
// ETag is no MD5 (as with KMS keys).
std::string MultipartEtag(const std::vector<std::string>& etags) {
  std::string all;
  for (const std::string& etag : etags) {
    if (etag.size() != 32 || etag.find_first_not_of("0123456789abcdef") != etag.npos) return "";
    all += absl::HexStringToBytes(etag);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  if (EVP_Digest(all.data(), all.size(), digest.data(), &size, EVP_md5(), nullptr) != 1) return "";
  return StrCat(Hex({digest.data(), size}), "-", etags.size());
}

// One GET whose body is read by a caller's thread. Shared by the coroutine that fills it and the reader that
// empties it, whichever lives longer.
class Download final : public HttpBodySink, public std::enable_shared_from_this<Download> {
 public:
  explicit Download(asio::io_context& io) : io_(io), room_(io) {}

  // --- caller's side ---

  // Waits for the head: true once it came with a 2xx, false if the GET is over without (then result() tells).
  bool WaitForHead() {
    MutexLock lock(&mu_);
    while (!head_.has_value() && !over_) changed_.Wait(&mu_);
    return head_.has_value();
  }

  // After WaitForHead() gave true.
  HttpResponse head() {
    MutexLock lock(&mu_);
    return *head_;
  }

  // Up to `size` bytes; 0 when there are no more, and then the GET is over.
  size_t Take(char* out, size_t size) {
    size_t taken = 0;
    bool wake = false;
    {
      MutexLock lock(&mu_);
      while (pieces_.empty() && !over_) changed_.Wait(&mu_);
      while (taken < size && !pieces_.empty()) {
        std::string& piece = pieces_.front();
        const size_t n = std::min(size - taken, piece.size() - first_begin_);
        std::copy_n(piece.data() + first_begin_, n, out + taken);
        taken += n;
        first_begin_ += n;
        if (first_begin_ == piece.size()) {
          pieces_.pop_front();
          first_begin_ = 0;
        }
      }
      buffered_ -= taken;
      wake = blocked_ && buffered_ <= kReadAheadBytes / 2;
    }
    if (wake) asio::post(io_, [self = shared_from_this()] { self->room_.cancel(); });
    return taken;
  }

  // The answer (or error) of the GET, once it is over.
  absl::StatusOr<S3Response> result() {
    MutexLock lock(&mu_);
    return result_;
  }

  // Nobody reads any more. Does not wait.
  void Drop() {
    asio::post(io_, [self = shared_from_this()] {
      self->cancel_.Cancel();
      self->room_.cancel();
    });
  }

  // --- store's thread ---

  const CancelToken* cancel() const { return &cancel_; }

  asio::awaitable<absl::Status> OnHead(const HttpResponse& head) override {
    MutexLock lock(&mu_);
    head_ = HttpResponse{head.status, head.headers, ""};
    changed_.NotifyAll();
    co_return absl::OkStatus();
  }

  asio::awaitable<absl::Status> OnData(std::string_view data) override {
    while (true) {
      if (cancel_.cancelled()) co_return absl::CancelledError("nobody reads any more");
      if (Add(data)) co_return absl::OkStatus();
      // Takes a while: until the reader wants more. A wake-up that comes between Add() and here is not lost,
      // since it is posted to this thread.
      room_.expires_at(asio::steady_timer::time_point::max());
      co_await room_.async_wait(asio::as_tuple(asio::use_awaitable));
    }
  }

  void Finish(absl::StatusOr<S3Response> result) {
    MutexLock lock(&mu_);
    result_ = std::move(result);
    over_ = true;
    changed_.NotifyAll();
  }

 private:
  // False if there is no room.
  bool Add(std::string_view data) {
    MutexLock lock(&mu_);
    blocked_ = buffered_ > 0 && buffered_ + data.size() > kReadAheadBytes;
    if (blocked_) return false;
    pieces_.emplace_back(data);
    buffered_ += data.size();
    changed_.NotifyAll();
    return true;
  }

  asio::io_context& io_;
  asio::steady_timer room_;  // store's thread only
  CancelToken cancel_;       // store's thread only
  Mutex mu_;
  CondVar changed_;
  std::optional<HttpResponse> head_ ABSL_GUARDED_BY(mu_);
  std::deque<std::string> pieces_ ABSL_GUARDED_BY(mu_);
  size_t first_begin_ ABSL_GUARDED_BY(mu_) = 0;  // what is taken of the first piece
  size_t buffered_ ABSL_GUARDED_BY(mu_) = 0;
  bool blocked_ ABSL_GUARDED_BY(mu_) = false;  // the coroutine waits for room
  bool over_ ABSL_GUARDED_BY(mu_) = false;
  absl::StatusOr<S3Response> result_ ABSL_GUARDED_BY(mu_) = absl::UnknownError("not over");
};

class S3Store final : public ObjectStore {
 public:
  S3Store(const StoreConfig& config, ObjectStoreOptions options, const Clock& clock, Random& random)
      : config_(config),
        options_(std::move(options)),
        clock_(clock),
        random_(random),
        io_(1),
        work_(io_.get_executor()) {}

  absl::Status Start() {
    DROVER_ASSIGN_OR_RETURN(http_, HttpClient::Create(io_, clock_, HttpOptionsFor(config_)));
    s3_ = std::make_unique<S3Client>(config_, *http_, clock_);
    thread_ = std::thread([this] { io_.run(); });
    pthread_setname_np(thread_.native_handle(), StrCat("s3-", config_.name).substr(0, 15).c_str());
    return absl::OkStatus();
  }

  ~S3Store() override {
    Shutdown();
    if (!thread_.joinable()) return;
    // Whatever is under way ends now that the client is shut down; then nothing is left to run.
    work_.reset();
    thread_.join();
  }

  absl::StatusOr<ObjectInfo> Head(const ObjectRef& ref) override {
    DROVER_RETURN_IF_ERROR(Check(ref));
    S3Request request = RequestFor("HEAD", ref);
    request.query = VersionQuery(ref);
    DROVER_ASSIGN_OR_RETURN(const S3Response response, Retrying(request));
    if (!response.ok()) return Refused(response, StrCat("HEAD ", Shown(ref)));
    ObjectInfo info = InfoOf(response.headers);
    if (info.size >= 0) return info;
    return Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED",
                StrCat("HEAD ", Shown(ref), ": the answer has no Content-Length"));
  }

  absl::StatusOr<std::unique_ptr<ObjectReader>> Open(const ObjectRef& ref, int64_t offset,
                                                     std::string_view expected_etag) override;

  absl::StatusOr<ObjectInfo> Put(const ObjectRef& ref, std::string_view data,
                                 std::string_view content_type) override {
    DROVER_RETURN_IF_ERROR(Check(ref));
    if (data.size() > static_cast<size_t>(kMaxPutBytes)) {
      return Fail(absl::StatusCode::kInvalidArgument, "STORE_REFUSED",
                  StrCat("more than ", kMaxPutBytes, " bytes in one piece"));
    }
    S3Request request = RequestFor("PUT", ref);
    request.headers.Add("Content-Type", content_type);
    request.borrowed_body = data;
    request.content_md5 = true;
    DROVER_ASSIGN_OR_RETURN(const S3Response response, Retrying(request));
    if (!response.ok()) return Refused(response, StrCat("PUT ", Shown(ref)));
    ObjectInfo info = InfoOf(response.headers);
    info.size = static_cast<int64_t>(data.size());
    return info;
  }

  absl::StatusOr<std::unique_ptr<ObjectWriter>> Create(const ObjectRef& ref,
                                                       std::string_view content_type) override;

  absl::Status AbortUpload(const ObjectRef& ref, std::string_view upload_id) override {
    DROVER_RETURN_IF_ERROR(Check(ref));
    S3Request request = RequestFor("DELETE", ref);
    request.query = {{"uploadId", std::string(upload_id)}};
    DROVER_ASSIGN_OR_RETURN(const S3Response response, Retrying(request));
    if (response.ok() || response.status == 404) return absl::OkStatus();
    return Refused(response, StrCat("abort of an upload to ", Shown(ref)));
  }

  absl::Status AbortUploads(const ObjectRef& ref) override {
    DROVER_RETURN_IF_ERROR(Check(ref));
    S3Request request = RequestFor("GET", {ref.bucket, "", ""});
    request.query = {{"max-uploads", StrCat(kMaxUploadsAborted)}, {"prefix", ref.key}, {"uploads", ""}};
    DROVER_ASSIGN_OR_RETURN(const S3Response response, Retrying(request));
    if (!response.ok()) return Refused(response, StrCat("list of uploads to ", Shown(ref)));
    const auto uploads = ParseUploads(response.body);
    if (!uploads) {
      return Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED",
                  StrCat("list of uploads to ", Shown(ref), ": the answer is none"));
    }
    size_t aborted = 0;
    for (const auto& [key, upload_id] : *uploads) {
      if (key != ref.key) continue;  // it only begins like ours
      if (++aborted > kMaxUploadsAborted) break;
      DROVER_RETURN_IF_ERROR(AbortUpload(ref, upload_id));
    }
    return absl::OkStatus();
  }

  absl::Status Delete(const ObjectRef& ref) override {
    DROVER_RETURN_IF_ERROR(Check(ref));
    S3Request request = RequestFor("DELETE", ref);
    request.query = VersionQuery(ref);
    DROVER_ASSIGN_OR_RETURN(const S3Response response, Retrying(request));
    if (response.ok() || response.status == 404) return absl::OkStatus();
    return Refused(response, StrCat("DELETE ", Shown(ref)));
  }

  void Shutdown() override {
    {
      MutexLock lock(&mu_);
      if (closed_) return;
      closed_ = true;
      closing_.NotifyAll();
    }
    if (http_ != nullptr) asio::post(io_, [this] { http_->Shutdown(); });
    MutexLock lock(&mu_);
    for (const std::weak_ptr<Download>& weak : downloads_) {
      if (const auto download = weak.lock()) download->Drop();
    }
  }

  const StoreConfig& config() const override { return config_; }

  // --- for readers and writers ---

  absl::Status Fail(absl::StatusCode code, std::string_view reason, std::string_view message,
                    std::map<std::string, std::string> metadata = {}) const {
    metadata["store"] = config_.name;
    return Error(code, reason, StrCat("store ", config_.name, ": ", message), std::move(metadata));
  }

  // The status of an answer that is an error. `what` says of which request.
  absl::Status Refused(const S3Response& response, std::string_view what) const {
    const std::string message =
        StrCat(what, ": ", response.error_code, response.error_message.empty() ? "" : ": ",
               response.error_message, " (status ", response.status, ")");
    std::map<std::string, std::string> metadata = {{"http_status", StrCat(response.status)},
                                                   {"error_code", response.error_code}};
    if (!response.request_id.empty()) metadata["request_id"] = response.request_id;
    const auto fail = [&](absl::StatusCode code, std::string_view reason) {
      return Fail(code, reason, message, std::move(metadata));
    };
    if (ClassifyAnswer(response) != Transience::kPermanent) {
      return fail(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE");
    }
    switch (response.status) {
      case 404: return fail(absl::StatusCode::kNotFound, "OBJECT_NOT_FOUND");
      case 401:
      case 403: return fail(absl::StatusCode::kPermissionDenied, "OBJECT_DENIED");
      case 412: return fail(absl::StatusCode::kFailedPrecondition, "OBJECT_CHANGED");
      default: return fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED");
    }
  }

  // The status of a request without an answer.
  absl::Status Broken(const absl::Status& error, std::string_view what) const {
    const std::string message = StrCat(what, ": ", FromAbsl(error.message()));
    if (closed() || absl::IsCancelled(error))
      return Fail(absl::StatusCode::kCancelled, "STORE_CLOSED", message);
    if (ClassifyHttpError(error) != Transience::kPermanent) {
      return Fail(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", message);
    }
    return Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", message);
  }

  absl::Status Check(const ObjectRef& ref) const {
    if (!ref.bucket.empty() && !ref.key.empty()) return absl::OkStatus();
    return Fail(absl::StatusCode::kInvalidArgument, "OBJECT_NAME_INVALID",
                "bucket and key must not be empty");
  }

  S3Request RequestFor(std::string_view method, const ObjectRef& ref) const {
    S3Request request;
    request.method = std::string(method);
    request.bucket = ref.bucket;
    request.key = ref.key;
    request.user_agent = options_.user_agent;
    return request;
  }

  // Whether and how long to wait before another try. One per request that is repeated.
  class Backoff {
   public:
    explicit Backoff(S3Store& store) : store_(store), begin_(store.clock_.Elapsed()) {}

    // False: enough tried (or shut down). True: it has waited. `asked` is what Retry-After said.
    bool Again(Transience transience, std::optional<absl::Duration> asked) {
      if (transience == Transience::kPermanent) return false;
      ++tries_;
      const absl::Duration so_far = store_.clock_.Elapsed() - begin_;
      const bool patient = transience == Transience::kUnavailable && so_far < store_.options_.max_retry_time;
      if (!patient && tries_ >= store_.options_.max_attempts) return false;
      // The shift can't overflow: kMaxBackoff is reached long before.
      const absl::Duration most =
          std::min(kMaxBackoff, store_.options_.first_backoff * (int64_t{1} << std::min(tries_ - 1, 20)));
      absl::Duration wait = most * store_.random_.NextUnit();
      if (asked.has_value()) wait = std::max(wait, std::min(*asked, kMaxRetryAfter));
      // Where only the time is left, the last try comes when it ends, not after.
      if (tries_ >= store_.options_.max_attempts)
        wait = std::min(wait, store_.options_.max_retry_time - so_far);
      return store_.Wait(wait);
    }

   private:
    S3Store& store_;
    const absl::Duration begin_;
    int tries_ = 0;
  };

  // Sends until there is an answer that is not transient, or enough was tried: then the last answer,
  // transient as it is. A view as body must outlive the call.
  absl::StatusOr<S3Response> Retrying(const S3Request& request) {
    Backoff backoff(*this);
    for (bool retry = false;; retry = true) {
      auto response = Once(request, retry);
      const Transience transience =
          response.ok() ? ClassifyAnswer(*response) : ClassifyHttpError(response.status());
      const auto asked = response.ok() ? RetryAfter(response->headers, clock_.Now()) : std::nullopt;
      if (closed() || !backoff.Again(transience, asked)) {
        if (response.ok()) return response;
        return Broken(response.status(),
                      StrCat(request.method, " ", Shown({request.bucket, request.key, ""})));
      }
    }
  }

  // Starts a GET from `offset`; the caller reads the Download.
  std::shared_ptr<Download> Get(const ObjectRef& ref, int64_t offset, std::string_view etag) {
    auto download = std::make_shared<Download>(io_);
    S3Request request = RequestFor("GET", ref);
    request.query = VersionQuery(ref);
    if (offset > 0) request.headers.Add("Range", StrCat("bytes=", offset, "-"));
    if (!etag.empty()) request.headers.Add("If-Match", Quoted(etag));
    request.sink = download.get();
    // As long as somebody reads: silence of the store still ends it, and so does too long a wait in the
    // queue.
    request.total_timeout = absl::InfiniteDuration();
    request.queue_timeout = config_.request_timeout;
    {
      MutexLock lock(&mu_);
      std::erase_if(downloads_, [](const std::weak_ptr<Download>& weak) { return weak.expired(); });
      downloads_.push_back(download);
    }
    asio::co_spawn(io_, s3_->Send(std::move(request), download->cancel()),
                   [download](const std::exception_ptr& failure, absl::StatusOr<S3Response> response) {
                     download->Finish(failure ? absl::InternalError("exception in the HTTP client")
                                              : std::move(response));
                   });
    return download;
  }

  void Observe(std::string_view method, int status, absl::Duration took, bool retry) const {
    if (options_.on_request) options_.on_request(method, status, took, retry);
  }

  bool closed() const {
    MutexLock lock(&mu_);
    return closed_;
  }

  const Clock& clock() const { return clock_; }

 private:
  // Hands a request to the store's thread and waits for the answer.
  absl::StatusOr<S3Response> Once(const S3Request& request, bool retry) {
    struct Answer {
      Mutex mu;
      CondVar changed;
      std::optional<absl::StatusOr<S3Response>> response ABSL_GUARDED_BY(mu);
    };
    const absl::Duration begin = clock_.Elapsed();
    auto answer = std::make_shared<Answer>();
    asio::co_spawn(io_, s3_->Send(request),
                   [answer](const std::exception_ptr& failure, absl::StatusOr<S3Response> response) {
                     MutexLock lock(&answer->mu);
                     answer->response =
                         failure ? absl::InternalError("exception in the HTTP client") : std::move(response);
                     answer->changed.NotifyAll();
                   });
    absl::StatusOr<S3Response> response;
    {
      MutexLock lock(&answer->mu);
      while (!answer->response.has_value()) answer->changed.Wait(&answer->mu);
      response = *std::move(answer->response);
    }
    Observe(request.method, response.ok() ? response->status : 0, clock_.Elapsed() - begin, retry);
    return response;
  }

  // False if the store was shut down meanwhile.
  bool Wait(absl::Duration duration) {
    const absl::Duration until = clock_.Elapsed() + duration;
    MutexLock lock(&mu_);
    while (!closed_) {
      const absl::Duration left = until - clock_.Elapsed();
      if (left <= absl::ZeroDuration()) return true;
      closing_.WaitWithTimeout(&mu_, left);
    }
    return false;
  }

  const StoreConfig config_;
  const ObjectStoreOptions options_;
  const Clock& clock_;
  Random& random_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::unique_ptr<HttpClient> http_;  // store's thread only, once it runs
  std::unique_ptr<S3Client> s3_;      // store's thread only, once it runs
  std::thread thread_;

  mutable Mutex mu_;
  CondVar closing_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::weak_ptr<Download>> downloads_ ABSL_GUARDED_BY(mu_);
};

class S3Reader final : public ObjectReader {
 public:
  S3Reader(S3Store& store, ObjectRef ref, int64_t offset, std::string_view expected_etag)
      : store_(store), ref_(std::move(ref)), next_(offset), etag_(WithoutQuotes(expected_etag)) {}

  ~S3Reader() override {
    if (download_ != nullptr) download_->Drop();
  }

  // Gets the first head, and with it the object's description.
  absl::Status Start() {
    DROVER_RETURN_IF_ERROR(Connect());
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    if (!error_.ok()) return error_;
    if (size == 0) return 0;
    while (next_ < info_.size) {
      if (download_ == nullptr) {
        if (absl::Status status = Connect(); !status.ok()) return error_ = status;
      }
      const auto left = static_cast<uint64_t>(info_.size - next_);
      const size_t n = download_->Take(buffer, std::min<uint64_t>(size, left));
      if (n > 0) {
        next_ += static_cast<int64_t>(n);
        backoff_.reset();  // it moves: patience begins anew
        return n;
      }
      // Over before the end: broken, unless the store sent less than it said.
      const auto result = download_->result();
      download_ = nullptr;
      const Transience transience = result.ok() ? Transience::kTransient : ClassifyHttpError(result.status());
      const absl::Status why =
          result.ok() ? absl::UnavailableError("the answer ended early") : result.status();
      if (!Again(transience, std::nullopt)) return error_ = store_.Broken(why, StrCat("GET ", Shown(ref_)));
    }
    return 0;
  }

  const ObjectInfo& info() const override { return info_; }

 private:
  bool Again(Transience transience, std::optional<absl::Duration> asked) {
    if (!backoff_.has_value()) backoff_.emplace(store_);
    return !store_.closed() && backoff_->Again(transience, asked);
  }

  // Begins (again) at next_; OK once the first bytes are on their way.
  absl::Status Connect() {
    const std::string what = StrCat("GET ", Shown(ref_));
    for (bool retry = described_;; retry = true) {
      const absl::Duration begin = store_.clock().Elapsed();
      download_ = store_.Get(ref_, next_, etag_);
      if (download_->WaitForHead()) {
        const HttpResponse head = download_->head();
        store_.Observe("GET", head.status, store_.clock().Elapsed() - begin, retry);
        return Accept(head);
      }
      auto result = download_->result();
      download_ = nullptr;
      store_.Observe("GET", result.ok() ? result->status : 0, store_.clock().Elapsed() - begin, retry);
      if (!result.ok()) {
        if (Again(ClassifyHttpError(result.status()), std::nullopt)) continue;
        return store_.Broken(result.status(), what);
      }
      if (Again(ClassifyAnswer(*result), RetryAfter(result->headers, store_.clock().Now()))) continue;
      if (result->status == 416) return AtTheEnd();
      return store_.Refused(*result, what);
    }
  }

  // Looks at the first head, or compares a later one with it.
  absl::Status Accept(const HttpResponse& head) {
    ObjectInfo info = InfoOf(head.headers);
    // Sent in chunks, so that only HEAD tells the size.
    if (info.size < 0) {
      DROVER_ASSIGN_OR_RETURN(const ObjectInfo whole, store_.Head(ref_));
      info.size = whole.size;
    }
    // A server that ignores If-Match must not pass another object off as this one.
    if ((!etag_.empty() && info.etag != etag_) || (described_ && info.size != info_.size))
      return Changed(info.etag);
    if (!described_) Describe(std::move(info));
    if (head.status == 206 || next_ == 0) return absl::OkStatus();
    // The server sends all of it, whatever was asked.
    std::string skipped(64 << 10, '\0');
    for (int64_t left = std::min(next_, info_.size); left > 0;) {
      const size_t n =
          download_->Take(skipped.data(), std::min<size_t>(skipped.size(), static_cast<size_t>(left)));
      if (n == 0)
        return store_.Fail(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", "the answer ended early");
      left -= static_cast<int64_t>(n);
    }
    return absl::OkStatus();
  }

  // The offset is not within the object. At its very end that is no error.
  absl::Status AtTheEnd() {
    DROVER_ASSIGN_OR_RETURN(ObjectInfo info, store_.Head(ref_));
    if (!etag_.empty() && info.etag != etag_) return Changed(info.etag);
    if (next_ != info.size) {
      return store_.Fail(absl::StatusCode::kOutOfRange, "STORE_REFUSED",
                         StrCat(Shown(ref_), " has ", info.size, " bytes, no offset ", next_));
    }
    if (!described_) Describe(std::move(info));
    return absl::OkStatus();
  }

  // From here on it is this object and no other.
  void Describe(ObjectInfo info) {
    described_ = true;
    etag_ = info.etag;
    if (ref_.version_id.empty()) ref_.version_id = info.version_id;
    info_ = std::move(info);
  }

  absl::Status Changed(std::string_view etag) const {
    return store_.Fail(absl::StatusCode::kFailedPrecondition, "OBJECT_CHANGED",
                       StrCat(Shown(ref_), " has the ETag ", etag, ", not ", etag_));
  }

  S3Store& store_;
  ObjectRef ref_;
  int64_t next_;
  std::string etag_;
  bool described_ = false;
  ObjectInfo info_;
  std::shared_ptr<Download> download_;  // null: to be begun again
  std::optional<S3Store::Backoff> backoff_;
  absl::Status error_;
};

class S3Writer final : public ObjectWriter {
 public:
  S3Writer(S3Store& store, ObjectRef ref, std::string content_type)
      : store_(store), ref_(std::move(ref)), content_type_(std::move(content_type)) {}

  absl::Status Start() {
    S3Request request = store_.RequestFor("POST", ref_);
    request.query = {{"uploads", ""}};
    request.headers.Add("Content-Type", content_type_);
    DROVER_ASSIGN_OR_RETURN(const S3Response response, store_.Retrying(request));
    if (!response.ok()) return store_.Refused(response, StrCat("begin of an upload to ", Shown(ref_)));
    upload_id_ = XmlText(response.body, "UploadId");
    if (!upload_id_.empty()) return absl::OkStatus();
    return store_.Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED",
                       "an upload was begun but got no id");
  }

  absl::Status Write(std::string_view data) override {
    DROVER_RETURN_IF_ERROR(error_);
    while (!data.empty()) {
      const size_t part = etags_.size() < kSmallParts ? kPartBytes : 2 * kPartBytes;
      const size_t n = std::min(data.size(), part - buffer_.size());
      buffer_.append(data.substr(0, n));
      data.remove_prefix(n);
      if (buffer_.size() == part) {
        if (error_ = UploadPart(); !error_.ok()) return error_;
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ObjectInfo> Commit() override {
    DROVER_RETURN_IF_ERROR(error_);
    auto info = DoCommit();
    error_ = info.ok()
                 ? store_.Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", "already written")
                 : info.status();
    return info;
  }

  void Abort() override {
    if (error_.ok()) error_ = store_.Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", "aborted");
    store_.AbortUpload(ref_, upload_id_).IgnoreError();  // whoever knows the id can try again
  }

  const std::string& upload_id() const override { return upload_id_; }

 private:
  absl::Status UploadPart() {
    if (etags_.size() >= static_cast<size_t>(kMaxParts)) {
      return store_.Fail(absl::StatusCode::kOutOfRange, "STORE_REFUSED", "the object is too long");
    }
    S3Request request = store_.RequestFor("PUT", ref_);
    request.query = {{"partNumber", StrCat(etags_.size() + 1)}, {"uploadId", upload_id_}};
    request.borrowed_body = buffer_;
    request.expect_continue = true;
    DROVER_ASSIGN_OR_RETURN(const S3Response response, store_.Retrying(request));
    if (!response.ok()) return store_.Refused(response, StrCat("part of an upload to ", Shown(ref_)));
    etags_.emplace_back(WithoutQuotes(response.headers.Get("ETag")));
    size_ += static_cast<int64_t>(buffer_.size());
    buffer_.clear();
    return absl::OkStatus();
  }

  absl::StatusOr<ObjectInfo> DoCommit() {
    // An upload needs a part, and an empty part is not welcome everywhere.
    if (etags_.empty() && buffer_.empty()) {
      store_.AbortUpload(ref_, upload_id_).IgnoreError();
      return store_.Put(ref_, "", content_type_);
    }
    if (!buffer_.empty()) DROVER_RETURN_IF_ERROR(UploadPart());
    S3Request request = store_.RequestFor("POST", ref_);
    request.query = {{"uploadId", upload_id_}};
    request.headers.Add("Content-Type", "application/xml");
    request.body = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
    for (size_t i = 0; i < etags_.size(); ++i) {
      StrAppend(&request.body, "<Part><PartNumber>", i + 1, "</PartNumber><ETag>&quot;", XmlEscape(etags_[i]),
                "&quot;</ETag></Part>");
    }
    request.body += "</CompleteMultipartUpload>";
    DROVER_ASSIGN_OR_RETURN(const S3Response response, store_.Retrying(request));
    if (!response.ok()) {
      // Perhaps an earlier try was carried out and its answer lost: then the upload is gone and the object is
      // there.
      if (response.error_code == "NoSuchUpload") {
        auto info = store_.Head(ref_);
        if (info.ok() && info->size == size_ && info->etag == MultipartEtag(etags_)) return info;
      }
      return store_.Refused(response, StrCat("end of an upload to ", Shown(ref_)));
    }
    ObjectInfo info;
    info.size = size_;
    const std::string etag = XmlText(response.body, "ETag");
    // Ceph leaves it empty.
    info.etag = etag.empty() ? MultipartEtag(etags_) : std::string(WithoutQuotes(etag));
    info.version_id = std::string(response.headers.Get("x-amz-version-id"));
    info.modified = store_.clock().Now();
    return info;
  }

  S3Store& store_;
  const ObjectRef ref_;
  const std::string content_type_;
  std::string upload_id_;
  std::string buffer_;
  std::vector<std::string> etags_;
  int64_t size_ = 0;  // of the parts
  absl::Status error_;
};

absl::StatusOr<std::unique_ptr<ObjectReader>> S3Store::Open(const ObjectRef& ref, int64_t offset,
                                                            std::string_view expected_etag) {
  DROVER_RETURN_IF_ERROR(Check(ref));
  if (offset < 0) return Fail(absl::StatusCode::kOutOfRange, "STORE_REFUSED", "an offset below zero");
  auto reader = std::make_unique<S3Reader>(*this, ref, offset, expected_etag);
  DROVER_RETURN_IF_ERROR(reader->Start());
  return reader;
}

absl::StatusOr<std::unique_ptr<ObjectWriter>> S3Store::Create(const ObjectRef& ref,
                                                              std::string_view content_type) {
  DROVER_RETURN_IF_ERROR(Check(ref));
  auto writer = std::make_unique<S3Writer>(*this, ref, std::string(content_type));
  DROVER_RETURN_IF_ERROR(writer->Start());
  return writer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ObjectStore>> OpenS3Store(const StoreConfig& config,
                                                         ObjectStoreOptions options, const Clock& clock,
                                                         Random& random) {
  auto store = std::make_unique<S3Store>(config, std::move(options), clock, random);
  DROVER_RETURN_IF_ERROR(store->Start());
  return store;
}

}  // namespace drover
