#include "common/http/url.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

absl::Status Bad(std::string_view what) { return absl::InvalidArgumentError(ToAbsl(what)); }

bool IsHostChar(char c) { return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_'; }

}  // namespace

absl::StatusOr<HttpOrigin> ParseHttpOrigin(std::string_view url) {
  HttpOrigin origin;
  constexpr std::string_view kHttp = "http://";
  constexpr std::string_view kHttps = "https://";
  if (url.substr(0, kHttps.size()) == kHttps) {
    origin.tls = true;
    origin.port = 443;
    url.remove_prefix(kHttps.size());
  } else if (url.substr(0, kHttp.size()) == kHttp) {
    origin.port = 80;
    url.remove_prefix(kHttp.size());
  } else {
    return Bad("a URL must begin with http:// or https://");
  }
  if (url.find_first_of("?#") != url.npos) return Bad("a URL here has no query and no fragment");
  const size_t slash = url.find('/');
  std::string_view authority = url.substr(0, slash);
  if (slash != url.npos) origin.path = std::string(url.substr(slash));
  while (!origin.path.empty() && origin.path.back() == '/') origin.path.pop_back();
  for (char c : origin.path) {
    if (c <= ' ' || c == 0x7f || static_cast<unsigned char>(c) >= 0x80)
      return Bad("the path must be percent-encoded");
  }
  if (authority.find('@') != authority.npos) return Bad("a URL must not carry a user name or password");

  std::string_view host = authority;
  std::string_view port;
  bool has_port = false;
  if (!authority.empty() && authority.front() == '[') {
    const size_t close = authority.find(']');
    if (close == authority.npos) return Bad("the '[' of an IPv6 address is not closed");
    host = authority.substr(1, close - 1);
    const std::string_view rest = authority.substr(close + 1);
    if (!rest.empty()) {
      if (rest.front() != ':') return Bad("only a port may follow an IPv6 address");
      has_port = true;
      port = rest.substr(1);
    }
    if (host.empty() || host.find_first_not_of("0123456789abcdefABCDEF:.") != host.npos) {
      return Bad("between '[' and ']' must be an IPv6 address");
    }
  } else {
    const size_t colon = authority.find(':');
    if (colon != authority.npos) {
      has_port = true;
      host = authority.substr(0, colon);
      port = authority.substr(colon + 1);
    }
    if (host.empty()) return Bad("the URL names no host");
    for (char c : host) {
      if (!IsHostChar(c)) return Bad(StrCat("'", std::string(1, c), "' can't be in the name of a host"));
    }
  }
  if (has_port) {
    uint32_t number = 0;
    if (!absl::SimpleAtoi(ToAbsl(port), &number) || number < 1 || number > 65535) {
      return Bad("the port must be 1 to 65535");
    }
    origin.port = static_cast<uint16_t>(number);
  }
  origin.host = absl::AsciiStrToLower(ToAbsl(host));
  return origin;
}

}  // namespace drover
