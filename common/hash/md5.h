// MD5 of bytes that come piece by piece, as S3's ETags and Content-MD5 are. No protection against forgery.
//
//   Md5 md5;
//   md5.Update(piece);
//   std::optional<std::string> digest = md5.Finish();   // absl::BytesToHexString(*digest) is an ETag
#ifndef DROVER_COMMON_HASH_MD5_H_
#define DROVER_COMMON_HASH_MD5_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace drover {

// Not thread-safe.
class Md5 {
 public:
  Md5();
  ~Md5();
  Md5(const Md5&) = delete;
  Md5& operator=(const Md5&) = delete;

  void Update(std::string_view bytes);
  // The 16 bytes, once; nothing where OpenSSL forbids MD5 (FIPS mode).
  std::optional<std::string> Finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };

  std::unique_ptr<evp_md_ctx_st, Free> context_;
  bool ok_ = false;
};

}  // namespace drover

#endif  // DROVER_COMMON_HASH_MD5_H_
