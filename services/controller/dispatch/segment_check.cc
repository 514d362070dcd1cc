#include "services/controller/dispatch/segment_check.h"

#include <string>
#include <utility>
#include <vector>

#include "common/codec/outcomes.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr size_t kMaxNotesBytes = 1024;  // of one task

absl::Status Bad(const v1::Segment& segment, const std::string& what) {
  return Error(absl::StatusCode::kInvalidArgument, "SEGMENT_INVALID",
               StrCat("segment ", segment.sequence(), " of lease ", segment.lease_id(), ": ", what));
}

}  // namespace

absl::StatusOr<SegmentWrite> CheckSegment(const v1::Segment& segment, const TaskSet& open,
                                          int32_t batch_tasks) {
  SegmentWrite write;
  write.lease = {static_cast<BatchNo>(segment.batch_no()), segment.lease_id()};
  write.sequence = segment.sequence();

  // Every task is named once over all lists: each list is added to `named` after a look at what is there.
  TaskSet named;
  const auto take = [&](int32_t first, int32_t end, std::string_view list) -> absl::Status {
    if (first < 0 || first >= end || end > batch_tasks) {
      return Bad(segment,
                 StrCat(list, " has the range ", first, " to ", end, " of a batch of ", batch_tasks));
    }
    TaskSet range;
    range.AddRange(first, end);
    if (range.Intersects(named))
      return Bad(segment, StrCat(list, " names a task twice, within ", first, " to ", end));
    if (!range.IsSubsetOf(open)) {
      return Bad(segment, StrCat(list, " names a task outside the lease or recorded before, within ", first,
                                 " to ", end));
    }
    named.Union(range);
    return absl::OkStatus();
  };

  for (const v1::TaskRange& range : segment.succeeded()) {
    DROVER_RETURN_IF_ERROR(take(range.first(), range.end(), "succeeded"));
    write.succeeded += range.end() - range.first();
  }
  std::vector<Outcome> outcomes;
  outcomes.reserve(segment.outcomes_size());
  for (const v1::TaskOutcome& from : segment.outcomes()) {
    if (from.task() < 0 || from.task() >= batch_tasks)
      return Bad(segment, StrCat("outcome of task ", from.task()));
    DROVER_RETURN_IF_ERROR(take(from.task(), from.task() + 1, "outcomes"));
    if (from.http_status() < 0 || from.http_status() > 999 || from.attempts() < 1 || from.bytes() < 0) {
      return Bad(segment, StrCat("outcome of task ", from.task(),
                                 " has an HTTP status, attempts or bytes out of range"));
    }
    Outcome outcome;
    outcome.index = static_cast<uint32_t>(from.task());
    outcome.succeeded = from.succeeded();
    outcome.http_status = static_cast<uint16_t>(from.http_status());
    outcome.code = from.code();
    outcome.message = from.message();
    outcome.attempts = static_cast<uint32_t>(from.attempts());
    outcome.bytes = static_cast<uint64_t>(from.bytes());
    SanitizeOutcome(outcome);
    ++(outcome.succeeded ? write.succeeded : write.failed);
    if (!outcome.IsDefault()) outcomes.push_back(std::move(outcome));
  }
  write.payload = EncodeOutcomes(outcomes);
  TaskSet executed = named;
  for (const v1::TaskRange& range : segment.returned()) {
    DROVER_RETURN_IF_ERROR(take(range.first(), range.end(), "returned"));
    write.returned.AddRange(range.first(), range.end());
  }
  v1::Grant notes;  // a Grant's notes are how they are kept
  for (const v1::TaskNote& note : segment.notes()) {
    if (note.task() < 0 || note.task() >= batch_tasks || note.note().size() > kMaxNotesBytes) {
      return Bad(segment, StrCat("note on task ", note.task(), " is outside the batch or over 1 KiB"));
    }
    *notes.add_notes() = note;
  }
  if (notes.notes_size() > 0) write.notes = notes.SerializeAsString();
  if (named.empty() && notes.notes_size() == 0) return Bad(segment, "it is empty");
  if (executed.count() != static_cast<size_t>(batch_tasks)) write.executed = std::move(executed);
  return write;
}

}  // namespace drover
