// `drover job create --manifest -`: standard input becomes an object of a store, which the job then names
// with its ETag and SHA-256. The command line does this itself, with the store's credentials of whoever runs
// it (docs/decisions/manifest-upload.md).
#ifndef DROVER_CLI_MANIFEST_UPLOAD_H_
#define DROVER_CLI_MANIFEST_UPLOAD_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/objectstore/object_store.h"
#include "drover/v1/manifest.pb.h"

namespace drover::cli {

// Up to `size` bytes of the input to `buffer`; 0 at its end. CANCELLED when a person interrupts it.
using ReadInput = std::function<absl::StatusOr<size_t>(char* buffer, size_t size)>;

// One upload. Not thread-safe; memory is bounded, whatever is uploaded.
class ManifestUpload {
 public:
  // To `target` (STORE/BUCKET/KEY; of STORE/BUCKET/PREFIX/ the key is PREFIX/drover-REQUEST_ID.csv), a store
  // of the stores.yaml at `stores_path`. INVALID_ARGUMENT in terms of the flags; reads that file, and nothing
  // of the store.
  static absl::StatusOr<ManifestUpload> Open(const std::string& stores_path, std::string_view target,
                                             std::string_view request_id);

  // Fills in the place, and an ETag that stands for the one to come where the store's kind needs one: for a
  // rehearsal of the call (validate_only) before anything is uploaded.
  void Announce(v1::CsvManifest& manifest) const;

  // Uploads the input, and fills in ETag, SHA-256 and, unless `compression_given`, the compression that its
  // first bytes tell. ALREADY_EXISTS if there is such an object: it may be another job's manifest. After an
  // error nothing is left behind, as far as the store can be reached.
  absl::Status Run(const ReadInput& read, bool compression_given, v1::CsvManifest& manifest);

  // Removes what Run() stored: its job was refused.
  absl::Status Remove();

  // STORE/BUCKET/KEY.
  std::string place() const;

 private:
  ManifestUpload(std::unique_ptr<ObjectStore> store, ObjectRef ref)
      : store_(std::move(store)), ref_(std::move(ref)) {}

  absl::Status Copy(const ReadInput& read, bool compression_given, ObjectWriter& writer,
                    v1::CsvManifest& manifest);

  std::unique_ptr<ObjectStore> store_;
  ObjectRef ref_;
};

// Whether the error of a CreateJob means that there is certainly no job.
bool IsRefusal(const absl::Status& status);

// Standard input, until its end or until SIGINT or SIGTERM arrives. Takes over these signals; made once.
ReadInput StandardInput();

}  // namespace drover::cli

#endif  // DROVER_CLI_MANIFEST_UPLOAD_H_
