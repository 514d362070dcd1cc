#include "common/http/client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/strings/strings.h"
#include "tests/support/http/test_server.h"

namespace drover {
namespace {

namespace asio = boost::asio;
using ::testing::ElementsAre;
using Peer = TestServer::Peer;

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Answers every request of every connection with 200.
void Obliging(Peer& peer) {
  while (peer.ReadRequest()) peer.Answer(200, "ok");
}

class HttpClientTest : public ::testing::Test {
 protected:
  void Make(HttpClientOptions options = {}) {
    auto made = HttpClient::Create(io_, SystemClock(), std::move(options));
    ASSERT_TRUE(made.ok()) << made.status();
    client_ = *std::move(made);
  }

  static HttpRequest Get(const TestServer& server, std::string target = "/") {
    HttpRequest request;
    request.host = "127.0.0.1";
    request.port = server.port();
    request.method = "GET";
    request.target = std::move(target);
    return request;
  }

  // A request under way; Wait() runs the loop until it is over.
  struct Pending {
    std::shared_ptr<std::optional<absl::StatusOr<HttpResponse>>> result =
        std::make_shared<std::optional<absl::StatusOr<HttpResponse>>>();
    bool over() const { return result->has_value(); }
  };
  Pending Begin(HttpRequest request, const CancelToken* cancel = nullptr) {
    Pending pending;
    asio::co_spawn(
        io_, client_->Send(std::move(request), cancel),
        [result = pending.result](std::exception_ptr failure, absl::StatusOr<HttpResponse> response) {
          ASSERT_FALSE(failure);
          *result = std::move(response);
        });
    return pending;
  }
  absl::StatusOr<HttpResponse> Wait(const Pending& pending) {
    while (!pending.over()) {
      io_.restart();
      if (io_.run_one_for(std::chrono::seconds(20)) == 0)
        return absl::InternalError("the test waited too long");
    }
    return **pending.result;
  }
  absl::StatusOr<HttpResponse> Send(HttpRequest request, const CancelToken* cancel = nullptr) {
    return Wait(Begin(std::move(request), cancel));
  }
  // Runs the loop until `condition` holds.
  bool RunUntil(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(5));
    }
    return true;
  }
  static HttpErrorKind KindOf(const absl::StatusOr<HttpResponse>& response) {
    const auto error = GetHttpError(response.status());
    if (!error.has_value()) {
      ADD_FAILURE() << "not an HTTP error: " << response.status();
      return HttpErrorKind::kInvalidRequest;
    }
    return error->kind;
  }

  asio::io_context io_{1};
  std::unique_ptr<HttpClient> client_;
};

TEST_F(HttpClientTest, SendsRequestAndHeadersAndReadsTheAnswer) {
  std::string head;
  std::string body;
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      head = peer.head();
      body = peer.body();
      peer.Answer(201, "made", "ETag: \"x\"\r\nx-twice: 1\r\nX-Twice: 2\r\n");
    }
  });
  Make();
  HttpRequest request = Get(server, "/a%20b?c=d");
  request.method = "PUT";
  request.headers.Add("x-amz-meta-a", "b");
  request.body = "hello";
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 201);
  EXPECT_EQ(response->body, "made");
  EXPECT_EQ(response->headers.Get("etag"), "\"x\"");
  EXPECT_EQ(response->headers.Get("X-TWICE"), "1");
  EXPECT_FALSE(response->headers.Has("x-other"));
  EXPECT_EQ(body, "hello");
  EXPECT_EQ(head, StrCat("PUT /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:", server.port(),
                         "\r\nx-amz-meta-a: b\r\nContent-Length: 5\r\n"));
}

TEST_F(HttpClientTest, UsesAConnectionAgain) {
  TestServer server(Obliging);
  Make();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(server.connections(), 1);
  EXPECT_EQ(client_->counters().requests, 5u);
  EXPECT_EQ(client_->counters().connections, 1u);
}

TEST_F(HttpClientTest, HonoursConnectionClose) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(200, "ok", "Connection: close\r\n");
  });
  Make();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(server.connections(), 3);
  EXPECT_EQ(client_->counters().stale_retries, 0u);
}

TEST_F(HttpClientTest, TriesOnceMoreWhenAKeptConnectionIsDead) {
  TestServer server([](Peer& peer) {
    if (peer.ReadRequest()) peer.Answer(200, "ok");
    if (peer.number() < 2) {
      if (peer.ReadHead()) return;  // hangs up instead of answering the second request
    }
    Obliging(peer);
  });
  Make();
  for (int i = 0; i < 4; ++i) {
    const auto response = Send(Get(server, StrCat("/", i)));
    ASSERT_TRUE(response.ok()) << response.status();
  }
  EXPECT_EQ(server.connections(), 3);
  EXPECT_EQ(client_->counters().stale_retries, 2u);
}

