#include "services/controller/api/validate_copy.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/controller/api/validate_text.h"
#include "services/controller/manifest/csv/csv_manifest.h"

namespace drover {
namespace {

using google::protobuf::Timestamp;

constexpr std::string_view kCannedAcls[] = {
    "private",       "public-read",       "public-read-write",        "authenticated-read",
    "aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"};
constexpr std::string_view kPermissions[] = {"FULL_CONTROL", "READ", "READ_ACP", "WRITE_ACP"};
constexpr std::string_view kChecksums[] = {"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"};
constexpr std::string_view kKms = "aws:kms";
constexpr std::string_view kEncryptions[] = {"AES256", kKms, "aws:kms:dsse"};
// The times that an HTTP date can tell: year 1 is protobuf's first, 9999 its last.
constexpr int64_t kMinSeconds = -62135596800;
constexpr int64_t kMaxSeconds = 253402300799;

template <size_t N>
bool IsOneOf(std::string_view value, const std::string_view (&known)[N]) {
  return std::find(std::begin(known), std::end(known), value) != std::end(known);
}

template <size_t N>
std::string Names(const std::string_view (&known)[N]) {
  std::string names;
  for (const std::string_view name : known) StrAppend(&names, names.empty() ? "" : ", ", name);
  return names;
}

// HTTP takes blanks at both ends away, and other bytes come back from stores in ways of their own.
bool IsHeaderValue(std::string_view text) {
  return IsPrintableAscii(text) && (text.empty() || (text.front() != ' ' && text.back() != ' '));
}

constexpr std::string_view kHeaderValueRule = "must be printable ASCII without blanks at its ends";

void CheckTime(const Timestamp& time, const std::string& path, FieldErrors& errors) {
  if (time.nanos() != 0) errors.Add(path, "must be whole seconds, as stores keep times");
  if (time.seconds() < kMinSeconds || time.seconds() > kMaxSeconds) {
    errors.Add(path, "must be a time of the years 1 to 9999");
  }
}

void CheckUserMetadata(const v1::ObjectMetadata& metadata, const std::string& path, FieldErrors& errors) {
  size_t bytes = 0;
  for (const auto& [key, value] : metadata.user_metadata()) {
    bytes += key.size() + value.size();
    const std::string at = StrCat(path, "[", Show(key), "]");
    const bool good_key = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    });
    if (!good_key) {
      errors.Add(at, "the name must be of a-z, 0-9, '-', '_' and '.' (stores keep names in lower case)");
    } else if (StartsWith(key, "x-amz-")) {
      errors.Add(at, "give the name without x-amz-meta- in front");
    }
    if (!IsHeaderValue(value)) errors.Add(at, kHeaderValueRule);
  }
  if (bytes > kMaxUserMetadataBytes) {
    errors.Add(path, StrCat("must be at most ", kMaxUserMetadataBytes,
                            " bytes, names and values together, has ", bytes));
  }
}

void CheckMetadata(const v1::ObjectMetadata& metadata, const std::string& path, FieldErrors& errors) {
  const std::pair<std::string_view, const std::string&> values[] = {
      {"content_type", metadata.content_type()},
      {"cache_control", metadata.cache_control()},
      {"content_disposition", metadata.content_disposition()},
      {"content_encoding", metadata.content_encoding()},
      {"content_language", metadata.content_language()},
  };
  size_t bytes = 0;
  for (const auto& [name, value] : values) {
    bytes += value.size();
    if (!IsHeaderValue(value)) errors.Add(StrCat(path, ".", name), kHeaderValueRule);
  }
  if (metadata.content_encoding().find("aws-chunked") != std::string::npos) {
    errors.Add(path + ".content_encoding", "aws-chunked says how a request is framed, not what an object is");
  }
  if (bytes > kMaxSystemMetadataBytes) {
    errors.Add(path, StrCat("must be at most ", kMaxSystemMetadataBytes, " bytes besides user_metadata, has ",
                            bytes));
  }
  if (metadata.has_expires()) CheckTime(metadata.expires(), path + ".expires", errors);
  CheckUserMetadata(metadata, path + ".user_metadata", errors);
}

void CheckAcl(const v1::CopyObject& copy, const std::string& path, FieldErrors& errors) {
  if (!copy.canned_acl().empty() && !IsOneOf(copy.canned_acl(), kCannedAcls)) {
    errors.Add(path + ".canned_acl",
               StrCat(Show(copy.canned_acl()), " is no canned ACL; there are: ", Names(kCannedAcls)));
  }
  if (!copy.canned_acl().empty() && !copy.acl_grants().empty()) {
    errors.Add(path + ".acl_grants", "does not go with canned_acl; set one of them");
  }
  if (copy.acl_grants_size() > kMaxAclGrants) {
    errors.Add(path + ".acl_grants",
               StrCat("must be at most ", kMaxAclGrants, " grants, got ", copy.acl_grants_size()));
    return;
  }
  for (int i = 0; i < copy.acl_grants_size(); ++i) {
    const v1::AclGrant& grant = copy.acl_grants(i);
    const std::string at = StrCat(path, ".acl_grants[", i, "]");
    std::string_view name = grant.grantee();
    const bool kind = ConsumePrefix(&name, "id=\"") || ConsumePrefix(&name, "uri=\"") ||
                      ConsumePrefix(&name, "emailAddress=\"");
    // Exactly one quote is left, at the end, so that a grantee can't bring another one along.
    if (!kind || grant.grantee().size() > kMaxGranteeBytes || name.size() < 2 ||
        name.find('"') != name.size() - 1 || !IsPrintableAscii(name)) {
      errors.Add(at + ".grantee", StrCat("must be id=\"…\", uri=\"…\" or emailAddress=\"…\", at most ",
                                         kMaxGranteeBytes, " printable ASCII characters"));
    }
    if (!IsOneOf(grant.permission(), kPermissions)) {
      errors.Add(
          at + ".permission",
          StrCat(Show(grant.permission()), " is no permission of objects; there are: ", Names(kPermissions)));
    }
  }
}

