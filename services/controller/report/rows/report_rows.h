// The rows and the manifest.json of a completion report, and the checksums of its files: pure functions of
// tasks and outcomes (layout: S3 Batch Operations' Report_CSV_20180820).
//
// A row has no header above it and is
//   Bucket,Key,VersionId,TaskStatus,HTTPStatusCode,ErrorCode,ResultMessage LF
// with the key written in the manifest's encoding, and a column quoted, its quotes doubled, where it holds a
// comma, a quote, CR or LF. The HTTP status comes before the error code, as in the rows that S3 Batch
// Operations really writes.
#ifndef DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_ROWS_H_
#define DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_ROWS_H_

#include <cstddef>
#include <string>

#include "absl/types/span.h"
#include "common/codec/key_encoding.h"
#include "common/codec/outcomes.h"
#include "common/codec/task_batch.h"
#include "common/codec/task_set.h"

namespace drover {

// The tasks that a result file lists.
enum class RowKind { kSucceeded, kFailed };

// "succeeded" or "failed": TaskStatus of the row, TaskExecutionStatus of the file.
std::string_view RowKindName(RowKind kind);

// Appends to `out` the rows of one batch that are of `kind`, in the batch's order, and returns how many they
// are. `executed` are the tasks with an outcome (of all segments of the batch), a subset of
// All(batch.size()). `non_default` are the outcomes of those that did not succeed by default, ascending by
// index, each index once; one that isn't in `executed` is left out.
size_t AppendReportRows(const DecodedBatch& batch, const TaskSet& executed,
                        absl::Span<const Outcome> non_default, RowKind kind, KeyEncoding key_encoding,
                        std::string& out);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_REPORT_ROWS_REPORT_ROWS_H_
