// Reads back what became of a job's tasks, a page at a time, in the order of the manifest: while the job
// runs, and after.
//
//   TaskRef from;                                            // the first task to look at
//   DROVER_ASSIGN_OR_RETURN(OutcomePage page, ReadOutcomes(storage, clock, query, from, limits));
//   … page.rows …
//   if (page.next) from = *page.next;                        // else that was the last page
//
// Failed tasks are found through an index, without reading the others. A call does bounded work and keeps
// bounded memory: whole batches are looked at a few at a time, until the page is full, nothing is left, or
// the budget is used up; so a page may have few rows or none, and go on all the same.
//
// While a job runs a batch may gain outcomes after a page has gone past it; they come in the order of the
// manifest and not of recording, so a listing that has to be complete begins once the job can record no more.
#ifndef DROVER_SERVICES_CONTROLLER_OUTCOME_OUTCOME_READER_H_
#define DROVER_SERVICES_CONTROLLER_OUTCOME_OUTCOME_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/codec/outcomes.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Which outcomes.
struct OutcomeQuery {
  JobId job_id;
  bool include_succeeded = false;   // else failed ones only
  std::optional<std::string> code;  // exactly this one; empty: without a code
  std::string key_prefix;
};

struct OutcomeRow {
  int64_t position = 0;  // of the task in the manifest, from 0
  BatchNo batch_no = 0;
  std::string bucket;
  std::string key;
  std::string version_id;
  Outcome outcome;
  std::optional<absl::Time> recorded;
};

// Where a page ends. The last three are the budget: they are looked at between steps of at most
// kOutcomeStepBatches batches, one of which is always taken.
struct OutcomeLimits {
  size_t rows = 100;
  size_t bytes = size_t{2} << 20;           // of texts; one row at least
  int batches = 512;                        // looked at
  size_t scanned_bytes = size_t{16} << 20;  // of payloads of segments and batches
  absl::Duration time = absl::Seconds(1);
};
inline constexpr int kOutcomeStepBatches = 16;

struct OutcomePage {
  std::vector<OutcomeRow> rows;
  std::optional<TaskRef> next;  // where to go on; absent: nothing more is recorded now
};

// The page of what `query` asks for that begins at `from`. Errors are storage's; INTERNAL (OUTCOMES_BROKEN)
// if what is stored can't be read. Blocks on storage.
absl::StatusOr<OutcomePage> ReadOutcomes(Storage& storage, const Clock& clock, const OutcomeQuery& query,
                                         const TaskRef& from, const OutcomeLimits& limits);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_OUTCOME_OUTCOME_READER_H_
