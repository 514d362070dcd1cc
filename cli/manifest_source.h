// Where the objects of a job come from, as the flags of `drover job create` say it: the place of a manifest
// in its several spellings, and keys in the request itself.
#ifndef DROVER_CLI_MANIFEST_SOURCE_H_
#define DROVER_CLI_MANIFEST_SOURCE_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "drover/v1/manifest.pb.h"

namespace drover::cli {

// A file of --keys-from is read up to this; the server's limit is lower. What is longer belongs into a
// manifest.
inline constexpr size_t kMaxKeysFileBytes = 4 << 20;

// The flags as given.
struct ManifestSourceFlags {
  std::optional<std::string> compression;  // none, gzip, zstd
  std::vector<std::string> keys;           // --key: BUCKET/KEY, or KEY with keys_bucket
  std::optional<std::string> keys_from;    // --keys-from: a file of them, a line each; "-" is standard input
  std::optional<std::string> keys_bucket;
  std::string keys_text;  // the content of keys_from, already read
  std::optional<std::string>
      upload;          // --upload: where --manifest - goes, STORE/BUCKET/KEY or STORE/BUCKET/PREFIX/
  std::string stores;  // --stores: the stores.yaml for it

  bool HasKeys() const { return !keys.empty() || keys_from.has_value(); }
};

// The place of a manifest: STORE/BUCKET/KEY; or without the store, which then comes from --manifest-store and
// stays empty here: s3://BUCKET/KEY, arn:aws:s3:::BUCKET/KEY (keys as they are), and AWS's https:// addresses
// in virtual-host style (https://BUCKET.s3.REGION.amazonaws.com/KEY) or path style, percent-encoded, with an
// optional ?versionId=. INVALID_ARGUMENT for anything else.
absl::StatusOr<v1::ObjectLocation> ParseManifestPlace(std::string_view text);

// The content of a --keys-from file ("-": standard input). INVALID_ARGUMENT if it can't be read or is too
// long.
absl::StatusOr<std::string> ReadKeysFile(const std::string& path);

// The objects of --key and --keys-from. INVALID_ARGUMENT, with the line, if one has no bucket or no key.
// Blank lines are skipped; a line may end in CRLF. Everything else is the server's to check.
absl::Status SetInlineObjects(const ManifestSourceFlags& flags, v1::InlineManifest& manifest);

// The compression of --compression. INVALID_ARGUMENT for an unknown one.
absl::StatusOr<v1::CsvManifest::Compression> ParseCompression(std::string_view text);

}  // namespace drover::cli

#endif  // DROVER_CLI_MANIFEST_SOURCE_H_