TEST_F(HttpClientTest, DoesNotTryAgainWhatMustNotBeSentTwice) {
  TestServer server([](Peer& peer) {
    if (peer.ReadRequest()) peer.Answer(200, "ok");
    peer.ReadHead();
  });
  Make();
  ASSERT_TRUE(Send(Get(server)).ok());
  HttpRequest request = Get(server);
  request.retry_when_stale = false;
  const auto response = Send(request);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kConnectionLost);
  EXPECT_TRUE(GetHttpError(response.status())->sent);
  EXPECT_FALSE(GetHttpError(response.status())->answer_begun);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(HttpClientTest, DoesNotTryAgainWhenAFreshConnectionBreaks) {
  TestServer server([](Peer& peer) { peer.ReadHead(); });
  Make();
  const auto response = Send(Get(server));
  EXPECT_EQ(KindOf(response), HttpErrorKind::kConnectionLost);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(HttpClientTest, DoesNotTryAgainAfterTheFirstByteOfAnAnswer) {
  TestServer server([](Peer& peer) {
    if (peer.ReadRequest()) peer.Answer(200, "ok");
    if (peer.ReadRequest()) peer.Send("H");
  });
  Make();
  ASSERT_TRUE(Send(Get(server)).ok());
  const auto response = Send(Get(server));
  EXPECT_EQ(KindOf(response), HttpErrorKind::kConnectionLost);
  EXPECT_TRUE(GetHttpError(response.status())->answer_begun);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(HttpClientTest, NoticesBeforeSendingThatAnOldConnectionWasClosed) {
  TestServer server([](Peer& peer) {
    if (peer.ReadRequest()) peer.Answer(200, "ok");  // and hangs up
  });
  Make();
  HttpRequest request = Get(server);
  request.retry_when_stale = false;
  ASSERT_TRUE(Send(request).ok());
  std::this_thread::sleep_for(
      std::chrono::milliseconds(1100));  // longer than a connection is trusted blindly
  EXPECT_TRUE(Send(request).ok());
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpClientTest, ReadsChunkedAnswersHoweverTheyAreCut) {
  constexpr std::string_view kAnswer =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;ext=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nx-trailer: 1\r\n\r\n";
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      if (peer.target() == "/whole") {
        peer.Send(kAnswer);
      } else {
        for (char c : kAnswer) peer.Send({&c, 1});
      }
    }
  });
  Make();
  for (const char* target : {"/whole", "/bytes", "/whole"}) {
    const auto response = Send(Get(server, target));
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, "hello world");
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, ReadsABodyThatEndsWithItsConnection) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 200 OK\r\n\r\nall of it");
  });
  Make();
  const auto response = Send(Get(server));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "all of it");
  ASSERT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpClientTest, ReportsABodyThatIsCutShort) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.Send(peer.target() == "/length"
                  ? "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
                  : "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
  });
  Make();
  for (const char* target : {"/length", "/chunked"}) {
    const auto response = Send(Get(server, target));
    EXPECT_EQ(KindOf(response), HttpErrorKind::kConnectionLost) << target;
    EXPECT_TRUE(GetHttpError(response.status())->answer_begun);
  }
}

TEST_F(HttpClientTest, ExpectsNoBodyWhereThereIsNone) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      if (peer.method() == "HEAD") {
        peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
      } else if (peer.target() == "/304") {
        peer.Send("HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\n\r\n");
      } else {
        peer.Send("HTTP/1.1 204 No Content\r\n\r\n");
      }
    }
  });
  Make();
  HttpRequest head = Get(server);
  head.method = "HEAD";
  const auto response = Send(head);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->headers.Get("content-length"), "12345");
  EXPECT_EQ(response->body, "");
  ASSERT_TRUE(Send(Get(server, "/304")).ok());
  EXPECT_EQ(Send(Get(server))->status, 204);
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, PassesOverInterimAnswers) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      peer.Send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
      peer.Send(kOk);
    }
  });
  Make();
  const auto response = Send(Get(server));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_FALSE(response->headers.Has("Link"));
}

TEST_F(HttpClientTest, RefusesWhatIsNotHttp) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    if (peer.target() == "/ssh") peer.Send("SSH-2.0-OpenSSH_9.2\r\n");
    if (peer.target() == "/header") peer.Send("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n");
    if (peer.target() == "/chunk") peer.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    if (peer.target() == "/long") peer.Send(StrCat("HTTP/1.1 200 OK\r\nx: ", std::string(kHttpMaxHead, 'x')));
    if (peer.target() == "/101") peer.Send("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    peer.AwaitClose();
  });
  Make();
  for (const char* target : {"/ssh", "/header", "/chunk", "/long", "/101"}) {
    EXPECT_EQ(KindOf(Send(Get(server, target))), HttpErrorKind::kMalformedResponse) << target;
  }
}

TEST_F(HttpClientTest, DoesNotUseAConnectionAgainThatSaysMoreThanItWasAsked) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Send(StrCat(kOk, "HTTP/1.1 500 Smuggled\r\nContent-Length: 0\r\n\r\n"));
  });
  Make();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Send(Get(server))->status, 200);
  EXPECT_EQ(server.connections(), 3);
}

TEST_F(HttpClientTest, BoundsTheBodyThatItKeeps) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      if (peer.target() == "/chunked") {
        peer.Send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n");
      } else {
        peer.Answer(200, "abcdefghijk");
      }
    }
  });
  Make();
  for (const char* target : {"/length", "/chunked"}) {
    HttpRequest request = Get(server, target);
    request.max_response_body = 10;
    EXPECT_EQ(KindOf(Send(request)), HttpErrorKind::kBodyTooLarge) << target;
    request.max_response_body = 11;
    const auto response = Send(request);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, "abcdefghijk");
  }
}

