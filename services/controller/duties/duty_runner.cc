#include "services/controller/duties/duty_runner.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/sync/mutex.h"
#include "services/controller/duties/pipeline.h"

namespace drover {
namespace {

constexpr absl::Duration kMinLease = absl::Seconds(1);
constexpr absl::Duration kMaxAcquireBackoff = absl::Seconds(2);
// A duty that was put off is due by the database's clock, a little after this one counts.
constexpr absl::Duration kDueMargin = absl::Milliseconds(2);

}  // namespace

// Shared with the threads, so that one which does not end in time can be left behind.
class DutyRunner::Impl : public std::enable_shared_from_this<DutyRunner::Impl> {
 public:
  Impl(Options options, Storage& storage, const Clock& clock, Random& random)
      : options_(std::move(options)), storage_(storage), clock_(clock), random_(random) {
    options_.lease = std::max(options_.lease, kMinLease);
  }

  void Register(DutyKind kind, DutyHandler* handler) { handlers_[kind] = handler; }

  void Start() {
    std::vector<DutyKind> kinds;
    for (const auto& [kind, handler] : handlers_) kinds.push_back(kind);
    const auto self = shared_from_this();
    MutexLock lock(&mu_);
    table_.emplace(options_.limits, kinds);
    next_renewal_ = clock_.Elapsed() + options_.lease / 3;
    const int threads = std::max(options_.limits.threads, static_cast<int>(kinds.size()));
    live_threads_ = threads + 1;
    threads_.emplace_back("duty-control", [self] { self->Control(); });
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back(absl::StrCat("duty-", i), [self] { self->Work(); });
    }
  }

  void Wake() {
    MutexLock lock(&mu_);
    look_now_ = true;
    control_wake_.NotifyAll();
  }

  bool Shutdown(absl::Duration bound) {
    if (threads_.empty()) return true;  // never started, or over
    const bool in_time = Stop(bound);
    for (NamedThread& thread : threads_) in_time ? thread.Join() : thread.Detach();
    threads_.clear();
    return in_time;
  }

 private:
  using Held = std::shared_ptr<DutyContext>;

  // Whether all threads came to their ends.
  bool Stop(absl::Duration bound) {
    MutexLock lock(&mu_);
    stopping_ = true;
    for (const Held& held : held_) held->Stop();
    control_wake_.NotifyAll();
    ready_wake_.NotifyAll();
    const absl::Duration start = clock_.Elapsed();
    bool interrupted = options_.interrupt == nullptr;
    while (live_threads_ > 0) {
      const absl::Duration spent = clock_.Elapsed() - start;
      if (spent >= bound) return false;
      if (!interrupted && spent >= bound / 2) {
        interrupted = true;
        mu_.Unlock();
        options_.interrupt();
        mu_.Lock();
        continue;
      }
      const absl::Duration left = (interrupted ? bound : bound / 2) - spent;
      ended_.WaitWithTimeout(&mu_, std::min(left, absl::Milliseconds(100)));
    }
    return true;
  }

  void ThreadEnds() {
    MutexLock lock(&mu_);
    --live_threads_;
    ended_.NotifyAll();
  }

  // ---- the control thread: prolongs, then takes up what there is room for.

  void Control() {
    while (true) {
      bool renew = false;
      std::optional<DutyAsk> ask;
      {
        MutexLock lock(&mu_);
        while (true) {
          if (stopping_) break;
          const absl::Duration now = clock_.Elapsed();
          renew = now >= next_renewal_;
          if (look_now_ || now >= next_look_) {
            ask = table_->NextAsk();
            look_now_ = false;
            if (!ask) next_look_ = NextLook(now);
          }
          if (renew || ask) break;
          control_wake_.WaitWithTimeout(&mu_, std::min(next_renewal_, next_look_) - now);
        }
        if (stopping_) break;
      }
      if (renew) Renew();
      if (ask) Acquire(*ask);
    }
    ThreadEnds();
  }

