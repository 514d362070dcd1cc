// The signature, from the inside out:
//
//   canonical request = method \n path \n query \n (name ":" value \n)* \n signed-names \n payload-hash
//   string to sign    = "AWS4-HMAC-SHA256" \n time \n scope \n hex(sha256(canonical request))
//   scope             = day/region/s3/aws4_request
//   key               = hmac(hmac(hmac(hmac("AWS4" + secret, day), region), "s3"), "aws4_request")
//   signature         = hex(hmac(key, string to sign))
//
// HMAC with a fixed key begins with the same two blocks each time. Their hash states are kept for the day's
// key and copied, which with fetching SHA-256 only once is most of the difference between 2 and 0.7 µs.
#include "common/objectstore/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/time/time.h"

namespace drover {
namespace {

using Digest = std::array<unsigned char, 32>;
constexpr size_t kSha256Block = 64;

// Fetched once: EVP_sha256() looks it up at every use.
const EVP_MD* Sha256() {
  static const EVP_MD* const md = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return md;
}

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using HashContext = std::unique_ptr<EVP_MD_CTX, FreeContext>;

// The functions below fail only without memory or without SHA-256.
void Check(int ok) {
  if (ok != 1) std::abort();
}

HashContext NewHash() {
  HashContext context(EVP_MD_CTX_new());
  Check(context != nullptr && EVP_DigestInit_ex2(context.get(), Sha256(), nullptr) == 1);
  return context;
}

// HMAC-SHA-256 with a key that stays.
class Hmac {
 public:
  void SetKey(std::string_view key) {
    unsigned char block[kSha256Block] = {};
    if (key.size() > sizeof(block)) {
      Check(EVP_Digest(key.data(), key.size(), block, nullptr, Sha256(), nullptr));
    } else {
      std::copy(key.begin(), key.end(), block);
    }
    for (unsigned char& byte : block) byte ^= 0x36;
    inner_ = NewHash();
    Check(EVP_DigestUpdate(inner_.get(), block, sizeof(block)));
    for (unsigned char& byte : block) byte ^= 0x36 ^ 0x5c;
    outer_ = NewHash();
    Check(EVP_DigestUpdate(outer_.get(), block, sizeof(block)));
    OPENSSL_cleanse(block, sizeof(block));
    if (work_ == nullptr) work_ = NewHash();
  }

  Digest Of(std::string_view data) {
    Digest digest;
    Check(EVP_MD_CTX_copy_ex(work_.get(), inner_.get()));
    Check(EVP_DigestUpdate(work_.get(), data.data(), data.size()));
    Check(EVP_DigestFinal_ex(work_.get(), digest.data(), nullptr));
    Check(EVP_MD_CTX_copy_ex(work_.get(), outer_.get()));
    Check(EVP_DigestUpdate(work_.get(), digest.data(), digest.size()));
    Check(EVP_DigestFinal_ex(work_.get(), digest.data(), nullptr));
    return digest;
  }

 private:
  HashContext inner_;
  HashContext outer_;
  HashContext work_;
};

std::string_view Bytes(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

void AppendHex(std::string& out, const Digest& digest) {
  constexpr char kDigits[] = "0123456789abcdef";
  char hex[2 * std::tuple_size_v<Digest>];
  for (size_t i = 0; i < digest.size(); ++i) {
    hex[2 * i] = kDigits[digest[i] >> 4];
    hex[2 * i + 1] = kDigits[digest[i] & 15];
  }
  out.append(hex, sizeof(hex));
}

constexpr std::array<bool, 256> kUnreserved = [] {
  std::array<bool, 256> unreserved = {};
  for (int c = '0'; c <= '9'; ++c) unreserved[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) unreserved[c] = unreserved[c - 'a' + 'A'] = true;
  for (char c : std::string_view("-._~")) unreserved[static_cast<unsigned char>(c)] = true;
  return unreserved;
}();

// Trimmed, and runs of blanks made one.
void AppendCanonicalValue(std::string& out, std::string_view value) {
  bool blank = false;
  for (char c : value) blank |= absl::ascii_isspace(static_cast<unsigned char>(c));
  if (!blank) {
    out.append(value);
    return;
  }
  blank = false;
  bool begun = false;
  for (char c : value) {
    if (absl::ascii_isspace(static_cast<unsigned char>(c))) {
      blank = true;
      continue;
    }
    if (blank && begun) out.push_back(' ');
    blank = false;
    begun = true;
    out.push_back(c);
  }
}

bool IsSigned(std::string_view lower_name) { return lower_name != "user-agent" && lower_name != "expect"; }

}  // namespace

void AppendUriEncoded(std::string& out, std::string_view text, bool encode_slash) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  size_t plain = 0;  // where what needs no encoding began
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (kUnreserved[byte] || (byte == '/' && !encode_slash)) continue;
    out.append(text.substr(plain, i - plain));
    const char encoded[3] = {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    out.append(encoded, sizeof(encoded));
    plain = i + 1;
  }
  out.append(text.substr(plain));
}

std::string UriEncode(std::string_view text, bool encode_slash) {
  std::string out;
  out.reserve(text.size() + 16);
  AppendUriEncoded(out, text, encode_slash);
  return out;
}

std::string CanonicalQuery(QueryParams params) {
  for (auto& [name, value] : params) {
    name = UriEncode(name, true);
    value = UriEncode(value, true);
  }
  std::sort(params.begin(), params.end());
  std::string query;
  for (const auto& [name, value] : params) {
    if (!query.empty()) query.push_back('&');
    query.append(name).append(1, '=').append(value);
  }
  return query;
}

struct SigV4Signer::State {
  std::string access_key_id;
  Secret secret_access_key;
  Secret session_token;
  std::string region;

