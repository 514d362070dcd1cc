#include "services/controller/dispatch/dispatcher.h"

#include <algorithm>
#include <limits>
#include <map>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

// Payloads read from the database at once: at most a MiB each, some tens of KiB as a rule.
constexpr size_t kPayloadsPerRead = 32;

// In the order of Storage::ListClaimable.
bool ComesBefore(const ClaimablePosition& a, const ClaimablePosition& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.job_id < b.job_id;
}

}  // namespace

Dispatcher::Dispatcher(DispatcherOptions options, Storage& storage, Fleet& fleet, JobCache& jobs,
                       Clock& clock, Random& random, DispatcherMetrics metrics,
                       std::function<void(const JobId&)> job_changed)
    : options_(std::move(options)),
      storage_(storage),
      fleet_(fleet),
      jobs_(jobs),
      clock_(clock),
      random_(random),
      metrics_(metrics),
      job_changed_(std::move(job_changed)) {}

Dispatcher::~Dispatcher() { Shutdown(); }

void Dispatcher::Start() {
  const auto start = [this](std::string name, absl::Duration interval, std::function<bool()> step,
                            bool wakes) {
    threads_.emplace_back(std::move(name),
                          [this, interval, step = std::move(step), wakes] { Loop(interval, step, wakes); });
  };
  const auto once = [](auto step) {
    return [step] {
      step();
      return false;
    };
  };
  start("look", options_.look_interval, [this] { return LookStep(); }, true);
  start("renew", options_.renew_interval, once([this] { RenewStep(); }), false);
  start("reconcile", options_.reconcile_interval, once([this] { ReconcileStep(); }), false);
  for (int i = 0; i < options_.attach_threads; ++i) {
    start(StrCat("attach-", i), absl::Seconds(1), [this] { return AttachStep(); }, true);
  }
}

// Calls `step` again at once while it says that there is more to do, else after `interval` or, with `wakes`,
// a Wake().
void Dispatcher::Loop(absl::Duration interval, const std::function<bool()>& step, bool wakes) {
  int64_t seen = 0;
  while (true) {
    {
      MutexLock lock(&mu_);
      if (stopping_) return;
      seen = wakes_;
    }
    if (step()) continue;
    const absl::Duration due = clock_.Elapsed() + interval;
    MutexLock lock(&mu_);
    while (!stopping_ && !(wakes && wakes_ != seen)) {
      const absl::Duration left = due - clock_.Elapsed();
      if (left <= absl::ZeroDuration() || changed_.WaitWithTimeout(&mu_, left)) break;
    }
  }
}

void Dispatcher::Drain(absl::Duration bound) {
  {
    MutexLock lock(&mu_);
    draining_ = true;
  }
  fleet_.DrainAll(absl::Seconds(1));
  const absl::Duration end = clock_.Elapsed() + bound;
  MutexLock lock(&mu_);
  while (clock_.Elapsed() < end) {
    mu_.Unlock();
    const int64_t streams = fleet_.counts().streams;
    mu_.Lock();
    if (streams == 0) return;
    changed_.WaitWithTimeout(&mu_, absl::Milliseconds(20));
  }
}

void Dispatcher::Shutdown() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  threads_.clear();  // joins them
}

void Dispatcher::Wake() {
  MutexLock lock(&mu_);
  ++wakes_;
  changed_.NotifyAll();
}

// ---------------------------------------------------------------------------------------------------------
// attaching

void Dispatcher::OnHello(StreamId stream, v1::Hello hello) {
  {
    MutexLock lock(&mu_);
    if (!draining_ && hellos_.size() < options_.max_waiting_hellos) {
      hellos_.emplace_back(stream, std::move(hello));
      ++wakes_;
      changed_.NotifyAll();
      return;
    }
  }
  fleet_.Close(stream,
               Error(absl::StatusCode::kUnavailable, "CONTROLLER_BUSY",
                     "this controller is going away or has too many workers attaching: try another one"));
}

