// The finish duty: brings a job in Completing, Failing or Cancelling to its end (docs/reports.md).
//
// Step by step, never holding a thread to wait: until no lease is owned; plan the report (files, keys,
// creation date, deadline), once; until its files are written, each a duty of its own; write manifest.json;
// settle; end the job. A small report is written by the holder itself. Each step is found done, or done
// again, by a successor.
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_FINISH_HANDLER_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_FINISH_HANDLER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "services/controller/duties/duty_handler.h"
#include "services/controller/report/rows/report_plan.h"
#include "services/controller/storage/storage.h"
#include "services/controller/stores/store_provider.h"

namespace drover {

struct FinishOptions {
  // How long a report is tried before the job ends without it.
  absl::Duration report_timeout = absl::Minutes(15);
  // A report of at most this many rows, each file at most so many bytes, is written by the finish duty
  // itself; 0 rows: none is. The bytes are in memory at once.
  int64_t small_rows = 100'000;
  size_t small_file_bytes = 4 << 20;
  int64_t max_file_rows = kMaxReportFileRows;
  // Between looks whether leases are left: growing between these with the time waited.
  absl::Duration min_lease_wait = absl::Milliseconds(50);
  absl::Duration max_lease_wait = absl::Milliseconds(500);
};

// Everything given must outlive the handler.
std::unique_ptr<DutyHandler> MakeFinishHandler(FinishOptions options, Storage& storage, StoreProvider& stores,
                                               const Clock& clock, JobChangedFn on_job_changed);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_FINISH_HANDLER_H_