  void Renew() {
    std::vector<Held> held;
    {
      MutexLock lock(&mu_);
      // One that is lost stays lost: it is not kept from others by a handler that has not noticed.
      std::copy_if(held_.begin(), held_.end(), std::back_inserter(held),
                   [](const Held& one) { return !one->lost(); });
    }
    const absl::Duration sent = clock_.Elapsed();
    absl::Status status;
    if (!held.empty()) {
      std::vector<Duty> duties;
      duties.reserve(held.size());
      for (const Held& one : held) duties.push_back(one->duty());
      const absl::StatusOr<std::vector<bool>> renewed = storage_.RenewDuties(duties, options_.lease);
      status = renewed.status();
      for (size_t i = 0; renewed.ok() && i < held.size(); ++i) {
        if (i < renewed->size() && (*renewed)[i]) {
          held[i]->Prolong(sent + options_.lease);
        } else {
          held[i]->MarkLost();
        }
      }
    }
    if (!status.ok()) LogEvery(database_log_, LogLevel::kWarning, "duty.renewal_failed", {{"error", status}});
    MutexLock lock(&mu_);
    next_renewal_ = clock_.Elapsed() + (status.ok() ? options_.lease / 3 : options_.lease / 12);
  }

  void Acquire(const DutyAsk& ask) {
    const absl::Duration sent = clock_.Elapsed();
    absl::StatusOr<std::vector<Duty>> duties =
        storage_.AcquireDuties(options_.owner, ask.kinds, ask.limit, options_.lease);
    if (!duties.ok()) {
      LogEvery(database_log_, LogLevel::kWarning, "duty.acquire_failed", {{"error", duties.status()}});
      MutexLock lock(&mu_);
      look_now_ = false;
      next_look_ =
          clock_.Elapsed() + DutyBackoff(acquire_failures_++, kMaxAcquireBackoff, random_.NextUnit());
      return;
    }
    MutexLock lock(&mu_);
    acquire_failures_ = 0;
    if (stopping_) {
      // Nobody may be left to run them: they go back from here.
      mu_.Unlock();
      for (const Duty& duty : *duties) {
        (void)storage_.ReleaseDuty(duty, absl::ZeroDuration(), /*failed=*/false);
      }
      mu_.Lock();
      return;
    }
    // A full answer: there may be more.
    if (static_cast<int>(duties->size()) >= ask.limit) look_now_ = true;
    next_look_ = NextLook(clock_.Elapsed());
    for (Duty& duty : *duties) {
      table_->Started(duty.kind);
      held_.push_back(std::make_shared<DutyContext>(std::move(duty), clock_, sent + options_.lease));
      ready_.push_back(held_.back());
    }
    ready_wake_.NotifyAll();
  }

  // The next poll, or sooner: when a duty that was put off here is due.
  absl::Duration NextLook(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    put_off_.erase(put_off_.begin(), put_off_.upper_bound(now));
    const absl::Duration poll = now + options_.poll;
    return put_off_.empty() ? poll : std::min(poll, *put_off_.begin());
  }

  // ---- the working threads.

  void Work() {
    while (true) {
      Held held;
      {
        MutexLock lock(&mu_);
        while (ready_.empty() && !stopping_) ready_wake_.Wait(&mu_);
        if (ready_.empty()) break;
        held = ready_.front();
        ready_.pop_front();
      }
      const absl::Duration put_off = RunOne(*held);
      MutexLock lock(&mu_);
      if (put_off > absl::ZeroDuration() && put_off < options_.poll) {
        put_off_.insert(clock_.Elapsed() + put_off + kDueMargin);  // at most `poll` old, so few
      }
      std::erase(held_, held);
      table_->Ended(held->duty().kind);
      look_now_ = true;
      control_wake_.NotifyAll();
    }
    ThreadEnds();
  }

  // Returns for how long the duty was put off; 0 if it was not.
  absl::Duration RunOne(DutyContext& context) {
    const Duty& duty = context.duty();
    const absl::Duration start = clock_.Elapsed();
    // Taken up just as the controller began to stop: it goes back untouched.
    const DutyOutcome outcome =
        context.stopping() ? DutyOutcome::Again(absl::ZeroDuration()) : CallHandler(context);
    if (options_.on_run) options_.on_run(duty.kind, outcome.what, clock_.Elapsed() - start);
    absl::Duration put_off;
    const absl::Status status = Conclude(context, outcome, put_off);
    if (!status.ok() && !absl::IsAborted(status)) {
      LogEvery(
          database_log_, LogLevel::kWarning, "duty.release_failed",
          {{"job", duty.job_id}, {"duty", DutyKindName(duty.kind)}, {"part", duty.part}, {"error", status}});
    }
    return put_off;
  }

