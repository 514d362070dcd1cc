// An event-driven HTTP/1.1 client: one thread, many requests in flight, as little CPU as possible for each.
//
//   boost::asio::io_context io(1);
//   auto client = HttpClient::Create(io, SystemClock(), {.max_connections = 64});
//   boost::asio::co_spawn(io, [&]() -> boost::asio::awaitable<void> {
//     HttpRequest request{.host = "127.0.0.1", .port = 80, .method = "HEAD", .target = "/a"};
//     auto response = co_await (*client)->Send(std::move(request));
//   }, boost::asio::detached);
//   io.run();
//
// It keeps connections alive and shares them, queues requests at its connection limit, resolves names again
// (at most kResolveTtl old) and tries each address, verifies TLS certificates, and retries once on a fresh
// connection when a kept connection turns out to be dead before the first byte of an answer. It does not
// follow redirects, decompress, or retry anything else: what an answer means is for the caller.
#ifndef DROVER_COMMON_HTTP_CLIENT_H_
#define DROVER_COMMON_HTTP_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/http/cancel.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace drover {

// Header fields in the order in which they came. Names compare without regard to ASCII case; a field may
// repeat.
class HttpHeaders {
 public:
  using Field = std::pair<std::string, std::string>;

  HttpHeaders() = default;
  HttpHeaders(std::initializer_list<Field> fields) : fields_(fields) {}

  void Reserve(size_t fields) { fields_.reserve(fields); }
  void Add(std::string_view name, std::string_view value) { fields_.emplace_back(name, value); }
  // Replaces every field of this name by one.
  void Set(std::string_view name, std::string_view value);
  // The value of the first field of this name; nullopt if there is none.
  std::optional<std::string_view> Find(std::string_view name) const;
  // The same, "" if there is none.
  std::string_view Get(std::string_view name) const { return Find(name).value_or(std::string_view()); }
  bool Has(std::string_view name) const { return Find(name).has_value(); }

  const std::vector<Field>& fields() const { return fields_; }
  std::vector<Field>::const_iterator begin() const { return fields_.begin(); }
  std::vector<Field>::const_iterator end() const { return fields_.end(); }
  bool empty() const { return fields_.empty(); }
  size_t size() const { return fields_.size(); }

 private:
  std::vector<Field> fields_;
};

struct HttpResponse {
  int status = 0;
  HttpHeaders headers;
  // The whole body, unless it went to a HttpBodySink.
  std::string body;
};

// Receives the body of a 2xx answer piece by piece. While a call has not completed nothing more is read from
// the connection, so a slow sink holds back the server. Called on the client's thread; must outlive Send().
class HttpBodySink {
 public:
  virtual ~HttpBodySink() = default;
  // Once, before the first OnData: status and headers. An error ends the request with that error.
  virtual boost::asio::awaitable<absl::Status> OnHead(const HttpResponse& head) = 0;
  // `data` is valid until the call completes. An error ends the request with that error.
  virtual boost::asio::awaitable<absl::Status> OnData(std::string_view data) = 0;
};

// Gives the body of a request piece by piece, for bodies that no memory should hold. While a call has not
// completed nothing more is written to the connection, so a slow source holds back the request and no timeout
// but the total one runs. Called on the client's thread; must outlive Send().
class HttpBodySource {
 public:
  virtual ~HttpBodySource() = default;
  // Bytes in all: the Content-Length.
  virtual uint64_t size() const = 0;
  // The next piece, of at least one byte, valid until the next call or the end of Send(); asked for until the
  // pieces make up size(), and not after that. An error ends the request with that error, and so does (as
  // kInvalidRequest) a piece that is empty or one too long: the server never gets another body than
  // announced.
  virtual boost::asio::awaitable<absl::StatusOr<std::string_view>> Next() = 0;
};

struct HttpRequest {
  bool tls = false;
  // A name or an address (IPv6 without brackets). With TLS the certificate must be for it.
  std::string host;
  uint16_t port = 0;
  std::string method;
  // Path and query as they go on the wire; starts with '/'. Never changed or encoded here.
  std::string target;
  // Host, Content-Length and Connection are written by the client and must not be here.
  HttpHeaders headers;
  // Borrowed: must stay valid until Send() is done.
  std::string_view body;
  // Where the body comes from instead; null: from `body`, which must be empty otherwise. Once the first piece
  // has been asked for, a kept connection that turns out to be dead is not made good by a second try. An
  // answer of 2xx that comes before the body was written is kConnectionLost.
  HttpBodySource* source = nullptr;
  // Asks the server for its consent before the body is sent (Expect: 100-continue); after kContinueTimeout of
  // silence the body is sent anyway. A final answer that comes instead saves sending the body.
  bool expect_continue = false;
  // False for requests that must not be sent twice by the client's own accord, not even when a kept
  // connection died before the first byte of an answer.
  bool retry_when_stale = true;
  // Asked on the client's thread right before the request's first byte is written, each time if it is written
  // twice, and before a body that waited for consent: between Send() and that moment the request may have
  // waited for a name, a connection or a handshake. False ends it with kCancelled. Empty: it may always be
  // written.
  std::function<bool()> may_write;
  // A longer body of an answer is an error (kBodyTooLarge); bodies that go to a sink have no limit.
  size_t max_response_body = 1 << 20;
  // From the call to the end of the answer, waiting for a connection included; zero: the client's default.
  absl::Duration total_timeout = absl::ZeroDuration();
  // The longest wait for a connection where the limit is reached; zero: bounded by total_timeout only.
  absl::Duration queue_timeout = absl::ZeroDuration();
  // Takes the body if the status is 2xx; null: the body is kept in the response.
  HttpBodySink* sink = nullptr;
};

