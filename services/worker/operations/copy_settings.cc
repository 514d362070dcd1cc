#include "services/worker/operations/copy_settings.h"

#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/http/http_date.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/parameters.h"

namespace drover {
namespace {

constexpr std::string_view kMetadataPrefix = "x-amz-meta-";
constexpr std::string_view kAllUsers = "http://acs.amazonaws.com/groups/global/AllUsers";
constexpr std::string_view kAuthenticatedUsers = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

// The metadata that S3 keeps under names of HTTP.
constexpr std::string_view kSystemMetadata[] = {"Content-Type",     "Cache-Control",    "Content-Disposition",
                                                "Content-Encoding", "Content-Language", "Expires"};

absl::Status Invalid(std::string_view message) {
  return Error(absl::StatusCode::kInvalidArgument, "OPERATION_INVALID", message);
}

void AddIf(HttpHeaders& headers, std::string_view name, std::string_view value) {
  if (!value.empty()) headers.Add(name, value);
}

HttpHeaders MetadataHeaders(const v1::ObjectMetadata& metadata) {
  HttpHeaders headers;
  AddIf(headers, "Content-Type", metadata.content_type());
  AddIf(headers, "Cache-Control", metadata.cache_control());
  AddIf(headers, "Content-Disposition", metadata.content_disposition());
  AddIf(headers, "Content-Encoding", metadata.content_encoding());
  AddIf(headers, "Content-Language", metadata.content_language());
  if (metadata.has_expires()) {
    headers.Add("Expires", FormatHttpDate(absl::FromUnixSeconds(metadata.expires().seconds())));
  }
  for (const auto& [key, value] : metadata.user_metadata()) {
    headers.Add(StrCat(kMetadataPrefix, absl::AsciiStrToLower(key)), value);
  }
  return headers;
}

// "id="abc"" → abc; nothing for an e-mail address, which the store turns into an id.
std::optional<std::string> ShownGrantee(std::string_view grantee) {
  if (!ConsumePrefix(&grantee, "id=\"") && !ConsumePrefix(&grantee, "uri=\"")) return std::nullopt;
  if (EndsWith(grantee, "\"")) grantee.remove_suffix(1);
  return std::string(grantee);
}

absl::Status AddAcl(const v1::CopyObject& copy, CopySettings& settings) {
  const std::string& canned = copy.canned_acl();
  if (!canned.empty() && !copy.acl_grants().empty()) {
    return Invalid("copy_object has both a canned ACL and grants");
  }
  AddIf(settings.write_headers, "x-amz-acl", canned);
  settings.no_group_grants = canned == "private";
  if (canned == "public-read" || canned == "public-read-write") {
    settings.grants.push_back({std::string(kAllUsers), "READ"});
  }
  if (canned == "public-read-write") settings.grants.push_back({std::string(kAllUsers), "WRITE"});
  if (canned == "authenticated-read") settings.grants.push_back({std::string(kAuthenticatedUsers), "READ"});

  constexpr std::pair<std::string_view, std::string_view> kHeaders[] = {
      {"FULL_CONTROL", "x-amz-grant-full-control"},
      {"READ", "x-amz-grant-read"},
      {"READ_ACP", "x-amz-grant-read-acp"},
      {"WRITE_ACP", "x-amz-grant-write-acp"},
  };
  int headed = 0;
  for (const auto& [permission, header] : kHeaders) {
    std::string grantees;
    for (const v1::AclGrant& grant : copy.acl_grants()) {
      if (grant.permission() != permission) continue;
      ++headed;
      StrAppend(&grantees, grantees.empty() ? "" : ", ", grant.grantee());
      if (std::optional<std::string> shown = ShownGrantee(grant.grantee())) {
        settings.grants.push_back({*std::move(shown), std::string(permission)});
      }
    }
    AddIf(settings.write_headers, header, grantees);
  }
  return headed == copy.acl_grants_size() ? absl::OkStatus() : Invalid("a grant has an unknown permission");
}

void AddEncryption(const v1::ServerSideEncryption& encryption, CopySettings& settings) {
  settings.encryption = encryption.algorithm();
  settings.bucket_key = encryption.bucket_key();
  AddIf(settings.write_headers, "x-amz-server-side-encryption", encryption.algorithm());
  AddIf(settings.write_headers, "x-amz-server-side-encryption-aws-kms-key-id", encryption.kms_key_id());
  if (encryption.bucket_key()) {
    settings.write_headers.Add("x-amz-server-side-encryption-bucket-key-enabled", "true");
  }
}

bool IsKnown(v1::CopyObject::Directive directive) {
  return directive == v1::CopyObject::DIRECTIVE_UNSPECIFIED || directive == v1::CopyObject::COPY ||
         directive == v1::CopyObject::REPLACE;
}

}  // namespace

absl::StatusOr<CopySettings> CopySettingsFrom(const v1::CopyObject& copy) {
  // What this revision doesn't carry out must not be ignored: whatever is left over here is refused.
  v1::CopyObject rest = copy;
  rest.clear_target_bucket();
  rest.clear_target_key_prefix();
  rest.clear_target_store();
  rest.clear_metadata_directive();
  rest.clear_new_metadata();
  rest.clear_tagging_directive();
  rest.clear_new_tags();
  rest.clear_storage_class();
  rest.clear_canned_acl();
  rest.clear_acl_grants();
  rest.clear_encryption();
  rest.clear_modified_since();
  rest.clear_unmodified_since();
  rest.clear_requester_pays();
  rest.clear_checksum_algorithm();
  DROVER_RETURN_IF_ERROR(RefuseRest(rest, "copy_object"));
  if (!IsKnown(copy.metadata_directive()) || !IsKnown(copy.tagging_directive())) {
    return Invalid("copy_object has a directive that is not known");
  }

  CopySettings settings;
  settings.target_bucket = copy.target_bucket();
  settings.target_key_prefix = copy.target_key_prefix();
  if (copy.metadata_directive() == v1::CopyObject::REPLACE) {
    settings.metadata = MetadataHeaders(copy.new_metadata());
  } else if (copy.new_metadata().ByteSizeLong() != 0) {
    return Invalid("copy_object has new metadata that would not be used");
  }
  if (copy.tagging_directive() == v1::CopyObject::REPLACE) {
    settings.tags.emplace();
    for (const v1::Tag& tag : copy.new_tags()) settings.tags->emplace_back(tag.key(), tag.value());
  } else if (!copy.new_tags().empty()) {
    return Invalid("copy_object has new tags that would not be used");
  }
  if (copy.has_modified_since()) {
    settings.modified_since = absl::FromUnixSeconds(copy.modified_since().seconds());
  }
  if (copy.has_unmodified_since()) {
    settings.unmodified_since = absl::FromUnixSeconds(copy.unmodified_since().seconds());
  }
  settings.storage_class = copy.storage_class();
  AddIf(settings.write_headers, "x-amz-storage-class", copy.storage_class());
  DROVER_RETURN_IF_ERROR(AddAcl(copy, settings));
  AddEncryption(copy.encryption(), settings);
  settings.checksum_algorithm = copy.checksum_algorithm();
  if (copy.requester_pays()) {
    settings.read_headers.Add("x-amz-request-payer", "requester");
    settings.write_headers.Add("x-amz-request-payer", "requester");
  }
  return settings;
}

HttpHeaders CarriedMetadata(const HttpHeaders& answer) {
  HttpHeaders metadata;
  for (const auto& [name, value] : answer) {
    if (absl::StartsWithIgnoreCase(name, ToAbsl(kMetadataPrefix))) {
      metadata.Add(name, value);
      continue;
    }
    for (const std::string_view known : kSystemMetadata) {
      if (absl::EqualsIgnoreCase(name, ToAbsl(known)) && !value.empty()) metadata.Add(known, value);
    }
  }
  return metadata;
}

}  // namespace drover
