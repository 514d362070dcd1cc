#include "services/controller/report/rows/file_hasher.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/status/status.h"

namespace drover {
namespace {

std::string Hex(const uint8_t* bytes, size_t size) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes), size});
}

bool FinishHex(EVP_MD_CTX* context, std::string& hex) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  if (EVP_DigestFinal_ex(context, digest, &length) != 1) return false;
  hex = Hex(digest, length);
  return true;
}

}  // namespace

void FileHasher::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

FileHasher::FileHasher(bool in_one_pass) {
  if (in_one_pass) {
    both_.emplace();
    return;
  }
  md5_.reset(EVP_MD_CTX_new());
  sha256_.reset(EVP_MD_CTX_new());
  Start();
}
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
  if (both_) return both_->Update(bytes);
  for (; ok_ && !bytes.empty(); bytes.remove_prefix(std::min(kPiece, bytes.size()))) {
    const std::string_view piece = bytes.substr(0, kPiece);
    ok_ = EVP_DigestUpdate(md5_.get(), piece.data(), piece.size()) == 1 &&
          EVP_DigestUpdate(sha256_.get(), piece.data(), piece.size()) == 1;
  }
}

absl::StatusOr<FileDigest> FileHasher::Finish() {
  FileDigest digest;
  digest.bytes = bytes_;
  if (both_) {
    const Md5Sha256::Digests digests = both_->Finish();
    digest.md5 = Hex(digests.md5.data(), digests.md5.size());
    digest.sha256 = Hex(digests.sha256.data(), digests.sha256.size());
    bytes_ = 0;
    return digest;
  }
  const bool ok = ok_ && FinishHex(md5_.get(), digest.md5) && FinishHex(sha256_.get(), digest.sha256);
  Start();
  if (!ok) return Error(absl::StatusCode::kInternal, "DIGEST_FAILED", "OpenSSL refuses MD5 or SHA-256");
  return digest;
}

}  // namespace drover