  DutyOutcome CallHandler(DutyContext& context) {
    const auto handler = handlers_.find(context.duty().kind);
    if (handler == handlers_.end()) {
      return DutyOutcome::Failed(absl::InternalError("no handler for this duty"));
    }
    try {
      return handler->second->Run(context);
    } catch (const std::exception& error) {
      return DutyOutcome::Failed(absl::InternalError(absl::StrCat("exception: ", error.what())));
    }
  }

  absl::Status Conclude(const DutyContext& context, const DutyOutcome& outcome, absl::Duration& put_off) {
    const Duty& duty = context.duty();
    switch (outcome.what) {
      case DutyOutcome::What::kEnded: return absl::OkStatus();
      case DutyOutcome::What::kDone: return storage_.FinishDuty(duty);
      case DutyOutcome::What::kAgain:
        put_off = outcome.delay;
        return storage_.ReleaseDuty(duty, put_off, /*failed=*/false);
      case DutyOutcome::What::kFailed: {
        const absl::Duration delay = DutyBackoff(duty.tries, options_.max_backoff, random_.NextUnit());
        // The errors of stores that are shut down, and of a duty that others hold, say nothing about the job.
        if (!context.ShouldStop()) {
          LogWarning("duty.failed", {{"job", duty.job_id},
                                     {"duty", DutyKindName(duty.kind)},
                                     {"part", duty.part},
                                     {"tries", duty.tries + 1},
                                     {"again_in", delay},
                                     {"error", outcome.error}});
        }
        if (context.stopping()) return storage_.ReleaseDuty(duty, absl::ZeroDuration(), /*failed=*/false);
        put_off = delay;
        return storage_.ReleaseDuty(duty, put_off, /*failed=*/true);
      }
    }
    return absl::OkStatus();
  }

  Options options_;
  Storage& storage_;
  const Clock& clock_;
  Random& random_;
  std::map<DutyKind, DutyHandler*> handlers_;  // fixed once started
  std::vector<NamedThread> threads_;           // of the thread that starts and shuts down
  LogRateLimit database_log_{absl::Seconds(10)};

  Mutex mu_;
  CondVar control_wake_;
  CondVar ready_wake_;
  CondVar ended_;
  std::optional<DutyTable> table_ ABSL_GUARDED_BY(mu_);
  std::vector<Held> held_ ABSL_GUARDED_BY(mu_);  // running or about to
  std::deque<Held> ready_ ABSL_GUARDED_BY(mu_);  // about to
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool look_now_ ABSL_GUARDED_BY(mu_) = true;
  absl::Duration next_look_ ABSL_GUARDED_BY(mu_);
  std::multiset<absl::Duration> put_off_ ABSL_GUARDED_BY(mu_);  // when such duties are due, if before a poll
  absl::Duration next_renewal_ ABSL_GUARDED_BY(mu_);
  int acquire_failures_ ABSL_GUARDED_BY(mu_) = 0;
  int live_threads_ ABSL_GUARDED_BY(mu_) = 0;
};

DutyRunner::DutyRunner(Options options, Storage& storage, const Clock& clock, Random& random)
    : impl_(std::make_shared<Impl>(std::move(options), storage, clock, random)) {}

DutyRunner::~DutyRunner() { (void)impl_->Shutdown(absl::InfiniteDuration()); }

void DutyRunner::Register(DutyKind kind, DutyHandler* handler) { impl_->Register(kind, handler); }

void DutyRunner::Start() { impl_->Start(); }

void DutyRunner::Wake() { impl_->Wake(); }

bool DutyRunner::Shutdown(absl::Duration bound) { return impl_->Shutdown(bound); }

}  // namespace drover
