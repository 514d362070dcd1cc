// MD5 and SHA-256 of a file, in one pass while it is written: by Md5Sha256 where the processor can, else by
// OpenSSL.
//
//   FileHasher hasher;
//   hasher.Update(part);
//   DROVER_ASSIGN_OR_RETURN(FileDigest digest, hasher.Finish());
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_ROWS_FILE_HASHER_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_ROWS_FILE_HASHER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "services/controller/report/rows/md5_sha256.h"

struct evp_md_ctx_st;

namespace drover {

struct FileDigest {
  std::string md5;     // 32 small hex digits
  std::string sha256;  // 64 small hex digits
  int64_t bytes = 0;
};

// Movable, not thread-safe.
class FileHasher {
 public:
  // `in_one_pass`: by Md5Sha256; only if that is available.
  explicit FileHasher(bool in_one_pass = Md5Sha256::Available());
  ~FileHasher();
  FileHasher(FileHasher&&) noexcept;
  FileHasher& operator=(FileHasher&&) noexcept;

  void Update(std::string_view bytes);
  // The digest of all bytes so far; the hasher begins anew. INTERNAL if OpenSSL is needed and refuses one of
  // the algorithms (MD5 in FIPS mode).
  absl::StatusOr<FileDigest> Finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  void Start();

  std::optional<Md5Sha256> both_;  // or, where the processor can't:
  std::unique_ptr<evp_md_ctx_st, Free> md5_;
  std::unique_ptr<evp_md_ctx_st, Free> sha256_;
  int64_t bytes_ = 0;
  bool ok_ = true;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_ROWS_FILE_HASHER_H_