  int64_t second = std::numeric_limits<int64_t>::min();
  std::string time;   // 20240131T235959Z
  std::string day;    // 20240131
  std::string scope;  // 20240131/eu-central-1/s3/aws4_request
  Hmac key;           // the day's

  // Kept for their memory.
  struct Header {
    size_t offset;  // of the lower-case name in `names`
    size_t size;
    std::string_view value;
  };
  std::vector<Header> headers;
  std::string names;
  std::string signed_names;
  std::string text;

  std::string_view Name(const Header& header) const {
    return std::string_view(names).substr(header.offset, header.size);
  }
  void AddHeader(std::string_view name, std::string_view value) {
    const size_t offset = names.size();
    for (char c : name) names.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
    headers.push_back({offset, name.size(), value});
  }
  // By name; fields of one name stay in their order. They are few, and mostly in order already.
  void SortHeaders() {
    for (auto it = headers.begin(); it != headers.end(); ++it) {
      const auto place = std::upper_bound(
          headers.begin(), it, *it, [this](const Header& a, const Header& b) { return Name(a) < Name(b); });
      std::rotate(place, it, it + 1);
    }
  }
  void SetTime(int64_t now);
};

void SigV4Signer::State::SetTime(int64_t now) {
  if (now == second) return;
  second = now;
  time = absl::FormatTime("%Y%m%dT%H%M%SZ", absl::FromUnixSeconds(now), absl::UTCTimeZone());
  const std::string today = time.substr(0, 8);
  if (today == day) return;
  day = today;
  scope = day + "/" + region + "/s3/aws4_request";
  std::string first = "AWS4" + secret_access_key.Reveal();
  key.SetKey(first);
  OPENSSL_cleanse(first.data(), first.size());
  for (std::string_view step : {std::string_view(day), std::string_view(region), std::string_view("s3"),
                                std::string_view("aws4_request")}) {
    Digest digest = key.Of(step);
    key.SetKey(Bytes(digest));
    OPENSSL_cleanse(digest.data(), digest.size());
  }
}

SigV4Signer::SigV4Signer(std::string access_key_id, Secret secret_access_key, Secret session_token,
                         std::string region)
    : state_(std::make_unique<State>()) {
  state_->access_key_id = std::move(access_key_id);
  state_->secret_access_key = std::move(secret_access_key);
  state_->session_token = std::move(session_token);
  state_->region = std::move(region);
}

SigV4Signer::~SigV4Signer() = default;
SigV4Signer::SigV4Signer(SigV4Signer&&) noexcept = default;
SigV4Signer& SigV4Signer::operator=(SigV4Signer&&) noexcept = default;

void SigV4Signer::Sign(const SigV4Request& request, absl::Time now, HttpHeaders* headers) {
  State& s = *state_;
  s.SetTime(absl::ToUnixSeconds(now));
  headers->Add("x-amz-content-sha256", request.payload_hash);
  headers->Add("x-amz-date", s.time);
  if (!s.session_token.empty()) headers->Add("x-amz-security-token", s.session_token.Reveal());

  s.headers.clear();
  s.names.clear();
  s.AddHeader("host", request.host);
  for (const auto& [name, value] : *headers) s.AddHeader(name, value);
  s.SortHeaders();

  std::string& text = s.text;
  text.clear();
  text.append(request.method).append(1, '\n').append(request.path).append(1, '\n');
  text.append(request.query).append(1, '\n');
  s.signed_names.clear();
  std::string_view last;
  for (const State::Header& header : s.headers) {
    const std::string_view name = s.Name(header);
    if (!IsSigned(name)) continue;
    if (name == last) {
      text.back() = ',';  // instead of the line's end
    } else {
      if (!s.signed_names.empty()) s.signed_names.push_back(';');
      s.signed_names.append(name);
      text.append(name).append(1, ':');
      last = name;
    }
    AppendCanonicalValue(text, header.value);
    text.push_back('\n');
  }
  text.append(1, '\n').append(s.signed_names).append(1, '\n').append(request.payload_hash);

  Digest digest;
  Check(EVP_Digest(text.data(), text.size(), digest.data(), nullptr, Sha256(), nullptr));
  text.clear();
  text.append("AWS4-HMAC-SHA256\n").append(s.time).append(1, '\n').append(s.scope).append(1, '\n');
  AppendHex(text, digest);
  digest = s.key.Of(text);

  text.clear();
  text.append("AWS4-HMAC-SHA256 Credential=").append(s.access_key_id).append(1, '/').append(s.scope);
  text.append(", SignedHeaders=").append(s.signed_names).append(", Signature=");
  AppendHex(text, digest);
  headers->Add("Authorization", text);
}

}  // namespace drover
