#include "common/hash/md5.h"

#include <openssl/evp.h>

namespace drover {

void Md5::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Md5::Md5() : context_(EVP_MD_CTX_new()) {
  ok_ = context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_md5(), nullptr) == 1;
}
Md5::~Md5() = default;

void Md5::Update(std::string_view bytes) {
  ok_ = ok_ && EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1;
}

std::optional<std::string> Md5::Finish() {
  std::string digest(16, '\0');
  ok_ = ok_ &&
        EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr) == 1;
  if (!ok_) return std::nullopt;
  ok_ = false;
  return digest;
}

}  // namespace drover
