// MD5 and SHA-256 of the same bytes (RFC 1321, FIPS 180-4), in about the time of MD5 alone.
//
// Each step of MD5 waits for the one before, which leaves most of the processor idle; the steps of SHA-256,
// done with the processor's instructions for it, are put in between. OpenSSL has no such function, and one
// after the other takes half as long again: hashes are the largest cost of writing a report.
//
//   if (Md5Sha256::Available()) {
//     Md5Sha256 hashes;
//     hashes.Update(part);
//     const Md5Sha256::Digests digests = hashes.Finish();
//   }
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_ROWS_MD5_SHA256_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_ROWS_MD5_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace drover {

// Copyable, not thread-safe.
class Md5Sha256 {
 public:
  static constexpr size_t kMd5Bytes = 16;
  static constexpr size_t kSha256Bytes = 32;

  struct Digests {
    std::array<uint8_t, kMd5Bytes> md5;
    std::array<uint8_t, kSha256Bytes> sha256;
  };
  struct State {
    std::array<uint32_t, 4> md5;
    std::array<uint32_t, 8> sha256;
  };

  // Whether this processor has what it needs (x86-64 with the SHA extensions). If not, nothing else here may
  // be called.
  static bool Available();

  Md5Sha256();

  void Update(std::string_view bytes);
  // Of all bytes so far; begins anew.
  Digests Finish();

 private:
  static constexpr size_t kBlockBytes = 64;  // of both algorithms

  State state_;
  uint64_t bytes_ = 0;
  std::array<char, kBlockBytes> waiting_{};  // the first bytes_ % kBlockBytes are not hashed yet
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_ROWS_MD5_SHA256_H_
