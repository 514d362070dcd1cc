#include "services/worker/executor/executor.h"

#include <algorithm>
#include <array>
#include <bit>
#include <exception>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/strings/strings.h"
#include "drover/v1/worker_service.pb.h"

namespace drover {
namespace {

constexpr absl::Duration kOutrankedLook = absl::Milliseconds(250);
// Most bytes of batches that are held for later, as far as the sizes of late ones tell.
constexpr int64_t kMaxHeldPayload = 32 << 20;
// A slot lets others have the thread after so many groups: operations that make no requests never wait.
constexpr int kGroupsPerTurn = 16;

size_t Reserved(int concurrency) {
  return concurrency < 2 ? 0 : static_cast<size_t>(std::max(1, concurrency / 8));
}

}  // namespace

struct Executor::Job {
  std::string id;
  int32_t priority = 0;
  RetryRules retry;
  RateLimiter limiter;
  std::shared_ptr<Operation> operation;
  std::string user_agent;
  OperationMetrics metrics;
  StoreRequestMetrics requests;
  StoreRequestMetrics target_requests;           // of a second store
  std::deque<std::shared_ptr<Lease>> startable;  // leases with something to start
  int64_t in_flight = 0;                         // groups
  int64_t unfinished = 0;                        // tasks not reported
  bool ready = false;                            // stands in ready_[priority]
  absl::Duration last_start = absl::ZeroDuration();
  std::optional<absl::Duration> outranked_since;
};

struct Executor::Lease {
  LeaseWork work;
  std::shared_ptr<Job> job;
  std::optional<DecodedBatch> batch;  // once a task has started
  // Unstarted tasks as ranges; the next one is at the back.
  std::vector<std::pair<uint32_t, uint32_t>> unstarted;
  std::vector<uint32_t> due;  // retries whose time has come
  struct Retry {
    RetryState state;
    Outcome last;
    std::optional<Timers::Id> timer;  // while it waits
  };
  absl::flat_hash_map<uint32_t, Retry> retries;  // tasks that have failed in a transient way
  int64_t unfinished = 0;                        // tasks not reported
  bool queued = false;                           // stands in job->startable
  bool revoked = false;                          // starts nothing more
  bool interrupted = false;                      // revoked with abort
  bool over = false;                             // lost or done: reports nothing more
};

struct Executor::Group {
  std::shared_ptr<Job> job;
  std::shared_ptr<Lease> lease;
  std::vector<uint32_t> indexes;
  std::optional<CancelToken> cancel;
  Abort abort = Abort::kNone;
  bool prepaid = false;  // the limiter has been asked for the first request
  bool active = false;
};

// What an operation sees while it runs a group.
class Executor::Context final : public OperationContext {
 public:
  Context(Executor& executor, Group& group) : executor_(executor), group_(group) {}

  boost::asio::awaitable<absl::StatusOr<S3Response>> Send(S3Client& store, S3Request request) override {
    if (group_.prepaid) {
      group_.prepaid = false;
    } else {
      RateLimiter& limiter = group_.job->limiter;
      for (absl::Duration now = executor_.clock_.Elapsed();; now = executor_.clock_.Elapsed()) {
        const absl::Duration next = limiter.Next(now, 0);
        if (next <= now) break;
        if (!co_await Sleep(next - now)) co_return absl::CancelledError("cancelled");
      }
      limiter.Take(executor_.clock_.Elapsed());
    }
    if (absl::Status status = failpoint::HitStatus("worker.before_request"); !status.ok()) co_return status;
    if (group_.cancel->cancelled() || !executor_.report_->MayRequest())
      co_return absl::CancelledError("fenced");
    // It may wait for a connection yet, and the machine may sleep meanwhile.
    request.may_write = [this] { return executor_.report_->MayRequest(); };
    request.user_agent = group_.job->user_agent;
    const absl::Duration start = executor_.clock_.Elapsed();
    absl::StatusOr<S3Response> answer = co_await store.Send(std::move(request), &*group_.cancel);
    const bool to_target = store.config().name == group_.job->operation->target_store();
    const StoreRequestMetrics& metrics = to_target ? group_.job->target_requests : group_.job->requests;
    const size_t status_class =
        answer.ok() ? std::min<size_t>(static_cast<size_t>(answer->status) / 100, 5) : 0;
    metrics.by_class[status_class].Add();
    metrics.seconds.Observe(absl::ToDoubleSeconds(executor_.clock_.Elapsed() - start));
    co_return answer;
  }

