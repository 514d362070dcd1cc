// The prepare duty: reads a job's manifest, checks every line and stores its tasks as batches
// (docs/manifests.md, docs/architecture.md step 1).
//
// Reading (with SHA-256), parsing, encoding and storing run side by side, in bounded memory. Each chunk of
// batches is stored together with where the next one begins, under the duty's epoch: a successor goes on
// there and makes the same batches, since their borders depend on nothing but the manifest.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_PREPARE_HANDLER_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_PREPARE_HANDLER_H_

#include <cstddef>
#include <memory>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "services/controller/duties/duty_handler.h"
#include "services/controller/storage/storage.h"
#include "services/controller/stores/store_provider.h"

namespace drover {

struct PrepareOptions {
  // A chunk is stored once it has this many bytes of payload (at most 8 MiB) or this age.
  size_t chunk_bytes = 2 << 20;
  absl::Duration chunk_age = absl::Seconds(1);
  // Bytes read in one piece. Memory of a preparation: 4 blocks, 3 chunks and 4 batches being made.
  size_t block_bytes = 1 << 20;
  // How long the manifest's store may be out of reach, or not be this job's store on any controller, until
  // the job fails. Counted anew after each chunk.
  absl::Duration unavailable_limit = absl::Minutes(15);
};

// Everything given must outlive the handler.
std::unique_ptr<DutyHandler> MakePrepareHandler(PrepareOptions options, Storage& storage,
                                                StoreProvider& stores, const Clock& clock,
                                                JobChangedFn on_job_changed);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_PREPARE_HANDLER_H_
