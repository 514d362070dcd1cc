// One ClientImpl per client, shared by the coroutines of its requests. Everything runs on one thread, so that
// there are no locks; where a coroutine may be overtaken while it waits, it says so.
//
// A request's way: Send() makes a Flight (its deadlines, and how to interrupt it) → takes a kept connection,
// or Acquire()s one (queue → look up the name → connect → TLS) → Exchange()s request for answer → Release()s
// the connection to the next waiter, the pool, or oblivion.
//
// Interrupting: timeouts, cancellation and shutdown all close the flight's socket (or wake it from a queue),
// whatever it waits for; the coroutine then finds the reason in its Flight. So no operation has a timer of
// its own: one sweep looks at all flights every kHttpSweepInterval, which costs nothing per request.
#include "common/http/client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <limits>
#include <list>
#include <unordered_map>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "absl/strings/ascii.h"
#include "common/http/event.h"
#include "common/http/response_parser.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Result = HttpResponseParser::Result;

// Operations give their error as a value instead of throwing it.
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// A read buffer starts small, since there may be thousands of connections, and grows for long bodies.
constexpr size_t kReadBuffer = 16 << 10;
constexpr size_t kMaxReadBuffer = 256 << 10;
static_assert(kMaxReadBuffer > kHttpMaxHead, "a head must fit");
// Up to here a body is copied behind the head, which saves a system call or a TLS record.
constexpr size_t kJoinBody = 64 << 10;
// A connection that was unused for longer is looked at before it is used again.
constexpr absl::Duration kTrustIdle = absl::Seconds(1);
// Hosts without connections are forgotten above this many (virtual-host style has one per bucket).
constexpr size_t kMaxIdleHosts = 256;

struct Kind {
  HttpErrorKind kind;
  std::string_view name;
  absl::StatusCode code;
};
constexpr Kind kKinds[] = {
    {HttpErrorKind::kInvalidRequest, "INVALID_REQUEST", absl::StatusCode::kInvalidArgument},
    {HttpErrorKind::kQueueTimeout, "QUEUE_TIMEOUT", absl::StatusCode::kDeadlineExceeded},
    {HttpErrorKind::kResolveFailed, "RESOLVE_FAILED", absl::StatusCode::kUnavailable},
    {HttpErrorKind::kConnectFailed, "CONNECT_FAILED", absl::StatusCode::kUnavailable},
    {HttpErrorKind::kConnectTimeout, "CONNECT_TIMEOUT", absl::StatusCode::kDeadlineExceeded},
    {HttpErrorKind::kTlsFailed, "TLS_FAILED", absl::StatusCode::kFailedPrecondition},
    {HttpErrorKind::kConnectionLost, "CONNECTION_LOST", absl::StatusCode::kUnavailable},
    {HttpErrorKind::kIdleTimeout, "IDLE_TIMEOUT", absl::StatusCode::kDeadlineExceeded},
    {HttpErrorKind::kTotalTimeout, "TOTAL_TIMEOUT", absl::StatusCode::kDeadlineExceeded},
    {HttpErrorKind::kMalformedResponse, "MALFORMED_RESPONSE", absl::StatusCode::kDataLoss},
    {HttpErrorKind::kBodyTooLarge, "BODY_TOO_LARGE", absl::StatusCode::kResourceExhausted},
    {HttpErrorKind::kCancelled, "CANCELLED", absl::StatusCode::kCancelled},
};
constexpr std::string_view kReasonPrefix = "HTTP_";

struct Connection;

// A server, and what is known about it.
struct Host {
  bool tls = false;
  std::string name;
  uint16_t port = 0;
  // Last looked-up addresses; kept while a later look-up fails.
  std::vector<tcp::endpoint> addresses;
  absl::Duration resolved_at = -absl::InfiniteDuration();
  std::string resolve_error;
  bool resolving = false;
  std::list<Event*> resolve_waiters;
  size_t next_address = 0;                       // connections take turns
  std::deque<std::unique_ptr<Connection>> idle;  // the longest unused first

  std::string Name() const { return StrCat(tls ? "https://" : "http://", HostHeader(tls, name, port)); }
};

// A connection, or the right to open one: each counts against the limit from before it connects until it is
// gone.
struct Connection {
  explicit Connection(asio::io_context& io) : socket(io) {}

  void Close() {
    error_code ignored;
    socket.close(ignored);
  }

  tcp::socket socket;
  std::optional<ssl::stream<tcp::socket&>> tls;
  std::shared_ptr<Host> host;  // null while it is idle
  absl::Duration idle_since;
  bool connected = false;
  bool used = false;  // has carried an exchange before
  std::string out;
  std::vector<char> in;
  size_t begin = 0;  // unparsed bytes of `in`
  size_t end = 0;
  HttpResponseParser parser;
};

// One request under way: when it has to end, and how to make it end.
struct Flight {
  absl::Duration total_deadline;
  absl::Duration connect_deadline = absl::InfiniteDuration();
  absl::Duration queue_timeout = absl::ZeroDuration();
  // For what it does at the moment. When it passes, `step_expired` is set and the flight interrupted once.
  absl::Duration step_deadline = absl::InfiniteDuration();
  bool step_expired = false;
  bool step_keeps_connection = false;  // interrupt only stops the read
  // Set once: it ends with this.
  std::optional<HttpErrorKind> aborted;

  Connection* connection = nullptr;
  Event* waiting = nullptr;
  bool queued = false;

