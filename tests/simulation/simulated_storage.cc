#include "tests/simulation/simulated_storage.h"

#include <algorithm>

#include "common/status/status.h"
#include "tests/simulation/world.h"

namespace drover::simulation {

SimulatedStorage::SimulatedStorage(World& world, Process& process, Dice& dice)
    : world_(world), process_(process), dice_(dice), inner_(world.database) {}

void SimulatedStorage::ProcessDies() { dying_ = true; }

absl::Status SimulatedStorage::Before(const char* name) {
  const FaultRates& faults = world_.options.faults;
  const int luck = dice_.Below(100);
  absl::Duration way = dice_.Between(absl::Microseconds(200), absl::Milliseconds(2));
  if (luck < 20) way = dice_.Between(absl::Milliseconds(2), absl::Milliseconds(20));
  if (world_.faults_on) {
    if (luck == 99) way = dice_.Between(absl::Milliseconds(20), absl::Milliseconds(500));
    if (dice_.Chance(faults.call_stalled)) way = dice_.Between(absl::Milliseconds(500), faults.stall);
  }
  process_.Sleep(way);
  if (world_.database_away || (world_.faults_on && dice_.Chance(faults.call_refused))) {
    if (world_.database_away) process_.Sleep(dice_.Between(absl::Milliseconds(1), absl::Milliseconds(300)));
    return Error(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE", name);
  }
  return absl::OkStatus();
}

absl::Status SimulatedStorage::After(const char* name, bool wrote) {
  const FaultRates& faults = world_.options.faults;
  if (!world_.faults_on) return absl::OkStatus();
  const bool lost = dice_.Chance(faults.call_unknown);
  if (wrote || lost) process_.Sleep(dice_.Between(absl::Microseconds(100), absl::Milliseconds(3)));
  if (wrote && dice_.Chance(faults.call_stalled))
    process_.Sleep(dice_.Between(absl::Milliseconds(500), faults.stall));
  if (!lost && !(world_.database_away && dice_.Chance(0.5))) return absl::OkStatus();
  if (!wrote) return Error(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE", name);
  return Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", name);
}

// ------------------------------------------------------------------------------------------------------ jobs

absl::StatusOr<Storage::Created> SimulatedStorage::CreateJob(const NewJob& job) {
  return Write("create_job", [&] { return inner_.CreateJob(job); });
}
absl::StatusOr<JobRecord> SimulatedStorage::GetJob(const JobId& job_id) {
  return Read("get_job", [&] { return inner_.GetJob(job_id); });
}
absl::StatusOr<std::vector<JobRecord>> SimulatedStorage::ListJobs(const JobPageQuery& query) {
  return Read("list_jobs", [&] { return inner_.ListJobs(query); });
}
absl::StatusOr<std::vector<Storage::JobPulse>> SimulatedStorage::ReadPulses(const std::vector<JobId>& jobs) {
  return Read("read_pulses", [&] { return inner_.ReadPulses(jobs); });
}
absl::StatusOr<std::optional<lifecycle::Change>> SimulatedStorage::ChangeJob(const JobId& job_id,
                                                                             const DecideFn& decide,
                                                                             bool with_leases) {
  const DecideFn mutated =
      [&](const lifecycle::Snapshot& snapshot) -> absl::StatusOr<std::optional<lifecycle::Change>> {
    lifecycle::Snapshot seen = snapshot;
    if (world_.Is(Planted::kEndsWhileLeasesOwned)) seen.owned_leases = 0;
    auto change = decide(seen);
    if (world_.Is(Planted::kResumeToReady) && change.ok() && *change &&
        snapshot.state == lifecycle::State::kPausing && (*change)->to == lifecycle::State::kActive)
      (*change)->to = lifecycle::State::kReady;
    return change;
  };
  return Write("change_job", [&] {
    auto changed = inner_.ChangeJob(job_id, mutated, with_leases);
    if (absl::IsInternal(changed.status())) world_.Fail(StrCat("change_job: ", changed.status().ToString()));
    return changed;
  });
}
absl::StatusOr<bool> SimulatedStorage::SetPriority(const JobId& job_id, int32_t priority,
                                                   const std::string& caller) {
  return Write("set_priority", [&] { return inner_.SetPriority(job_id, priority, caller); });
}
absl::StatusOr<std::vector<JobEvent>> SimulatedStorage::ListEvents(const JobId& job_id) {
  return Read("list_events", [&] { return inner_.ListEvents(job_id); });
}
absl::StatusOr<std::vector<std::pair<lifecycle::State, int64_t>>> SimulatedStorage::CountJobs() {
  return Read("count_jobs", [&] { return inner_.CountJobs(); });
}

// -------------------------------------------------------------------------------------------------- dispatch

absl::StatusOr<std::vector<JobView>> SimulatedStorage::ListClaimable(
    int limit, const std::optional<ClaimablePosition>& after) {
  return Read("list_claimable", [&] { return inner_.ListClaimable(limit, after); });
}
absl::StatusOr<std::vector<JobView>> SimulatedStorage::ViewJobs(const std::vector<JobId>& jobs) {
  return Read("view_jobs", [&] { return inner_.ViewJobs(jobs); });
}
absl::StatusOr<ClaimResult> SimulatedStorage::Claim(const JobId& job_id, const std::vector<ClaimSlot>& slots,
                                                    int max_batches,
                                                    const std::function<LeaseId()>& new_lease_id) {
  return Write("claim", [&] {
    auto result = inner_.Claim(job_id, slots, max_batches, new_lease_id);
    if (absl::IsInternal(result.status())) world_.Fail(StrCat("claim: ", result.status().ToString()));
    if (world_.trace && result.ok()) {
      for (const ClaimedLease& lease : result->leases) {
        world_.Say("claim commits: job ", job_id, " batch ", lease.batch_no, " lease ", lease.lease_id,
                   " for ", slots[lease.slot].session, "/", slots[lease.slot].attachment);
      }
    }
    return result;
  });
}
absl::StatusOr<std::vector<BatchPayload>> SimulatedStorage::ReadBatches(const JobId& job_id,
                                                                        const std::vector<BatchNo>& batches) {
  return Read("read_batches", [&] { return inner_.ReadBatches(job_id, batches); });
}
absl::StatusOr<std::vector<JobView>> SimulatedStorage::ListIdleActive(int limit) {
  return Read("list_idle_active", [&] { return inner_.ListIdleActive(limit); });
}
absl::StatusOr<std::optional<int32_t>> SimulatedStorage::HighestRunningPriority() {
  return Read("highest_running", [&] { return inner_.HighestRunningPriority(); });
}
absl::StatusOr<std::vector<JobId>> SimulatedStorage::ListPausable(int limit) {
  auto jobs = Read("list_pausable", [&] { return inner_.ListPausable(limit); });
  if (jobs.ok() && world_.Is(Planted::kEndsWhileLeasesOwned)) {
    world_.database.LookAtAll([&](const memory::JobRows& rows) {
      if (rows.snapshot.state == lifecycle::State::kPausing) jobs->push_back(rows.spec->job_id);
    });
  }
  return jobs;
}

// ---------------------------------------------------------------------------------------- leases and
// sessions

absl::Status SimulatedStorage::CreateSession(const SessionInfo& info, absl::Duration ttl) {
  return Write("create_session", [&] { return inner_.CreateSession(info, ttl); });
}
absl::Status SimulatedStorage::CheckSession(const SessionId& session, const std::string& token_hash) {
  return Read("check_session", [&] { return inner_.CheckSession(session, token_hash); });
}
absl::StatusOr<std::vector<HeldLeaseRow>> SimulatedStorage::MarkLeases(
    const SessionId& session, int64_t attachment, const std::vector<std::pair<JobId, LeaseKey>>& leases) {
  if (world_.Is(Planted::kReturnsWhatIsNotListed)) {
    std::set<LeaseKey>& listed = listed_[{session, attachment}];
    for (const auto& [job_id, key] : leases) listed.insert(key);
  }
  if (world_.Is(Planted::kRaisedBeforeMarked)) {
    const std::optional<memory::SessionRow> row = world_.database.Session(session);
    if (row && row->info.attachment < attachment) {
      SessionInfo info = row->info;
      info.attachment = attachment;
      auto raised =
          Write("raise_attachment", [&] { return inner_.RaiseAttachment(info, world_.options.ttl); });
      if (!raised.ok()) return raised.status();
      raised_.emplace(session, attachment);
      process_.Sleep(dice_.Between(absl::ZeroDuration(), absl::Milliseconds(800)));
    }
  }
  return Write("mark_leases", [&] { return inner_.MarkLeases(session, attachment, leases); });
}
absl::StatusOr<RaiseResult> SimulatedStorage::RaiseAttachment(const SessionInfo& info, absl::Duration ttl) {
  if (raised_.contains({info.session_id, info.attachment})) return RaiseResult::kRaised;
  return Write("raise_attachment", [&] {
    auto raised = inner_.RaiseAttachment(info, ttl);
    world_.Say("raise commits: session ", info.session_id, " to ", info.attachment, ": ",
               raised.ok() ? static_cast<int>(*raised) : -1);
    return raised;
  });
}
absl::StatusOr<int64_t> SimulatedStorage::ReturnOlderLeases(const SessionId& session, int64_t attachment) {
  return Write("return_older_leases", [&]() -> absl::StatusOr<int64_t> {
    if (!world_.Is(Planted::kReturnsWhatIsNotListed)) return inner_.ReturnOlderLeases(session, attachment);
    std::map<JobId, std::vector<OwnedLease>> others;
    const std::set<LeaseKey>& listed = listed_[{session, attachment}];
    world_.database.LookAtAll([&](const memory::JobRows& rows) {
      for (const auto& [key, lease] : rows.leases) {
        if (lease.session == session && !listed.contains(key))
          others[rows.spec->job_id].push_back({rows.spec->job_id, key, session, lease.attachment});
      }
    });
    int64_t returned = 0;
    for (const auto& [job_id, leases] : others)
      returned += inner_.ReturnLeases(job_id, leases, CameBack::kGivenBack).value_or(0);
    return returned;
  });
}
absl::StatusOr<std::vector<SessionId>> SimulatedStorage::RenewSessions(const std::vector<Renewal>& sessions,
                                                                       absl::Duration ttl) {
  return Write("renew_sessions", [&] { return inner_.RenewSessions(sessions, ttl); });
}
absl::StatusOr<std::vector<Storage::OwnedLease>> SimulatedStorage::ListOwnedLeases(
    const std::vector<std::pair<SessionId, int64_t>>& attachments) {
  return Read("list_owned_leases", [&] { return inner_.ListOwnedLeases(attachments); });
}
absl::StatusOr<int64_t> SimulatedStorage::ReturnLeases(const JobId& job_id,
                                                       const std::vector<OwnedLease>& leases, CameBack how) {
  return Write("return_leases", [&] {
    for (const OwnedLease& lease : leases) {
      world_.Say("return commits: job ", job_id, " lease ", lease.key.lease_id, " of ", lease.session, "/",
                 lease.attachment);
    }
    return inner_.ReturnLeases(job_id, leases, how);
  });
}
absl::Status SimulatedStorage::EndSession(const SessionId& session) {
  return Write("end_session", [&] { return inner_.EndSession(session); });
}
absl::StatusOr<std::vector<SessionId>> SimulatedStorage::EndExpiredSessions() {
  // The planted fault's window, between the early return of leases and the end of their session, is wide.
  if (world_.Is(Planted::kReturnedBeforeSessionEnds))
    process_.Sleep(dice_.Between(absl::ZeroDuration(), absl::Seconds(1)));
  return Write("end_expired_sessions", [&] {
    auto ended = inner_.EndExpiredSessions();
    if (ended.ok()) {
      for (const SessionId& session : *ended) world_.SessionEnded(session);
    }
    return ended;
  });
}
absl::StatusOr<std::vector<Storage::StrandedLease>> SimulatedStorage::ListStrandedLeases(int limit) {
  // The janitor's look: by it an outage is known.
  if (world_.Is(Planted::kOutageIgnored) && world_.database_away) return std::vector<StrandedLease>();
  auto stranded = Read("list_stranded_leases", [&] { return inner_.ListStrandedLeases(limit); });
  if (world_.Is(Planted::kOutageIgnored) && !stranded.ok()) return std::vector<StrandedLease>();
  if (!stranded.ok()) return stranded;
  if (world_.Is(Planted::kNoReturnBehindNumber)) {
    std::erase_if(*stranded, [](const StrandedLease& lease) { return !lease.session_gone; });
  }
  if (world_.Is(Planted::kReturnedBeforeSessionEnds)) {
    std::vector<StrandedLease> owned;
    world_.database.LookAtAll([&](const memory::JobRows& rows) {
      for (const auto& [key, lease] : rows.leases) {
        if (lease.owned()) owned.push_back({{rows.spec->job_id, key, lease.session, lease.attachment}, true});
      }
    });
    for (const StrandedLease& lease : owned) {
      const auto session = world_.database.Session(lease.owned.session);
      if (session && session->info.expires < world_.database_clock.Now()) stranded->push_back(lease);
    }
  }
  return stranded;
}
absl::StatusOr<std::vector<SessionInfo>> SimulatedStorage::ListSessions(const SessionId& after, int limit) {
  return Read("list_sessions", [&] { return inner_.ListSessions(after, limit); });
}

// -------------------------------------------------------------------------------------------------- outcomes

absl::StatusOr<RecordResult> SimulatedStorage::Record(const JobId& job_id,
                                                      const std::vector<SegmentWrite>& segments,
                                                      const lifecycle::FailurePolicy& policy) {
  if (world_.Is(Planted::kAckBeforeCommit)) {
    // Answered from a guess; the commit comes later, if it comes.
    RecordResult guess;
    guess.results.assign(segments.size(), SegmentResult::kRecorded);
    guess.lease_ended.assign(segments.size(), false);
    process_.Spawn([this, job_id, segments, policy] {
      process_.Sleep(dice_.Between(absl::Milliseconds(1), absl::Milliseconds(50)));
      (void)Write("record", [&] { return inner_.Record(job_id, segments, policy); });
    });
    return guess;
  }
  auto result = Write("record", [&] {
    auto recorded = inner_.Record(job_id, segments, policy);
    if (absl::IsInternal(recorded.status())) world_.Fail(StrCat("record: ", recorded.status().ToString()));
    if (world_.trace && recorded.ok()) {
      for (size_t i = 0; i < segments.size(); ++i) {
        world_.Say("record commits: job ", job_id, " batch ", segments[i].lease.batch_no, " lease ",
                   segments[i].lease.lease_id, " segment ", segments[i].sequence, " of ", segments[i].session,
                   ": ",
                   recorded->results[i] == SegmentResult::kRecorded  ? "recorded"
                   : recorded->results[i] == SegmentResult::kAlready ? "already"
                                                                     : "lost",
                   recorded->lease_ended[i] ? ", lease over" : "");
      }
    }
    if (recorded.ok() && world_.Is(Planted::kCompletionFromMemory)) {
      for (size_t i = 0; i < segments.size(); ++i) {
        if (recorded->results[i] == SegmentResult::kRecorded)
          recorded_here_[job_id] += segments[i].succeeded + segments[i].failed;
      }
      const JobPlan* plan = world_.PlanOf(job_id);
      if (plan != nullptr && recorded_here_[job_id] == plan->tasks) {
        (void)inner_.ChangeJob(
            job_id,
            [](const lifecycle::Snapshot& snapshot) {
              return lifecycle::Decide(snapshot, {lifecycle::Cause::kAllRecorded, "", "", {}});
            },
            false);
      }
    }
    return recorded;
  });
  if (world_.Is(Planted::kGivenBackApart)) {
    const MemoryStorage::GivenBack apart = inner_.TakeGivenBack();
    process_.Sleep(dice_.Between(absl::Milliseconds(1), absl::Milliseconds(100)));
    if (!apart.empty())
      (void)Write("insert_given_back", [&] { return inner_.InsertGivenBack(job_id, apart); });
  }
  return result;
}
absl::StatusOr<TaskSet> SimulatedStorage::ReadRecorded(const JobId& job_id, const LeaseKey& lease,
                                                       int32_t batch_tasks) {
  return Read("read_recorded", [&] { return inner_.ReadRecorded(job_id, lease, batch_tasks); });
}
absl::StatusOr<std::vector<StoredSegment>> SimulatedStorage::ReadSegments(const JobId& job_id, BatchNo first,
                                                                          BatchNo end, bool only_failed) {
  return Read("read_segments", [&] { return inner_.ReadSegments(job_id, first, end, only_failed); });
}
absl::StatusOr<SegmentPage> SimulatedStorage::ReadSegmentPage(const JobId& job_id, BatchNo first,
                                                              bool only_failed,
                                                              const SegmentPageLimits& limits) {
  return Read("read_segment_page",
              [&] { return inner_.ReadSegmentPage(job_id, first, only_failed, limits); });
}
absl::StatusOr<std::vector<BatchPayload>> SimulatedStorage::ReadBatchRange(const JobId& job_id, BatchNo first,
                                                                           BatchNo end, int limit) {
  return Read("read_batch_range", [&] { return inner_.ReadBatchRange(job_id, first, end, limit); });
}
absl::StatusOr<std::vector<BatchCounts>> SimulatedStorage::ReadBatchCounts(const JobId& job_id, BatchNo first,
                                                                           int limit) {
  return Read("read_batch_counts", [&] { return inner_.ReadBatchCounts(job_id, first, limit); });
}

// ---------------------------------------------------------------------------------------------------- duties

absl::StatusOr<std::vector<Duty>> SimulatedStorage::AcquireDuties(const std::string& owner,
                                                                  const std::vector<DutyKind>& kinds,
                                                                  int limit, absl::Duration lease) {
  return Write("acquire_duties", [&] { return inner_.AcquireDuties(owner, kinds, limit, lease); });
}
absl::StatusOr<std::vector<bool>> SimulatedStorage::RenewDuties(const std::vector<Duty>& duties,
                                                                absl::Duration lease) {
  return Write("renew_duties", [&] { return inner_.RenewDuties(duties, lease); });
}
absl::Status SimulatedStorage::FinishDuty(const Duty& duty) {
  return Write("finish_duty", [&] { return inner_.FinishDuty(duty); });
}
absl::Status SimulatedStorage::ReleaseDuty(const Duty& duty, absl::Duration delay, bool failed) {
  return Write("release_duty", [&] { return inner_.ReleaseDuty(duty, delay, failed); });
}
absl::Status SimulatedStorage::WakeFinish(const JobId& job_id) {
  return Write("wake_finish", [&] { return inner_.WakeFinish(job_id); });
}
absl::Status SimulatedStorage::AppendBatches(const Duty& duty, const PrepareChunk& chunk) {
  return Write("append_batches", [&] { return inner_.AppendBatches(duty, chunk); });
}
absl::Status SimulatedStorage::FailPreparation(const Duty& duty, const lifecycle::Failure& failure) {
  return Write("fail_preparation", [&] { return inner_.FailPreparation(duty, failure); });
}
absl::StatusOr<ReportPlan> SimulatedStorage::PlanReport(const Duty& finish, const ReportPlan& plan) {
  return Write("plan_report", [&] { return inner_.PlanReport(finish, plan); });
}
absl::StatusOr<std::optional<ReportPlan>> SimulatedStorage::ReadReportPlan(const JobId& job_id) {
  return Read("read_report_plan", [&] { return inner_.ReadReportPlan(job_id); });
}
absl::StatusOr<ReportFile> SimulatedStorage::ReadReportFile(const JobId& job_id, int32_t part) {
  return Read("read_report_file", [&] { return inner_.ReadReportFile(job_id, part); });
}
absl::Status SimulatedStorage::SetUpload(const Duty& file_duty, const std::string& upload_id) {
  return Write("set_upload", [&] { return inner_.SetUpload(file_duty, upload_id); });
}
absl::Status SimulatedStorage::FinishReportFile(const Duty& file_duty, const ReportFile& file) {
  return Write("finish_report_file", [&] { return inner_.FinishReportFile(file_duty, file); });
}
absl::Status SimulatedStorage::SettleReport(const Duty& finish, ReportState state,
                                            const std::string& manifest_key, const std::string& error) {
  return Write("settle_report", [&] { return inner_.SettleReport(finish, state, manifest_key, error); });
}
absl::Status SimulatedStorage::NoteReportError(const JobId& job_id, const std::string& error) {
  return Write("note_report_error", [&] { return inner_.NoteReportError(job_id, error); });
}
absl::StatusOr<int64_t> SimulatedStorage::PurgeEndedLeases(int limit) {
  return Write("purge_ended_leases", [&] { return inner_.PurgeEndedLeases(limit); });
}
absl::StatusOr<absl::Duration> SimulatedStorage::OldestTransaction() { return absl::ZeroDuration(); }

}  // namespace drover::simulation
