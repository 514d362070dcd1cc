// SHA-256 of bytes in memory. For large or streamed data see services/controller/report/rows/file_hasher.h.
// Thread-safe. Ends the process if OpenSSL has no SHA-256.
#ifndef DROVER_COMMON_HASH_SHA256_H_
#define DROVER_COMMON_HASH_SHA256_H_

#include <string>
#include <string_view>

namespace drover {

// The 32 bytes.
std::string Sha256(std::string_view data);
// The same in lower-case hexadecimal: 64 digits.
std::string Sha256Hex(std::string_view data);

}  // namespace drover

#endif  // DROVER_COMMON_HASH_SHA256_H_
