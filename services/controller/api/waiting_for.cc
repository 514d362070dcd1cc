#include "services/controller/api/waiting_for.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_join.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/worker_service.pb.h"

namespace drover {
namespace {

constexpr int kSessionsPerRead = 500;

bool Runs(const WorkerAbility& worker, const JobSpec& job) {
  const auto found = worker.operations.find(job.operation);
  return found != worker.operations.end() && found->second >= job.min_revision;
}

bool Reaches(const WorkerAbility& worker, const JobSpec& job, const std::string& store) {
  const auto found = worker.stores.find(store);
  const auto pin = job.stores.find(store);
  return found != worker.stores.end() && pin != job.stores.end() && found->second == pin->second;
}

bool ReachesAll(const WorkerAbility& worker, const JobSpec& job) {
  return std::ranges::all_of(job.worker_stores,
                             [&](const std::string& store) { return Reaches(worker, job, store); });
}

template <typename Predicate>
int64_t Count(const WorkerAbilities& workers, Predicate predicate) {
  int64_t count = 0;
  for (const auto& [worker, number] : workers) count += predicate(worker) ? number : 0;
  return count;
}

absl::StatusOr<WorkerAbilities> ReadAbilities(Storage& storage) {
  WorkerAbilities workers;
  SessionId after;
  for (int read = 0; read < AttachedWorkers::kMaxSessions; read += kSessionsPerRead) {
    DROVER_ASSIGN_OR_RETURN(const std::vector<SessionInfo> sessions,
                            storage.ListSessions(after, kSessionsPerRead));
    for (const SessionInfo& session : sessions) {
      v1::Hello hello;
      if (session.draining || !hello.ParseFromString(session.hello)) continue;
      WorkerAbility ability;
      for (const v1::OperationSupport& operation : hello.operations()) {
        ability.operations[operation.name()] = operation.revision();
      }
      for (const v1::StoreSupport& store : hello.stores()) ability.stores[store.name()] = store.fingerprint();
      ++workers[std::move(ability)];
    }
    if (sessions.size() < static_cast<size_t>(kSessionsPerRead)) break;
    after = sessions.back().session_id;
  }
  return workers;
}

}  // namespace

bool Waits(const JobRecord& record) {
  const lifecycle::Snapshot& snapshot = record.snapshot;
  return lifecycle::IsClaimable(snapshot.state, snapshot.reason_code) && !record.owns_lease &&
         snapshot.succeeded + snapshot.failed < snapshot.tasks;
}

std::string WaitingFor(const JobSpec& job, const WorkerAbilities& workers) {
  const int64_t all = Count(workers, [](const WorkerAbility&) { return true; });
  if (all == 0) return "a worker: none is attached";
  const int64_t fit = Count(
      workers, [&](const WorkerAbility& worker) { return Runs(worker, job) && ReachesAll(worker, job); });
  if (fit > 0) return StrCat("its turn: ", fit, " of ", all, " attached workers can run it");

  const std::string runs = StrCat("a worker that can run ", job.operation, " at revision ", job.min_revision);
  const std::string attached = StrCat(" (", all, all == 1 ? " is" : " are", " attached)");
  if (Count(workers, [&](const WorkerAbility& worker) { return Runs(worker, job); }) == 0) {
    return runs + attached;
  }
  for (const std::string& store : job.worker_stores) {
    const auto reaches = [&](const WorkerAbility& worker) {
      return Runs(worker, job) && Reaches(worker, job, store);
    };
    if (Count(workers, reaches) > 0) continue;
    const auto knows = [&](const WorkerAbility& worker) { return worker.stores.contains(store); };
    const std::string_view why =
        Count(workers, knows) > 0 ? ", as the job pinned it when it was created" : "";
    return StrCat(runs, " and reaches store ", store, why, attached);
  }
  return StrCat(runs, " and reaches all of the stores ", absl::StrJoin(job.worker_stores, ", "), attached);
}

std::string AttachedWorkers::WaitingFor(const JobRecord& record) {
  if (!Waits(record)) return "";
  const std::shared_ptr<const WorkerAbilities> workers = Read();
  return workers == nullptr ? "" : drover::WaitingFor(record.spec, *workers);
}

std::shared_ptr<const WorkerAbilities> AttachedWorkers::Read() {
  {
    MutexLock lock(&mu_);
    const bool fresh = workers_ != nullptr && clock_.Elapsed() - read_at_ < kMaxAge;
    if (fresh || (reading_ && workers_ != nullptr)) return workers_;
    reading_ = true;
  }
  const absl::Duration began = clock_.Elapsed();
  absl::StatusOr<WorkerAbilities> read = ReadAbilities(storage_);
  MutexLock lock(&mu_);
  reading_ = false;
  if (read.ok()) {
    workers_ = std::make_shared<const WorkerAbilities>(*std::move(read));
    read_at_ = began;
  }
  return workers_;
}

}  // namespace drover
