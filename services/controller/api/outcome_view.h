// Recorded outcomes as drover.v1 shows them, and the places of pages of them.
#ifndef DROVER_SERVICES_CONTROLLER_API_OUTCOME_VIEW_H_
#define DROVER_SERVICES_CONTROLLER_API_OUTCOME_VIEW_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "drover/v1/outcome.pb.h"
#include "services/controller/lifecycle/lifecycle.h"
#include "services/controller/outcome/outcome_reader.h"

namespace drover {

// The outcome as clients see it.
v1::RecordedOutcome ViewOutcome(const OutcomeRow& row);

// Whether outcomes of a job may still be recorded: it has not ended, and not all of its tasks have one.
bool MayRecordMore(const lifecycle::Snapshot& snapshot);

// Where a page begins, as the cursor of a page token: "BATCH.INDEX".
std::string OutcomeCursor(const TaskRef& from);
// The place of such a cursor; the first task for an empty one. INVALID_ARGUMENT (PAGE_TOKEN_INVALID) on field
// page_token for anything else.
absl::StatusOr<TaskRef> ParseOutcomeCursor(std::string_view cursor);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_OUTCOME_VIEW_H_