// --- Timeouts ---

TEST_F(HttpClientTest, GivesUpOnASilentServer) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.AwaitClose();
  });
  Make({.idle_timeout = absl::Milliseconds(300)});
  const auto begin = std::chrono::steady_clock::now();
  const auto response = Send(Get(server));
  EXPECT_EQ(KindOf(response), HttpErrorKind::kIdleTimeout);
  EXPECT_TRUE(GetHttpError(response.status())->sent);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  EXPECT_EQ(server.requests().size(), 1u);  // a timeout is no dead connection
}

TEST_F(HttpClientTest, GivesUpOnAServerThatStopsInTheMiddleOfABody) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    peer.AwaitClose();
  });
  Make({.idle_timeout = absl::Milliseconds(300)});
  const auto response = Send(Get(server));
  EXPECT_EQ(KindOf(response), HttpErrorKind::kIdleTimeout);
  EXPECT_TRUE(GetHttpError(response.status())->answer_begun);
}

TEST_F(HttpClientTest, GivesUpOnAServerThatDoesNotReadTheBody) {
  std::atomic<bool> done{false};
  TestServer server([&](Peer& peer) {
    peer.ReadHead();
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  });
  Make({.idle_timeout = absl::Milliseconds(300)});
  HttpRequest request = Get(server);
  request.method = "PUT";
  const std::string body(64 << 20, 'x');  // more than all buffers between hold
  request.body = body;
  EXPECT_EQ(KindOf(Send(request)), HttpErrorKind::kIdleTimeout);
  done = true;
}

TEST_F(HttpClientTest, BoundsTheWholeEvenIfSomethingAlwaysMoves) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    for (int i = 0; i < 100; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      peer.Send("x");
    }
  });
  Make();
  HttpRequest request = Get(server);
  request.total_timeout = absl::Milliseconds(300);
  EXPECT_EQ(KindOf(Send(request)), HttpErrorKind::kTotalTimeout);
}

TEST_F(HttpClientTest, GivesUpOnAServerThatDoesNotAcceptConnections) {
  // A listener that accepts nothing, its backlog filled: the kernel drops further attempts.
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener, 0), 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::vector<int> filling;
  for (int i = 0; i < 8; ++i) {
    filling.push_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    connect(filling.back(), reinterpret_cast<sockaddr*>(&address), size);
  }
  Make({.connect_timeout = absl::Milliseconds(400)});
  HttpRequest request;
  request.host = "127.0.0.1";
  request.port = ntohs(address.sin_port);
  request.method = "GET";
  request.target = "/";
  const auto response = Send(request);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kConnectTimeout);
  EXPECT_FALSE(GetHttpError(response.status())->sent);
  for (int fd : filling) close(fd);
  close(listener);
}

TEST_F(HttpClientTest, SaysThatNothingWasSentWhereNobodyListens) {
  uint16_t port;
  {
    TestServer gone(Obliging);
    port = gone.port();
  }
  Make();
  HttpRequest request;
  request.host = "127.0.0.1";
  request.port = port;
  request.method = "GET";
  request.target = "/";
  const auto response = Send(request);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kConnectFailed);
  EXPECT_FALSE(GetHttpError(response.status())->sent);
  EXPECT_EQ(client_->counters().open, 0);
}

TEST_F(HttpClientTest, TriesEachAddressOfAName) {
  // "localhost" often is ::1 before 127.0.0.1, where the server does not listen.
  TestServer server(Obliging);
  Make();
  HttpRequest request = Get(server);
  request.host = "localhost";
  for (int i = 0; i < 3; ++i) {
    const auto response = Send(request);
    ASSERT_TRUE(response.ok()) << response.status();
  }
}

TEST_F(HttpClientTest, SaysThatANameDoesNotResolve) {
  Make({.connect_timeout = absl::Seconds(15)});
  HttpRequest request;
  request.host = "no-such-host.invalid";
  request.port = 80;
  request.method = "GET";
  request.target = "/";
  const auto response = Send(request);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kResolveFailed);
  EXPECT_FALSE(GetHttpError(response.status())->sent);
}

// --- Limits and queue ---

TEST_F(HttpClientTest, KeepsToItsConnectionLimitAndServesEveryoneInTurn) {
  std::atomic<int> busy{0};
  std::atomic<int> most{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      most = std::max(most.load(), ++busy);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      --busy;
      peer.Answer(200, peer.target());
    }
  });
  Make({.max_connections = 3});
  std::vector<Pending> all;
  for (int i = 0; i < 30; ++i) all.push_back(Begin(Get(server, StrCat("/", i))));
  for (int i = 0; i < 30; ++i) {
    const auto response = Wait(all[i]);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, StrCat("/", i));
  }
  EXPECT_LE(most, 3);
  EXPECT_EQ(server.connections(), 3);
  EXPECT_EQ(client_->counters().queued, 0);
}

