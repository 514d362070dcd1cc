// What a job waits for that has tasks to run and runs none: no job may wait without saying so.
//
// It is worked out when a job is read, from what the attached workers of all controllers can run, as their
// sessions tell; nothing of it is stored.
#ifndef DROVER_SERVICES_CONTROLLER_API_WAITING_FOR_H_
#define DROVER_SERVICES_CONTROLLER_API_WAITING_FOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/sync/mutex.h"
#include "services/controller/storage/storage.h"

namespace drover {

// What a worker can run, as its Hello says.
struct WorkerAbility {
  std::map<std::string, int32_t> operations;  // name -> revision
  std::map<std::string, std::string> stores;  // name -> fingerprint
  friend auto operator<=>(const WorkerAbility&, const WorkerAbility&) = default;
};
// How many workers there are of each ability.
using WorkerAbilities = std::map<WorkerAbility, int64_t>;

// Whether the job has tasks to run and nobody holds a lease of it, though it may be claimed.
bool Waits(const JobRecord& record);

// What a job that waits waits for, in words: a worker at all, one that can run it, or its turn on one of
// them.
std::string WaitingFor(const JobSpec& job, const WorkerAbilities& workers);

// The workers that are attached to any controller and not draining. Thread-safe.
class AttachedWorkers {
 public:
  // Sessions are read at most this often, and no more of them than this.
  static constexpr absl::Duration kMaxAge = absl::Seconds(1);
  static constexpr int kMaxSessions = 10'000;

  // `storage` and `clock` outlive it.
  AttachedWorkers(Storage& storage, const Clock& clock) : storage_(storage), clock_(clock) {}
  AttachedWorkers(const AttachedWorkers&) = delete;
  AttachedWorkers& operator=(const AttachedWorkers&) = delete;

  // WaitingFor a job that waits; "" for any other job, without reading anything. While the database does not
  // answer, what was read before counts; "" if nothing was. Blocks.
  std::string WaitingFor(const JobRecord& record);

 private:
  std::shared_ptr<const WorkerAbilities> Read();

  Storage& storage_;
  const Clock& clock_;
  Mutex mu_;
  bool reading_ ABSL_GUARDED_BY(mu_) = false;  // a caller does; others take what there is
  absl::Duration read_at_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const WorkerAbilities> workers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_WAITING_FOR_H_
