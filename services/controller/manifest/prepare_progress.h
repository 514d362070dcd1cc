// How far a preparation has come: what is committed with each chunk of batches, and what its successor goes
// on from.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_PREPARE_PROGRESS_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_PREPARE_PROGRESS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/controller/manifest/csv/csv_manifest.h"
#include "services/controller/manifest/resumable_sha256.h"

namespace drover {

struct PrepareProgress {
  CsvPosition position;  // of the first row that is in no stored batch
  int64_t next_task = 0;
  int64_t batches = 0;
  std::string etag;  // of the manifest that was opened; "": none was yet
  // The hash of the manifest's first `hashed` bytes, at most position.offset. 0 and a new hash where none is
  // wanted.
  int64_t hashed = 0;
  ResumableSha256 hash;
  std::optional<absl::Time> unavailable_since;  // its store has failed since then; to the millisecond

  // "" for a preparation that has not begun, else JSON. INVALID_ARGUMENT for anything that Serialize() did
  // not write.
  static absl::StatusOr<PrepareProgress> Parse(std::string_view text);
  std::string Serialize() const;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_PREPARE_PROGRESS_H_