  bool sent = false;
  bool answer_begun = false;
  bool source_begun = false;  // a piece of the body was asked for, which can't be had again

  Flight* previous = nullptr;
  Flight* next = nullptr;

  void Interrupt() {
    if (waiting != nullptr) waiting->Set();
    if (connection == nullptr) return;
    if (step_keeps_connection && !aborted.has_value()) {
      error_code ignored;
      connection->socket.cancel(ignored);
    } else {
      connection->Close();
    }
  }
  void Abort(HttpErrorKind kind) {
    if (aborted.has_value()) return;
    aborted = kind;
    Interrupt();
  }
  void Step(absl::Duration deadline) {
    step_deadline = deadline;
    step_expired = false;
  }
};

absl::Status Fail(HttpErrorKind kind, bool sent, bool answer_begun, std::string_view message) {
  const Kind* found =
      std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.kind == kind; });
  return Error(found->code, StrCat(kReasonPrefix, found->name), message,
               {{"sent", sent ? "true" : "false"}, {"answer_begun", answer_begun ? "true" : "false"}});
}

absl::Status Fail(HttpErrorKind kind, const Flight& flight, const Host& host, std::string_view detail) {
  return Fail(kind, flight.sent, flight.answer_begun, StrCat(host.Name(), ": ", detail));
}

std::string_view Describe(HttpErrorKind kind) {
  switch (kind) {
    case HttpErrorKind::kQueueTimeout: return "no connection became free in time";
    case HttpErrorKind::kConnectTimeout: return "no connection in time";
    case HttpErrorKind::kIdleTimeout: return "nothing came or went for too long";
    case HttpErrorKind::kTotalTimeout: return "the request took too long";
    case HttpErrorKind::kCancelled: return "cancelled";
    default: return "failed";
  }
}

absl::Status Fail(HttpErrorKind kind, const Flight& flight, const Host& host) {
  return Fail(kind, flight, host, Describe(kind));
}

// RFC 9110's tchar. A table and plain loops: these checks run over every byte of every request.
constexpr std::array<bool, 256> kTokenChars = [] {
  std::array<bool, 256> token = {};
  for (int c = '0'; c <= '9'; ++c) token[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) token[c] = token[c - 'a' + 'A'] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) token[static_cast<unsigned char>(c)] = true;
  return token;
}();

bool IsToken(std::string_view text) {
  bool token = !text.empty();
  for (char c : text) token &= kTokenChars[static_cast<unsigned char>(c)];
  return token;
}

bool HasLineBreak(std::string_view text) {
  bool found = false;
  for (char c : text) found |= c == '\r' || c == '\n' || c == '\0';
  return found;
}

bool SameName(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return x == y || absl::ascii_tolower(x) == absl::ascii_tolower(y);
         });
}

// What is wrong with a request; "" if nothing is. Guards the wire: nothing that a caller passes on from a
// user (a key, a tag) may end a line early and become a header or a request of its own.
std::string_view Invalid(const HttpRequest& request) {
  if (request.host.empty() || HasLineBreak(request.host)) return "no host, or a line break in it";
  if (request.port == 0) return "no port";
  if (!IsToken(request.method)) return "the method is no token";
  if (request.source != nullptr && !request.body.empty()) return "the body comes from two places";
  if (request.target.empty() || request.target.front() != '/') return "the target must begin with '/'";
  for (char c : request.target) {
    if (c <= ' ' || c == 0x7f)
      return "the target must be percent-encoded";  // also bytes above 127: char is signed
  }
  for (const auto& [name, value] : request.headers) {
    if (!IsToken(name)) return "the name of a header is no token";
    if (HasLineBreak(value)) return "a header's value has a line break or NUL";
    for (std::string_view own : {"Host", "Content-Length", "Connection", "Transfer-Encoding", "Expect"}) {
      if (SameName(name, own))
        return "Host, Content-Length, Connection, Transfer-Encoding and Expect are the client's";
    }
  }
  return {};
}

bool MayWrite(const HttpRequest& request) { return !request.may_write || request.may_write(); }

uint64_t BodySize(const HttpRequest& request) {
  return request.source != nullptr ? request.source->size() : request.body.size();
}

// The request's head, and its body if that is short, as one string.
void Compose(const HttpRequest& request, bool with_body, std::string& out) {
  out.clear();
  out.append(request.method).append(1, ' ').append(request.target).append(" HTTP/1.1\r\nHost: ");
  out.append(HostHeader(request.tls, request.host, request.port)).append("\r\n");
  for (const auto& [name, value] : request.headers)
    out.append(name).append(": ").append(value).append("\r\n");
  const uint64_t size = BodySize(request);
  if (size > 0 || request.method == "PUT" || request.method == "POST") {
    StrAppend(&out, "Content-Length: ", size, "\r\n");
  }
  if (request.expect_continue && size > 0) out.append("Expect: 100-continue\r\n");
  out.append("\r\n");
  if (with_body) out.append(request.body);
}

