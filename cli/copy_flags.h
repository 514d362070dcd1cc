// The flags of `drover job create --operation copy` that say what the copies are to be.
#ifndef DROVER_CLI_COPY_FLAGS_H_
#define DROVER_CLI_COPY_FLAGS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "drover/v1/operation.pb.h"

namespace drover::cli {

// As given; what is absent was not. What there is no flag for can be said by --file or --set.
struct CopyFlags {
  std::vector<std::string> metadata;  // NAME=VALUE
  bool no_metadata = false;
  std::vector<std::string> tags;  // KEY=VALUE
  bool no_tags = false;
  std::optional<std::string> storage_class;
  std::optional<std::string> acl;
  std::optional<std::string> encryption;
  std::optional<std::string> kms_key;
  std::optional<std::string> modified_since;    // RFC 3339
  std::optional<std::string> unmodified_since;  // RFC 3339
  bool requester_pays = false;

  // The first of them that was given, e.g. "--storage-class"; "" if none was.
  std::string_view First() const;
};

// Puts them into the parameters. INVALID_ARGUMENT, in terms of the flags, for what can't be put there.
absl::Status SetCopy(const CopyFlags& flags, v1::CopyObject& copy);

}  // namespace drover::cli

#endif  // DROVER_CLI_COPY_FLAGS_H_