// What went wrong, where Send() has no answer to give.
enum class HttpErrorKind {
  kInvalidRequest,     // refused here: a line break in a header, an empty host, ...       INVALID_ARGUMENT
  kQueueTimeout,       // no connection became free in time                                DEADLINE_EXCEEDED
  kResolveFailed,      // the name has no address, or could not be looked up               UNAVAILABLE
  kConnectFailed,      // no address accepted a connection                                 UNAVAILABLE
  kConnectTimeout,     // no address answered in time                                      DEADLINE_EXCEEDED
  kTlsFailed,          // handshake or verification of the certificate failed              FAILED_PRECONDITION
  kConnectionLost,     // the connection broke                                             UNAVAILABLE
  kIdleTimeout,        // nothing moved for HttpClientOptions::idle_timeout                DEADLINE_EXCEEDED
  kTotalTimeout,       // the whole took longer than allowed                               DEADLINE_EXCEEDED
  kMalformedResponse,  // what came is not HTTP                                            DATA_LOSS
  kBodyTooLarge,       // longer than HttpRequest::max_response_body                       RESOURCE_EXHAUSTED
  kCancelled,          // by the token, or by the client's Shutdown()                      CANCELLED
};

struct HttpError {
  HttpErrorKind kind;
  // Whether a byte of the request may have reached the server. False: it surely did nothing.
  bool sent = false;
  // Whether a byte of an answer had come.
  bool answer_begun = false;
};

// What is known about an error that Send() returned; nullopt for any other status (a sink's error, for
// instance).
std::optional<HttpError> GetHttpError(const absl::Status& status);

// "CONNECTION_LOST" and so on; stable, for logs and metrics. Also the reason in GetErrorDetails(status),
// after "HTTP_".
std::string_view HttpErrorKindName(HttpErrorKind kind);

struct HttpClientOptions {
  // Connections open at a time, to all hosts together; further requests wait in order of arrival. At least 1.
  int max_connections = 64;
  // For the name and all its addresses together, TLS included. Each address gets an equal share of it.
  absl::Duration connect_timeout = absl::Seconds(10);
  // Longest silence while a request is written or an answer is awaited or read.
  absl::Duration idle_timeout = absl::Seconds(30);
  // For requests that say nothing else; waiting for a connection included.
  absl::Duration total_timeout = absl::Minutes(5);
  // An unused connection is closed after this.
  absl::Duration keep_alive = absl::Seconds(20);
  // PEM file of the authorities to trust; empty: the system's.
  std::string ca_file;
};

// Timeouts are looked at this often: they are late by at most twice this.
inline constexpr absl::Duration kHttpSweepInterval = absl::Milliseconds(100);
// A looked-up name is used this long.
inline constexpr absl::Duration kHttpResolveTtl = absl::Seconds(10);
inline constexpr absl::Duration kHttpContinueTimeout = absl::Seconds(1);
// A longer head of an answer is kMalformedResponse.
inline constexpr size_t kHttpMaxHead = 64 << 10;

// Belongs to the one thread that runs its io_context (construction aside). Requests in flight keep what they
// need alive, so the client may be destroyed before them: they then end with kCancelled.
class HttpClient {
 public:
  struct Counters {
    uint64_t requests = 0;       // calls of Send()
    uint64_t connections = 0;    // opened
    uint64_t stale_retries = 0;  // sent again because a kept connection was dead
    int open = 0;                // connections now
    int queued = 0;              // requests waiting for one, now
  };

  // INVALID_ARGUMENT for options out of range; NOT_FOUND or INVALID_ARGUMENT if ca_file can't be read.
  static absl::StatusOr<std::unique_ptr<HttpClient>> Create(boost::asio::io_context& io, const Clock& clock,
                                                            HttpClientOptions options);
  virtual ~HttpClient() = default;

  // Sends the request and waits for the whole answer, whatever its status. An error means that there is no
  // (whole) answer: GetHttpError() says how far it came. `cancel` may be null.
  virtual boost::asio::awaitable<absl::StatusOr<HttpResponse>> Send(HttpRequest request,
                                                                    const CancelToken* cancel = nullptr) = 0;

  // Closes everything; requests in flight and later ones end with kCancelled.
  virtual void Shutdown() = 0;

  virtual Counters counters() const = 0;
};

// The value of the Host header that the client writes (and that a signature must cover): the port is left out
// where it is the scheme's own, IPv6 addresses get their brackets.
std::string HostHeader(bool tls, std::string_view host, uint16_t port);

}  // namespace drover

#endif  // DROVER_COMMON_HTTP_CLIENT_H_