TEST_F(HttpClientTest, GivesTheSlotOnWhenConnectionsBreak) {
  TestServer server([](Peer& peer) {
    if (!peer.ReadRequest()) return;
    if (peer.number() % 2 == 0) return;  // every other one hangs up
    peer.Answer(200, "ok", "Connection: close\r\n");
  });
  Make({.max_connections = 1});
  std::vector<Pending> all;
  for (int i = 0; i < 10; ++i) all.push_back(Begin(Get(server)));
  int good = 0;
  for (const Pending& pending : all) good += Wait(pending).ok() ? 1 : 0;
  EXPECT_EQ(good, 5);
  EXPECT_EQ(client_->counters().open, 0);
}

TEST_F(HttpClientTest, ReportsThatNoConnectionBecameFree) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.AwaitClose();
  });
  Make({.max_connections = 1});
  const Pending first = Begin(Get(server));
  HttpRequest second = Get(server);
  second.total_timeout = absl::Milliseconds(300);
  const auto response = Send(second);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kQueueTimeout);
  EXPECT_FALSE(GetHttpError(response.status())->sent);
  EXPECT_FALSE(first.over());
  EXPECT_EQ(client_->counters().queued, 0);
  client_->Shutdown();
  EXPECT_EQ(KindOf(Wait(first)), HttpErrorKind::kCancelled);
}

TEST_F(HttpClientTest, BoundsTheWaitForAConnectionOfRequestsThatMayTakeForever) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.AwaitClose();
  });
  Make({.max_connections = 1});
  const Pending first = Begin(Get(server));
  HttpRequest endless = Get(server);
  endless.total_timeout = absl::InfiniteDuration();
  endless.queue_timeout = absl::Milliseconds(300);
  EXPECT_EQ(KindOf(Send(endless)), HttpErrorKind::kQueueTimeout);
  EXPECT_FALSE(first.over());
  EXPECT_EQ(client_->counters().queued, 0);
  client_->Shutdown();
  EXPECT_EQ(KindOf(Wait(first)), HttpErrorKind::kCancelled);
}

TEST_F(HttpClientTest, ClosesAnUnusedConnectionForAnotherHost) {
  TestServer one(Obliging);
  TestServer two(Obliging);
  Make({.max_connections = 1});
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Send(Get(one)).ok());
    ASSERT_TRUE(Send(Get(two)).ok());
  }
  EXPECT_EQ(client_->counters().open, 1);
  EXPECT_EQ(one.connections(), 2);
}

TEST_F(HttpClientTest, ServesWaitersForAnotherHostWithASlotThatBecomesFree) {
  TestServer one(Obliging);
  TestServer two(Obliging);
  Make({.max_connections = 1});
  const Pending a = Begin(Get(one));
  const Pending b = Begin(Get(two));
  const Pending c = Begin(Get(one));
  EXPECT_TRUE(Wait(a).ok());
  EXPECT_TRUE(Wait(b).ok());
  EXPECT_TRUE(Wait(c).ok());
  EXPECT_EQ(client_->counters().open, 1);
}

TEST_F(HttpClientTest, ClosesConnectionsThatNobodyUses) {
  TestServer server(Obliging);
  Make({.keep_alive = absl::Milliseconds(200)});
  ASSERT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(client_->counters().open, 1);
  io_.restart();
  io_.run_for(std::chrono::seconds(5));  // ends when nothing is left to do
  EXPECT_EQ(client_->counters().open, 0);
}

// --- Cancelling ---

TEST_F(HttpClientTest, CancelsARequestInFlight) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.AwaitClose();
  });
  Make();
  CancelToken cancel;
  const Pending pending = Begin(Get(server), &cancel);
  ASSERT_TRUE(RunUntil([&] { return server.requests().size() == 1; }));
  EXPECT_FALSE(pending.over());
  cancel.Cancel();
  const auto response = Wait(pending);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kCancelled);
  EXPECT_TRUE(GetHttpError(response.status())->sent);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(HttpClientTest, CancelsARequestThatWaitsForAConnection) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      peer.Answer(200, "ok");
    }
  });
  Make({.max_connections = 1});
  const Pending first = Begin(Get(server, "/1"));
  CancelToken cancel;
  const Pending second = Begin(Get(server, "/2"), &cancel);
  const Pending third = Begin(Get(server, "/3"));
  ASSERT_TRUE(RunUntil([&] { return server.requests().size() == 1; }));
  cancel.Cancel();
  EXPECT_EQ(KindOf(Wait(second)), HttpErrorKind::kCancelled);
  EXPECT_TRUE(Wait(first).ok());
  EXPECT_TRUE(Wait(third).ok());
  EXPECT_THAT(server.requests(), ElementsAre("GET /1", "GET /3"));
}

TEST_F(HttpClientTest, SendsNothingThatIsCancelledAlready) {
  TestServer server(Obliging);
  Make();
  CancelToken cancel;
  cancel.Cancel();
  const auto response = Send(Get(server), &cancel);
  EXPECT_EQ(KindOf(response), HttpErrorKind::kCancelled);
  EXPECT_FALSE(GetHttpError(response.status())->sent);
  EXPECT_EQ(server.connections(), 0);
}