  boost::asio::awaitable<bool> Sleep(absl::Duration duration) override {
    if (group_.cancel->cancelled()) co_return false;
    // An Asio timer that never comes serves as the event; the injected clock's timer sets it off.
    boost::asio::steady_timer event(executor_.io_, boost::asio::steady_timer::time_point::max());
    struct Alarm {
      Timers& timers;
      Timers::Id id;
      ~Alarm() { timers.Cancel(id); }
    };
    const Alarm alarm{executor_.timers_, executor_.timers_.At(executor_.clock_.Elapsed() + duration,
                                                              [&event] { event.cancel(); })};
    const CancelToken::Hook hook(&*group_.cancel, [&event] { event.cancel(); });
    boost::system::error_code ignored;
    co_await event.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    co_return !group_.cancel->cancelled();
  }

  const CancelToken& cancel() const override { return *group_.cancel; }

 private:
  Executor& executor_;
  Group& group_;
};

Executor::Executor(boost::asio::io_context& io, Options options, const Clock& clock, Random& random,
                   Timers& timers, OperationFactory factory, const Metrics* metrics)
    : io_(io),
      options_(std::move(options)),
      reserved_(Reserved(options_.concurrency)),
      clock_(clock),
      random_(random),
      timers_(timers),
      factory_(std::move(factory)),
      metrics_(metrics),
      counts_(metrics == nullptr ? ExecutorMetrics() : ExecutorMetrics(*metrics)),
      backlog_(options_.concurrency) {}

Executor::~Executor() {
  // A job's leases hold the job.
  for (const auto& [id, job] : jobs_) job->startable.clear();
}

void Executor::Connect(LeaseReport& report, std::function<void()> on_change) {
  report_ = &report;
  on_change_ = std::move(on_change);
}

// ---------------------------------------------------------------------------------------------------------------
// Jobs and leases.

absl::Status Executor::SetJob(const v1::JobContext& context) {
  std::shared_ptr<Job>& slot = jobs_[context.job_id()];
  if (slot == nullptr) {
    absl::StatusOr<NamedOperation> made = factory_(context.operation());
    if (!made.ok()) {
      jobs_.erase(context.job_id());
      return made.status();
    }
    slot = std::make_shared<Job>();
    slot->id = context.job_id();
    slot->operation = std::move(made->operation);
    slot->user_agent = StrCat("drover/", options_.version, " job/", context.job_id());
    if (metrics_ != nullptr) {
      slot->metrics = OperationMetrics(*metrics_, made->name);
      if (!slot->operation->store().empty()) {
        slot->requests = StoreRequestMetrics(*metrics_, slot->operation->store(), made->name);
      }
      if (!slot->operation->target_store().empty()) {
        slot->target_requests = StoreRequestMetrics(*metrics_, slot->operation->target_store(), made->name);
      }
    }
  }
  const std::shared_ptr<Job> job = slot;
  job->retry = RetryRulesFrom(context.retry_policy());
  job->limiter.Configure(context.rate_policy().max_tasks_per_second(), context.rate_policy().max_in_flight(),
                         clock_.Elapsed());
  if (job->priority != context.priority()) {
    const bool ready = job->ready;
    Dequeue(*job);
    job->priority = context.priority();
    job->outranked_since.reset();
    if (ready) Enqueue(job);
  }
  SchedulePump();
  return absl::OkStatus();
}

void Executor::ForgetJob(const std::string& job_id) { jobs_.erase(job_id); }

void Executor::Start(LeaseWork work) {
  const auto job = jobs_.find(work.job_id);
  if (job == jobs_.end() || draining_) {
    report_->GaveBack(work.lease_id, work.tasks);
    return;
  }
  auto lease = std::make_shared<Lease>();
  lease->work = std::move(work);
  lease->job = job->second;
  lease->work.tasks.ForEachRange(
      [&](uint32_t first, uint32_t end) { lease->unstarted.emplace_back(first, end); });
  std::reverse(lease->unstarted.begin(), lease->unstarted.end());
  lease->unfinished = static_cast<int64_t>(lease->work.tasks.count());
  const double bytes =
      static_cast<double>(lease->work.payload.size()) / static_cast<double>(lease->unfinished);
  payload_bytes_per_task_ = std::max(bytes, 0.9 * payload_bytes_per_task_ + 0.1 * bytes);
  leases_[lease->work.lease_id] = lease;
  CountUnfinished(*lease->job, lease->unfinished);
  QueueLease(lease, false);
  SchedulePump();
}

void Executor::Revoke(int64_t lease_id, bool abort, absl::Duration grace) {
  const auto it = leases_.find(lease_id);
  if (it == leases_.end()) return;
  const std::shared_ptr<Lease> lease = it->second;
  lease->revoked = true;
  lease->interrupted |= abort;
  GiveBackUnstarted(lease, abort);
  if (!abort || lease->over) return;
  timers_.At(clock_.Elapsed() + grace, [this, weak = std::weak_ptr<Lease>(lease)] {
    if (const std::shared_ptr<Lease> late = weak.lock(); late != nullptr && !late->over) {
      AbortGroups(Abort::kInterrupted, late.get());
    }
  });
}

void Executor::Drop(int64_t lease_id) {
  const auto it = leases_.find(lease_id);
  if (it == leases_.end()) return;
  const std::shared_ptr<Lease> lease = it->second;
  leases_.erase(it);
  lease->over = true;
  CountUnfinished(*lease->job, -lease->unfinished);
  lease->unfinished = 0;
  for (auto& [index, retry] : lease->retries) {
    if (retry.timer.has_value()) {
      timers_.Cancel(*retry.timer);
      --waiting_;
    }
  }
  lease->retries.clear();
  lease->unstarted.clear();
  lease->due.clear();
  UnqueueLease(*lease);
  AbortGroups(Abort::kLost, lease.get());
}

void Executor::AbortInFlight() { AbortGroups(Abort::kFence, nullptr); }

void Executor::AbortDrain() { AbortGroups(Abort::kDrain, nullptr); }

void Executor::AbortGroups(Abort reason, const Lease* only) {
  const std::vector<std::shared_ptr<Group>> groups = groups_;  // one that ends takes itself out
  for (const std::shared_ptr<Group>& group : groups) {
    if (!group->active || (only != nullptr && group->lease.get() != only)) continue;
    // A lost lease stays lost, whatever else comes.
    if (group->abort != Abort::kLost) group->abort = reason;
    group->job->metrics.aborted.Add(static_cast<double>(group->indexes.size()));
    group->cancel->Cancel();
  }
}

void Executor::Wake() { SchedulePump(); }

void Executor::StartDrain() {
  draining_ = true;
  const std::map<int64_t, std::shared_ptr<Lease>> leases = leases_;  // one that ends takes itself out
  for (const auto& [id, lease] : leases) GiveBackUnstarted(lease, false);
}

int64_t Executor::Target() const {
  const int64_t target = backlog_.target(clock_.Elapsed());
  if (payload_bytes_per_task_ <= 0) return target;
  const auto fits = static_cast<int64_t>(static_cast<double>(kMaxHeldPayload) / payload_bytes_per_task_);
  return std::min(target, std::max<int64_t>(fits, 2 * static_cast<int64_t>(options_.concurrency)));
}

Appetite Executor::appetite() const {
  Appetite appetite;
  appetite.target = Target();
  appetite.credit = std::max<int64_t>(0, appetite.target - unfinished_);
  if (unfinished_ <= 0 || unfinished_ >= 2 * kMaxBacklog) return appetite;
  int32_t highest = 0;
  int64_t held = 0;  // tasks of that priority
  std::optional<int32_t> below;
  for (const auto& [id, job] : jobs_) {
    if (job->unfinished <= 0) continue;
    if (held == 0 || job->priority > highest) {
      if (held > 0) below = highest;
      highest = job->priority;
      held = job->unfinished;
    } else if (job->priority == highest) {
      held += job->unfinished;
    } else {
      below = std::max(below.value_or(job->priority), job->priority);
    }
  }
  const auto concurrency = static_cast<int64_t>(options_.concurrency);
  const int64_t missing =
      std::min(appetite.target - held, 2 * appetite.target - unfinished_) - appetite.credit;
  if (below.has_value() && missing >= concurrency) {
    // What is held of lower work must not let the highest run dry, or slots would go to the lower in between.
    // Rounded, so that it is not said anew after each task.
    appetite.urgent_above = *below;
    appetite.urgent_credit =
        std::max(concurrency, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(missing))));
  } else {
    appetite.urgent_above = highest;
    appetite.urgent_credit = concurrency;
  }
  return appetite;
}

