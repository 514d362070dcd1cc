#include "services/controller/api/job_watcher.h"

#include <algorithm>
#include <utility>

#include "common/hash/sha256.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/api/job_view.h"

namespace drover {
namespace {

absl::Status ShutdownError() {
  return Error(absl::StatusCode::kUnavailable, "CONTROLLER_SHUTDOWN",
               "this controller is going away; watch again");
}

bool SamePulse(const Storage::JobPulse& a, const Storage::JobPulse& b) {
  return a.version == b.version && a.activity == b.activity && a.terminal == b.terminal;
}

// Errors after which looking again makes sense.
bool IsPassing(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsUnknown(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsAborted(status) || absl::IsResourceExhausted(status) || absl::IsCancelled(status);
}

// By this two states are told apart: a hash without the running time, which goes on by itself.
std::string StateHash(const v1::Job& job) {
  v1::Job copy = job;
  copy.mutable_progress()->clear_active_duration();
  return Sha256(copy.SerializeAsString());
}

bool MayWait(const v1::Job& job) {
  return lifecycle::IsClaimable(static_cast<lifecycle::State>(job.state()), job.state_reason().code());
}

}  // namespace

JobWatcher::JobWatcher(Storage& storage, AttachedWorkers& workers, const Clock& clock,
                       JobWatcherOptions options)
    : storage_(storage),
      workers_(workers),
      failures_(storage),
      clock_(clock),
      options_(options),
      unavailable_log_(absl::Seconds(10), clock) {
  next_full_look_ = clock.Elapsed();
}

JobWatcher::~JobWatcher() { Shutdown(); }

void JobWatcher::Start() {
  thread_.emplace("job-watcher", [this] { Run(); });
}

void JobWatcher::Shutdown() {
  std::map<WatchId, Watch> ended;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    ended.swap(watches_);
    by_job_.clear();
    changed_.NotifyAll();
  }
  for (auto& [id, watch] : ended) watch.sink->End(ShutdownError());
  thread_.reset();  // joins it
}

absl::StatusOr<JobWatcher::WatchId> JobWatcher::Add(const JobId& job_id, std::shared_ptr<JobSink> sink) {
  MutexLock lock(&mu_);
  if (stopping_) return ShutdownError();
  if (watches_.size() >= options_.max_watches) {
    return Error(
        absl::StatusCode::kResourceExhausted, "TOO_MANY_WATCHES",
        StrCat("this controller has ", options_.max_watches, " watches already; try again, or use GetJob"),
        {{"limit", StrCat(options_.max_watches)}});
  }
  const WatchId id = next_id_++;
  Watch& watch = watches_[id];
  watch.job_id = job_id;
  watch.sink = std::move(sink);
  by_job_[job_id].insert(id);
  notified_.insert(job_id);
  changed_.NotifyAll();
  return id;
}

void JobWatcher::Written(WatchId id) {
  MutexLock lock(&mu_);
  const auto it = watches_.find(id);
  if (it != watches_.end()) it->second.writing = false;
}

void JobWatcher::Remove(WatchId id) {
  MutexLock lock(&mu_);
  if (watches_.count(id) != 0) Erase(id);
}

void JobWatcher::NotifyChanged(const JobId& job_id) {
  MutexLock lock(&mu_);
  if (by_job_.count(job_id) == 0 || !notified_.insert(job_id).second) return;
  changed_.NotifyAll();
}

absl::Duration JobWatcher::Look() {
  const absl::Duration now = clock_.Elapsed();
  const std::vector<JobId> jobs = TakeJobs(now);
  const absl::StatusOr<PulseMap> pulses = ReadPulses(jobs);
  if (!pulses.ok()) return LookFailed(pulses.status(), now);
  for (const JobId& job_id : jobs) {
    const auto pulse = pulses->find(job_id);
    const absl::Status status = LookAt(job_id, pulse == pulses->end() ? nullptr : &pulse->second, now);
    if (!status.ok()) return LookFailed(status, now);
  }
  MutexLock lock(&mu_);
  failed_looks_ = 0;
  return std::max(absl::ZeroDuration(), next_full_look_ - now);
}

void JobWatcher::Run() {
  while (true) {
    const absl::Duration wait = Look();
    const absl::Duration looked_at = clock_.Elapsed();
    MutexLock lock(&mu_);
    bool over = false;
    // While the database does not answer nobody's wish makes it look earlier.
    while (!stopping_ && !over && (notified_.empty() || failed_looks_ > 0)) {
      const absl::Duration left = looked_at + wait - clock_.Elapsed();
      over = left <= absl::ZeroDuration() || changed_.WaitWithTimeout(&mu_, left);
    }
    while (!stopping_ && clock_.Elapsed() - looked_at < options_.notified_gap) {
      changed_.WaitWithTimeout(&mu_, options_.notified_gap - (clock_.Elapsed() - looked_at));
    }
    if (stopping_) return;
  }
}

std::vector<JobId> JobWatcher::TakeJobs(absl::Duration now) {
  MutexLock lock(&mu_);
  std::vector<JobId> jobs;
  if (now >= next_full_look_) {
    next_full_look_ = now + options_.interval;
    for (const auto& [job_id, watches] : by_job_) jobs.push_back(job_id);
  } else {
    for (const JobId& job_id : notified_) {
      if (by_job_.count(job_id) != 0) jobs.push_back(job_id);
    }
  }
  notified_.clear();
  return jobs;
}

absl::StatusOr<JobWatcher::PulseMap> JobWatcher::ReadPulses(const std::vector<JobId>& jobs) {
  PulseMap pulses;
  for (size_t first = 0; first < jobs.size(); first += options_.pulses_per_call) {
    const size_t end = std::min(jobs.size(), first + options_.pulses_per_call);
    DROVER_ASSIGN_OR_RETURN(const std::vector<Storage::JobPulse> some,
                            storage_.ReadPulses({jobs.begin() + first, jobs.begin() + end}));
    for (const Storage::JobPulse& pulse : some) pulses.emplace(pulse.job_id, pulse);
  }
  return pulses;
}

absl::Status JobWatcher::LookAt(const JobId& job_id, const Storage::JobPulse* pulse, absl::Duration now) {
  if (pulse == nullptr) {
    EndJob(job_id, Error(absl::StatusCode::kNotFound, "JOB_NOT_FOUND", StrCat("no job has id ", job_id),
                         {{"job_id", job_id}}));
    return absl::OkStatus();
  }
  if (!AnyDue(job_id, *pulse, now)) return absl::OkStatus();
  const absl::StatusOr<JobRecord> record = storage_.GetJob(job_id);
  if (!record.ok() && IsPassing(record.status())) return record.status();
  absl::StatusOr<v1::Job> job =
      record.ok() ? ViewJob(*record, workers_.WaitingFor(*record)) : record.status();
  if (job.ok()) {
    const absl::Status filled = failures_.Fill(*record, *job);
    if (!filled.ok() && IsPassing(filled)) return filled;
    if (!filled.ok()) job = filled;
  }
  if (job.ok()) {
    ShowDue(*job, *pulse, now);
  } else {
    EndJob(job_id, job.status());
  }
  return absl::OkStatus();
}

bool JobWatcher::IsDue(const Watch& watch, const Storage::JobPulse& pulse, absl::Duration now) const {
  if (watch.writing) return false;
  if (!watch.any_shown) return true;
  if (watch.may_wait && now - watch.read_at >= options_.waiting_interval) return true;
  return !SamePulse(watch.shown_pulse, pulse) && now - watch.shown_at >= options_.interval;
}

bool JobWatcher::AnyDue(const JobId& job_id, const Storage::JobPulse& pulse, absl::Duration now) {
  MutexLock lock(&mu_);
  const auto ids = by_job_.find(job_id);
  if (ids == by_job_.end()) return false;
  return std::any_of(ids->second.begin(), ids->second.end(),
                     [&](WatchId id) { return IsDue(watches_.at(id), pulse, now); });
}

void JobWatcher::ShowDue(const v1::Job& job, const Storage::JobPulse& pulse, absl::Duration now) {
  const std::string hash = StateHash(job);
  const bool last = job.state() == v1::COMPLETE || job.state() == v1::FAILED || job.state() == v1::CANCELLED;
  std::vector<std::shared_ptr<JobSink>> sinks;
  {
    MutexLock lock(&mu_);
    const auto found = by_job_.find(job.job_id());
    if (found == by_job_.end()) return;
    const std::set<WatchId> ids = found->second;
    for (const WatchId id : ids) {
      Watch& watch = watches_.at(id);
      if (!IsDue(watch, pulse, now)) continue;
      watch.shown_pulse = pulse;
      watch.may_wait = MayWait(job);
      watch.read_at = now;
      if (watch.any_shown && watch.shown_hash == hash) continue;
      watch.any_shown = true;
      watch.shown_hash = hash;
      watch.shown_at = now;
      watch.writing = true;
      sinks.push_back(watch.sink);
      if (last) Erase(id);
    }
  }
  for (const auto& sink : sinks) sink->Show(job, last);
}

void JobWatcher::EndJob(const JobId& job_id, const absl::Status& status) {
  std::vector<std::shared_ptr<JobSink>> sinks;
  {
    MutexLock lock(&mu_);
    const auto found = by_job_.find(job_id);
    if (found == by_job_.end()) return;
    const std::set<WatchId> ids = found->second;
    for (const WatchId id : ids) {
      sinks.push_back(watches_.at(id).sink);
      Erase(id);
    }
  }
  for (const auto& sink : sinks) sink->End(status);
}

absl::Duration JobWatcher::LookFailed(const absl::Status& status, absl::Duration now) {
  LogEvery(unavailable_log_, LogLevel::kWarning, "watch.look_failed", {{"error", status}});
  MutexLock lock(&mu_);
  failed_looks_ = std::min(failed_looks_ + 1, 10);
  const absl::Duration wait = std::min(options_.max_backoff, options_.interval * (1 << failed_looks_));
  next_full_look_ = now + wait;
  return wait;
}

void JobWatcher::Erase(WatchId id) {
  const auto it = watches_.find(id);
  const auto job = by_job_.find(it->second.job_id);
  job->second.erase(id);
  if (job->second.empty()) by_job_.erase(job);
  watches_.erase(it);
}

}  // namespace drover
