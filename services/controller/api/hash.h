// SHA-256, as the API uses it: fingerprints of requests, checksums of page tokens.
#ifndef DROVER_SERVICES_CONTROLLER_API_HASH_H_
#define DROVER_SERVICES_CONTROLLER_API_HASH_H_

#include <string>
#include <string_view>

namespace drover {

// The 32 bytes of the SHA-256 of `data`.
std::string Sha256(std::string_view data);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_HASH_H_
