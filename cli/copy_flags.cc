#include "cli/copy_flags.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "common/protobuf/time.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

absl::Status Usage(std::string_view message) { return absl::InvalidArgumentError(ToAbsl(message)); }

bool Is(std::string_view name, std::string_view other) {
  return absl::EqualsIgnoreCase(ToAbsl(name), ToAbsl(other));
}

absl::Status ParseTime(std::string_view flag, const std::string& text, google::protobuf::Timestamp* out) {
  absl::Time time;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, nullptr)) {
    return Usage(StrCat(flag, " is a time like 2026-01-31T12:00:00Z, not \"", text, "\""));
  }
  SetTimestamp(time, out);
  return absl::OkStatus();
}

// "NAME=VALUE" in two; false if it is none.
bool SplitAssignment(std::string_view text, std::pair<std::string, std::string>* out) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) return false;
  *out = {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
  return true;
}

absl::Status SetMetadata(const CopyFlags& flags, v1::CopyObject& copy) {
  if (flags.no_metadata && !flags.metadata.empty())
    return Usage("give either --new-metadata or --no-metadata");
  if (!flags.no_metadata && flags.metadata.empty()) return absl::OkStatus();
  copy.set_metadata_directive(v1::CopyObject::REPLACE);
  v1::ObjectMetadata& metadata = *copy.mutable_new_metadata();
  metadata.Clear();
  for (const std::string& text : flags.metadata) {
    std::pair<std::string, std::string> item;
    if (!SplitAssignment(text, &item))
      return Usage(StrCat("--new-metadata is NAME=VALUE, not \"", text, "\""));
    auto& [name, value] = item;
    if (Is(name, "Content-Type")) {
      metadata.set_content_type(value);
    } else if (Is(name, "Cache-Control")) {
      metadata.set_cache_control(value);
    } else if (Is(name, "Content-Disposition")) {
      metadata.set_content_disposition(value);
    } else if (Is(name, "Content-Encoding")) {
      metadata.set_content_encoding(value);
    } else if (Is(name, "Content-Language")) {
      metadata.set_content_language(value);
    } else if (Is(name, "Expires")) {
      if (absl::Status status = ParseTime("--new-metadata Expires", value, metadata.mutable_expires());
          !status.ok()) {
        return status;
      }
    } else {
      (*metadata.mutable_user_metadata())[name] = value;
    }
  }
  return absl::OkStatus();
}

absl::Status SetTags(const CopyFlags& flags, v1::CopyObject& copy) {
  if (flags.no_tags && !flags.tags.empty()) return Usage("give either --new-tag or --no-tags");
  if (!flags.no_tags && flags.tags.empty()) return absl::OkStatus();
  copy.set_tagging_directive(v1::CopyObject::REPLACE);
  copy.clear_new_tags();
  for (const std::string& text : flags.tags) {
    std::pair<std::string, std::string> tag;
    if (!SplitAssignment(text, &tag)) return Usage(StrCat("--new-tag is KEY=VALUE, not \"", text, "\""));
    copy.add_new_tags()->set_key(std::move(tag.first));
    copy.mutable_new_tags()->rbegin()->set_value(std::move(tag.second));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view CopyFlags::First() const {
  const std::pair<bool, std::string_view> flags[] = {
      {!metadata.empty(), "--new-metadata"},
      {no_metadata, "--no-metadata"},
      {!tags.empty(), "--new-tag"},
      {no_tags, "--no-tags"},
      {storage_class.has_value(), "--storage-class"},
      {acl.has_value(), "--acl"},
      {encryption.has_value(), "--encryption"},
      {kms_key.has_value(), "--kms-key"},
      {modified_since.has_value(), "--modified-since"},
      {unmodified_since.has_value(), "--unmodified-since"},
      {requester_pays, "--requester-pays"},
  };
  for (const auto& [given, name] : flags) {
    if (given) return name;
  }
  return {};
}

absl::Status SetCopy(const CopyFlags& flags, v1::CopyObject& copy) {
  if (absl::Status status = SetMetadata(flags, copy); !status.ok()) return status;
  if (absl::Status status = SetTags(flags, copy); !status.ok()) return status;
  if (flags.storage_class.has_value()) copy.set_storage_class(*flags.storage_class);
  if (flags.acl.has_value()) copy.set_canned_acl(*flags.acl);
  if (flags.encryption.has_value()) copy.mutable_encryption()->set_algorithm(*flags.encryption);
  if (flags.kms_key.has_value()) {
    copy.mutable_encryption()->set_kms_key_id(*flags.kms_key);
    if (copy.encryption().algorithm().empty()) copy.mutable_encryption()->set_algorithm("aws:kms");
  }
  if (flags.modified_since.has_value()) {
    if (absl::Status status =
            ParseTime("--modified-since", *flags.modified_since, copy.mutable_modified_since());
        !status.ok()) {
      return status;
    }
  }
  if (flags.unmodified_since.has_value()) {
    if (absl::Status status =
            ParseTime("--unmodified-since", *flags.unmodified_since, copy.mutable_unmodified_since());
        !status.ok()) {
      return status;
    }
  }
  if (flags.requester_pays) copy.set_requester_pays(true);
  return absl::OkStatus();
}

}  // namespace drover::cli
