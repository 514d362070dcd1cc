// What segments have recorded, read back for leases.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_SEGMENTS_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_SEGMENTS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "services/controller/storage/postgres/db.h"
#include "services/controller/storage/storage.h"

namespace drover::postgres {

// A lease, and how many tasks its batch has.
struct SizedLease {
  LeaseKey key;
  int32_t batch_tasks = 0;
};

// What the segments of each of these leases have recorded; leases without any are left out. To be called
// after their rows are locked, if that is to be the last word.
absl::StatusOr<std::map<LeaseKey, TaskSet>> ReadRecordedTasks(Tx& tx, const JobId& job_id,
                                                              const std::vector<SizedLease>& leases);

// A lease's or a segment's column `tasks`: NULL is nothing, which means all of the batch.
absl::StatusOr<std::optional<TaskSet>> ReadTasks(const pqxx::field& field, int32_t batch_tasks);

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_SEGMENTS_H_
