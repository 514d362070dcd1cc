// A server that does to an HTTP client what real ones do on bad days: the test says, per connection, which
// bytes to send and when to hang up.
//
//   TestServer server([](TestServer::Peer& peer) {
//     while (peer.ReadRequest()) peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
//   });
//   ... http://127.0.0.1:server.port() ...
#ifndef DROVER_TESTS_SUPPORT_HTTP_TEST_SERVER_H_
#define DROVER_TESTS_SUPPORT_HTTP_TEST_SERVER_H_

#include <openssl/ssl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/sync/mutex.h"

namespace drover {

// A certificate authority and what it signs, made anew for each test: nothing is checked in that could
// expire.
class TestAuthority {
 public:
  TestAuthority();
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  // Writes the authority's certificate as PEM.
  void WriteCaFile(const std::string& path) const;
  // A server's TLS context with a certificate for `alt_names` ("DNS:localhost,IP:127.0.0.1").
  std::shared_ptr<SSL_CTX> ServerContext(const std::string& alt_names) const;

 private:
  EVP_PKEY* key_;
  X509* certificate_;
};

// Listens on 127.0.0.1 at a free port and runs `handler` for each connection in a thread of its own.
class TestServer {
 public:
  // One connection, seen from the server.
  class Peer {
   public:
    Peer(int fd, SSL_CTX* tls, int number);
    ~Peer();
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;

    // Reads a whole request (its body by Content-Length); false if the client hung up, or TLS failed.
    bool ReadRequest();
    // Only the head; the body, if any, is left for ReadBody().
    bool ReadHead();
    bool ReadBody();

    void Send(std::string_view bytes);
    // A whole answer with a Content-Length.
    void Answer(int status, std::string_view body, std::string_view extra_headers = "");
    // Waits until the client hangs up.
    void AwaitClose();
    // Hangs up with a reset instead of an orderly end.
    void Reset();

    int number() const { return number_; }  // 0 for the first connection of the server
    const std::string& method() const { return method_; }
    const std::string& target() const { return target_; }
    const std::string& head() const { return head_; }
    const std::string& body() const { return body_; }
    // The value of a request header, "" if it isn't there.
    std::string Header(std::string_view name) const;

   private:
    bool Fill();

    const int fd_;
    SSL* ssl_ = nullptr;
    const int number_;
    bool broken_ = false;
    std::string input_;
    std::string method_, target_, head_, body_;
  };
  using Handler = std::function<void(Peer&)>;

  explicit TestServer(Handler handler, std::shared_ptr<SSL_CTX> tls = nullptr);
  // Hangs up on everybody and waits for the handlers.
  ~TestServer();

  uint16_t port() const { return port_; }
  int connections() const;
  // The request lines of all connections, as ReadHead() got them ("GET /a").
  std::vector<std::string> requests() const;

 private:
  void Accept();

  const Handler handler_;
  const std::shared_ptr<SSL_CTX> tls_;
  int listener_;
  uint16_t port_;
  std::thread acceptor_;

  mutable Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<int> fds_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> requests_ ABSL_GUARDED_BY(mu_);
  int connections_ ABSL_GUARDED_BY(mu_) = 0;

  friend class Peer;
  static thread_local TestServer* current_;
};

}  // namespace drover

#endif  // DROVER_TESTS_SUPPORT_HTTP_TEST_SERVER_H_
