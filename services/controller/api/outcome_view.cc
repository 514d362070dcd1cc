#include "services/controller/api/outcome_view.h"

#include <vector>

#include "common/codec/task_batch.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {

v1::RecordedOutcome ViewOutcome(const OutcomeRow& row) {
  v1::RecordedOutcome out;
  v1::ManifestTask& task = *out.mutable_task();
  task.set_position(row.position);
  task.set_bucket(row.bucket);
  task.set_key(row.key);
  task.set_version_id(row.version_id);
  out.set_succeeded(row.outcome.succeeded);
  out.set_error_code(row.outcome.code);
  out.set_http_status(row.outcome.http_status);
  out.set_message(row.outcome.message);
  out.set_attempts(static_cast<int32_t>(row.outcome.attempts));
  out.set_bytes(static_cast<int64_t>(row.outcome.bytes));
  if (row.recorded) SetTimestamp(*row.recorded, out.mutable_record_time());
  out.set_batch(row.batch_no);
  return out;
}

bool MayRecordMore(const lifecycle::Snapshot& snapshot) {
  if (lifecycle::IsTerminal(snapshot.state)) return false;
  return !snapshot.prepared || snapshot.succeeded + snapshot.failed < snapshot.tasks;
}

std::string OutcomeCursor(const TaskRef& from) { return StrCat(from.batch_no, ".", from.index); }

absl::StatusOr<TaskRef> ParseOutcomeCursor(std::string_view cursor) {
  TaskRef from;
  if (cursor.empty()) return from;
  const std::vector<std::string_view> parts = Split(cursor, '.');
  if (parts.size() == 2 && absl::SimpleAtoi(ToAbsl(parts[0]), &from.batch_no) && from.batch_no >= 0 &&
      absl::SimpleAtoi(ToAbsl(parts[1]), &from.index) && from.index < kMaxBatchTasks) {
    return from;
  }
  FieldErrors errors;
  errors.Add("page_token", "is no place in a job's outcomes; list again from the first page");
  return errors.ToStatus(absl::StatusCode::kInvalidArgument, "PAGE_TOKEN_INVALID");
}

}  // namespace drover