void CheckEncryption(const v1::ServerSideEncryption& encryption, const std::string& path,
                     FieldErrors& errors) {
  const std::string& algorithm = encryption.algorithm();
  if (!IsOneOf(algorithm, kEncryptions)) {
    errors.Add(path + ".algorithm",
               StrCat(Show(algorithm), " is no encryption; there are: ", Names(kEncryptions)));
    return;
  }
  const bool kms = StartsWith(algorithm, kKms);
  if (!encryption.kms_key_id().empty() && !kms) errors.Add(path + ".kms_key_id", "goes with aws:kms only");
  if (encryption.kms_key_id().size() > kMaxKmsKeyBytes || !IsHeaderValue(encryption.kms_key_id())) {
    errors.Add(path + ".kms_key_id", StrCat(kHeaderValueRule, ", at most ", kMaxKmsKeyBytes, " bytes"));
  }
  if (encryption.bucket_key() && algorithm != kKms) {
    errors.Add(path + ".bucket_key", "goes with aws:kms only");
  }
}

// Whether the copies differ from the objects in what S3 takes for a change of an object.
bool ChangesObject(const v1::CopyObject& copy) {
  return copy.metadata_directive() == v1::CopyObject::REPLACE || !copy.storage_class().empty() ||
         copy.has_encryption();
}

}  // namespace

void CheckCopyObject(v1::CopyObject& copy, const CopySurroundings& around, const std::string& path,
                     FieldErrors& errors) {
  if (around.same_objects && copy.target_bucket().empty() && copy.target_key_prefix().empty() &&
      !ChangesObject(copy) && !around.versions) {
    errors.Add(path,
               "would copy each object onto itself with nothing changed, which the store refuses; set "
               "target_bucket, "
               "target_key_prefix or target_store, or what changes the object: metadata_directive REPLACE, "
               "storage_class, encryption (for tags alone there is put_object_tagging)");
  }
  std::string why;
  if (!copy.target_bucket().empty() && !IsValidBucketName(copy.target_bucket(), &why)) {
    errors.Add(path + ".target_bucket", StrCat(Show(copy.target_bucket()), " is no bucket name: ", why));
  }
  if (copy.target_key_prefix().size() > kMaxTargetPrefixBytes) {
    errors.Add(path + ".target_key_prefix", StrCat("must be at most ", kMaxTargetPrefixBytes, " bytes, has ",
                                                   copy.target_key_prefix().size()));
  }
  if (copy.target_key_prefix().find('\0') != std::string::npos) {
    errors.Add(path + ".target_key_prefix", "must not contain NUL");
  }

  if (copy.metadata_directive() == v1::CopyObject::REPLACE) {
    CheckMetadata(copy.new_metadata(), path + ".new_metadata", errors);
  } else if (copy.has_new_metadata()) {
    errors.Add(path + ".new_metadata",
               "is used with metadata_directive REPLACE only; set that, or leave it out");
  }
  if (copy.tagging_directive() != v1::CopyObject::REPLACE && !copy.new_tags().empty()) {
    errors.Add(path + ".new_tags",
               "are used with tagging_directive REPLACE only; set that, or leave them out");
  }
  const std::string& storage_class = copy.storage_class();
  const bool good_class = std::all_of(storage_class.begin(), storage_class.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  if (storage_class.size() > kMaxStorageClassBytes || !good_class) {
    errors.Add(path + ".storage_class", StrCat("must be at most ", kMaxStorageClassBytes,
                                               " of A-Z, 0-9, '_' and '-', e.g. STANDARD_IA"));
  }
  CheckAcl(copy, path, errors);
  if (copy.has_encryption()) CheckEncryption(copy.encryption(), path + ".encryption", errors);
  if (copy.has_modified_since()) CheckTime(copy.modified_since(), path + ".modified_since", errors);
  if (copy.has_unmodified_since()) CheckTime(copy.unmodified_since(), path + ".unmodified_since", errors);
  if (!copy.checksum_algorithm().empty()) {
    if (!IsOneOf(copy.checksum_algorithm(), kChecksums)) {
      errors.Add(path + ".checksum_algorithm",
                 StrCat(Show(copy.checksum_algorithm()),
                        " is no checksum algorithm; there are: ", Names(kChecksums)));
    } else if (around.across_stores) {
      errors.Add(path + ".checksum_algorithm",
                 "does not go with target_store so far: copies within one store have it");
    }
  }
  if (copy.metadata_directive() == v1::CopyObject::DIRECTIVE_UNSPECIFIED) {
    copy.set_metadata_directive(v1::CopyObject::COPY);
  }
  if (copy.tagging_directive() == v1::CopyObject::DIRECTIVE_UNSPECIFIED) {
    copy.set_tagging_directive(v1::CopyObject::COPY);
  }
}

int32_t CopyRevision(const v1::CopyObject& copy) {
  v1::CopyObject later = copy;
  later.clear_target_bucket();
  later.clear_target_key_prefix();
  if (later.metadata_directive() == v1::CopyObject::COPY) later.clear_metadata_directive();
  if (later.tagging_directive() == v1::CopyObject::COPY) later.clear_tagging_directive();
  return later.ByteSizeLong() == 0 ? 1 : 2;
}

}  // namespace drover
