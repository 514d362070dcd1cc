// AWS Signature Version 4 for S3, as in
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
//
// The one rule that avoids most mistakes: what is signed is what is sent. So path and query are encoded here,
// once, and go both into the signature and onto the wire.
#ifndef DROVER_COMMON_OBJECTSTORE_SIGV4_H_
#define DROVER_COMMON_OBJECTSTORE_SIGV4_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/http/client.h"
#include "common/objectstore/secret.h"

namespace drover {

// x-amz-content-sha256 of an empty body, and of one that is not hashed.
inline constexpr std::string_view kEmptySha256 =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
inline constexpr std::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";

// Percent-encodes all but A-Z a-z 0-9 - . _ ~ with upper-case digits. Bytes are taken as they are.
void AppendUriEncoded(std::string& out, std::string_view text, bool encode_slash);
std::string UriEncode(std::string_view text, bool encode_slash);

// Query parameters, not encoded. A parameter without a value ("?tagging") has the value "".
using QueryParams = std::vector<std::pair<std::string, std::string>>;

// "a=1&b=": encoded and sorted as SigV4 wants it (by encoded name, then value); "" for none. It is sent like
// this too: S3 reads "tagging=" as "tagging".
std::string CanonicalQuery(QueryParams params);

// What is signed of a request. All views are borrowed for the call.
struct SigV4Request {
  std::string_view method;
  std::string_view path;          // encoded, as sent
  std::string_view query;         // CanonicalQuery(), as sent, without '?'
  std::string_view host;          // HostHeader(), as sent
  std::string_view payload_hash;  // Sha256Hex(body), kEmptySha256 or kUnsignedPayload
};

// Signs for one set of credentials, one region and service "s3". Keeps the day's key and hash states, so one
// signature costs well under a microsecond; the result depends on nothing but the arguments. Not thread-safe.
class SigV4Signer {
 public:
  SigV4Signer(std::string access_key_id, Secret secret_access_key, Secret session_token, std::string region);
  ~SigV4Signer();
  SigV4Signer(SigV4Signer&&) noexcept;
  SigV4Signer& operator=(SigV4Signer&&) noexcept;

  // Adds x-amz-date, x-amz-content-sha256, x-amz-security-token (if there is a token) and Authorization to
  // `headers`. Every header that is there before the call is signed, and so is Host: values as they are,
  // trimmed and with runs of spaces made one, fields of one name joined by commas. User-Agent and Expect,
  // which proxies like to change, are not.
  void Sign(const SigV4Request& request, absl::Time now, HttpHeaders* headers);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_SIGV4_H_
