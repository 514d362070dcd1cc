// What a copy_object job asks of its copies, made once from its parameters, ready to be sent and to be
// checked.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_COPY_SETTINGS_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_COPY_SETTINGS_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http/client.h"

namespace drover {

namespace v1 {
class CopyObject;
}  // namespace v1

// Keys and values of an object's tags.
using ObjectTags = std::vector<std::pair<std::string, std::string>>;

struct CopySettings {
  // A grant of the copies' access control list, as the store shows it afterwards.
  struct Grant {
    std::string grantee;  // a canonical id or a group's URI
    std::string permission;
  };

  std::string target_bucket;  // "": each object's own
  std::string target_key_prefix;
  // For every request that writes a copy: storage class, access control list, encryption, who pays.
  HttpHeaders write_headers;
  // For every request that only reads: who pays.
  HttpHeaders read_headers;
  // REPLACE: Content-Type, x-amz-meta-… and the like. Nothing: carried over from the source.
  std::optional<HttpHeaders> metadata;
  // REPLACE: the whole set. Nothing: carried over.
  std::optional<ObjectTags> tags;
  std::optional<absl::Time> modified_since;
  std::optional<absl::Time> unmodified_since;

  // What must be true of a copy, to be looked at once it is made; "" or empty: nothing is asked for.
  std::string storage_class;
  std::string encryption;
  bool bucket_key = false;
  std::string checksum_algorithm;
  std::vector<Grant> grants;
  bool no_group_grants = false;  // canned ACL "private"

  // Whether objects are copied or not by when they were changed.
  bool conditional() const { return modified_since.has_value() || unmodified_since.has_value(); }
  // Whether a copy of an object onto itself changes what S3 takes for a change: metadata, storage class,
  // encryption.
  bool ChangesObject() const { return metadata.has_value() || !storage_class.empty() || !encryption.empty(); }
};

// INVALID_ARGUMENT (OPERATION_INVALID) for parameters that this revision does not carry out, that contradict
// each other, or that would be ignored: CreateJob refuses them too, with the field's path.
absl::StatusOr<CopySettings> CopySettingsFrom(const v1::CopyObject& copy);

// The headers with which an object's metadata is written again, out of the answer to a HEAD or GET of it:
// Content-Type, Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Expires,
// x-amz-meta-….
HttpHeaders CarriedMetadata(const HttpHeaders& answer);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_COPY_SETTINGS_H_