bool Dispatcher::AttachStep() {
  std::pair<StreamId, v1::Hello> next;
  {
    MutexLock lock(&mu_);
    if (hellos_.empty()) return false;
    next = std::move(hellos_.front());
    hellos_.pop_front();
  }
  const auto& [stream, hello] = next;
  if (!fleet_.IsOpen(stream)) return true;  // the worker has lost patience, and says Hello again elsewhere
  if (const absl::Status hit = failpoint::HitStatus("attach.hello"); !hit.ok()) {
    fleet_.Close(stream, hit);
    return true;
  }
  auto attached =
      Attach(hello, options_.session, options_.limits, options_.controller, storage_, clock_, random_);
  if (!attached.ok()) {
    LogWarning("worker.refused", {{"worker", hello.name()},
                                  {"session", hello.session_id()},
                                  {"attachment", hello.attachment()},
                                  {"error", attached.status()}});
    fleet_.Close(stream, attached.status());
    return true;
  }
  metrics_.attaches.Add();
  LogInfo("worker.attached", {{"worker", hello.name()},
                              {"session", attached->session},
                              {"attachment", attached->attachment},
                              {"leases", attached->leases.size()},
                              {"lost", attached->welcome.welcome().lost_leases_size()}});
  fleet_.Attached(stream, *std::move(attached));
  Wake();  // what it holds may be revoked, and its jobs' contexts are due
  return true;
}

void Dispatcher::OnClosed(StreamId stream) {
  const Fleet::Unsent unsent = fleet_.Closed(stream);
  if (unsent.session.empty()) return;
  LogInfo("worker.detached", {{"session", unsent.session},
                              {"attachment", unsent.attachment},
                              {"unsent", unsent.leases.size()},
                              {"goodbye", unsent.goodbye}});
  MutexLock lock(&mu_);
  for (const auto& [job_id, lease] : unsent.leases) {
    to_return_.push_back({unsent.session, unsent.attachment, job_id, lease, CameBack::kGivenBack});
  }
  if (unsent.goodbye) goodbyes_.push_back(unsent.session);
  ++wakes_;
  changed_.NotifyAll();
}

// ----------------------------------------------------------------------------------------------------------
// claiming

bool Dispatcher::LookStep() {
  std::vector<Fleet::Withdrawn> withdrawn;
  std::vector<SessionId> goodbyes;
  bool draining = false;
  {
    MutexLock lock(&mu_);
    withdrawn.swap(to_return_);
    goodbyes.swap(goodbyes_);
    draining = draining_;
  }
  ReturnWithdrawn(withdrawn);
  for (const SessionId& session : goodbyes) {
    if (const absl::Status ended = storage_.EndSession(session); !ended.ok()) {
      LogWarning("session.end_failed",
                 {{"session", session}, {"error", ended}});  // the janitor ends it later
    }
  }
  ReviewJobs();
  return !draining && fleet_.AnyCredit(std::numeric_limits<int32_t>::max()) && ClaimWork();
}

// Most looks end within the first page, with the credit or with the jobs. But jobs that no worker of this
// controller can run stay claimable, and a page full of them would hide all others. So while there is credit
// a look goes on to the next pages, and the next look, after the first page again (what is highest goes
// first), goes on where this one stopped: each job is seen, and a look costs the same however many there are.
//
// The alternative, to hand SQL what the workers can run, finds them in one look; but no index knows
// operations and stores, so that each look of each controller would read all jobs that can't be run.
bool Dispatcher::ClaimWork() {
  const absl::Duration end = clock_.Elapsed() + options_.look_interval;
  std::optional<ClaimablePosition> resume;
  resume.swap(resume_);
  std::optional<ClaimablePosition> after;
  bool claimed = false;
  for (int page = 0; page < options_.max_pages_per_look; ++page) {
    if (page == 1 && resume && ComesBefore(*after, *resume)) after = resume;
    const auto views = storage_.ListClaimable(options_.max_jobs_per_page, after);
    if (!views.ok()) {
      LogWarning("look.failed", {{"error", views.status()}});
      return claimed;
    }
    const PageResult result = ClaimPage(*views);
    claimed |= result.claimed;
    if (result.enough) return claimed;
    if (views->size() < static_cast<size_t>(options_.max_jobs_per_page)) return claimed;
    after = ClaimablePosition{views->back().priority, views->back().job_id};
    if (page > 0 && clock_.Elapsed() >= end) break;  // stopped jobs must not wait to be revoked
  }
  resume_ = after;
  return claimed;
}

