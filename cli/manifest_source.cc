#include "cli/manifest_source.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <utility>

#include "common/codec/key_encoding.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

absl::Status Usage(std::string_view message) { return absl::InvalidArgumentError(ToAbsl(message)); }

absl::Status NoPlace(std::string_view text) {
  return Usage(StrCat("--manifest is STORE/BUCKET/KEY, not \"", text,
                      "\"; or, with --manifest-store, s3://BUCKET/KEY, arn:aws:s3:::BUCKET/KEY or "
                      "https://BUCKET.s3.REGION.amazonaws.com/KEY"));
}

// Splits "BUCKET/KEY"; false if one of them is empty.
bool SplitBucket(std::string_view text, std::string& bucket, std::string& key) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size()) return false;
  bucket = std::string(text.substr(0, slash));
  key = std::string(text.substr(slash + 1));
  return true;
}

bool Decode(std::string_view text, std::string& out) {
  size_t bad_offset = 0;
  return UrlDecode(text, out, bad_offset);
}

// "BUCKET.s3.REGION.amazonaws.com/KEY" or "s3.REGION.amazonaws.com/BUCKET/KEY", maybe with "?versionId=V".
bool ParseAwsAddress(std::string_view text, v1::ObjectLocation& location) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view host = text.substr(0, slash);
  if (!EndsWith(host, ".amazonaws.com") && !EndsWith(host, ".amazonaws.com.cn")) return false;
  std::string_view path = text.substr(slash + 1);
  if (const size_t query = path.find('?'); query != std::string_view::npos) {
    constexpr std::string_view kVersion = "versionId=";
    const std::string_view value = path.substr(query + 1);
    if (!StartsWith(value, kVersion) || value.find('&') != std::string_view::npos) return false;
    if (!Decode(value.substr(kVersion.size()), *location.mutable_version_id())) return false;
    path = path.substr(0, query);
  }
  std::string decoded;
  if (!Decode(path, decoded)) return false;
  if (StartsWith(host, "s3.") || StartsWith(host, "s3-"))
    return SplitBucket(decoded, *location.mutable_bucket(), *location.mutable_key());
  // A bucket's name may have dots, and ".s3." in it: the service's part is the last one.
  const size_t service = std::max(host.rfind(".s3.") + 1, host.rfind(".s3-") + 1);
  if (service < 2 || decoded.empty()) return false;
  location.set_bucket(std::string(host.substr(0, service - 1)));
  location.set_key(decoded);
  return true;
}

}  // namespace

absl::StatusOr<v1::ObjectLocation> ParseManifestPlace(std::string_view text) {
  v1::ObjectLocation location;
  bool good = false;
  if (StartsWith(text, "https://")) {
    good = ParseAwsAddress(text.substr(8), location);
  } else {
    bool with_store = true;
    std::string_view rest = text;
    for (const std::string_view prefix : {"s3://", "arn:aws:s3:::"}) {
      if (!StartsWith(text, prefix)) continue;
      with_store = false;
      rest = text.substr(prefix.size());
    }
    if (with_store) {
      const size_t slash = rest.find('/');
      if (slash == 0 || slash == std::string_view::npos) return NoPlace(text);
      location.set_store(std::string(rest.substr(0, slash)));
      rest.remove_prefix(slash + 1);
    }
    good = SplitBucket(rest, *location.mutable_bucket(), *location.mutable_key());
  }
  if (!good) return NoPlace(text);
  return location;
}

absl::StatusOr<std::string> ReadKeysFile(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  std::istream& in = path == "-" ? std::cin : file;
  std::string text(kMaxKeysFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  if (!in.eof() && text.empty()) return Usage(StrCat("cannot read ", path));
  if (text.size() > kMaxKeysFileBytes)
    return Usage(StrCat(path, " is too long for --keys-from; make a manifest of it: --manifest -"));
  return text;
}

absl::Status SetInlineObjects(const ManifestSourceFlags& flags, v1::InlineManifest& manifest) {
  const auto add = [&](std::string_view text, std::string_view where) {
    v1::InlineObject& object = *manifest.add_objects();
    if (flags.keys_bucket) {
      object.set_bucket(*flags.keys_bucket);
      object.set_key(std::string(text));
      return absl::OkStatus();
    }
    if (SplitBucket(text, *object.mutable_bucket(), *object.mutable_key())) return absl::OkStatus();
    return Usage(StrCat(where, " is BUCKET/KEY, or KEY with --keys-bucket, not \"", text, "\""));
  };
  for (const std::string& key : flags.keys) DROVER_RETURN_IF_ERROR(add(key, "--key"));
  if (!flags.keys_from) return absl::OkStatus();
  size_t line = 0;
  for (std::string_view text : Split(flags.keys_text, '\n')) {
    ++line;
    if (EndsWith(text, "\r")) text.remove_suffix(1);
    if (text.empty()) continue;
    DROVER_RETURN_IF_ERROR(add(text, StrCat(*flags.keys_from, ":", line, ": a line")));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CsvManifest::Compression> ParseCompression(std::string_view text) {
  if (text == "none") return v1::CsvManifest::COMPRESSION_UNSPECIFIED;
  if (text == "gzip") return v1::CsvManifest::GZIP;
  if (text == "zstd") return v1::CsvManifest::ZSTD;
  return Usage(StrCat("--compression is none, gzip or zstd, not \"", text, "\""));
}

}  // namespace drover::cli