// ---------------------------------------------------------------------------------------------------------------
// The order of work.

void Executor::Enqueue(const std::shared_ptr<Job>& job) {
  if (job->ready || job->startable.empty()) return;
  job->ready = true;
  ready_[job->priority].push_back(job);
  WatchOutranked();
}

void Executor::Dequeue(Job& job) {
  if (!job.ready) return;
  job.ready = false;
  const auto level = ready_.find(job.priority);
  level->second.remove_if([&](const std::shared_ptr<Job>& other) { return other.get() == &job; });
  if (level->second.empty()) ready_.erase(level);
}

void Executor::QueueLease(const std::shared_ptr<Lease>& lease, bool front) {
  if (!lease->queued) {
    lease->queued = true;
    if (front) {
      lease->job->startable.push_front(lease);
    } else {
      lease->job->startable.push_back(lease);
    }
  }
  Enqueue(lease->job);
}

void Executor::UnqueueLease(Lease& lease) {
  if (!lease.queued) return;
  lease.queued = false;
  Job& job = *lease.job;
  std::erase_if(job.startable, [&](const std::shared_ptr<Lease>& other) { return other.get() == &lease; });
  if (job.startable.empty()) Dequeue(job);
}

void Executor::WatchOutranked() {
  if (watching_ || ready_.size() < 2) return;
  watching_ = true;
  timers_.At(clock_.Elapsed() + kOutrankedLook, [this] {
    watching_ = false;
    CheckOutranked();
    WatchOutranked();
  });
}

