// The report-file duty: writes one result file of a job's report, in one pass and one upload, with MD5 and
// SHA-256.
//
// The upload's id is stored before the first part: whoever takes over aborts it, so a crash leaves nothing
// behind. A file that fits in one piece is put at once. A crash, or an error, makes the whole file be written
// again, the same bytes under the same key.
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_REPORT_FILE_HANDLER_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_REPORT_FILE_HANDLER_H_

#include <cstddef>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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
};

// Everything given must outlive the handler.
std::unique_ptr<DutyHandler> MakeReportFileHandler(ReportFileOptions options, Storage& storage,
                                                   StoreProvider& stores, JobChangedFn on_job_changed);

// Writes `file` at once if its rows are at most `max_bytes` of text, and fills in rows, bytes and hashes;
// false, and nothing written, if they are more. For reports so small that a duty of their own would cost more
// than the writing.
absl::StatusOr<bool> WriteSmallReportFile(Storage& storage, ObjectStore& store, const JobId& job_id,
                                          std::string_view bucket, size_t max_bytes,
                                          const DutyContext& context, ReportFile& file);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_REPORT_FILE_HANDLER_H_
