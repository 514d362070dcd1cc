// The parts of http and https URLs that name a server.
#ifndef DROVER_COMMON_HTTP_URL_H_
#define DROVER_COMMON_HTTP_URL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace drover {

struct HttpOrigin {
  bool tls = false;
  std::string host;  // lower case; IPv6 addresses without brackets
  uint16_t port = 0;
  std::string path;  // what follows: "" or starts with '/', without a '/' at its end
};

// Parses "https://host[:port][/path]". INVALID_ARGUMENT with what is wrong: another scheme, user or password,
// query or fragment, a port out of range, no host.
absl::StatusOr<HttpOrigin> ParseHttpOrigin(std::string_view url);

}  // namespace drover

#endif  // DROVER_COMMON_HTTP_URL_H_
