#include "cli/manifest_upload.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "cli/manifest_source.h"
#include "common/codec/key_encoding.h"
#include "common/compress/decompressor.h"
#include "common/objectstore/stores.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

constexpr size_t kPieceBytes = 1 << 20;
constexpr char kEtagToCome[] = "not-uploaded-yet";

absl::Status Usage(std::string_view message) { return absl::InvalidArgumentError(ToAbsl(message)); }

// SHA-256 of bytes as they pass.
class Hasher {
 public:
  Hasher() : context_(EVP_MD_CTX_new()) {
    if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) std::abort();
  }
  void Update(std::string_view bytes) { EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()); }
  std::string HexDigest() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(context_.get(), digest, &size);
    return absl::BytesToHexString({reinterpret_cast<const char*>(digest), size});
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  const std::unique_ptr<EVP_MD_CTX, Free> context_;
};

v1::CsvManifest::Compression ToProto(std::optional<Compression> compression) {
  if (!compression) return v1::CsvManifest::COMPRESSION_UNSPECIFIED;
  return *compression == Compression::kGzip ? v1::CsvManifest::GZIP : v1::CsvManifest::ZSTD;
}

// Fills the buffer as far as the input goes: a pipe gives a few bytes at a time.
absl::StatusOr<size_t> ReadFull(const ReadInput& read, char* buffer, size_t size) {
  size_t filled = 0;
  while (filled < size) {
    DROVER_ASSIGN_OR_RETURN(const size_t n, read(buffer + filled, size - filled));
    if (n == 0) break;
    filled += n;
  }
  return filled;
}

// Set by a signal's handler, which can reach nothing else.
volatile std::sig_atomic_t interrupted = 0;

}  // namespace

absl::StatusOr<ManifestUpload> ManifestUpload::Open(const std::string& stores_path, std::string_view target,
                                                    std::string_view request_id) {
  if (stores_path.empty())
    return Usage("--manifest - needs --stores FILE: the stores.yaml with the store to upload to");
  std::string full(target);
  if (EndsWith(full, "/")) {
    full += "drover-";
    AppendUrlEncoded(request_id, full);
    full += ".csv";
  }
  auto place = ParseManifestPlace(full);
  if (!place.ok() || place->store().empty())
    return Usage(StrCat("--upload is STORE/BUCKET/KEY or STORE/BUCKET/PREFIX/, not \"", target, "\""));
  DROVER_ASSIGN_OR_RETURN(const Stores stores, Stores::Load(stores_path));
  const StoreConfig* config = stores.Find(place->store());
  if (config == nullptr) return Usage(StrCat(stores_path, " has no store \"", place->store(), "\""));
  DROVER_ASSIGN_OR_RETURN(std::unique_ptr<ObjectStore> store, OpenObjectStore(*config));
  return ManifestUpload(std::move(store), {place->bucket(), place->key(), ""});
}

std::string ManifestUpload::place() const {
  return StrCat(store_->config().name, "/", ref_.bucket, "/", ref_.key);
}

void ManifestUpload::Announce(v1::CsvManifest& manifest) const {
  v1::ObjectLocation& location = *manifest.mutable_location();
  location.Clear();
  location.set_store(store_->config().name);
  location.set_bucket(ref_.bucket);
  location.set_key(ref_.key);
  manifest.clear_etag();
  if (store_->config().kind == StoreKind::kS3) manifest.set_etag(kEtagToCome);
}

absl::Status ManifestUpload::Run(const ReadInput& read, bool compression_given, v1::CsvManifest& manifest) {
  const absl::StatusOr<ObjectInfo> present = store_->Head(ref_);
  if (present.ok()) {
    return absl::AlreadyExistsError(ToAbsl(
        StrCat(place(),
               " exists already, and may be another job's manifest; upload to another key, or name it with "
               "--manifest")));
  }
  if (!absl::IsNotFound(present.status())) return present.status();
  DROVER_ASSIGN_OR_RETURN(const std::unique_ptr<ObjectWriter> writer, store_->Create(ref_, "text/csv"));
  const absl::Status copied = Copy(read, compression_given, *writer, manifest);
  if (!copied.ok()) {
    writer->Abort();
    return copied;
  }
  const absl::StatusOr<ObjectInfo> stored = writer->Commit();
  if (!stored.ok()) {
    writer->Abort();
    return stored.status();
  }
  if (store_->config().kind == StoreKind::kS3) manifest.set_etag(stored->etag);
  return absl::OkStatus();
}

absl::Status ManifestUpload::Copy(const ReadInput& read, bool compression_given, ObjectWriter& writer,
                                  v1::CsvManifest& manifest) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kPieceBytes);
  Hasher hasher;
  bool first = true;
  while (true) {
    DROVER_ASSIGN_OR_RETURN(const size_t n, ReadFull(read, buffer.get(), kPieceBytes));
    const std::string_view piece(buffer.get(), n);
    if (std::exchange(first, false) && !compression_given)
      manifest.set_compression(ToProto(DetectCompression(piece)));
    hasher.Update(piece);
    if (n > 0) DROVER_RETURN_IF_ERROR(writer.Write(piece));
    if (n < kPieceBytes) break;
  }
  manifest.set_sha256(hasher.HexDigest());
  return absl::OkStatus();
}

absl::Status ManifestUpload::Remove() { return store_->Delete(ref_); }

bool IsRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented: return true;
    default: return false;
  }
}

ReadInput StandardInput() {
  struct sigaction action{};
  action.sa_handler = [](int) { interrupted = 1; };
  // Without SA_RESTART: a read that waits ends.
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
  return [](char* buffer, size_t size) -> absl::StatusOr<size_t> {
    while (interrupted == 0) {
      const ssize_t n = read(STDIN_FILENO, buffer, size);
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR)
        return absl::InternalError(StrCat("cannot read standard input: ", std::strerror(errno)));
    }
    return absl::CancelledError("interrupted");
  };
}

}  // namespace drover::cli
