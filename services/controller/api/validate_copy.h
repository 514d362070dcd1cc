// Checks the parameters of copy_object in a CreateJobRequest.
#ifndef DROVER_SERVICES_CONTROLLER_API_VALIDATE_COPY_H_
#define DROVER_SERVICES_CONTROLLER_API_VALIDATE_COPY_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/status/status.h"

namespace drover {

namespace v1 {
class CopyObject;
}  // namespace v1

// Limits of the parameters; docs/api.md lists them. Bytes of user metadata are those of all keys and values,
// bytes of the others those of all values: S3's limits.
inline constexpr size_t kMaxTargetPrefixBytes = 512;
inline constexpr size_t kMaxUserMetadataBytes = 2048;
inline constexpr size_t kMaxSystemMetadataBytes = 2048;
inline constexpr size_t kMaxStorageClassBytes = 64;
inline constexpr size_t kMaxKmsKeyBytes = 2048;
inline constexpr int kMaxAclGrants = 100;
inline constexpr size_t kMaxGranteeBytes = 512;

// What the rest of the request says about a copy.
struct CopySurroundings {
  bool across_stores = false;  // to a store of another name
  bool same_objects = true;    // source and target are one store, if perhaps under two names
  bool versions = false;       // the manifest names versions
};

// Notes what is wrong with the parameters, but for target_store and the tags themselves, and fills in
// defaults.
void CheckCopyObject(v1::CopyObject& copy, const CopySurroundings& around, const std::string& path,
                     FieldErrors& errors);

// The least revision of a worker's copy_object that carries these parameters out. As the client sent them.
int32_t CopyRevision(const v1::CopyObject& copy);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_VALIDATE_COPY_H_
