// Holding a duty: every write under one begins by locking its row.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_DUTY_ROWS_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_DUTY_ROWS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/storage.h"

namespace drover::postgres {

// Locks the duty's row; its progress. kAborted (DUTY_LOST) if it is not this holder's any more. First of all
// locks in its transaction; more than one duty of a job in the order (kind, part).
absl::StatusOr<std::string> HoldDuty(Tx& tx, const Duty& duty);

// Deletes the row of a duty that HoldDuty has locked.
void DropDuty(Tx& tx, const Duty& duty);

// Makes the job's finish duty due: at once, or, if it is held, when it is let go of.
void WakeFinishDuty(Tx& tx, const JobId& job_id);

absl::Status DutyLost(const Duty& duty);

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_DUTY_ROWS_H_
