// How many signed requests one thread of the HTTP client carries, and what each costs.
//
//   http_client_bench [--url http://127.0.0.1:8080] [--method HEAD] [--connections 64] [--seconds 5]
//                     [--body 0]
//
// Prints one line of JSON: requests per second, microseconds of this process's CPU per request, and the cost
// of a signature alone. Meant against nginx with canned answers, beside `wrk -t1 -c64`.
#include <sys/resource.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "common/objectstore/s3_client.h"

namespace drover {
namespace {

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Load {
  std::string method = "HEAD";
  size_t body = 0;
  absl::Duration end;
  int64_t done = 0;
  int64_t failed = 0;
};

boost::asio::awaitable<void> Client(S3Client& s3, Load& load) {
  while (SystemClock().Elapsed() < load.end) {
    S3Request request;
    request.method = load.method;
    request.bucket = "bucket";
    request.key = "photos/2024/03/user-000123/img_9f8e7d6c.jpg";
    request.body.assign(load.body, 'x');
    const auto response = co_await s3.Send(std::move(request));
    ++load.done;
    if (!response.ok() || !response->ok()) ++load.failed;
  }
}

double SignatureMicroseconds() {
  SigV4Signer signer("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCY"), Secret(), "us-east-1");
  constexpr int kRounds = 200000;
  const double begin = CpuSeconds();
  for (int i = 0; i < kRounds; ++i) {
    HttpHeaders headers;
    signer.Sign(
        {"HEAD", "/bucket/photos/2024/03/user-000123/img_9f8e7d6c.jpg", "", "127.0.0.1:8080", kEmptySha256},
        absl::FromUnixSeconds(1700000000 + i / 10000), &headers);
  }
  return (CpuSeconds() - begin) * 1e6 / kRounds;
}

int Main(int argc, char** argv) {
  CLI::App app("Signed requests per second of one thread");
  std::string url = "http://127.0.0.1:8080";
  int connections = 64;
  double seconds = 5;
  Load load;
  app.add_option("--url", url, "endpoint");
  app.add_option("--method", load.method, "HEAD, GET or PUT");
  app.add_option("--connections", connections, "requests at a time");
  app.add_option("--seconds", seconds, "how long");
  app.add_option("--body", load.body, "bytes of each request's body");
  CLI11_PARSE(app, argc, argv);

  auto origin = ParseHttpOrigin(url);
  if (!origin.ok()) {
    std::fprintf(stderr, "%s\n", std::string(origin.status().message()).c_str());
    return 2;
  }
  StoreConfig config;
  config.origin = *std::move(origin);
  config.credentials.access_key_id = "AKIDEXAMPLE";
  config.credentials.secret_access_key = Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCY");
  config.max_connections = connections;
  boost::asio::io_context io(1);
  auto http = HttpClient::Create(io, SystemClock(), HttpOptionsFor(config));
  if (!http.ok()) {
    std::fprintf(stderr, "%s\n", std::string(http.status().message()).c_str());
    return 1;
  }
  S3Client s3(config, **http, SystemClock());
  const absl::Duration begin = SystemClock().Elapsed();
  load.end = begin + absl::Seconds(seconds);
  const double cpu_begin = CpuSeconds();
  int running = connections;
  for (int i = 0; i < connections; ++i) {
    boost::asio::co_spawn(io, Client(s3, load), [&](const std::exception_ptr&) {
      if (--running == 0) (*http)->Shutdown();
    });
  }
  io.run();
  const double took = absl::ToDoubleSeconds(SystemClock().Elapsed() - begin);
  const double cpu = CpuSeconds() - cpu_begin;
  std::printf(
      "{\"method\": \"%s\", \"connections\": %d, \"requests\": %lld, \"failed\": %lld, "
      "\"requests_per_second\": %.0f, "
      "\"cpu_us_per_request\": %.2f, \"signature_us\": %.2f}\n",
      load.method.c_str(), connections, static_cast<long long>(load.done),
      static_cast<long long>(load.failed), static_cast<double>(load.done) / took,
      cpu * 1e6 / static_cast<double>(load.done), SignatureMicroseconds());
  return load.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::Main(argc, argv); }