// Strictly by priority; equals begin with another one at each look, and share the credit.
Dispatcher::PageResult Dispatcher::ClaimPage(const std::vector<JobView>& views) {
  PageResult result;
  for (size_t first = 0; first < views.size();) {
    const int32_t priority = views[first].priority;
    if (!fleet_.AnyCredit(priority)) {
      result.enough = true;
      return result;
    }
    size_t end = first;
    while (end < views.size() && views[end].priority == priority) ++end;
    const size_t equals = end - first;
    const size_t offset = rotation_++ % equals;
    std::vector<const JobView*> unfinished;
    for (size_t i = 0; i < equals; ++i) {
      const JobView& view = views[first + (offset + i) % equals];
      const ClaimOutcome outcome = ClaimFor(view, static_cast<int64_t>(equals - i));
      result.claimed |= outcome != ClaimOutcome::kNothing;
      if (outcome == ClaimOutcome::kWorkLeft) unfinished.push_back(&view);
    }
    // A claim ends at max_batches_per_claim, or at the job's share. What credit is left then is still this
    // level's: another look goes on, rather than the next level.
    if (std::ranges::any_of(unfinished, [this](const JobView* view) { return CanClaim(*view); })) {
      result.enough = true;
      return result;
    }
    first = end;
  }
  result.enough = !views.empty() && !fleet_.AnyCredit(views.back().priority);
  return result;
}

bool Dispatcher::CanClaim(const JobView& view) {
  const auto info = jobs_.Peek(view.job_id);
  return info != nullptr && !fleet_.Slots(*info, view.priority).empty();
}

Dispatcher::ClaimOutcome Dispatcher::ClaimFor(const JobView& view, int64_t share) {
  auto info = jobs_.Get(view.job_id);
  if (!info.ok()) {
    LogWarning("job.unreadable", {{"job", view.job_id}, {"error", info.status()}});
    return ClaimOutcome::kNothing;
  }
  std::vector<Fleet::Slot> slots = fleet_.Slots(**info, view.priority);
  if (slots.empty()) return ClaimOutcome::kNothing;
  std::vector<ClaimSlot> claim_slots;
  for (Fleet::Slot& slot : slots) {
    slot.claim.credit = std::max<int64_t>(1, slot.claim.credit / share);
    claim_slots.push_back(slot.claim);
  }

  const absl::Duration start = clock_.Elapsed();
  fleet_.BeginClaim(slots);
  auto result = storage_.Claim(view.job_id, claim_slots, options_.max_batches_per_claim,
                               [this] { return NewLeaseId(random_); });
  if (result.ok() && !result->leases.empty()) {
    if (const absl::Status hit = failpoint::HitStatus("claim.after_commit"); !hit.ok()) result = hit;
  }
  if (!result.ok()) {
    // If it committed all the same, reconciling finds the leases under our streams.
    fleet_.EndClaim(slots);
    if (!absl::IsFailedPrecondition(result.status())) {
      LogWarning("claim.failed", {{"job", view.job_id}, {"error", result.status()}});
    }
    return ClaimOutcome::kNothing;
  }
  if (result->leases.empty()) {
    fleet_.EndClaim(slots);
    return ClaimOutcome::kNothing;
  }
  metrics_.claim_seconds.Observe(absl::ToDoubleSeconds(clock_.Elapsed() - start));
  metrics_.batches_claimed.Add(static_cast<double>(result->leases.size()));

  const v1::JobContext context = MakeContext(**info, view.priority, view.version, view.executed);
  std::vector<Fleet::Withdrawn> withdrawn;
  for (size_t first = 0; first < result->leases.size(); first += kPayloadsPerRead) {
    const size_t end = std::min(first + kPayloadsPerRead, result->leases.size());
    std::vector<BatchNo> numbers;
    for (size_t i = first; i < end; ++i) numbers.push_back(result->leases[i].batch_no);
    auto payloads = storage_.ReadBatches(view.job_id, numbers);
    if (!payloads.ok()) LogWarning("claim.unreadable", {{"job", view.job_id}, {"error", payloads.status()}});
    for (size_t i = first; i < end; ++i) {
      const ClaimedLease& lease = result->leases[i];
      const Fleet::Slot& slot = slots[lease.slot];
      if (!payloads.ok() ||
          !fleet_.AddGrant(slot, view.job_id, lease, std::move((*payloads)[i - first].payload), context)) {
        withdrawn.push_back({slot.claim.session,
                             slot.claim.attachment,
                             view.job_id,
                             {lease.batch_no, lease.lease_id},
                             CameBack::kGivenBack});
      }
    }
  }
  fleet_.EndClaim(slots);
  ReturnWithdrawn(withdrawn);
  if (view.state != lifecycle::State::kActive) job_changed_(view.job_id);
  return result->work_left ? ClaimOutcome::kWorkLeft : ClaimOutcome::kAll;
}

