// Storage as a simulated process reaches it: over a network, with a database that is away at times. Each call
// takes virtual time before and after its transaction, may be refused (rolled back), and may lose its answer
// (committed; kUnknown). Planted faults of transactions are here.
#ifndef DROVER_TESTS_SIMULATION_SIMULATED_STORAGE_H_
#define DROVER_TESTS_SIMULATION_SIMULATED_STORAGE_H_

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "services/controller/storage/memory/memory_storage.h"
#include "services/controller/storage/storage.h"
#include "tests/simulation/virtual_time.h"

namespace drover::simulation {

class World;

// Belongs to one process; called from its threads only.
class SimulatedStorage final : public Storage {
 public:
  SimulatedStorage(World& world, Process& process, Dice& dice);
  ~SimulatedStorage() override = default;

  // What is on its way to the database when the process dies may still be committed.
  void ProcessDies();

  absl::Status Ping() override { return absl::OkStatus(); }
  absl::StatusOr<Created> CreateJob(const NewJob& job) override;
  absl::StatusOr<JobRecord> GetJob(const JobId& job_id) override;
  absl::StatusOr<std::vector<JobRecord>> ListJobs(const JobPageQuery& query) override;
  absl::StatusOr<std::vector<JobPulse>> ReadPulses(const std::vector<JobId>& jobs) override;
  absl::StatusOr<std::optional<lifecycle::Change>> ChangeJob(const JobId& job_id, const DecideFn& decide,
                                                             bool with_leases) override;
  absl::StatusOr<bool> SetPriority(const JobId& job_id, int32_t priority, const std::string& caller) override;
  absl::StatusOr<std::vector<JobEvent>> ListEvents(const JobId& job_id) override;
  absl::StatusOr<std::vector<std::pair<lifecycle::State, int64_t>>> CountJobs() override;
  absl::StatusOr<std::vector<JobView>> ListClaimable(int limit,
                                                     const std::optional<ClaimablePosition>& after) override;
  absl::StatusOr<std::vector<JobView>> ViewJobs(const std::vector<JobId>& jobs) override;
  absl::StatusOr<ClaimResult> Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots, int max_batches,
                                    const std::function<LeaseId()>& new_lease_id) override;
  absl::StatusOr<std::vector<BatchPayload>> ReadBatches(const JobId& job_id,
                                                        const std::vector<BatchNo>& batches) override;
  absl::StatusOr<std::vector<JobView>> ListIdleActive(int limit) override;
  absl::StatusOr<std::optional<int32_t>> HighestRunningPriority() override;
  absl::StatusOr<std::vector<JobId>> ListPausable(int limit) override;
  absl::Status CreateSession(const SessionInfo& info, absl::Duration ttl) override;
  absl::Status CheckSession(const SessionId& session, const std::string& token_hash) override;
  absl::StatusOr<std::vector<HeldLeaseRow>> MarkLeases(
      const SessionId& session, int64_t attachment,
      const std::vector<std::pair<JobId, LeaseKey>>& leases) override;
  absl::StatusOr<RaiseResult> RaiseAttachment(const SessionInfo& info, absl::Duration ttl) override;
  absl::StatusOr<int64_t> ReturnOlderLeases(const SessionId& session, int64_t attachment) override;
  absl::StatusOr<std::vector<SessionId>> RenewSessions(const std::vector<Renewal>& sessions,
                                                       absl::Duration ttl) override;
  absl::StatusOr<std::vector<OwnedLease>> ListOwnedLeases(
      const std::vector<std::pair<SessionId, int64_t>>& attachments) override;
  absl::StatusOr<int64_t> ReturnLeases(const JobId& job_id, const std::vector<OwnedLease>& leases,
                                       CameBack how) override;
  absl::Status EndSession(const SessionId& session) override;
  absl::StatusOr<std::vector<SessionId>> EndExpiredSessions() override;
  absl::StatusOr<std::vector<StrandedLease>> ListStrandedLeases(int limit) override;
  absl::StatusOr<std::vector<SessionInfo>> ListSessions(const SessionId& after, int limit) override;
  absl::StatusOr<RecordResult> Record(const JobId& job_id, const std::vector<SegmentWrite>& segments,
                                      const lifecycle::FailurePolicy& policy) override;
  absl::StatusOr<TaskSet> ReadRecorded(const JobId& job_id, const LeaseKey& lease,
                                       int32_t batch_tasks) override;
  absl::StatusOr<std::vector<StoredSegment>> ReadSegments(const JobId& job_id, BatchNo first, BatchNo end,
                                                          bool only_failed) override;
  absl::StatusOr<SegmentPage> ReadSegmentPage(const JobId& job_id, BatchNo first, bool only_failed,
                                              const SegmentPageLimits& limits) override;
  absl::StatusOr<std::vector<BatchPayload>> ReadBatchRange(const JobId& job_id, BatchNo first, BatchNo end,
                                                           int limit) override;
  absl::StatusOr<std::vector<BatchCounts>> ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                           int limit) override;
  absl::StatusOr<std::vector<Duty>> AcquireDuties(const std::string& owner,
                                                  const std::vector<DutyKind>& kinds, int limit,
                                                  absl::Duration lease) override;
  absl::StatusOr<std::vector<bool>> RenewDuties(const std::vector<Duty>& duties,
                                                absl::Duration lease) override;
  absl::Status FinishDuty(const Duty& duty) override;
  absl::Status ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) override;
  absl::Status WakeFinish(const JobId& job_id) override;
  absl::Status AppendBatches(const Duty& duty, const PrepareChunk& chunk) override;
  absl::Status FailPreparation(const Duty& duty, const lifecycle::Failure& failure) override;
  absl::StatusOr<ReportPlan> PlanReport(const Duty& finish, const ReportPlan& plan) override;
  absl::StatusOr<std::optional<ReportPlan>> ReadReportPlan(const JobId& job_id) override;
  absl::StatusOr<ReportFile> ReadReportFile(const JobId& job_id, int32_t part) override;
  absl::Status SetUpload(const Duty& file_duty, const std::string& upload_id) override;
  absl::Status FinishReportFile(const Duty& file_duty, const ReportFile& file) override;
  absl::Status SettleReport(const Duty& finish, ReportState state, const std::string& manifest_key,
                            const std::string& error) override;
  absl::Status NoteReportError(const JobId& job_id, const std::string& error) override;
  absl::StatusOr<int64_t> PurgeEndedLeases(int limit) override;
  absl::StatusOr<absl::Duration> OldestTransaction() override;

 private:
  // The way to the database: refused, or arrived. Then the way back.
  absl::Status Before(const char* name);
  absl::Status After(const char* name, bool wrote);
  template <typename Transaction>
  auto Read(const char* name, Transaction transaction) -> decltype(transaction()) {
    if (absl::Status refused = Before(name); !refused.ok()) return refused;
    auto result = transaction();
    if (absl::Status lost = After(name, false); !lost.ok()) return lost;
    return result;
  }
  template <typename Transaction>
  auto Write(const char* name, Transaction transaction) -> decltype(transaction()) {
    try {
      if (absl::Status refused = Before(name); !refused.ok()) return refused;
    } catch (const Fiber::Killed&) {
      if (dying_ && dice_.Chance(0.3)) (void)transaction();
      throw;
    }
    auto result = transaction();
    if (absl::Status lost = After(name, result.ok()); !lost.ok()) return lost;
    return result;
  }

  World& world_;
  Process& process_;
  Dice& dice_;
  MemoryStorage inner_;
  bool dying_ = false;
  std::map<std::pair<SessionId, int64_t>, std::set<LeaseKey>> listed_;  // kReturnsWhatIsNotListed
  std::set<std::pair<SessionId, int64_t>> raised_;                      // kRaisedBeforeMarked
  std::map<JobId, int64_t> recorded_here_;                              // kCompletionFromMemory
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_SIMULATED_STORAGE_H_