TEST_F(HttpClientTest, AsksRightBeforeItWritesWhetherItStillMay) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      peer.Answer(200, "ok");
    }
  });
  Make({.max_connections = 1});
  bool may = true;
  HttpRequest first = Get(server, "/1");
  first.may_write = [&] { return may; };
  HttpRequest second = Get(server, "/2");
  second.may_write = first.may_write;
  const Pending written = Begin(std::move(first));
  const Pending waiting = Begin(std::move(second));  // for the connection
  ASSERT_TRUE(RunUntil([&] { return server.requests().size() == 1; }));
  may = false;
  EXPECT_TRUE(Wait(written).ok()) << "what is written already is let be";
  const auto refused = Wait(waiting);
  EXPECT_EQ(KindOf(refused), HttpErrorKind::kCancelled);
  EXPECT_FALSE(GetHttpError(refused.status())->sent);
  EXPECT_TRUE(Send(Get(server, "/3")).ok());
  EXPECT_THAT(server.requests(), ElementsAre("GET /1", "GET /3"));
}

TEST_F(HttpClientTest, AsksAgainBeforeItWritesASecondTime) {
  TestServer server([](Peer& peer) {
    if (peer.ReadRequest()) peer.Answer(200, "ok");
    if (peer.ReadHead()) return;  // hangs up instead of answering the second request
  });
  Make();
  ASSERT_TRUE(Send(Get(server, "/1")).ok());
  int asked = 0;
  HttpRequest request = Get(server, "/2");
  request.may_write = [&] { return ++asked == 1; };
  EXPECT_EQ(KindOf(Send(std::move(request))), HttpErrorKind::kCancelled);
  EXPECT_EQ(asked, 2);
}

TEST_F(HttpClientTest, EndsRequestsWhenItIsDestroyed) {
  TestServer server([](Peer& peer) {
    peer.ReadRequest();
    peer.AwaitClose();
  });
  Make({.max_connections = 1});
  const Pending first = Begin(Get(server));
  const Pending queued = Begin(Get(server));
  ASSERT_TRUE(RunUntil([&] { return server.requests().size() == 1; }));
  client_.reset();
  EXPECT_EQ(KindOf(Wait(first)), HttpErrorKind::kCancelled);
  EXPECT_EQ(KindOf(Wait(queued)), HttpErrorKind::kCancelled);
}

// --- Large bodies ---

TEST_F(HttpClientTest, SendsALargeBody) {
  std::string got;
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      got = peer.body();
      peer.Answer(200, "");
    }
  });
  Make();
  std::string body(16 << 20, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i * 31 >> 8);
  HttpRequest request = Get(server);
  request.method = "PUT";
  request.body = body;
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(got == body);
}

TEST_F(HttpClientTest, WaitsForConsentBeforeALargeBody) {
  std::atomic<bool> early{false};
  TestServer server([&](Peer& peer) {
    while (peer.ReadHead()) {
      EXPECT_EQ(peer.Header("Expect"), "100-continue");
      peer.Send("HTTP/1.1 100 Continue\r\n\r\n");
      if (!peer.ReadBody()) return;
      peer.Answer(200, peer.body());
    }
  });
  Make();
  HttpRequest request = Get(server);
  request.method = "PUT";
  request.body = "the body";
  request.expect_continue = true;
  for (int i = 0; i < 2; ++i) {
    const auto response = Send(request);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, "the body");
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, SendsTheBodyAnywayToAServerThatSaysNothing) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(200, peer.body());
  });
  Make();
  HttpRequest request = Get(server);
  request.method = "PUT";
  request.body = "the body";
  request.expect_continue = true;
  const auto begin = std::chrono::steady_clock::now();
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "the body");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(900));
  // As good as any other connection afterwards.
  EXPECT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, SavesSendingABodyThatTheServerRefuses) {
  std::string rest;
  TestServer server([&](Peer& peer) {
    while (peer.ReadHead()) {
      if (peer.number() > 0) {
        peer.Answer(200, "");
        continue;
      }
      peer.Answer(503, "busy");
      if (peer.ReadBody()) rest = peer.body();
      return;
    }
  });
  Make();
  HttpRequest request = Get(server);
  request.method = "PUT";
  request.body = "the body";
  request.expect_continue = true;
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 503);
  // The server still expects the body on that connection, so it must not carry another request.
  EXPECT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(server.connections(), 2);
  EXPECT_EQ(rest, "");
}

TEST_F(HttpClientTest, HearsAnAnswerThatComesBeforeTheBodyIsSent) {
  TestServer server([](Peer& peer) {
    peer.ReadHead();
    peer.Answer(403, "no", "Connection: close\r\n");
    peer.AwaitClose();
  });
  Make();
  HttpRequest request = Get(server);
  request.method = "PUT";
  const std::string body(8 << 20, 'x');
  request.body = body;
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 403);
}

// --- Streaming ---

class CountingSink : public HttpBodySink {
 public:
  explicit CountingSink(asio::io_context& io) : timer(io) {}
  asio::awaitable<absl::Status> OnHead(const HttpResponse& head) override {
    status = head.status;
    length = std::string(head.headers.Get("Content-Length"));
    co_return absl::OkStatus();
  }
  asio::awaitable<absl::Status> OnData(std::string_view data) override {
    total += data.size();
    good = good && data.find_first_not_of('x') == data.npos;
    if (total > pause_after && !paused) {
      paused = true;
      timer.expires_after(std::chrono::milliseconds(700));
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
      sent_after_pause = sent != nullptr ? sent->load() : 0;
    }
    if (total > fail_after) co_return absl::DataLossError("enough");
    co_return absl::OkStatus();
  }
  asio::steady_timer timer;
  int status = 0;
  std::string length;
  size_t total = 0;
  bool good = true;
  bool paused = false;
  size_t pause_after = SIZE_MAX;
  size_t fail_after = SIZE_MAX;
  std::atomic<size_t>* sent = nullptr;
  size_t sent_after_pause = 0;
};

