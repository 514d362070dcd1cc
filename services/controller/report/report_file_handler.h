// The report-file duty: writes one result file of a job's report, in one pass and one upload, with MD5 and
// SHA-256.
//
// The upload's id is stored before the first part: whoever takes over aborts it, and lists and aborts those
// of this file whose ids were not stored, so a crash leaves nothing behind. A file that fits in one piece is
// put at once. A crash, or an error, makes the whole file be written again, the same bytes under the same
// key.
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_REPORT_FILE_HANDLER_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_REPORT_FILE_HANDLER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/objectstore/object_store.h"
#include "services/controller/duties/duty_handler.h"
#include "services/controller/storage/storage.h"
#include "services/controller/stores/store_provider.h"

namespace drover {

// Of a result file.
inline constexpr std::string_view kReportFileContentType = "text/csv";

struct ReportFileOptions {
  // Text handed on in one piece, hashed and written on a thread of its own. Memory of a file: about 3 pages
  // (RowPageReader), 5 pieces, and what the store's writer holds.
  size_t piece_bytes = 1 << 20;
  // How a handler's thread waits before it tells a database that was away of a file that is written. Empty:
  // absl::SleepFor; a simulation in virtual time has its own.
  std::function<void(absl::Duration)> sleep;
};

// Everything given must outlive the handler.
std::unique_ptr<DutyHandler> MakeReportFileHandler(ReportFileOptions options, Storage& storage,
                                                   StoreProvider& stores, JobChangedFn on_job_changed);

// Removes uploads of a file that holders of the duty before this one began and left without their ids being
// known: they died between the two. Nothing to do for a first holder. A store that can't list them keeps
// them; one that can't be reached is an error.
absl::Status AbortUnknownUploads(ObjectStore& store, const ObjectRef& ref, const DutyContext& context);

// Writes `file` at once if its rows are at most `max_bytes` of text, and fills in rows, bytes and hashes;
// false, and nothing written, if they are more. For reports so small that a duty of their own would cost more
// than the writing.
absl::StatusOr<bool> WriteSmallReportFile(Storage& storage, ObjectStore& store, const JobId& job_id,
                                          std::string_view bucket, size_t max_bytes,
                                          const DutyContext& context, ReportFile& file);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_REPORT_FILE_HANDLER_H_
