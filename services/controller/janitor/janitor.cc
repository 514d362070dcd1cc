#include "services/controller/janitor/janitor.h"

#include <algorithm>
#include <utility>

#include "common/log/log.h"
#include "common/status/status.h"

namespace drover {
namespace {

constexpr int kLeasesPerLook = 1000;
constexpr int kJobsPerLook = 256;

}  // namespace

Janitor::Janitor(JanitorOptions options, Storage& storage, Clock& clock, JanitorMetrics metrics,
                 std::function<void(const JobId&)> job_changed, std::function<void()> work_came_back)
    : options_(options),
      storage_(storage),
      clock_(clock),
      metrics_(std::move(metrics)),
      job_changed_(std::move(job_changed)),
      work_came_back_(std::move(work_came_back)),
      guard_(options.session_ttl, std::max(options.session_ttl / 5, 2 * options.session_interval)) {}

Janitor::~Janitor() { Shutdown(); }

void Janitor::Start() {
  threads_.emplace_back("janitor-session",
                        [this] { Loop(options_.session_interval, [this] { SessionStep(); }); });
  threads_.emplace_back("janitor-settle",
                        [this] { Loop(options_.settle_interval, [this] { SettleStep(); }); });
  threads_.emplace_back("janitor-purge", [this] { Loop(options_.purge_interval, [this] { PurgeStep(); }); });
}

void Janitor::Shutdown() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  threads_.clear();  // joins them
}

void Janitor::Loop(absl::Duration interval, const std::function<void()>& step) {
  while (true) {
    step();
    const absl::Duration due = clock_.Elapsed() + interval;
    MutexLock lock(&mu_);
    while (!stopping_ && clock_.Elapsed() < due) changed_.WaitWithTimeout(&mu_, due - clock_.Elapsed());
    if (stopping_) return;
  }
}

void Janitor::SessionStep() {
  const absl::Duration began = clock_.Elapsed();
  const absl::Duration end = began + options_.session_interval / 2;
  const auto stranded = storage_.ListStrandedLeases(kLeasesPerLook);
  const absl::Duration ended = clock_.Elapsed();
  guard_.Look(began, ended, stranded.ok());
  if (!stranded.ok()) {
    LogWarning("janitor.look_failed", {{"error", stranded.status()}});
    return;
  }
  ReturnAll(*stranded, end);

  if (!guard_.MayEndSessions(clock_.Elapsed())) return;
  const auto sessions = storage_.EndExpiredSessions();
  if (!sessions.ok()) {
    LogWarning("janitor.end_failed", {{"error", sessions.status()}});
    return;
  }
  for (const SessionId& session : *sessions) {
    metrics_.sessions_ended.Add();
    LogWarning("session.ended", {{"session", session}});
  }
  if (sessions->empty()) return;
  if (const auto theirs = storage_.ListStrandedLeases(kLeasesPerLook); theirs.ok()) ReturnAll(*theirs, end);
}

void Janitor::ReturnAll(std::vector<Storage::StrandedLease> stranded, absl::Duration end) {
  while (Return(stranded) > 0 && stranded.size() == size_t{kLeasesPerLook} && clock_.Elapsed() < end) {
    auto more = storage_.ListStrandedLeases(kLeasesPerLook);
    if (!more.ok()) return;  // the next look says so
    stranded = *std::move(more);
  }
}

int64_t Janitor::Return(const std::vector<Storage::StrandedLease>& stranded) {
  int64_t sum = 0;
  // A lease that is behind its session's number never arrived; one whose session is gone may have run.
  std::map<std::pair<JobId, CameBack>, std::vector<Storage::OwnedLease>> by_job;
  for (const Storage::StrandedLease& lease : stranded) {
    by_job[{lease.owned.job_id, lease.session_gone ? CameBack::kLost : CameBack::kGivenBack}].push_back(
        lease.owned);
  }
  for (const auto& [key, leases] : by_job) {
    const auto returned = storage_.ReturnLeases(key.first, leases, key.second);
    if (!returned.ok()) {
      LogWarning("lease.return_failed", {{"job", key.first}, {"error", returned.status()}});
      continue;
    }
    sum += *returned;
    metrics_.leases_returned.Add(static_cast<double>(*returned));
    LogInfo("lease.returned",
            {{"job", key.first}, {"leases", *returned}, {"lost", key.second == CameBack::kLost}});
    if (*returned > 0) {
      work_came_back_();
      job_changed_(key.first);
    }
  }
  return sum;
}

void Janitor::Change(const JobId& job_id, const lifecycle::Request& request) {
  const auto changed = storage_.ChangeJob(
      job_id, [&](const lifecycle::Snapshot& snapshot) { return lifecycle::Decide(snapshot, request); },
      true);
  if (!changed.ok()) {
    LogWarning("janitor.change_failed", {{"job", job_id}, {"error", changed.status()}});
  } else if (*changed) {
    LogInfo("job.changed", {{"job", job_id},
                            {"state", lifecycle::StateName((*changed)->to)},
                            {"reason", (*changed)->reason_code}});
    job_changed_(job_id);
  }
}

void Janitor::SettleStep() {
  const auto pausable = storage_.ListPausable(kJobsPerLook);
  if (!pausable.ok()) return;  // SessionStep says that the database is away
  for (const JobId& job_id : *pausable) {
    Change(job_id, {lifecycle::Cause::kSettle, "", "", {}});
  }

  const auto idle = storage_.ListIdleActive(kJobsPerLook);
  if (!idle.ok()) return;
  std::map<JobId, absl::Duration> still;
  std::optional<int32_t> highest;
  if (!idle->empty()) {
    const auto running = storage_.HighestRunningPriority();
    if (!running.ok()) return;
    highest = *running;
  }
  const absl::Duration now = clock_.Elapsed();
  for (const JobView& view : *idle) {
    if (!highest || view.priority >= *highest) continue;
    const auto since = idle_since_.find(view.job_id);
    still[view.job_id] = since == idle_since_.end() ? now : since->second;
    if (now - still[view.job_id] >= options_.preempted_after) {
      Change(view.job_id, {lifecycle::Cause::kPreempted, "gave way to a job of higher priority", "", {}});
    }
  }
  idle_since_ = std::move(still);
}

void Janitor::PurgeStep() {
  storage_.PurgeEndedLeases(kLeasesPerLook).IgnoreError();
  if (const auto oldest = storage_.OldestTransaction(); oldest.ok()) {
    metrics_.oldest_transaction_seconds.Set(absl::ToDoubleSeconds(*oldest));
  }
  if (const auto counts = storage_.CountJobs(); counts.ok()) {
    std::map<lifecycle::State, int64_t> by_state(counts->begin(), counts->end());
    for (const auto& [state, gauge] : metrics_.jobs) gauge.Set(static_cast<double>(by_state[state]));
  }
}

}  // namespace drover
