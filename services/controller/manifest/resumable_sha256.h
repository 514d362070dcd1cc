// SHA-256 whose state can be stored and taken up again, in another process: a preparation that goes on at its
// offset need not read what it has read.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_RESUMABLE_SHA256_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_RESUMABLE_SHA256_H_

#include <openssl/sha.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace drover {

// A small value, cheap to copy.
class ResumableSha256 {
 public:
  ResumableSha256();

  void Update(std::string_view bytes);
  // 64 small hex digits, of all bytes so far; more may follow.
  std::string HexDigest() const;

  // The state as text of at most 220 bytes, the same on every machine.
  std::string Save() const;
  // The one that Save() wrote; INVALID_ARGUMENT for anything else.
  static absl::StatusOr<ResumableSha256> Restore(std::string_view saved);

 private:
  SHA256_CTX state_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_RESUMABLE_SHA256_H_
