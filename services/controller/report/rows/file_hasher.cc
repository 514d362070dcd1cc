#include "services/controller/report/rows/file_hasher.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "common/status/status.h"

namespace drover {
namespace {

bool FinishHex(EVP_MD_CTX* context, std::string& hex) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(context, digest, &length) != 1) return false;
  constexpr char kDigits[] = "0123456789abcdef";
  hex.clear();
  for (unsigned int i = 0; i < length; ++i) {
    hex.push_back(kDigits[digest[i] >> 4]);
    hex.push_back(kDigits[digest[i] & 15]);
  }
  return true;
}

}  // namespace

void FileHasher::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

FileHasher::FileHasher() : md5_(EVP_MD_CTX_new()), sha256_(EVP_MD_CTX_new()) { Start(); }
FileHasher::~FileHasher() = default;
FileHasher::FileHasher(FileHasher&&) noexcept = default;
FileHasher& FileHasher::operator=(FileHasher&&) noexcept = default;

void FileHasher::Start() {
  bytes_ = 0;
  ok_ = md5_ != nullptr && sha256_ != nullptr && EVP_DigestInit_ex(md5_.get(), EVP_md5(), nullptr) == 1 &&
        EVP_DigestInit_ex(sha256_.get(), EVP_sha256(), nullptr) == 1;
}

void FileHasher::Update(std::string_view bytes) {
  // In pieces that stay in the nearest cache for the second digest.
  constexpr size_t kPiece = 16 * 1024;
  bytes_ += static_cast<int64_t>(bytes.size());
  for (; ok_ && !bytes.empty(); bytes.remove_prefix(std::min(kPiece, bytes.size()))) {
    const std::string_view piece = bytes.substr(0, kPiece);
    ok_ = EVP_DigestUpdate(md5_.get(), piece.data(), piece.size()) == 1 &&
          EVP_DigestUpdate(sha256_.get(), piece.data(), piece.size()) == 1;
  }
}

absl::StatusOr<FileDigest> FileHasher::Finish() {
  FileDigest digest;
  digest.bytes = bytes_;
  const bool ok = ok_ && FinishHex(md5_.get(), digest.md5) && FinishHex(sha256_.get(), digest.sha256);
  Start();
  if (!ok) return Error(absl::StatusCode::kInternal, "DIGEST_FAILED", "OpenSSL refuses MD5 or SHA-256");
  return digest;
}

}  // namespace drover