void Dispatcher::ReviewJobs() {
  const std::vector<JobId> jobs = fleet_.JobsWithLeases();
  if (jobs.empty()) return;
  const auto views = storage_.ViewJobs(jobs);
  if (!views.ok()) {
    LogWarning("look.failed", {{"error", views.status()}});
    return;
  }
  ReturnWithdrawn(fleet_.ApplyViews(*views, options_.interrupt_grace,
                                    [this](const JobView& view) -> std::optional<v1::JobContext> {
                                      // From the cache alone, as the fleet's lock is held: a claim has filled
                                      // it, or the read below, for leases that a worker brought along.
                                      const auto info = jobs_.Peek(view.job_id);
                                      if (!info) return std::nullopt;
                                      return MakeContext(*info, view.priority, view.version, view.executed);
                                    }));
  for (const JobId& job : jobs) {
    if (!jobs_.Peek(job)) jobs_.Get(job).IgnoreError();
  }
}

// ---------------------------------------------------------------------------------------------------------
// returning

void Dispatcher::ReturnWithdrawn(const std::vector<Fleet::Withdrawn>& withdrawn) {
  std::map<std::pair<JobId, CameBack>, std::vector<Fleet::Withdrawn>> by_job;
  for (const Fleet::Withdrawn& lease : withdrawn) by_job[{lease.job_id, lease.how}].push_back(lease);
  for (const auto& [key, leases] : by_job) {
    const auto& [job_id, how] = key;
    std::vector<Storage::OwnedLease> owned;
    for (const Fleet::Withdrawn& lease : leases)
      owned.push_back({job_id, lease.lease, lease.session, lease.attachment});
    const auto returned = storage_.ReturnLeases(job_id, owned, how);
    if (returned.ok()) {
      metrics_.leases_returned.Add(static_cast<double>(*returned));
    } else {
      LogWarning("lease.return_failed",
                 {{"job", job_id}, {"leases", leases.size()}, {"error", returned.status()}});
      MutexLock lock(&mu_);
      to_return_.insert(to_return_.end(), leases.begin(), leases.end());
    }
  }
}

void Dispatcher::LoseLease(LeaseId lease) {
  auto lost = fleet_.LoseLease(lease);
  if (!lost) return;
  MutexLock lock(&mu_);
  to_return_.push_back(*std::move(lost));
  ++wakes_;
  changed_.NotifyAll();
}

void Dispatcher::ReconcileStep() {
  const Fleet::ReconcileMark mark = fleet_.MarkForReconcile();
  if (mark.attachments.empty()) return;
  const auto owned = storage_.ListOwnedLeases(mark.attachments);
  if (!owned.ok()) return;
  std::vector<Fleet::Withdrawn> stray;
  for (const Storage::OwnedLease& lease : fleet_.Unknown(mark, *owned)) {
    LogWarning("lease.stray",
               {{"job", lease.job_id}, {"session", lease.session}, {"lease", lease.key.lease_id}});
    stray.push_back({lease.session, lease.attachment, lease.job_id, lease.key, CameBack::kGivenBack});
  }
  ReturnWithdrawn(stray);
}

// -----------------------------------------------------------------------------------------------------------
// renewal

void Dispatcher::RenewStep() {
  const std::vector<Fleet::RenewalView> views = fleet_.TakeRenewals();
  if (views.empty()) return;
  std::vector<Storage::Renewal> renewals;
  for (const Fleet::RenewalView& view : views) renewals.push_back(view.renewal);
  std::sort(renewals.begin(), renewals.end(),
            [](const auto& a, const auto& b) { return a.session < b.session; });
  const auto renewed = storage_.RenewSessions(renewals, options_.session.ttl);
  if (renewed.ok()) {
    fleet_.Renewed(views, *renewed);
  } else {
    LogWarning("renew.failed", {{"sessions", views.size()}, {"error", renewed.status()}});
    fleet_.RenewalFailed(views);
  }
}

}  // namespace drover