void Executor::CheckOutranked() {
  const absl::Duration now = clock_.Elapsed();
  const bool may_start = report_->MayStart();
  std::vector<std::shared_ptr<Job>> give_way;
  for (const auto& [priority, level] : ready_) {
    for (const std::shared_ptr<Job>& job : level) {
      // Nothing outranks the highest; and while nothing may start, nobody is held up by anyone.
      if (priority == ready_.begin()->first || !may_start) {
        job->outranked_since.reset();
      } else if (!job->outranked_since.has_value()) {
        job->outranked_since = now;
      } else if (now - std::max(*job->outranked_since, job->last_start) >= kOutrankedAfter) {
        give_way.push_back(job);
      }
    }
  }
  for (const std::shared_ptr<Job>& job : give_way) {
    LogInfo("job.outranked", {{"job", job->id}, {"priority", job->priority}, {"by", ready_.begin()->first}});
    counts_.outranked.Add();
    job->outranked_since.reset();
    std::vector<std::shared_ptr<Lease>> leases;
    for (const auto& [id, lease] : leases_) {
      if (lease->job == job) leases.push_back(lease);
    }
    for (const std::shared_ptr<Lease>& lease : leases) GiveBackUnstarted(lease, false);
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Starting.

void Executor::SchedulePump() {
  if (pump_posted_) return;
  pump_posted_ = true;
  boost::asio::post(io_, [this] {
    pump_posted_ = false;
    Pump();
  });
}

void Executor::Pump() {
  std::shared_ptr<Group> group;
  while (groups_.size() < static_cast<size_t>(options_.concurrency)) {
    if (group == nullptr) group = std::make_shared<Group>();
    if (!Pick(*group)) return;
    groups_.push_back(group);
    boost::asio::co_spawn(io_, Slot(std::exchange(group, nullptr)), boost::asio::detached);
  }
}

bool Executor::SlotFree(int32_t priority) const {
  const size_t busy = groups_.size();
  if (busy + reserved_ < static_cast<size_t>(options_.concurrency)) return true;
  if (busy >= static_cast<size_t>(options_.concurrency)) return false;
  return std::any_of(groups_.begin(), groups_.end(),
                     [&](const std::shared_ptr<Group>& group) { return group->job->priority < priority; });
}

bool Executor::Pick(Group& group) {
  if (ready_.empty() || !report_->MayStart()) return false;
  const absl::Duration now = clock_.Elapsed();
  std::optional<absl::Duration> wake;  // when a job that waits for its limiter can go on
  for (auto level = ready_.begin(); level != ready_.end();) {
    const int32_t priority = level->first;
    if (!SlotFree(priority)) break;
    bool gone = false;  // the level is
    for (size_t turns = level->second.size(); turns > 0 && !gone; --turns) {
      const std::shared_ptr<Job> job = level->second.front();
      level->second.splice(level->second.end(), level->second, level->second.begin());
      const absl::Duration next = job->limiter.Next(now, job->in_flight);
      if (next > now) {
        if (next < wake.value_or(absl::InfiniteDuration())) wake = next;
        continue;
      }
      while (job->ready && !TakeTasks(job, group)) {
      }
      if (!group.indexes.empty()) {
        if (job->startable.empty()) Dequeue(*job);
        job->limiter.Take(now);
        job->last_start = now;
        ++job->in_flight;
        group.job = job;
        group.prepaid = true;
        group.abort = Abort::kNone;
        group.cancel.emplace();
        group.active = true;
        return true;
      }
      gone = !ready_.contains(priority);
    }
    level = ready_.upper_bound(priority);
  }
  if (wake.has_value() && *wake < limiter_wake_.value_or(absl::InfiniteDuration())) {
    limiter_wake_ = wake;
    timers_.At(*wake, [this] {
      limiter_wake_.reset();
      Pump();
    });
  }
  return false;
}

bool Executor::TakeTasks(const std::shared_ptr<Job>& job, Group& group) {
  const std::shared_ptr<Lease> lease = job->startable.front();
  group.indexes.clear();
  if (!lease->batch.has_value() && !Decode(lease)) return false;
  const DecodedBatch& batch = *lease->batch;
  const Operation::Limits limits = job->operation->limits();
  std::string_view bucket;
  const auto fits = [&](uint32_t index) {
    if (!limits.same_bucket || limits.max_tasks == 1) return true;
    if (group.indexes.empty()) bucket = batch[index].bucket;
    return batch[index].bucket == bucket;
  };
  while (group.indexes.size() < limits.max_tasks && !lease->due.empty() && fits(lease->due.back())) {
    group.indexes.push_back(lease->due.back());
    lease->due.pop_back();
  }
  while (group.indexes.size() < limits.max_tasks && lease->due.empty() && !lease->unstarted.empty()) {
    auto& [first, end] = lease->unstarted.back();
    if (!fits(first)) break;
    group.indexes.push_back(first++);
    if (first == end) lease->unstarted.pop_back();
  }
  if (lease->unstarted.empty() && lease->due.empty()) {
    lease->queued = false;
    job->startable.pop_front();
  }
  group.lease = lease;
  return !group.indexes.empty();
}

bool Executor::Decode(const std::shared_ptr<Lease>& lease) {
  DecodedBatch batch;
  absl::Status status = reader_.Decode(lease->work.payload, batch);
  if (status.ok() && batch.size() != lease->work.batch_tasks) {
    status = absl::InvalidArgumentError(
        StrCat("the payload has ", batch.size(), " tasks, the grant says ", lease->work.batch_tasks));
  }
  if (!status.ok()) {
    RefuseBatch(lease, status);
    return false;
  }
  lease->batch = std::move(batch);
  lease->work.payload = std::string();
  return true;
}

void Executor::RefuseBatch(const std::shared_ptr<Lease>& lease, const absl::Status& why) {
  std::pair<std::string, int64_t> name{lease->work.job_id, lease->work.batch_no};
  const bool again = std::find(bad_batches_.begin(), bad_batches_.end(), name) != bad_batches_.end();
  LogError("batch.unreadable", {{"job", name.first},
                                {"batch", name.second},
                                {"lease", lease->work.lease_id},
                                {"again", again},
                                {"why", why}});
  if (again) {
    UnqueueLease(*lease);
    lease->unstarted.clear();
    lease->work.tasks.ForEach([&](uint32_t index) {
      Attempt attempt = FailedAttempt("PayloadInvalid", "The batch could not be read by the worker.");
      attempt.outcome.index = index;
      Report(*lease, std::move(attempt.outcome));
    });
    EndIfDone(*lease);
    return;
  }
  bad_batches_.push_back(std::move(name));
  if (bad_batches_.size() > kMaxBadBatches) bad_batches_.pop_front();
  GiveBackUnstarted(lease, false);
}

boost::asio::awaitable<void> Executor::Slot(std::shared_ptr<Group> group) {
  GroupResult result;
  int turn = 0;
  while (true) {
    counts_.in_flight.Set(static_cast<double>(groups_.size()));
    result.Clear();
    {
      Context context(*this, *group);
      const TaskGroup tasks(*group->lease->batch, group->lease->work.first_task, group->indexes);
      try {
        co_await group->job->operation->Run(tasks, context, result);
      } catch (const std::exception& error) {
        LogError("operation.threw", {{"job", group->job->id}, {"what", error.what()}});
        result.Clear();
        for (size_t i = 0; i < group->indexes.size(); ++i) {
          result.Set(i, FailedAttempt("InternalError", "The operation failed inside the worker."));
        }
      }
    }
    // Before settling, while the group still counts as in flight: else Pump would fill the gap with another
    // slot.
    if (++turn % kGroupsPerTurn == 0) co_await boost::asio::post(io_, boost::asio::use_awaitable);
    Settle(*group, result);
    if (!Pick(*group)) break;
    groups_.push_back(group);
  }
  counts_.in_flight.Set(static_cast<double>(groups_.size()));
}

// ---------------------------------------------------------------------------------------------------------------
// Settling.

void Executor::Settle(Group& group, GroupResult& result) {
  failpoint::Hit("worker.after_outcome");
  group.active = false;
  const auto self = std::find_if(groups_.begin(), groups_.end(),
                                 [&](const std::shared_ptr<Group>& other) { return other.get() == &group; });
  std::swap(*self, groups_.back());
  groups_.pop_back();
  --group.job->in_flight;
  if (group.job->limiter.limited()) SchedulePump();
  const std::shared_ptr<Lease> lease = group.lease;
  const std::vector<uint32_t>& indexes = group.indexes;
  if (lease->over) return;

  // Plain successes are reported as ranges; anything else by the task.
  std::vector<Attempt*> special;
  if (!result.attempts().empty()) {
    special.resize(indexes.size());
    for (auto& [i, attempt] : result.attempts()) special[i] = &attempt;
  }
  int64_t plain = 0;
  for (size_t i = 0; i < indexes.size();) {
    Attempt* attempt = special.empty() ? nullptr : special[i];
    const uint32_t first = indexes[i];
    if (attempt == nullptr && !lease->retries.contains(first)) {
      uint32_t end = first;
      do {
        ++end;
        ++i;
      } while (i < indexes.size() && indexes[i] == end && (special.empty() || special[i] == nullptr) &&
               (lease->retries.empty() || !lease->retries.contains(end)));
      report_->Succeeded(lease->work.lease_id, first, end);
      plain += end - first;
      continue;
    }
    ++i;
    Attempt success;
    SettleTask(lease, first, attempt == nullptr ? success : *attempt, group.abort);
    if (lease->over) return;
  }
  if (plain > 0) {
    group.job->metrics.succeeded.Add(static_cast<double>(plain));
    lease->unfinished -= plain;
    backlog_.Finished(plain, clock_.Elapsed());
    CountUnfinished(*lease->job, -plain);
  }
  EndIfDone(*lease);
}

void Executor::SettleTask(const std::shared_ptr<Lease>& lease, uint32_t index, Attempt& attempt,
                          Abort abort) {
  const auto retry = lease->retries.find(index);
  const uint32_t before = retry == lease->retries.end() ? 0 : retry->second.state.attempts;
  attempt.outcome.index = index;
  attempt.outcome.attempts = before + 1;
  if (attempt.end == Attempt::End::kCancelled) {
    switch (abort) {
      case Abort::kLost: return;
      case Abort::kInterrupted: return Interrupt(*lease, index, before + 1, nullptr);
      case Abort::kDrain: break;
      case Abort::kFence: return Unstart(lease, index);
      case Abort::kNone:
        // The fence was closed before the request; anything else is a fault like any other.
        if (!report_->MayRequest()) return Unstart(lease, index);
        attempt.end = Attempt::End::kTransient;
        attempt.transience = Transience::kTransient;
        break;
    }
    if (abort == Abort::kDrain) {
      TaskSet task;
      task.Add(index);
      return GiveBack(*lease, task);
    }
  }
  if (attempt.end == Attempt::End::kDone) return Report(*lease, std::move(attempt.outcome));
  // Transient. A lease that starts nothing more does not try again either.
  if (lease->interrupted) return Interrupt(*lease, index, before + 1, &attempt.outcome);
  if (lease->revoked || draining_) {
    TaskSet task;
    task.Add(index);
    return GiveBack(*lease, task);
  }
  const std::optional<absl::Duration> wait =
      NextAttempt(lease->job->retry, attempt.transience, attempt.retry_after, clock_.Elapsed(), random_,
                  lease->retries[index].state);
  if (!wait.has_value()) return Report(*lease, std::move(attempt.outcome));
  WaitForRetry(lease, index, *wait, std::move(attempt.outcome));
}

void Executor::WaitForRetry(const std::shared_ptr<Lease>& lease, uint32_t index, absl::Duration wait,
                            Outcome last) {
  lease->job->metrics.retries.Add();
  Lease::Retry& retry = lease->retries[index];
  retry.last = std::move(last);
  ++waiting_;
  counts_.waiting.Set(static_cast<double>(waiting_));
  retry.timer = timers_.At(clock_.Elapsed() + wait, [this, lease, index] {
    --waiting_;
    lease->retries[index].timer.reset();
    lease->due.push_back(index);
    QueueLease(lease, true);
    SchedulePump();
  });
}

void Executor::Unstart(const std::shared_ptr<Lease>& lease, uint32_t index) {
  if (lease->revoked || draining_) {
    TaskSet task;
    task.Add(index);
    return GiveBack(*lease, task);
  }
  lease->unstarted.emplace_back(index, index + 1);
  QueueLease(lease, true);
}

void Executor::Report(Lease& lease, Outcome outcome) {
  lease.retries.erase(outcome.index);
  (outcome.succeeded ? lease.job->metrics.succeeded : lease.job->metrics.failed).Add();
  report_->Finished(lease.work.lease_id, std::move(outcome));
  --lease.unfinished;
  backlog_.Finished(1, clock_.Elapsed());
  CountUnfinished(*lease.job, -1);
}

void Executor::Interrupt(Lease& lease, uint32_t index, uint32_t attempts, const Outcome* last) {
  std::string message = "The job was stopped while the task ran; whether it took effect is not known.";
  if (last != nullptr) {
    message = StrCat("The job was stopped before the task could be tried again; last: ", last->http_status,
                     " ", last->code, " ", last->message);
  }
  Attempt attempt = FailedAttempt("Interrupted", message);
  attempt.outcome.index = index;
  attempt.outcome.attempts = std::max<uint32_t>(1, attempts);
  if (last != nullptr) attempt.outcome.http_status = last->http_status;
  Report(lease, std::move(attempt.outcome));
}

void Executor::GiveBack(Lease& lease, const TaskSet& tasks) {
  const auto count = static_cast<int64_t>(tasks.count());
  if (count == 0) return;
  tasks.ForEach([&](uint32_t index) { lease.retries.erase(index); });
  lease.job->metrics.returned.Add(static_cast<double>(count));
  lease.unfinished -= count;
  CountUnfinished(*lease.job, -count);
  report_->GaveBack(lease.work.lease_id, tasks);
}

void Executor::GiveBackUnstarted(const std::shared_ptr<Lease>& lease, bool interrupt_waiting) {
  TaskSet tasks;
  for (const auto& [first, end] : lease->unstarted) tasks.AddRange(first, end);
  lease->unstarted.clear();
  // Those that wait, and those whose wait is over.
  std::vector<uint32_t> waiting = std::exchange(lease->due, {});
  for (auto& [index, retry] : lease->retries) {
    if (!retry.timer.has_value()) continue;
    timers_.Cancel(*retry.timer);
    retry.timer.reset();
    --waiting_;
    waiting.push_back(index);
  }
  counts_.waiting.Set(static_cast<double>(waiting_));
  UnqueueLease(*lease);
  for (const uint32_t index : waiting) {
    if (interrupt_waiting) {
      const Lease::Retry retry = lease->retries[index];
      Interrupt(*lease, index, retry.state.attempts, &retry.last);
    } else {
      tasks.Add(index);
    }
  }
  GiveBack(*lease, tasks);
  EndIfDone(*lease);
}

void Executor::EndIfDone(Lease& lease) {
  if (lease.over || lease.unfinished > 0) return;
  lease.over = true;
  leases_.erase(lease.work.lease_id);
}

void Executor::WatchSurplus() {
  // The least that Target() says is two rounds.
  if (watching_surplus_ || unfinished_ <= kSurplusFrom * 2 * static_cast<int64_t>(options_.concurrency))
    return;
  watching_surplus_ = true;
  timers_.At(clock_.Elapsed() + kSurplusLook, [this] {
    watching_surplus_ = false;
    CheckSurplus();
    WatchSurplus();
  });
}

void Executor::CheckSurplus() {
  if (!report_->MayStart()) {
    backlog_.Stalled(clock_.Elapsed());
    had_surplus_ = false;
    return;
  }
  const int64_t target = Target();
  const bool had_surplus = std::exchange(had_surplus_, unfinished_ > kSurplusFrom * target);
  if (!had_surplus || !had_surplus_) return;
  had_surplus_ = false;
  // Those that would be started last, as long as nothing of them was.
  std::vector<std::shared_ptr<Lease>> last;
  for (auto level = ready_.rbegin(); level != ready_.rend(); ++level) {
    for (const std::shared_ptr<Job>& job : level->second) {
      std::copy_if(job->startable.rbegin(), job->startable.rend(), std::back_inserter(last),
                   [](const std::shared_ptr<Lease>& lease) { return !lease->batch.has_value(); });
    }
  }
  const int64_t before = unfinished_;
  for (const std::shared_ptr<Lease>& lease : last) {
    if (unfinished_ - lease->unfinished < kSurplusLeft * target) break;
    GiveBackUnstarted(lease, false);
  }
  if (unfinished_ < before) {
    LogInfo("surplus.given_back",
            {{"tasks", before - unfinished_}, {"left", unfinished_}, {"target", target}});
  }
}

void Executor::CountUnfinished(Job& job, int64_t change) {
  const absl::Duration now = clock_.Elapsed();
  unfinished_ += change;
  job.unfinished += change;
  if (unfinished_ > 0) {
    backlog_.Busy(now);
    WatchSurplus();
  } else {
    backlog_.Idle(now);
  }
  counts_.unfinished.Set(static_cast<double>(unfinished_));
  counts_.target.Set(static_cast<double>(Target()));
  if (on_change_) on_change_();
}

}  // namespace drover