// Gives `pieces` of the body one after the other; then, if there is one, its error.
class ScriptedSource : public HttpBodySource {
 public:
  explicit ScriptedSource(asio::io_context& io) : timer(io) {}
  uint64_t size() const override { return announced; }
  asio::awaitable<absl::StatusOr<std::string_view>> Next() override {
    ++asked;
    if (pause > absl::ZeroDuration()) {
      timer.expires_after(absl::ToChronoMilliseconds(pause));
      co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    if (next == pieces.size()) co_return error;
    co_return std::string_view(pieces[next++]);
  }
  asio::steady_timer timer;
  std::vector<std::string> pieces;
  uint64_t announced = 0;
  absl::Status error = absl::DataLossError("no more");
  absl::Duration pause;
  size_t next = 0;
  int asked = 0;
};

HttpRequest PutFrom(HttpBodySource& source, const TestServer& server) {
  HttpRequest request;
  request.host = "127.0.0.1";
  request.port = server.port();
  request.method = "PUT";
  request.target = "/";
  request.source = &source;
  return request;
}

TEST_F(HttpClientTest, SendsABodyPieceByPieceAndWithoutATimeoutWhileTheSourceIsSlow) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(200, peer.body());
  });
  Make({.idle_timeout = absl::Milliseconds(300)});
  for (const bool consent : {false, true}) {
    ScriptedSource source(io_);
    source.pieces = {"one ", std::string(100'000, 'x'), " end"};
    source.announced = 100'008;
    source.pause = absl::Milliseconds(500);
    HttpRequest request = PutFrom(source, server);
    request.expect_continue = consent;
    const auto response = Send(std::move(request));
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, "one " + std::string(100'000, 'x') + " end");
    EXPECT_EQ(source.asked, 3);
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, EndsWithTheSourcesErrorAndTheServerGetsNoWholeRequest) {
  std::atomic<int> whole{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      ++whole;
      peer.Answer(200, "");
    }
  });
  Make();
  ScriptedSource source(io_);
  source.pieces = {"half"};
  source.announced = 8;
  const auto response = Send(PutFrom(source, server));
  EXPECT_EQ(response.status(), absl::DataLossError("no more"));
  EXPECT_EQ(source.asked, 2);
  EXPECT_TRUE(Send(Get(server)).ok());
  EXPECT_EQ(server.connections(), 2) << "a connection with half a request on it carries no other";
  EXPECT_EQ(whole, 1);
}

TEST_F(HttpClientTest, RefusesPiecesThatDoNotMakeUpTheSizeAnnounced) {
  TestServer server(Obliging);
  Make();
  for (const char* piece : {"", "too long"}) {
    ScriptedSource source(io_);
    source.pieces = {piece};
    source.announced = 4;
    const auto response = Send(PutFrom(source, server));
    const auto error = GetHttpError(response.status());
    ASSERT_TRUE(error.has_value()) << response.status();
    EXPECT_EQ(error->kind, HttpErrorKind::kInvalidRequest);
  }
}

TEST_F(HttpClientTest, TriesOnceMoreOnlyWhileTheSourceIsUntouched) {
  for (const bool consent : {true, false}) {
    TestServer server([](Peer& peer) {
      // The first connection is good for one request, and dead at the second.
      if (!peer.ReadRequest()) return;
      peer.Answer(200, "");
      if (peer.number() == 0) {
        if (peer.ReadHead()) peer.Reset();
        return;
      }
      while (peer.ReadRequest()) peer.Answer(200, peer.body());
    });
    Make();
    ASSERT_TRUE(Send(Get(server)).ok());
    ScriptedSource source(io_);
    source.pieces = {std::string(1 << 20, 'x')};
    source.announced = 1 << 20;
    HttpRequest request = PutFrom(source, server);
    request.expect_continue = consent;
    const auto response = Send(std::move(request));
    EXPECT_EQ(response.ok(), consent) << response.status();
    EXPECT_EQ(source.asked, 1);
    EXPECT_EQ(client_->counters().stale_retries, consent ? 1u : 0u);
  }
}

TEST_F(HttpClientTest, TakesNoSuccessOfABodyThatTheServerDidNotRead) {
  TestServer server([](Peer& peer) {
    while (peer.ReadHead()) peer.Answer(200, "");
  });
  Make();
  ScriptedSource source(io_);
  source.pieces = {"body"};
  source.announced = 4;
  HttpRequest request = PutFrom(source, server);
  request.expect_continue = true;
  const auto response = Send(std::move(request));
  const auto error = GetHttpError(response.status());
  ASSERT_TRUE(error.has_value()) << response.status();
  EXPECT_EQ(error->kind, HttpErrorKind::kConnectionLost);
  EXPECT_EQ(source.asked, 0);
}

TEST_F(HttpClientTest, StreamsABodyWithBackPressureAndWithoutATimeoutWhileTheSinkIsSlow) {
  constexpr size_t kSize = 64 << 20;
  std::atomic<size_t> sent{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      peer.Send(StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", kSize, "\r\n\r\n"));
      const std::string piece(1 << 16, 'x');
      for (size_t i = 0; i < kSize; i += piece.size()) {
        peer.Send(piece);
        sent += piece.size();
      }
    }
  });
  Make({.idle_timeout = absl::Milliseconds(300)});
  CountingSink sink(io_);
  sink.pause_after = 1 << 20;
  sink.sent = &sent;
  HttpRequest request = Get(server);
  request.sink = &sink;
  request.max_response_body = 10;  // does not hold for sinks
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(sink.status, 200);
  EXPECT_EQ(sink.length, StrCat(kSize));
  EXPECT_EQ(sink.total, kSize);
  EXPECT_TRUE(sink.good);
  EXPECT_EQ(response->body, "");
  EXPECT_TRUE(sink.paused);
  EXPECT_LT(sink.sent_after_pause, kSize / 2) << "the server was not held back";
  // The connection is good for more.
  EXPECT_TRUE(Send(Get(server)).status().code() != absl::StatusCode::kUnavailable);
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, StreamsChunkedBodies) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      peer.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      const std::string piece = StrCat("10000\r\n", std::string(0x10000, 'x'), "\r\n");
      for (int i = 0; i < 50; ++i) peer.Send(piece);
      peer.Send("0\r\n\r\n");
    }
  });
  Make();
  CountingSink sink(io_);
  HttpRequest request = Get(server);
  request.sink = &sink;
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(sink.total, 50u * 0x10000);
  EXPECT_TRUE(sink.good);
}