// Whether a kept connection is still open and silent, as it must be between two exchanges.
bool LooksAlive(Connection& connection) {
  char byte;
  const ssize_t n = recv(connection.socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

bool IsNumeric(const std::string& host) {
  error_code ec;
  asio::ip::make_address(host, ec);
  return !ec;
}

class ClientImpl : public std::enable_shared_from_this<ClientImpl> {
 public:
  ClientImpl(asio::io_context& io, const Clock& clock, HttpClientOptions options, ssl::context tls)
      : io_(io), clock_(clock), options_(std::move(options)), tls_(std::move(tls)), sweep_timer_(io) {}

  asio::awaitable<absl::StatusOr<HttpResponse>> Send(HttpRequest request, const CancelToken* cancel);
  void Shutdown();

  HttpClient::Counters counters() const {
    HttpClient::Counters counters = counters_;
    counters.open = open_;
    counters.queued = static_cast<int>(queue_.size());
    return counters;
  }

 private:
  // In the queue for a connection; gets one of its host, connected, or one that it may open.
  struct Waiter {
    Event event;
    Host* host;
    bool fresh;
    std::unique_ptr<Connection> connection;
  };
  // Puts a flight on the list of all while it lives.
  class Listed;
  // How an exchange ended.
  struct Outcome {
    absl::Status status;
    bool reusable = false;  // the connection is as good as new
    bool stale = false;     // it died before a byte of the answer
  };

  std::shared_ptr<Host> FindHost(const HttpRequest& request);
  std::unique_ptr<Connection> TakeIdle(const std::shared_ptr<Host>& host);
  bool EvictIdle();
  std::unique_ptr<Connection> NewConnection();
  void Release(std::unique_ptr<Connection> connection, bool reusable);

  asio::awaitable<absl::StatusOr<std::unique_ptr<Connection>>> Acquire(Flight& flight,
                                                                       std::shared_ptr<Host> host,
                                                                       bool fresh);
  asio::awaitable<absl::StatusOr<std::unique_ptr<Connection>>> Enqueue(Flight& flight, const Host& host,
                                                                       bool fresh);
  asio::awaitable<absl::Status> Connect(Flight& flight, Connection& connection);
  asio::awaitable<absl::Status> Resolve(Flight& flight, const std::shared_ptr<Host>& host);
  static asio::awaitable<void> LookUp(std::shared_ptr<ClientImpl> self, std::shared_ptr<Host> host);
  asio::awaitable<absl::Status> Handshake(Flight& flight, Connection& connection);
  asio::awaitable<Outcome> Exchange(Flight& flight, const HttpRequest& request, Connection& connection);
  asio::awaitable<error_code> Write(Flight& flight, Connection& connection, std::string_view head,
                                    std::string_view body);
  asio::awaitable<absl::Status> WriteFrom(Flight& flight, Connection& connection, HttpBodySource& source,
                                          error_code& write_error);
  void ScheduleSweep();
  void Sweep();

  absl::Duration IdleDeadline() const { return now_ + options_.idle_timeout; }

  asio::io_context& io_;
  const Clock& clock_;
  const HttpClientOptions options_;
  ssl::context tls_;
  asio::steady_timer sweep_timer_;
  bool sweeping_ = false;
  bool shut_down_ = false;
  // clock_.Elapsed() at the last look: when a request began or the last sweep, whichever is later.
  absl::Duration now_;
  std::unordered_map<std::string, std::shared_ptr<Host>> hosts_;
  std::shared_ptr<Host> last_host_;
  size_t idle_ = 0;  // connections in all Host::idle
  int open_ = 0;
  std::list<Waiter*> queue_;  // not empty: idle_ is 0
  Flight* flights_ = nullptr;
  HttpClient::Counters counters_;
};

class ClientImpl::Listed {
 public:
  Listed(ClientImpl& client, Flight& flight) : client_(client), flight_(flight) {
    flight.next = client.flights_;
    if (flight.next != nullptr) flight.next->previous = &flight;
    client.flights_ = &flight;
    client.ScheduleSweep();
  }
  ~Listed() {
    if (flight_.next != nullptr) flight_.next->previous = flight_.previous;
    (flight_.previous != nullptr ? flight_.previous->next : client_.flights_) = flight_.next;
  }
  Listed(const Listed&) = delete;
  Listed& operator=(const Listed&) = delete;

 private:
  ClientImpl& client_;
  Flight& flight_;
};

asio::awaitable<absl::StatusOr<HttpResponse>> ClientImpl::Send(HttpRequest request,
                                                               const CancelToken* cancel) {
  const std::shared_ptr<ClientImpl> self = shared_from_this();
  ++counters_.requests;
  if (const std::string_view wrong = Invalid(request); !wrong.empty()) {
    co_return Fail(HttpErrorKind::kInvalidRequest, false, false, wrong);
  }
  const std::shared_ptr<Host> host = FindHost(request);
  now_ = clock_.Elapsed();
  Flight flight;
  if (shut_down_ || (cancel != nullptr && cancel->cancelled())) {
    co_return Fail(HttpErrorKind::kCancelled, flight, *host);
  }
  flight.total_deadline =
      now_ + (request.total_timeout > absl::ZeroDuration() ? request.total_timeout : options_.total_timeout);
  flight.queue_timeout = request.queue_timeout;
  const Listed listed(*this, flight);
  const CancelToken::Hook hook(cancel, [&flight] { flight.Abort(HttpErrorKind::kCancelled); });

  // The second try goes to a fresh connection: where one kept connection is dead, the others often are too.
  for (bool fresh = false;; fresh = true) {
    std::unique_ptr<Connection> connection = fresh ? nullptr : TakeIdle(host);
    if (connection == nullptr) {
      auto acquired = co_await Acquire(flight, host, fresh);
      if (!acquired.ok()) co_return acquired.status();
      connection = *std::move(acquired);
    }
    flight.connection = connection.get();
    const bool used = connection->used;
    const Outcome outcome = co_await Exchange(flight, request, *connection);
    flight.connection = nullptr;
    if (!outcome.status.ok()) {
      Release(std::move(connection), false);
      if (outcome.stale && used && !fresh && request.retry_when_stale && !flight.source_begun &&
          !flight.aborted.has_value()) {
        ++counters_.stale_retries;
        continue;
      }
      if (flight.aborted.has_value()) co_return Fail(*flight.aborted, flight, *host);
      co_return outcome.status;
    }
    HttpResponse response = std::move(connection->parser.response());
    Release(std::move(connection), outcome.reusable);
    co_return response;
  }
}

std::shared_ptr<Host> ClientImpl::FindHost(const HttpRequest& request) {
  if (last_host_ != nullptr && last_host_->port == request.port && last_host_->tls == request.tls &&
      last_host_->name == request.host) {
    return last_host_;
  }
  std::shared_ptr<Host>& host = hosts_[StrCat(request.tls ? "s" : "p", request.port, ":", request.host)];
  if (host == nullptr) {
    host = std::make_shared<Host>();
    host->tls = request.tls;
    host->name = request.host;
    host->port = request.port;
  }
  const std::shared_ptr<Host> found = host;
  last_host_ = found;
  if (hosts_.size() > kMaxIdleHosts) {
    std::erase_if(hosts_,
                  [](const auto& item) { return item.second.use_count() == 1 && item.second->idle.empty(); });
  }
  return found;
}

std::unique_ptr<Connection> ClientImpl::NewConnection() {
  ++open_;
  return std::make_unique<Connection>(io_);
}

std::unique_ptr<Connection> ClientImpl::TakeIdle(const std::shared_ptr<Host>& host) {
  while (!host->idle.empty()) {
    std::unique_ptr<Connection> connection = std::move(host->idle.back());
    host->idle.pop_back();
    --idle_;
    if (now_ - connection->idle_since <= kTrustIdle || LooksAlive(*connection)) {
      connection->host = host;
      return connection;
    }
    --open_;
  }
  return nullptr;
}

// Closes the connection that was unused for longest; false if there is none.
bool ClientImpl::EvictIdle() {
  if (idle_ == 0) return false;
  Host* oldest = nullptr;
  for (const auto& [key, host] : hosts_) {
    if (host->idle.empty()) continue;
    if (oldest == nullptr || host->idle.front()->idle_since < oldest->idle.front()->idle_since)
      oldest = host.get();
  }
  oldest->idle.pop_front();
  --idle_;
  --open_;
  return true;
}

void ClientImpl::Release(std::unique_ptr<Connection> connection, bool reusable) {
  reusable = reusable && !shut_down_;
  if (reusable) {
    connection->used = true;
    if (connection->in.size() > kReadBuffer) std::vector<char>(kReadBuffer).swap(connection->in);
    if (connection->out.capacity() > 2 * kJoinBody) std::string().swap(connection->out);
  }
  if (!queue_.empty()) {
    Waiter* waiter = queue_.front();
    queue_.pop_front();
    if (reusable && !waiter->fresh && waiter->host == connection->host.get()) {
      waiter->connection = std::move(connection);
    } else {
      --open_;
      connection.reset();
      waiter->connection = NewConnection();
    }
    waiter->event.Set();
    return;
  }
  if (!reusable) {
    --open_;
    return;
  }
  connection->idle_since = now_;
  const std::shared_ptr<Host> host = std::move(connection->host);
  host->idle.push_back(std::move(connection));
  ++idle_;
}

asio::awaitable<absl::StatusOr<std::unique_ptr<Connection>>> ClientImpl::Acquire(Flight& flight,
                                                                                 std::shared_ptr<Host> host,
                                                                                 bool fresh) {
  std::unique_ptr<Connection> connection;
  if (open_ < options_.max_connections || EvictIdle()) {
    connection = NewConnection();
  } else {
    auto granted = co_await Enqueue(flight, *host, fresh);
    if (!granted.ok()) co_return granted.status();
    connection = *std::move(granted);
    if (connection->connected) co_return connection;
  }
  connection->host = host;
  flight.connection = connection.get();
  absl::Status status = co_await Connect(flight, *connection);
  flight.connection = nullptr;
  if (!status.ok()) {
    Release(std::move(connection), false);
    if (flight.aborted.has_value()) status = Fail(*flight.aborted, flight, *host);
    co_return status;
  }
  co_return connection;
}

asio::awaitable<absl::StatusOr<std::unique_ptr<Connection>>> ClientImpl::Enqueue(Flight& flight,
                                                                                 const Host& host,
                                                                                 bool fresh) {
  Waiter waiter{Event(io_.get_executor()), const_cast<Host*>(&host), fresh, nullptr};
  queue_.push_back(&waiter);
  flight.waiting = &waiter.event;
  flight.queued = true;
  flight.Step(flight.queue_timeout > absl::ZeroDuration() ? clock_.Elapsed() + flight.queue_timeout
                                                          : absl::InfiniteDuration());
  co_await waiter.event.Wait();
  flight.waiting = nullptr;
  flight.queued = false;
  if (!flight.aborted.has_value()) {
    if (waiter.connection != nullptr) co_return std::move(waiter.connection);
    queue_.remove(&waiter);
    co_return Fail(HttpErrorKind::kQueueTimeout, flight, host);
  }
  if (waiter.connection == nullptr) {
    queue_.remove(&waiter);
  } else {  // both at once: the connection goes to the next
    const bool connected = waiter.connection->connected;
    Release(std::move(waiter.connection), connected);
  }
  co_return Fail(*flight.aborted, flight, host);
}

asio::awaitable<absl::Status> ClientImpl::Connect(Flight& flight, Connection& connection) {
  const std::shared_ptr<Host> host = connection.host;
  flight.connect_deadline = clock_.Elapsed() + options_.connect_timeout;
  flight.Step(flight.connect_deadline);
  if (absl::Status status = co_await Resolve(flight, host); !status.ok()) co_return status;

  // A copy: another look-up may change the list meanwhile.
  const std::vector<tcp::endpoint> addresses = host->addresses;
  const size_t first = host->next_address++;
  std::string problem;
  bool timed_out = false;
  bool connected = false;
  for (size_t i = 0; i < addresses.size() && !connected; ++i) {
    const tcp::endpoint& address = addresses[(first + i) % addresses.size()];
    error_code ec;
    connection.Close();
    connection.socket.open(address.protocol(), ec);
    if (!ec) {
      connection.socket.set_option(tcp::no_delay(true), ec);
      const absl::Duration now = clock_.Elapsed();
      flight.Step(now + (flight.connect_deadline - now) / static_cast<int64_t>(addresses.size() - i));
      std::tie(ec) = co_await connection.socket.async_connect(address, kAwait);
    }
    if (flight.aborted.has_value()) co_return Fail(*flight.aborted, flight, *host);
    if (flight.step_expired || !connection.socket.is_open()) {
      timed_out = true;
    } else if (ec) {
      timed_out = false;
      problem = StrCat("can't connect to ", address.address().to_string(), ": ", ec.message());
    } else {
      connected = true;
    }
  }
  if (!connected) {
    host->resolved_at = -absl::InfiniteDuration();  // perhaps it has moved
    if (timed_out) co_return Fail(HttpErrorKind::kConnectTimeout, flight, *host);
    co_return Fail(HttpErrorKind::kConnectFailed, flight, *host, problem);
  }
  error_code ec;
  connection.socket.non_blocking(true, ec);
  if (host->tls) {
    flight.Step(flight.connect_deadline);
    if (absl::Status status = co_await Handshake(flight, connection); !status.ok()) co_return status;
  }
  ++counters_.connections;
  connection.connected = true;
  connection.in.resize(kReadBuffer);
  co_return absl::OkStatus();
}

asio::awaitable<absl::Status> ClientImpl::Resolve(Flight& flight, const std::shared_ptr<Host>& host) {
  if (host->addresses.empty() || now_ - host->resolved_at > kHttpResolveTtl) {
    error_code ec;
    const asio::ip::address address = asio::ip::make_address(host->name, ec);
    if (!ec) {
      host->addresses = {tcp::endpoint(address, host->port)};
      host->resolved_at = absl::InfiniteDuration();
      co_return absl::OkStatus();
    }
    if (!host->resolving) {
      host->resolving = true;
      asio::co_spawn(io_, LookUp(shared_from_this(), host), asio::detached);
    }
    // The system's look-up can't be interrupted; waiting for it can.
    Event event(io_.get_executor());
    const auto place = host->resolve_waiters.insert(host->resolve_waiters.end(), &event);
    flight.waiting = &event;
    co_await event.Wait();
    flight.waiting = nullptr;
    host->resolve_waiters.erase(place);
    if (flight.aborted.has_value()) co_return Fail(*flight.aborted, flight, *host);
    if (flight.step_expired) {
      co_return Fail(HttpErrorKind::kConnectTimeout, flight, *host, "the name was not looked up in time");
    }
  }
  if (host->addresses.empty())
    co_return Fail(HttpErrorKind::kResolveFailed, flight, *host, host->resolve_error);
  co_return absl::OkStatus();
}

asio::awaitable<void> ClientImpl::LookUp(std::shared_ptr<ClientImpl> self, std::shared_ptr<Host> host) {
  tcp::resolver resolver(self->io_);
  // What is beneath localhost is this machine (RFC 6761), though many a system's resolver does not know it: a
  // store here may have its buckets in its host names.
  const std::string name = EndsWith(host->name, ".localhost") ? "localhost" : host->name;
  auto [ec, results] = co_await resolver.async_resolve(name, std::to_string(host->port),
                                                       tcp::resolver::numeric_service, kAwait);
  if (ec || results.empty()) {
    host->resolve_error = StrCat("can't look up the name: ", ec ? ec.message() : "it has no address");
  } else {
    host->addresses.clear();
    for (const auto& result : results) host->addresses.push_back(result.endpoint());
  }
  // After a failure the old addresses, if any, are good for another while: a name server that is down must
  // not stop what works.
  if (!host->addresses.empty()) host->resolved_at = self->clock_.Elapsed();
  host->resolving = false;
  for (Event* waiter : host->resolve_waiters) waiter->Set();
}

asio::awaitable<absl::Status> ClientImpl::Handshake(Flight& flight, Connection& connection) {
  const Host& host = *connection.host;
  connection.tls.emplace(connection.socket, tls_);
  SSL* handle = connection.tls->native_handle();
  bool prepared;
  if (IsNumeric(host.name)) {
    prepared = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(handle), host.name.c_str()) == 1;
  } else {
    prepared = SSL_set_tlsext_host_name(handle, host.name.c_str()) == 1 &&
               SSL_set1_host(handle, host.name.c_str()) == 1;
  }
  if (!prepared) co_return Fail(HttpErrorKind::kTlsFailed, flight, host, "the name can't be verified by TLS");
  auto [ec] = co_await connection.tls->async_handshake(ssl::stream_base::client, kAwait);
  if (!ec) co_return absl::OkStatus();
  if (flight.aborted.has_value()) co_return Fail(*flight.aborted, flight, host);
  if (flight.step_expired) {
    co_return Fail(HttpErrorKind::kConnectTimeout, flight, host, "the TLS handshake took too long");
  }
  const long verified = SSL_get_verify_result(handle);
  if (verified != X509_V_OK) {
    co_return Fail(
        HttpErrorKind::kTlsFailed, flight, host,
        StrCat("the server's certificate is not accepted: ", X509_verify_cert_error_string(verified)));
  }
  // A connection that breaks is no verdict about certificates: it may be a server that is just going down.
  const bool broken = ec == asio::error::eof || ec == asio::error::connection_reset ||
                      ec == asio::error::broken_pipe || ec == ssl::error::stream_truncated;
  co_return Fail(broken ? HttpErrorKind::kConnectFailed : HttpErrorKind::kTlsFailed, flight, host,
                 StrCat("TLS handshake: ", ec.message()));
}

asio::awaitable<error_code> ClientImpl::Write(Flight& flight, Connection& connection, std::string_view head,
                                              std::string_view body) {
  while (!head.empty() || !body.empty()) {
    const std::array<asio::const_buffer, 2> buffers = {asio::buffer(head.data(), head.size()),
                                                       asio::buffer(body.data(), body.size())};
    error_code ec;
    size_t n = 0;
    if (connection.tls.has_value()) {
      std::tie(ec, n) = co_await connection.tls->async_write_some(buffers, kAwait);
    } else {
      // A small request almost always fits: then there is nothing to wait for.
      n = connection.socket.write_some(buffers, ec);
      if (ec == asio::error::would_block) {
        std::tie(ec, n) = co_await connection.socket.async_write_some(buffers, kAwait);
      }
    }
    if (n > 0) flight.sent = true;
    if (ec) co_return ec;
    const size_t of_head = std::min(n, head.size());
    head.remove_prefix(of_head);
    body.remove_prefix(n - of_head);
    if (!head.empty() || !body.empty()) flight.Step(IdleDeadline());
  }
  co_return error_code();
}

// Writes the body of a source. An error of the connection is left in `write_error`, to be judged after
// reading; what is returned ends the request.
asio::awaitable<absl::Status> ClientImpl::WriteFrom(Flight& flight, Connection& connection,
                                                    HttpBodySource& source, error_code& write_error) {
  const Host& host = *connection.host;
  for (uint64_t left = source.size(); left > 0 && !write_error;) {
    flight.source_begun = true;
    flight.Step(absl::InfiniteDuration());  // the source may take its time
    const absl::StatusOr<std::string_view> piece = co_await source.Next();
    if (flight.aborted.has_value()) co_return Fail(*flight.aborted, flight, host);
    if (!piece.ok()) co_return piece.status();
    if (piece->empty() || piece->size() > left) {
      co_return Fail(HttpErrorKind::kInvalidRequest, flight, host, "the body is not of the size announced");
    }
    flight.Step(IdleDeadline());
    write_error = co_await Write(flight, connection, {}, *piece);
    if (flight.aborted.has_value()) co_return Fail(*flight.aborted, flight, host);
    if (flight.step_expired) co_return Fail(HttpErrorKind::kIdleTimeout, flight, host);
    left -= piece->size();
  }
  co_return absl::OkStatus();
}

asio::awaitable<ClientImpl::Outcome> ClientImpl::Exchange(Flight& flight, const HttpRequest& request,
                                                          Connection& connection) {
  const Host& host = *connection.host;
  flight.sent = false;
  flight.answer_begun = false;
  connection.begin = connection.end = 0;
  connection.parser.Start(request.method == "HEAD", request.max_response_body, request.sink != nullptr);

  bool body_held = request.expect_continue && BodySize(request) > 0;
  const bool joined = !body_held && request.body.size() <= kJoinBody;
  Compose(request, joined, connection.out);
  flight.Step(IdleDeadline());
  const std::string_view apart = joined || body_held ? std::string_view() : request.body;
  if (!MayWrite(request)) co_return Outcome{Fail(HttpErrorKind::kCancelled, flight, host)};
  // A server may answer and close before it has read all: so an error of writing is judged only after
  // reading.
  error_code write_error;
  if (connection.tls.has_value() || !apart.empty()) {
    write_error = co_await Write(flight, connection, connection.out, apart);
  } else {
    // The usual case, without a coroutine of its own.
    const size_t n = connection.socket.write_some(asio::buffer(connection.out), write_error);
    flight.sent = n > 0;
    if (write_error == asio::error::would_block || (!write_error && n < connection.out.size())) {
      write_error = co_await Write(flight, connection, std::string_view(connection.out).substr(n), {});
    }
  }

  if (flight.aborted.has_value()) co_return Outcome{Fail(*flight.aborted, flight, host)};
  if (flight.step_expired) co_return Outcome{Fail(HttpErrorKind::kIdleTimeout, flight, host)};
  if (request.source != nullptr && !body_held) {
    absl::Status status = co_await WriteFrom(flight, connection, *request.source, write_error);
    if (!status.ok()) co_return Outcome{std::move(status)};
  }

  bool head_told = false;
  flight.Step(body_held ? now_ + kHttpContinueTimeout : IdleDeadline());
  while (true) {
    // Room for what comes.
    if (connection.begin == connection.end) {
      connection.begin = connection.end = 0;
    } else if (connection.end == connection.in.size() && connection.begin > 0) {
      std::memmove(connection.in.data(), connection.in.data() + connection.begin,
                   connection.end - connection.begin);
      connection.end -= connection.begin;
      connection.begin = 0;
    }
    if (connection.end == connection.in.size()) {
      if (connection.in.size() >= kMaxReadBuffer) {
        co_return Outcome{
            Fail(HttpErrorKind::kMalformedResponse, flight, host, "a line of the answer is too long")};
      }
      connection.in.resize(connection.in.size() * 2);
    }
    const size_t room = connection.in.size() - connection.end;
    const asio::mutable_buffer buffer(connection.in.data() + connection.end, room);
    error_code ec;
    size_t n = 0;
    flight.step_keeps_connection = body_held;
    if (connection.tls.has_value()) {
      std::tie(ec, n) = co_await connection.tls->async_read_some(buffer, kAwait);
    } else {
      std::tie(ec, n) = co_await connection.socket.async_read_some(buffer, kAwait);
    }
    flight.step_keeps_connection = false;
    if (flight.aborted.has_value()) co_return Outcome{Fail(*flight.aborted, flight, host)};
    if (flight.step_expired && !body_held) co_return Outcome{Fail(HttpErrorKind::kIdleTimeout, flight, host)};
    // The server does not know 100-continue.
    bool consent = body_held && flight.step_expired && n == 0 && ec == asio::error::operation_aborted;
    if (consent) ec = {};
    Result result = Result::kMore;
    if (ec) {
      const bool closed = ec == asio::error::eof || ec == ssl::error::stream_truncated;
      if (closed) result = connection.parser.PutEof();
      // A truncated TLS stream is no end of a body without a length: somebody may have cut it.
      if (result != Result::kDone || ec == ssl::error::stream_truncated) {
        const error_code& why = write_error ? write_error : ec;
        co_return Outcome{Fail(HttpErrorKind::kConnectionLost, flight, host,
                               closed && !write_error ? "the server closed the connection" : why.message()),
                          false, !flight.answer_begun};
      }
    }
    flight.answer_begun = flight.answer_begun || n > 0;
    connection.end += n;
    // A full buffer: there is more where that came from, so fewer and longer reads.
    if (n == room && connection.in.size() < kMaxReadBuffer && connection.parser.head_done()) {
      connection.in.resize(connection.in.size() * 2);
    }

    while (result == Result::kMore && connection.begin < connection.end) {
      size_t consumed = 0;
      result = connection.parser.Put(
          {connection.in.data() + connection.begin, connection.end - connection.begin}, &consumed);
      connection.begin += consumed;
      if (connection.parser.streaming()) {
        flight.Step(absl::InfiniteDuration());  // the sink may take its time
        if (!head_told) {
          head_told = true;
          if (absl::Status status = co_await request.sink->OnHead(connection.parser.response());
              !status.ok()) {
            co_return Outcome{std::move(status)};
          }
        }
        for (std::string_view piece : connection.parser.pieces()) {
          if (absl::Status status = co_await request.sink->OnData(piece); !status.ok()) {
            co_return Outcome{std::move(status)};
          }
          if (flight.aborted.has_value()) co_return Outcome{Fail(*flight.aborted, flight, host)};
        }
      }
      if (result == Result::kInterim) {
        consent = body_held;
        result = Result::kMore;
      } else if (consumed == 0) {
        break;
      }
    }
    switch (result) {
      case Result::kMalformed:
        co_return Outcome{Fail(HttpErrorKind::kMalformedResponse, flight, host,
                               StrCat("not an HTTP answer: ", connection.parser.error()))};
      case Result::kTooLarge:
        co_return Outcome{Fail(HttpErrorKind::kBodyTooLarge, flight, host,
                               StrCat("the answer (status ", connection.parser.response().status,
                                      ") is longer than ", request.max_response_body, " bytes"))};
      case Result::kDone: {
        // A success of what the server never got is none.
        if (request.source != nullptr && (write_error || body_held) &&
            connection.parser.response().status / 100 == 2) {
          co_return Outcome{Fail(HttpErrorKind::kConnectionLost, flight, host,
                                 "the server answered before it had the whole body")};
        }
        // With a body held back or half written the server may wait for the rest; bytes behind an answer
        // belong to nothing that was asked.
        const bool clean = !ec && !write_error && !body_held && connection.begin == connection.end;
        co_return Outcome{absl::OkStatus(), clean && connection.parser.keep_alive()};
      }
      default: break;
    }
    if (consent) {
      if (!MayWrite(request)) co_return Outcome{Fail(HttpErrorKind::kCancelled, flight, host)};
      body_held = false;
      flight.Step(IdleDeadline());
      if (request.source != nullptr) {
        absl::Status status = co_await WriteFrom(flight, connection, *request.source, write_error);
        if (!status.ok()) co_return Outcome{std::move(status)};
      } else {
        write_error = co_await Write(flight, connection, {}, request.body);
      }
      if (flight.aborted.has_value()) co_return Outcome{Fail(*flight.aborted, flight, host)};
      if (flight.step_expired) co_return Outcome{Fail(HttpErrorKind::kIdleTimeout, flight, host)};
    }
    flight.Step(body_held ? flight.step_deadline : IdleDeadline());
  }
}

void ClientImpl::ScheduleSweep() {
  if (sweeping_ || shut_down_) return;
  sweeping_ = true;
  sweep_timer_.expires_after(absl::ToChronoMilliseconds(kHttpSweepInterval));
  sweep_timer_.async_wait([weak = weak_from_this()](const error_code& ec) {
    const std::shared_ptr<ClientImpl> self = weak.lock();
    if (self == nullptr) return;
    self->sweeping_ = false;
    if (!ec) self->Sweep();
  });
}

void ClientImpl::Sweep() {
  now_ = clock_.Elapsed();
  for (Flight* flight = flights_; flight != nullptr; flight = flight->next) {
    if (now_ >= flight->total_deadline) {
      flight->Abort(flight->queued ? HttpErrorKind::kQueueTimeout : HttpErrorKind::kTotalTimeout);
    } else if (now_ >= flight->step_deadline && !flight->step_expired) {
      flight->step_expired = true;
      flight->Interrupt();
    }
  }
  if (idle_ > 0) {
    for (const auto& [key, host] : hosts_) {
      while (!host->idle.empty() && now_ - host->idle.front()->idle_since > options_.keep_alive) {
        host->idle.pop_front();
        --idle_;
        --open_;
      }
    }
  }
  if (flights_ != nullptr || idle_ > 0) ScheduleSweep();
}

void ClientImpl::Shutdown() {
  if (shut_down_) return;
  shut_down_ = true;
  sweep_timer_.cancel();
  for (const auto& [key, host] : hosts_) {
    open_ -= static_cast<int>(host->idle.size());
    host->idle.clear();
  }
  idle_ = 0;
  for (Flight* flight = flights_; flight != nullptr; flight = flight->next)
    flight->Abort(HttpErrorKind::kCancelled);
}

class Client final : public HttpClient {
 public:
  explicit Client(std::shared_ptr<ClientImpl> impl) : impl_(std::move(impl)) {}
  ~Client() override { impl_->Shutdown(); }

  asio::awaitable<absl::StatusOr<HttpResponse>> Send(HttpRequest request,
                                                     const CancelToken* cancel) override {
    return impl_->Send(std::move(request), cancel);
  }
  void Shutdown() override { impl_->Shutdown(); }
  Counters counters() const override { return impl_->counters(); }

 private:
  const std::shared_ptr<ClientImpl> impl_;
};

absl::Status PrepareTls(const HttpClientOptions& options, ssl::context& tls) {
  error_code ec;
  SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_2_VERSION);
  tls.set_verify_mode(ssl::verify_peer, ec);
  if (!ec) {
    if (options.ca_file.empty()) {
      tls.set_default_verify_paths(ec);
    } else {
      tls.load_verify_file(options.ca_file, ec);
    }
  }
  if (!ec) return absl::OkStatus();
  return absl::InvalidArgumentError(
      ToAbsl(StrCat("can't load the authorities of TLS from '",
                    options.ca_file.empty() ? "the system's folder" : options.ca_file, "': ", ec.message())));
}

}  // namespace

