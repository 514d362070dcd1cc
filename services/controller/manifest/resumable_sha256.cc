// The text of a state: the eight words of the chaining value in hex, ":", the bytes so far in decimal, ":",
// the bytes of the block begun in hex.
//
// OpenSSL 3 calls these functions deprecated in favour of EVP, which can't store its state; they use the same
// code.
#define OPENSSL_SUPPRESS_DEPRECATED

#include "services/controller/manifest/resumable_sha256.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr size_t kWords = 8;
constexpr size_t kHexPerWord = 8;

uint64_t TotalBytes(const SHA256_CTX& state) {
  return ((static_cast<uint64_t>(state.Nh) << 32) | state.Nl) / 8;
}

bool IsHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos && text.size() % 2 == 0;
}

}  // namespace

ResumableSha256::ResumableSha256() { SHA256_Init(&state_); }

void ResumableSha256::Update(std::string_view bytes) { SHA256_Update(&state_, bytes.data(), bytes.size()); }

std::string ResumableSha256::HexDigest() const {
  SHA256_CTX copy = state_;
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256_Final(digest, &copy);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), sizeof(digest)});
}

std::string ResumableSha256::Save() const {
  std::string text;
  for (size_t i = 0; i < kWords; ++i) absl::StrAppendFormat(&text, "%08x", state_.h[i]);
  const absl::string_view begun(reinterpret_cast<const char*>(state_.data), state_.num);
  StrAppend(&text, ":", TotalBytes(state_), ":", absl::BytesToHexString(begun));
  return text;
}

absl::StatusOr<ResumableSha256> ResumableSha256::Restore(std::string_view saved) {
  const absl::Status bad = absl::InvalidArgumentError("not a state of SHA-256");
  const std::vector<std::string_view> parts = Split(saved, ':');
  if (parts.size() != 3 || parts[0].size() != kWords * kHexPerWord || !IsHex(parts[0]) || !IsHex(parts[2]))
    return bad;
  uint64_t total = 0;
  if (!ParseInteger(parts[1], &total) || total > UINT64_MAX / 8) return bad;
  if (total % SHA256_CBLOCK != parts[2].size() / 2) return bad;

  ResumableSha256 hash;
  for (size_t i = 0; i < kWords; ++i) {
    const std::string word(parts[0].substr(i * kHexPerWord, kHexPerWord));
    hash.state_.h[i] = static_cast<SHA_LONG>(std::stoul(word, nullptr, 16));
  }
  hash.state_.Nl = static_cast<SHA_LONG>(total * 8);
  hash.state_.Nh = static_cast<SHA_LONG>(total * 8 >> 32);
  const std::string begun = absl::HexStringToBytes(ToAbsl(parts[2]));
  hash.state_.num = static_cast<unsigned int>(begun.size());
  std::memcpy(hash.state_.data, begun.data(), begun.size());
  return hash;
}

}  // namespace drover