TEST_F(HttpClientTest, EndsWithTheSinksError) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(200, std::string(1 << 20, 'x'));
  });
  Make();
  CountingSink sink(io_);
  sink.fail_after = 1000;
  HttpRequest request = Get(server);
  request.sink = &sink;
  EXPECT_EQ(Send(request).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(client_->counters().open, 0);
}

TEST_F(HttpClientTest, KeepsTheBodyOfAnErrorFromTheSink) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(404, "<Error/>");
  });
  Make();
  CountingSink sink(io_);
  HttpRequest request = Get(server);
  request.sink = &sink;
  const auto response = Send(request);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->body, "<Error/>");
  EXPECT_EQ(sink.status, 0);
}

// --- TLS ---

class HttpsClientTest : public HttpClientTest {
 protected:
  void SetUp() override {
    ca_file_ = ::testing::TempDir() + "/drover-test-ca-" + std::to_string(getpid()) + ".pem";
    authority_.WriteCaFile(ca_file_);
  }
  void TearDown() override { unlink(ca_file_.c_str()); }

  static HttpRequest GetTls(const TestServer& server, std::string host = "localhost") {
    HttpRequest request = Get(server);
    request.tls = true;
    request.host = std::move(host);
    return request;
  }

  TestAuthority authority_;
  std::string ca_file_;
};