void HttpHeaders::Set(std::string_view name, std::string_view value) {
  std::erase_if(fields_, [&](const Field& field) { return SameName(field.first, name); });
  Add(name, value);
}

std::optional<std::string_view> HttpHeaders::Find(std::string_view name) const {
  for (const auto& [field, value] : fields_) {
    if (SameName(field, name)) return value;
  }
  return std::nullopt;
}

std::optional<HttpError> GetHttpError(const absl::Status& status) {
  if (status.ok()) return std::nullopt;
  const auto details = GetErrorDetails(status);
  if (!details.has_value()) return std::nullopt;
  std::string_view reason = details->reason;
  if (!ConsumePrefix(&reason, kReasonPrefix)) return std::nullopt;
  for (const Kind& kind : kKinds) {
    if (kind.name != reason) continue;
    const auto flag = [&](const char* name) {
      const auto found = details->metadata.find(name);
      return found != details->metadata.end() && found->second == "true";
    };
    return HttpError{kind.kind, flag("sent"), flag("answer_begun")};
  }
  return std::nullopt;
}

std::string_view HttpErrorKindName(HttpErrorKind kind) {
  for (const Kind& known : kKinds) {
    if (known.kind == kind) return known.name;
  }
  return "UNKNOWN";
}

absl::StatusOr<std::unique_ptr<HttpClient>> HttpClient::Create(asio::io_context& io, const Clock& clock,
                                                               HttpClientOptions options) {
  if (options.max_connections < 1) return absl::InvalidArgumentError("max_connections must be at least 1");
  if (options.connect_timeout <= absl::ZeroDuration() || options.idle_timeout <= absl::ZeroDuration() ||
      options.total_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("timeouts must be above zero");
  }
  ssl::context tls(ssl::context::tls_client);
  DROVER_RETURN_IF_ERROR(PrepareTls(options, tls));
  return std::unique_ptr<HttpClient>(
      new Client(std::make_shared<ClientImpl>(io, clock, std::move(options), std::move(tls))));
}

std::string HostHeader(bool tls, std::string_view host, uint16_t port) {
  std::string header = host.find(':') == host.npos ? std::string(host) : StrCat("[", host, "]");
  if (port != (tls ? 443 : 80)) StrAppend(&header, ":", port);
  return header;
}

}  // namespace drover
