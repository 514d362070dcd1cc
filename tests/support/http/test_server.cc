#include "tests/support/http/test_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

void Check(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::abort();
}

EVP_PKEY* NewKey() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  Check(key != nullptr, "EVP_EC_gen");
  return key;
}

X509* NewCertificate(const char* subject, EVP_PKEY* key, const char* issuer, EVP_PKEY* issuer_key,
                     const std::vector<std::pair<int, std::string>>& extensions) {
  static int serial = 1;
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  const auto name = [](const char* text) {
    X509_NAME* made = X509_NAME_new();
    X509_NAME_add_entry_by_txt(made, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(text), -1, -1,
                               0);
    return made;
  };
  X509_NAME* subject_name = name(subject);
  X509_NAME* issuer_name = name(issuer);
  X509_set_subject_name(certificate, subject_name);
  X509_set_issuer_name(certificate, issuer_name);
  X509_NAME_free(subject_name);
  X509_NAME_free(issuer_name);
  for (const auto& [nid, value] : extensions) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    Check(extension != nullptr, "X509V3_EXT_conf_nid");
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  Check(X509_sign(certificate, issuer_key, EVP_sha256()) > 0, "X509_sign");
  return certificate;
}

constexpr char kAuthorityName[] = "Drover test authority";

}  // namespace

TestAuthority::TestAuthority() : key_(NewKey()) {
  certificate_ =
      NewCertificate(kAuthorityName, key_, kAuthorityName, key_,
                     {{NID_basic_constraints, "critical,CA:TRUE"}, {NID_key_usage, "keyCertSign"}});
}

TestAuthority::~TestAuthority() {
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

void TestAuthority::WriteCaFile(const std::string& path) const {
  FILE* file = std::fopen(path.c_str(), "w");
  Check(file != nullptr, path.c_str());
  PEM_write_X509(file, certificate_);
  std::fclose(file);
}

std::shared_ptr<SSL_CTX> TestAuthority::ServerContext(const std::string& alt_names) const {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  EVP_PKEY* key = NewKey();
  X509* certificate =
      NewCertificate("test server", key, kAuthorityName, key_, {{NID_subject_alt_name, alt_names}});
  SSL_CTX_use_PrivateKey(context.get(), key);
  SSL_CTX_use_certificate(context.get(), certificate);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return context;
}

thread_local TestServer* TestServer::current_ = nullptr;

TestServer::Peer::Peer(int fd, SSL_CTX* tls, int number) : fd_(fd), number_(number) {
  if (tls == nullptr) return;
  ssl_ = SSL_new(tls);
  SSL_set_fd(ssl_, fd_);
  broken_ = SSL_accept(ssl_) != 1;
  ERR_clear_error();
}

TestServer::Peer::~Peer() {
  if (ssl_ == nullptr) return;
  if (!broken_) SSL_shutdown(ssl_);
  SSL_free(ssl_);
}

bool TestServer::Peer::Fill() {
  if (broken_) return false;
  char buffer[64 << 10];
  const ssize_t n =
      ssl_ != nullptr ? SSL_read(ssl_, buffer, sizeof(buffer)) : recv(fd_, buffer, sizeof(buffer), 0);
  if (n <= 0) {
    ERR_clear_error();
    broken_ = true;
    return false;
  }
  input_.append(buffer, static_cast<size_t>(n));
  return true;
}

bool TestServer::Peer::ReadHead() {
  size_t end;
  while ((end = input_.find("\r\n\r\n")) == std::string::npos) {
    if (!Fill()) return false;
  }
  head_ = input_.substr(0, end + 2);
  input_.erase(0, end + 4);
  const auto words = Split(std::string_view(head_).substr(0, head_.find('\r')), ' ');
  method_ = std::string(words[0]);
  target_ = std::string(words.size() > 1 ? words[1] : "");
  body_.clear();
  MutexLock lock(&current_->mu_);
  current_->requests_.push_back(method_ + " " + target_);
  return true;
}

bool TestServer::Peer::ReadBody() {
  size_t length = 0;
  if (const std::string text = Header("Content-Length"); !text.empty()) length = std::stoul(text);
  while (input_.size() < length) {
    if (!Fill()) return false;
  }
  body_ = input_.substr(0, length);
  input_.erase(0, length);
  return true;
}

bool TestServer::Peer::ReadRequest() { return ReadHead() && ReadBody(); }

void TestServer::Peer::Send(std::string_view bytes) {
  while (!bytes.empty() && !broken_) {
    const ssize_t n = ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                                      : send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) {
      ERR_clear_error();
      broken_ = true;
      return;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void TestServer::Peer::Answer(int status, std::string_view body, std::string_view extra_headers) {
  Send(StrCat("HTTP/1.1 ", status, " Status\r\nContent-Length: ", body.size(), "\r\n", extra_headers, "\r\n",
              method_ == "HEAD" ? "" : body));
}

void TestServer::Peer::AwaitClose() {
  while (Fill()) {
  }
}

void TestServer::Peer::Reset() {
  const linger now = {1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

std::string TestServer::Peer::Header(std::string_view name) const {
  for (std::string_view line : Split(head_, '\n')) {
    const size_t colon = line.find(':');
    if (colon == line.npos) continue;
    if (absl::AsciiStrToLower(ToAbsl(line.substr(0, colon))) != absl::AsciiStrToLower(ToAbsl(name))) continue;
    return std::string(StripWhitespace(line.substr(colon + 1)));
  }
  return "";
}

TestServer::TestServer(Handler handler, std::shared_ptr<SSL_CTX> tls)
    : handler_(std::move(handler)), tls_(std::move(tls)) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  Check(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0, "bind");
  Check(listen(listener_, 128) == 0, "listen");
  Check(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { Accept(); });
}

TestServer::~TestServer() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    shutdown(listener_, SHUT_RDWR);
    for (int fd : fds_) shutdown(fd, SHUT_RDWR);
  }
  acceptor_.join();
  {
    MutexLock lock(&mu_);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  close(listener_);
}

int TestServer::connections() const {
  MutexLock lock(&mu_);
  return connections_;
}

std::vector<std::string> TestServer::requests() const {
  MutexLock lock(&mu_);
  return requests_;
}

void TestServer::Accept() {
  while (true) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    MutexLock lock(&mu_);
    if (fd < 0) return;
    if (stopping_) {
      close(fd);
      return;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fds_.push_back(fd);
    threads_.emplace_back([this, fd, number = connections_++] {
      current_ = this;
      {
        Peer peer(fd, tls_.get(), number);
        handler_(peer);
      }
      MutexLock done(&mu_);
      std::erase(fds_, fd);
      close(fd);
    });
  }
}

}  // namespace drover