TEST_F(HttpsClientTest, AcceptsACertificateOfTheRightAuthorityForTheRightName) {
  TestServer server(Obliging, authority_.ServerContext("DNS:localhost,IP:127.0.0.1"));
  Make({.ca_file = ca_file_});
  for (const char* host : {"localhost", "127.0.0.1"}) {
    for (int i = 0; i < 2; ++i) {
      const auto response = Send(GetTls(server, host));
      ASSERT_TRUE(response.ok()) << response.status();
      EXPECT_EQ(response->body, "ok");
    }
  }
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpsClientTest, RefusesACertificateForAnotherName) {
  TestServer server(Obliging, authority_.ServerContext("DNS:other.example,IP:127.0.0.2"));
  Make({.ca_file = ca_file_});
  for (const char* host : {"localhost", "127.0.0.1"}) {
    const auto response = Send(GetTls(server, host));
    EXPECT_EQ(KindOf(response), HttpErrorKind::kTlsFailed) << host;
    EXPECT_FALSE(GetHttpError(response.status())->sent);
    EXPECT_THAT(std::string(response.status().message()), ::testing::HasSubstr("mismatch"));
  }
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(HttpsClientTest, RefusesACertificateOfAnUnknownAuthority) {
  TestAuthority other;
  TestServer server(Obliging, other.ServerContext("DNS:localhost"));
  Make({.ca_file = ca_file_});
  EXPECT_EQ(KindOf(Send(GetTls(server))), HttpErrorKind::kTlsFailed);
  Make();  // nor does the system's list know it
  EXPECT_EQ(KindOf(Send(GetTls(server))), HttpErrorKind::kTlsFailed);
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(HttpsClientTest, CarriesLargeBodiesBothWays) {
  TestServer server(
      [](Peer& peer) {
        while (peer.ReadRequest()) peer.Answer(200, peer.body());
      },
      authority_.ServerContext("DNS:localhost"));
  Make({.ca_file = ca_file_});
  std::string body(3 << 20, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i * 31 >> 8);
  HttpRequest request = GetTls(server);
  request.method = "PUT";
  request.body = body;
  request.max_response_body = body.size();
  const auto response = Send(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->body == body);
}

TEST_F(HttpsClientTest, TriesOnceMoreWhenAKeptConnectionIsDead) {
  TestServer server(
      [](Peer& peer) {
        if (peer.ReadRequest()) peer.Answer(200, "ok");
        if (peer.number() == 0 && peer.ReadHead()) return;
        Obliging(peer);
      },
      authority_.ServerContext("DNS:localhost"));
  Make({.ca_file = ca_file_});
  ASSERT_TRUE(Send(GetTls(server)).ok());
  const auto response = Send(GetTls(server));
  EXPECT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(client_->counters().stale_retries, 1u);
}

TEST_F(HttpsClientTest, TakesTheTimeOfAHandshakeIntoTheConnectTimeout) {
  std::atomic<bool> done{false};
  TestServer server([&](Peer&) {
    while (!done) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // no TLS at all
  });
  Make({.connect_timeout = absl::Milliseconds(300), .ca_file = ca_file_});
  EXPECT_EQ(KindOf(Send(GetTls(server, "127.0.0.1"))), HttpErrorKind::kConnectTimeout);
  done = true;
}

TEST_F(HttpsClientTest, WaitsForConsentOverTls) {
  TestServer server(
      [](Peer& peer) {
        while (peer.ReadHead()) {
          if (peer.target() == "/asks") peer.Send("HTTP/1.1 100 Continue\r\n\r\n");
          if (!peer.ReadBody()) return;
          peer.Answer(200, peer.body());
        }
      },
      authority_.ServerContext("DNS:localhost"));
  Make({.ca_file = ca_file_});
  for (const char* target : {"/asks", "/silent", "/asks"}) {
    HttpRequest request = GetTls(server);
    request.target = target;
    request.method = "PUT";
    request.body = "the body";
    request.expect_continue = true;
    const auto response = Send(request);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, "the body");
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClientCreate, NamesACaFileThatCanNotBeRead) {
  asio::io_context io(1);
  const auto client = HttpClient::Create(io, SystemClock(), {.ca_file = "/no/such/ca.pem"});
  ASSERT_FALSE(client.ok());
  EXPECT_THAT(std::string(client.status().message()), ::testing::HasSubstr("/no/such/ca.pem"));
}

TEST(HttpClientCreate, RefusesOptionsThatMakeNoSense) {
  asio::io_context io(1);
  EXPECT_FALSE(HttpClient::Create(io, SystemClock(), {.max_connections = 0}).ok());
  EXPECT_FALSE(HttpClient::Create(io, SystemClock(), {.connect_timeout = absl::ZeroDuration()}).ok());
}

// --- What may not reach the wire ---

TEST_F(HttpClientTest, RefusesRequestsThatWouldBreakTheProtocol) {
  TestServer server(Obliging);
  Make();
  std::vector<HttpRequest> bad;
  const auto add = [&](const std::function<void(HttpRequest&)>& change) {
    bad.push_back(Get(server));
    change(bad.back());
  };
  add([](HttpRequest& r) { r.headers.Add("x-a", "b\r\nx-c: d"); });
  add([](HttpRequest& r) { r.headers.Add("x-a", "b\nx-c: d"); });
  add([](HttpRequest& r) { r.headers.Add("x-a", std::string("b\0c", 3)); });
  add([](HttpRequest& r) { r.headers.Add("x a", "b"); });
  add([](HttpRequest& r) { r.headers.Add("", "b"); });
  add([](HttpRequest& r) { r.headers.Add("content-length", "5"); });
  add([](HttpRequest& r) { r.headers.Add("Transfer-Encoding", "chunked"); });
  add([](HttpRequest& r) { r.headers.Add("HOST", "other"); });
  add([](HttpRequest& r) { r.target = "/a b"; });
  add([](HttpRequest& r) { r.target = "/a\r\nx: y"; });
  add([](HttpRequest& r) { r.target = "/\xc3\xa4"; });
  add([](HttpRequest& r) { r.target = ""; });
  add([](HttpRequest& r) { r.target = "a"; });
  add([](HttpRequest& r) { r.method = "GE T"; });
  add([](HttpRequest& r) { r.method = ""; });
  add([](HttpRequest& r) { r.host = ""; });
  add([](HttpRequest& r) { r.host = "a\r\nb"; });
  add([](HttpRequest& r) { r.port = 0; });
  for (const HttpRequest& request : bad) {
    EXPECT_EQ(KindOf(Send(request)), HttpErrorKind::kInvalidRequest) << request.target;
  }
  EXPECT_EQ(server.connections(), 0);
}

TEST(HostHeader, LeavesOutTheSchemesOwnPort) {
  EXPECT_EQ(HostHeader(false, "a.example", 80), "a.example");
  EXPECT_EQ(HostHeader(false, "a.example", 443), "a.example:443");
  EXPECT_EQ(HostHeader(true, "a.example", 443), "a.example");
  EXPECT_EQ(HostHeader(true, "::1", 8443), "[::1]:8443");
}

TEST(HttpHeadersTest, SetReplacesEveryFieldOfTheName) {
  HttpHeaders headers = {{"A", "1"}, {"b", "2"}, {"a", "3"}};
  headers.Set("a", "4");
  EXPECT_EQ(headers.Get("A"), "4");
  EXPECT_EQ(headers.size(), 2u);
  EXPECT_FALSE(headers.Find("c").has_value());
}

}  // namespace
}  // namespace drover
