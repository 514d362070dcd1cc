#include "services/worker/lease/lease_client.h"

#include <algorithm>
#include <utility>

#include "common/codec/task_batch.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/strings/strings.h"
#include "drover/v1/worker_service.pb.h"

namespace drover {
namespace {

constexpr int32_t kProtocol = 1;
// What a Welcome may ask for; outside of it the nearest bound is used.
constexpr absl::Duration kMinTtl = absl::Milliseconds(300);
constexpr absl::Duration kMaxTtl = absl::Hours(1);
constexpr absl::Duration kMinHeartbeat = absl::Milliseconds(10);
constexpr int64_t kMinUnackedBytes = 64 * 1024;
constexpr int64_t kMaxUnackedBytes = 64 << 20;
constexpr int64_t kDefaultMessageBytes = 8 << 20;
// Statuses that are not acknowledged and still remembered. Older ones are of no use to the fence.
constexpr size_t kMaxSentStatuses = 1024;
// About what an outcome, and a range of tasks, take in a message beside their texts.
constexpr int64_t kOutcomeBytes = 24;
constexpr int64_t kRangeBytes = 8;

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

absl::Duration Clamp(absl::Duration value, absl::Duration low, absl::Duration high) {
  return std::min(std::max(value, low), high);
}

void AddRanges(const TaskSet& tasks, google::protobuf::RepeatedPtrField<v1::TaskRange>& out) {
  tasks.ForEachRange([&](uint32_t first, uint32_t end) {
    v1::TaskRange& range = *out.Add();
    range.set_first(static_cast<int32_t>(first));
    range.set_end(static_cast<int32_t>(end));
  });
}

// The tasks of a Grant: an error says what is wrong with it.
absl::StatusOr<TaskSet> GrantedTasks(const v1::Grant& grant) {
  if (grant.batch_tasks() < 1 || grant.batch_tasks() > static_cast<int32_t>(kMaxBatchTasks)) {
    return absl::InvalidArgumentError(StrCat("a grant of a batch with ", grant.batch_tasks(), " tasks"));
  }
  if (grant.tasks().empty()) return TaskSet::All(static_cast<size_t>(grant.batch_tasks()));
  TaskSet tasks;
  int32_t last = 0;
  for (const v1::TaskRange& range : grant.tasks()) {
    if (range.first() < last || range.end() <= range.first() || range.end() > grant.batch_tasks()) {
      return absl::InvalidArgumentError(StrCat("a grant of tasks ", range.first(), " to ", range.end(),
                                               " of ", grant.batch_tasks(), ", after ", last));
    }
    tasks.AddRange(static_cast<uint32_t>(range.first()), static_cast<uint32_t>(range.end()));
    last = range.end();
  }
  return tasks;
}

}  // namespace

LeaseClient::LeaseClient(const v1::Hello& identity, const Options& options, const Clock& clock,
                         Random& random, LeaseTransport& transport, LeaseRunner& runner,
                         const LeaseMetrics& metrics)
    : identity_(std::make_unique<v1::Hello>(identity)),
      options_(options),
      clock_(clock),
      random_(random),
      transport_(transport),
      runner_(runner),
      metrics_(metrics) {}

LeaseClient::~LeaseClient() = default;

// ---------------------------------------------------------------------------------------------------------------
// The stream.

void LeaseClient::Start() {
  controller_ = random_.Next() % options_.controllers;
  Attach();
}

void LeaseClient::Stop() {
  if (stream_ == Stream::kAttaching || stream_ == Stream::kAttached) transport_.Close();
  stream_ = Stream::kNone;
  metrics_.attached.Set(0);
}

void LeaseClient::StartDrain() {
  if (draining_) return;
  draining_ = true;
  runner_.StartDrain();
  Tick();
}

void LeaseClient::Attach() {
  ForgetUnusedJobs("");  // the next stream says them again
  // A Hello without a session begins one, whose first it is.
  attachment_ = session_id_.empty() ? 1 : attachment_ + 1;
  auto message = std::make_shared<v1::WorkRequest>();
  v1::Hello& hello = *message->mutable_hello();
  hello = *identity_;
  hello.set_min_protocol(kProtocol);
  hello.set_max_protocol(kProtocol);
  hello.set_session_id(session_id_);
  hello.set_resume_token(resume_token_);
  hello.set_attachment(attachment_);
  for (const auto& [id, lease] : leases_) {
    v1::HeldLease& held = *hello.add_held_leases();
    held.set_lease_id(id);
    held.set_job_id(lease.job_id);
    held.set_batch_no(lease.batch_no);
  }
  stream_ = Stream::kAttaching;
  status_number_ = 0;
  grants_received_ = 0;
  statuses_.clear();
  hello_sent_ = clock_.Elapsed();
  failpoint::Hit("worker.hello_delay");
  transport_.Open(controller_);
  transport_.Send(std::move(message));
}

void LeaseClient::WaitToAttach(absl::Duration wait, bool elsewhere) {
  stream_ = Stream::kWaiting;
  metrics_.attached.Set(0);
  if (elsewhere) controller_ = (controller_ + 1) % options_.controllers;
  next_attach_ = clock_.Elapsed() + wait;
}

void LeaseClient::Retry(std::string_view why, const absl::Status& status) {
  if (stream_ == Stream::kAttaching) metrics_.attaches_failed.Add();
  const absl::Duration wait = backoff_ * (0.5 + 0.5 * random_.NextUnit());
  backoff_ = std::min(backoff_ * 2, kMaxAttachBackoff);
  LogWarning("stream.ended", {{"why", why},
                              {"status", status},
                              {"session", session_id_},
                              {"attachment", attachment_},
                              {"controller", controller_},
                              {"leases", leases_.size()},
                              {"wait", wait}});
  WaitToAttach(wait, true);
}

void LeaseClient::OnStreamBroken(const absl::Status& status) {
  if (stream_ != Stream::kAttaching && stream_ != Stream::kAttached) return;
  const bool blames = status.code() == absl::StatusCode::kInvalidArgument ||
                      status.code() == absl::StatusCode::kPermissionDenied ||
                      status.code() == absl::StatusCode::kUnauthenticated;
  if (blames) {
    const absl::Duration now = clock_.Elapsed();
    if (blamed_.has_value() && now - *blamed_ < kBlamedWindow) {
      LogError("session.abandoned",
               {{"session", session_id_}, {"leases", leases_.size()}, {"status", status}});
      DropAll("the controller refuses what is said in this session");
      session_id_.clear();
      resume_token_.clear();
      blamed_.reset();
    } else {
      blamed_ = now;
    }
  }
  Retry("closed", status);
}

void LeaseClient::Violation(std::string_view what) {
  metrics_.violations.Add();
  LogError("protocol.violated", {{"what", what}, {"session", session_id_}, {"controller", controller_}});
  transport_.Close();
  // Such a controller is not asked again at once, and neither is any other that may be like it.
  backoff_ = kMaxAttachBackoff;
  Retry("violation", absl::InvalidArgumentError(ToAbsl(what)));
}

void LeaseClient::OnMessage(const v1::WorkResponse& message) {
  if (stream_ != Stream::kAttaching && stream_ != Stream::kAttached) return;
  if (stream_ == Stream::kAttaching && !message.has_welcome() && !message.has_drain()) {
    Violation("a message before Welcome");
    return;
  }
  switch (message.message_case()) {
    case v1::WorkResponse::kWelcome: OnWelcome(message.welcome()); break;
    case v1::WorkResponse::kStatusAck: OnStatusAck(message.status_ack()); break;
    case v1::WorkResponse::kJobContext: OnJobContext(message.job_context()); break;
    case v1::WorkResponse::kGrant: OnGrant(message.grant()); break;
    case v1::WorkResponse::kSegmentAck: OnSegmentAck(message.segment_ack()); break;
    case v1::WorkResponse::kRevoke: OnRevoke(message.revoke()); break;
    case v1::WorkResponse::kDrain: OnDrain(message.drain()); break;
    case v1::WorkResponse::MESSAGE_NOT_SET: break;  // of a later protocol
  }
}

void LeaseClient::OnWelcome(const v1::Welcome& welcome) {
  if (stream_ != Stream::kAttaching) return Violation("a second Welcome");
  if (welcome.protocol() != kProtocol) {
    return Violation(StrCat("protocol ", welcome.protocol(), ", which was not offered"));
  }
  if (welcome.session_id().empty()) return Violation("a Welcome without a session");
  UpdateFence();  // by what was known before: a fence that has fallen stays
  stream_ = Stream::kAttached;
  heard_ = clock_.Elapsed();
  metrics_.attached.Set(1);
  metrics_.attaches_ok.Add();
  const absl::Duration ttl = FromProto(welcome.ttl());
  ttl_ = Clamp(ttl > absl::ZeroDuration() ? ttl : absl::Seconds(15), kMinTtl, kMaxTtl);
  const absl::Duration heartbeat = FromProto(welcome.heartbeat_interval());
  heartbeat_ = Clamp(heartbeat > absl::ZeroDuration() ? heartbeat : ttl_ / 5, kMinHeartbeat, ttl_ / 3);
  max_message_bytes_ = welcome.max_message_bytes() > 0 ? welcome.max_message_bytes() : kDefaultMessageBytes;
  max_unacked_bytes_ = welcome.max_unacked_bytes() > 0
                           ? std::clamp(welcome.max_unacked_bytes(), kMinUnackedBytes, kMaxUnackedBytes)
                           : kDefaultMessageBytes;
  if (welcome.session_id() != session_id_) {
    BeginSession(welcome);
  } else {
    resume_token_ = welcome.resume_token();
    renewed_ = std::max(renewed_, hello_sent_);
    for (const int64_t id : welcome.lost_leases()) {
      if (const auto it = leases_.find(id); it != leases_.end()) DropLease(it, "lost while away");
    }
  }
  LogInfo("stream.attached", {{"session", session_id_},
                              {"attachment", attachment_},
                              {"controller", welcome.controller()},
                              {"leases", leases_.size()},
                              {"ttl", ttl_}});
  ResendSegments();
  CutAged();
  SendStatus(CurrentAppetite());
  runner_.Wake();
}

void LeaseClient::BeginSession(const v1::Welcome& welcome) {
  if (!session_id_.empty()) {
    LogWarning("session.ended", {{"session", session_id_}, {"leases", leases_.size()}});
    DropAll("its session has ended");
  }
  session_id_ = welcome.session_id();
  resume_token_ = welcome.resume_token();
  renewed_ = hello_sent_;
  SetFenced(false);
  metrics_.sessions.Add();
  LogInfo("session.begun", {{"session", session_id_}, {"controller", welcome.controller()}});
}

void LeaseClient::OnDrain(const v1::Drain& drain) {
  transport_.Close();
  // Elsewhere nearly at once; to the same address within the time asked for, as far as the fence leaves room.
  const absl::Duration most = options_.controllers > 1
                                  ? kMinAttachBackoff
                                  : Clamp(FromProto(drain.max_wait()), kMinAttachBackoff, ttl_ / 3);
  const absl::Duration wait = most * random_.NextUnit();
  LogInfo("stream.drained", {{"session", session_id_}, {"leases", leases_.size()}, {"wait", wait}});
  WaitToAttach(wait, true);
}

// ---------------------------------------------------------------------------------------------------------------
// Time and the fence.

void LeaseClient::Tick() {
  UpdateFence();
  const absl::Duration now = clock_.Elapsed();
  switch (stream_) {
    case Stream::kNone: return;
    case Stream::kWaiting:
      if (now >= next_attach_) Attach();
      return;
    case Stream::kAttaching:
      if (now - hello_sent_ >= WelcomeTimeout()) {
        transport_.Close();
        Retry("no Welcome", absl::DeadlineExceededError("no answer to Hello"));
      }
      return;
    case Stream::kAttached:
      if (now - heard_ >= SilenceLimit()) {
        transport_.Close();
        Retry("silence", absl::DeadlineExceededError("no Status acknowledged for half a TTL"));
        return;
      }
      CutAged();
      MaybeSendStatus();
      return;
  }
}

absl::Duration LeaseClient::next_tick() const {
  absl::Duration next = absl::InfiniteDuration();
  if (!session_id_.empty()) {
    if (!fenced_) {
      next = renewed_ + ttl_ * 2 / 3;
    } else if (!aborted_) {
      next = renewed_ + ttl_ * 5 / 6;
    }
  }
  switch (stream_) {
    case Stream::kNone: break;
    case Stream::kWaiting: next = std::min(next, next_attach_); break;
    case Stream::kAttaching: next = std::min(next, hello_sent_ + WelcomeTimeout()); break;
    case Stream::kAttached:
      next = std::min({next, status_due_, heard_ + SilenceLimit()});
      if (!aging_.empty()) next = std::min(next, aging_.begin()->first);
      break;
  }
  return next;
}

// A controller that renews nothing is stuck, cut off from the database, or cut off from here by a network
// that drops packets and says nothing: perhaps another isn't. The session ends a TTL after its last renewal,
// so half of that is the time to look for another one: it leaves two tries, each with WelcomeTimeout(). The
// protocol's model lets a stream break at any moment and a worker attach whenever it has none, so looking
// earlier is a behaviour that it covers; and the fence is neither moved nor lifted by it. Not earlier than
// what an honest controller may take, though, or short TTLs would make workers wander.
absl::Duration LeaseClient::SilenceLimit() const {
  return std::min(std::max(ttl_ / 2, heartbeat_ + kAckSlack), ttl_);
}

absl::Duration LeaseClient::WelcomeTimeout() const {
  return session_id_.empty() ? kWelcomeTimeout : Clamp(ttl_ / 4, kMinWelcomeTimeout, kWelcomeTimeout);
}

void LeaseClient::UpdateFence() {
  if (session_id_.empty()) return;
  const absl::Duration silent = clock_.Elapsed() - renewed_;
  if (!fenced_ && silent >= ttl_ * 2 / 3) SetFenced(true);
  if (fenced_ && !aborted_ && silent >= ttl_ * 5 / 6) {
    aborted_ = true;
    LogWarning("fence.aborts", {{"session", session_id_}, {"silent", silent}});
    runner_.AbortInFlight();
  }
}

void LeaseClient::SetFenced(bool fenced) {
  if (fenced == fenced_) return;
  const absl::Duration now = clock_.Elapsed();
  fenced_ = fenced;
  aborted_ = false;
  if (fenced) {
    fenced_since_ = now;
    LogWarning("fence.fell",
               {{"session", session_id_}, {"silent", now - renewed_}, {"leases", leases_.size()}});
  } else {
    metrics_.fenced_seconds.Add(std::max(0.0, absl::ToDoubleSeconds(now - fenced_since_)));
    LogInfo("fence.lifted", {{"session", session_id_}, {"after", now - fenced_since_}});
  }
  metrics_.fenced.Set(fenced ? 1 : 0);
}

bool LeaseClient::MayRequest() {
  UpdateFence();
  return !session_id_.empty() && !fenced_;
}

bool LeaseClient::MayStart() {
  if (unacked_bytes_ >= max_unacked_bytes_) {
    full_ = true;
    return false;
  }
  return MayRequest();
}

void LeaseClient::OnStatusAck(const v1::StatusAck& ack) {
  if (ack.number() > status_number_ || ack.number() < 1)
    return Violation("a StatusAck for a Status that was not sent");
  UpdateFence();
  heard_ = clock_.Elapsed();
  backoff_ = kMinAttachBackoff;
  std::optional<absl::Duration> sent;
  while (!statuses_.empty() && statuses_.front().number <= ack.number()) {
    sent = statuses_.front().sent;
    statuses_.pop_front();
  }
  if (!sent.has_value()) return;  // acknowledged before
  renewed_ = std::max(renewed_, *sent);
  if (!fenced_) return;
  if (clock_.Elapsed() - renewed_ < ttl_ * 2 / 3) {
    SetFenced(false);
    runner_.Wake();
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Leases.

void LeaseClient::OnJobContext(const v1::JobContext& context) {
  const auto it = jobs_.find(context.job_id());
  if (it != jobs_.end() && context.version() < it->second.version) return;  // older than what is known
  if (const absl::Status status = runner_.SetJob(context); !status.ok()) {
    return Violation(StrCat("a job that this worker can't run: ", FromAbsl(status.message())));
  }
  Job& job = jobs_[context.job_id()];
  job.version = context.version();
  job.early = context.early();
}

void LeaseClient::OnGrant(const v1::Grant& grant) {
  const auto job = jobs_.find(grant.job_id());
  if (job == jobs_.end()) return Violation("a Grant without a JobContext");
  if (grant.lease_id() <= 0 || leases_.contains(grant.lease_id()))
    return Violation("a Grant of a lease that is held");
  if (grant.first_task() < 0) return Violation("a Grant with a negative position");
  if (leases_.size() >= kMaxHeldLeases) return Violation("more leases than a Hello can name");
  absl::StatusOr<TaskSet> tasks = GrantedTasks(grant);
  if (!tasks.ok()) return Violation(FromAbsl(tasks.status().message()));

  ++grants_received_;
  Lease& lease = leases_[grant.lease_id()];
  lease.job_id = grant.job_id();
  lease.batch_no = grant.batch_no();
  lease.left = *tasks;
  lease.left_count = tasks->count();
  ++job->second.leases;
  granted_since_ += static_cast<int64_t>(lease.left_count);
  metrics_.grants.Add();
  metrics_.leases.Set(static_cast<double>(leases_.size()));
  LogDebug("lease.granted", {{"job", grant.job_id()},
                             {"lease", grant.lease_id()},
                             {"batch", grant.batch_no()},
                             {"tasks", lease.left_count}});
  LeaseWork work;
  work.lease_id = grant.lease_id();
  work.job_id = grant.job_id();
  work.batch_no = grant.batch_no();
  work.first_task = grant.first_task();
  work.batch_tasks = static_cast<uint32_t>(grant.batch_tasks());
  work.tasks = *std::move(tasks);
  work.payload = grant.payload();
  runner_.Start(std::move(work));
}

void LeaseClient::OnRevoke(const v1::Revoke& revoke) {
  const bool abort = revoke.mode() == v1::Revoke::ABORT;
  const absl::Duration grace = std::max(FromProto(revoke.grace()), absl::ZeroDuration());
  std::vector<int64_t> ids;  // a report may change the table
  if (revoke.lease_id() != 0) {
    if (leases_.contains(revoke.lease_id())) ids.push_back(revoke.lease_id());
  } else {
    for (const auto& [id, lease] : leases_) {
      if (lease.job_id == revoke.job_id()) ids.push_back(id);
    }
  }
  LogInfo("lease.revoked",
          {{"job", revoke.job_id()}, {"lease", revoke.lease_id()}, {"leases", ids.size()}, {"abort", abort}});
  for (const int64_t id : ids) runner_.Revoke(id, abort, grace);
  // Its Grant may have been withdrawn when its context was on the way already.
  if (revoke.lease_id() == 0) ForgetUnusedJobs(revoke.job_id());
}

void LeaseClient::ForgetUnusedJobs(const std::string& only) {
  for (auto it = jobs_.begin(); it != jobs_.end();) {
    const auto job = it++;
    if (job->second.leases > 0 || (!only.empty() && job->first != only)) continue;
    runner_.ForgetJob(job->first);
    jobs_.erase(job);
  }
}

void LeaseClient::OnSegmentAck(const v1::SegmentAck& ack) {
  const auto it = leases_.find(ack.lease_id());
  if (it == leases_.end()) return;  // over, or lost before
  if (ack.result() == v1::SegmentAck::LOST) {
    metrics_.segments_lost.Add();
    DropLease(it, "refused");
    return;
  }
  if (ack.result() != v1::SegmentAck::RECORDED) return Violation("a SegmentAck without a result");
  Lease& lease = it->second;
  const auto segment = lease.unacked.find(ack.sequence());
  if (segment == lease.unacked.end()) return;  // acknowledged before
  metrics_.segments_recorded.Add();
  Unaccount(segment->second.second);
  lease.unacked.erase(segment);
  if (lease.left_count == 0 && lease.open_tasks == 0 && lease.unacked.empty()) EraseLease(it);
}

void LeaseClient::DropLease(Leases::iterator lease, std::string_view why) {
  const int64_t id = lease->first;
  // One that only waited for its last acknowledgment may as well have been recorded: no reason to warn.
  const bool settled = lease->second.left_count == 0 && lease->second.open_tasks == 0;
  Log(settled ? LogLevel::kInfo : LogLevel::kWarning, "lease.lost",
      {{"job", lease->second.job_id},
       {"lease", id},
       {"batch", lease->second.batch_no},
       {"left", lease->second.left_count},
       {"why", why}});
  metrics_.leases_lost.Add();
  runner_.Drop(id);
  EraseLease(lease);
}

void LeaseClient::DropAll(std::string_view why) {
  while (!leases_.empty()) DropLease(leases_.begin(), why);
}

void LeaseClient::EraseLease(Leases::iterator lease) {
  aging_.erase({lease->second.due, lease->first});
  int64_t bytes = lease->second.open_bytes;
  for (const auto& [sequence, segment] : lease->second.unacked) bytes += segment.second;
  const std::string job_id = std::move(lease->second.job_id);
  leases_.erase(lease);
  metrics_.leases.Set(static_cast<double>(leases_.size()));
  if (const auto job = jobs_.find(job_id); job != jobs_.end() && --job->second.leases == 0) {
    jobs_.erase(job);
    runner_.ForgetJob(job_id);
  }
  Unaccount(bytes);
}

// ---------------------------------------------------------------------------------------------------------------
// Outcomes and segments.

LeaseClient::Lease* LeaseClient::Reporting(int64_t lease_id) {
  const auto it = leases_.find(lease_id);
  return it == leases_.end() ? nullptr : &it->second;
}

void LeaseClient::Succeeded(int64_t lease_id, uint32_t first, uint32_t end) {
  Lease* lease = Reporting(lease_id);
  if (lease == nullptr || first >= end) return;
  TaskSet range;
  range.AddRange(first, end);
  if (!range.IsSubsetOf(lease->left)) {
    LogError("outcome.unexpected", {{"lease", lease_id}, {"first", first}, {"end", end}});
    return;
  }
  lease->left.Subtract(range);
  lease->left_count -= end - first;
  lease->open_tasks += end - first;
  lease->succeeded.AddRange(first, end);
  NoteOpen(lease_id, *lease, kRangeBytes);
}

void LeaseClient::Finished(int64_t lease_id, Outcome outcome) {
  if (outcome.IsDefault()) return Succeeded(lease_id, outcome.index, outcome.index + 1);
  Lease* lease = Reporting(lease_id);
  if (lease == nullptr) return;
  if (!lease->left.Contains(outcome.index)) {
    LogError("outcome.unexpected", {{"lease", lease_id}, {"task", outcome.index}});
    return;
  }
  SanitizeOutcome(outcome);
  TaskSet task;
  task.Add(outcome.index);
  lease->left.Subtract(task);
  --lease->left_count;
  ++lease->open_tasks;
  const auto bytes = kOutcomeBytes + static_cast<int64_t>(outcome.code.size() + outcome.message.size());
  lease->outcomes.push_back(std::move(outcome));
  NoteOpen(lease_id, *lease, bytes);
}

void LeaseClient::GaveBack(int64_t lease_id, const TaskSet& tasks) {
  Lease* lease = Reporting(lease_id);
  if (lease == nullptr || tasks.empty()) return;
  if (!tasks.IsSubsetOf(lease->left)) {
    LogError("outcome.unexpected", {{"lease", lease_id}, {"given_back", tasks.count()}});
    return;
  }
  lease->left.Subtract(tasks);
  lease->left_count -= tasks.count();
  lease->open_tasks += tasks.count();
  lease->returned.Union(tasks);
  int64_t ranges = 0;
  tasks.ForEachRange([&](uint32_t, uint32_t) { ++ranges; });
  NoteOpen(lease_id, *lease, ranges * kRangeBytes);
  // Others wait for them.
  if (lease->open_tasks > 0) Cut(lease_id, *lease);
}

void LeaseClient::NoteOpen(int64_t lease_id, Lease& lease, int64_t bytes) {
  lease.open_bytes += bytes;
  unacked_bytes_ += bytes;
  if (lease.due == absl::InfiniteDuration()) {
    const auto job = jobs_.find(lease.job_id);
    const bool early = job != jobs_.end() && job->second.early;
    lease.due = clock_.Elapsed() + (early ? kSegmentAgeEarly : kSegmentAge);
    aging_.emplace(lease.due, lease_id);
  }
  CutIfDue(lease_id, lease);
}

void LeaseClient::CutIfDue(int64_t lease_id, Lease& lease) {
  const int64_t most = std::min<int64_t>(kSegmentBytes, max_message_bytes_ / 4);
  if (lease.left_count == 0 || lease.outcomes.size() >= kSegmentSpecialOutcomes ||
      lease.open_tasks >= kSegmentOutcomes || lease.open_bytes >= most) {
    Cut(lease_id, lease);
  }
}

void LeaseClient::CutAged() {
  const absl::Duration now = clock_.Elapsed();
  while (!aging_.empty() && aging_.begin()->first <= now) {
    const int64_t id = aging_.begin()->second;
    Cut(id, leases_.at(id));
  }
}

void LeaseClient::Cut(int64_t lease_id, Lease& lease) {
  failpoint::Hit("worker.before_segment");
  auto message = std::make_shared<v1::WorkRequest>();
  v1::Segment& segment = *message->mutable_segment();
  segment.set_lease_id(lease_id);
  segment.set_sequence(++lease.last_sequence);
  segment.set_job_id(lease.job_id);
  segment.set_batch_no(lease.batch_no);
  AddRanges(lease.succeeded, *segment.mutable_succeeded());
  AddRanges(lease.returned, *segment.mutable_returned());
  for (Outcome& outcome : lease.outcomes) {
    v1::TaskOutcome& out = *segment.add_outcomes();
    out.set_task(static_cast<int32_t>(outcome.index));
    out.set_succeeded(outcome.succeeded);
    out.set_http_status(outcome.http_status);
    out.set_code(std::move(outcome.code));
    out.set_message(std::move(outcome.message));
    out.set_attempts(static_cast<int32_t>(std::min<uint32_t>(outcome.attempts, INT32_MAX)));
    out.set_bytes(static_cast<int64_t>(std::min<uint64_t>(outcome.bytes, INT64_MAX)));
  }
  const auto bytes = static_cast<int64_t>(message->ByteSizeLong());
  unacked_bytes_ += bytes - lease.open_bytes;
  metrics_.unacked_bytes.Set(static_cast<double>(unacked_bytes_));
  aging_.erase({lease.due, lease_id});
  lease.due = absl::InfiniteDuration();
  lease.succeeded.Clear();
  lease.returned.Clear();
  lease.outcomes.clear();
  lease.open_tasks = 0;
  lease.open_bytes = 0;
  lease.unacked.emplace(lease.last_sequence, std::make_pair(message, bytes));
  // While attaching they wait for the Welcome, which sends everything that is not acknowledged.
  if (stream_ == Stream::kAttached) {
    metrics_.segments_sent.Add();
    transport_.Send(std::move(message));
  }
}

void LeaseClient::ResendSegments() {
  for (const auto& [id, lease] : leases_) {
    for (const auto& [sequence, segment] : lease.unacked) {
      metrics_.segments_resent.Add();
      transport_.Send(segment.first);
    }
  }
}

void LeaseClient::Unaccount(int64_t bytes) {
  unacked_bytes_ -= bytes;
  metrics_.unacked_bytes.Set(static_cast<double>(unacked_bytes_));
  // Wakes with some room, so that it does not go stop and start at each acknowledgment.
  if (full_ && unacked_bytes_ <= max_unacked_bytes_ / 4 * 3) {
    full_ = false;
    runner_.Wake();
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Status.

Appetite LeaseClient::CurrentAppetite() {
  Appetite appetite = runner_.appetite();
  if (draining_ || leases_.size() >= kFewerLeasesThan || !MayStart()) {
    appetite.credit = 0;
    appetite.urgent_credit = 0;
  }
  return appetite;
}

void LeaseClient::MaybeSendStatus() {
  const absl::Duration now = clock_.Elapsed();
  const absl::Duration since = now - status_sent_;
  status_due_ = status_sent_ + heartbeat_;
  if (transport_.status_waiting()) {  // one written late says more than two
    status_due_ = now + kStatusGap;
    return;
  }
  if (since < kHungryStatusGap) {
    status_due_ = status_sent_ + kHungryStatusGap;
    return;
  }
  const Appetite appetite = CurrentAppetite();
  if (since >= heartbeat_) return SendStatus(appetite);
  // What the controller believes: what was said, less what it has granted since.
  const int64_t gain = appetite.credit - (said_.credit - granted_since_);
  const int64_t much = std::max<int64_t>(1, appetite.target / 4);
  if (gain >= much) return SendStatus(appetite);
  // What was granted beyond the ordinary credit came off the urgent one, even if what is wanted is the same
  // as before.
  const int64_t urgent_used = granted_since_ - said_.credit;
  if (urgent_used > 0 && urgent_used >= said_.urgent_credit / 4 && appetite.urgent_credit > 0)
    return SendStatus(appetite);
  const bool changed = draining_ != said_draining_ || appetite.urgent_credit != said_.urgent_credit ||
                       (appetite.urgent_credit > 0 && appetite.urgent_above != said_.urgent_above) ||
                       (gain <= -much && said_.credit > 0);
  if (!changed) return;
  if (since >= kStatusGap) return SendStatus(appetite);
  status_due_ = status_sent_ + kStatusGap;
}

void LeaseClient::SendStatus(const Appetite& appetite) {
  const absl::Duration now = clock_.Elapsed();
  auto message = std::make_shared<v1::WorkRequest>();
  v1::Status& status = *message->mutable_status();
  status.set_number(++status_number_);
  status.set_credit(appetite.credit);
  status.set_urgent_credit(appetite.urgent_credit);
  status.set_urgent_above(appetite.urgent_above);
  status.set_draining(draining_);
  status.set_grants_received(grants_received_);
  statuses_.push_back({status_number_, now});
  if (statuses_.size() > kMaxSentStatuses) statuses_.pop_front();
  status_sent_ = now;
  status_due_ = now + heartbeat_;
  said_ = appetite;
  said_draining_ = draining_;
  granted_since_ = 0;
  transport_.Send(std::move(message));
}

}  // namespace drover
