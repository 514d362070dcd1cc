#include "services/controller/dispatch/fleet.h"

#include <algorithm>

#include "common/log/log.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/dispatch/segment_check.h"

namespace drover {
namespace {

v1::WorkResponse RevokeMessage(const JobId& job_id, v1::Revoke::Mode mode, absl::Duration grace) {
  v1::WorkResponse message;
  v1::Revoke* revoke = message.mutable_revoke();
  revoke->set_job_id(job_id);
  revoke->set_mode(mode);
  if (mode == v1::Revoke::ABORT) {
    SetDuration(grace, revoke->mutable_grace());
  }
  return message;
}

// How leases of a job in this state are to be revoked; nothing: they go on.
std::optional<v1::Revoke::Mode> RevokeMode(const JobView& view) {
  using lifecycle::State;
  switch (view.state) {
    case State::kPausing: return v1::Revoke::FINISH;
    case State::kCancelling:
    case State::kFailing: return v1::Revoke::ABORT;
    default: return std::nullopt;
  }
}

// The worker attached again on another stream. Without a reason it would reach the worker as INTERNAL.
absl::Status Superseded() {
  return Error(absl::StatusCode::kAborted, "ATTACH_SUPERSEDED", "a newer stream of this session is attached");
}

}  // namespace

void Fleet::Effects::Run() {
  for (const auto& sink : wake) sink->WriteReady();
  for (const auto& [sink, status] : close) sink->Close(status);
}

Fleet::Fleet(FleetLimits limits, const Clock& clock, Random& random, SubmitFn submit)
    : limits_(limits), clock_(clock), random_(random), submit_(std::move(submit)) {}

Fleet::Stream* Fleet::Find(StreamId stream) {
  const auto found = streams_.find(stream);
  return found == streams_.end() || found->second.closed ? nullptr : &found->second;
}
const Fleet::Stream* Fleet::Find(StreamId stream) const {
  const auto found = streams_.find(stream);
  return found == streams_.end() || found->second.closed ? nullptr : &found->second;
}

void Fleet::CloseLocked(Stream& stream, const absl::Status& status, Effects& effects) {
  if (stream.closed) return;
  stream.closed = true;
  effects.close.emplace_back(stream.sink, status);
}

void Fleet::DropLease(LeaseId lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return;
  const auto stream = streams_.find(found->second.stream);
  if (stream != streams_.end()) {
    for (const auto& [sequence, bytes] : found->second.unacked) stream->second.unacked_bytes -= bytes;
    const auto job = stream->second.leases.find(found->second.job_id);
    if (job != stream->second.leases.end()) {
      job->second.erase(lease);
      if (job->second.empty()) {
        stream->second.leases.erase(job);
        stream->second.revoked.erase(found->second.job_id);
      }
    }
  }
  leases_.erase(found);
}

// ---------------------------------------------------------------------------------------- the reactor's side

StreamId Fleet::Open(std::shared_ptr<StreamSink> sink) {
  MutexLock lock(&mu_);
  const StreamId id = next_stream_++;
  streams_[id].sink = std::move(sink);
  return id;
}

std::optional<v1::WorkResponse> Fleet::NextMessage(StreamId id) {
  MutexLock lock(&mu_);
  Stream* stream = Find(id);
  if (stream == nullptr) return std::nullopt;
  return stream->queue.Next([this](const JobId& job_id)
                                ABSL_NO_THREAD_SAFETY_ANALYSIS { return contexts_[job_id]; });
}

void Fleet::OnStatus(StreamId id, const v1::Status& status) {
  Effects effects;
  {
    MutexLock lock(&mu_);
    Stream* stream = Find(id);
    if (stream == nullptr) return;
    if (!stream->attached) {
      CloseLocked(*stream,
                  Error(absl::StatusCode::kInvalidArgument, "HELLO_EXPECTED",
                        "a Status came before the attach was answered"),
                  effects);
    } else if (status.number() != stream->status.number() + 1) {
      CloseLocked(*stream,
                  Error(absl::StatusCode::kInvalidArgument, "STATUS_NUMBER",
                        StrCat("Status ", status.number(), " came after ", stream->status.number())),
                  effects);
    } else if (status.credit() < 0 || status.urgent_credit() < 0 ||
               status.grants_received() > stream->queue.grants_written()) {
      CloseLocked(*stream,
                  Error(absl::StatusCode::kInvalidArgument, "STATUS_INVALID",
                        "a Status has a negative credit or more grants than were sent"),
                  effects);
    } else {
      stream->status = status;
      stream->queue.ForgetSeen(status.grants_received());
    }
  }
  effects.Run();
}

void Fleet::OnSegment(StreamId id, const v1::Segment& segment) {
  Effects effects;
  std::optional<std::pair<JobId, SegmentWrite>> submit;
  {
    MutexLock lock(&mu_);
    Stream* stream = Find(id);
    if (stream == nullptr) return;
    const auto refuse = [&](const absl::Status& status) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      LogWarning("segment.refused", {{"session", stream->session},
                                     {"lease", segment.lease_id()},
                                     {"sequence", segment.sequence()},
                                     {"error", status}});
      CloseLocked(*stream, status, effects);
    };
    const auto found = leases_.find(segment.lease_id());
    if (!stream->attached) {
      refuse(Error(absl::StatusCode::kInvalidArgument, "HELLO_EXPECTED",
                   "a Segment came before the attach was answered"));
    } else if (found == leases_.end() || found->second.stream != id) {
      // Over, lost, or never its own: there is nothing more to say about it.
      if (stream->queue.control_size() > static_cast<size_t>(limits_.max_control_messages)) {
        CloseLocked(*stream,
                    Error(absl::StatusCode::kResourceExhausted, "STREAM_NOT_READ",
                          "too many unread messages are queued for this worker"),
                    effects);
      } else {
        stream->queue.PushSegmentAck(segment.job_id(), segment.lease_id(), segment.sequence(),
                                     v1::SegmentAck::LOST, true);
        effects.wake.push_back(stream->sink);
      }
    } else {
      Lease& lease = found->second;
      const int64_t bytes = static_cast<int64_t>(segment.ByteSizeLong());
      if (segment.job_id() != lease.job_id || segment.batch_no() != lease.key.batch_no) {
        refuse(Error(absl::StatusCode::kInvalidArgument, "SEGMENT_INVALID",
                     StrCat("lease ", segment.lease_id(), " is not of job ", segment.job_id(), " batch ",
                            segment.batch_no())));
      } else if (segment.sequence() <= lease.recorded_sequence && segment.sequence() > 0) {
        stream->queue.PushSegmentAck(lease.job_id, segment.lease_id(), segment.sequence(),
                                     v1::SegmentAck::RECORDED, false);
        effects.wake.push_back(stream->sink);
      } else if (segment.sequence() > 0 && segment.sequence() < lease.next_sequence) {
        // In flight already: its acknowledgment is on the way.
      } else if (segment.sequence() != lease.next_sequence) {
        refuse(Error(absl::StatusCode::kInvalidArgument, "SEGMENT_SEQUENCE",
                     StrCat("segment ", segment.sequence(), " of lease ", segment.lease_id(), " came where ",
                            lease.next_sequence, " was due")));
      } else if (stream->unacked_bytes + bytes > 2 * limits_.max_unacked_bytes) {
        refuse(Error(
            absl::StatusCode::kResourceExhausted, "UNACKED_BYTES",
            StrCat("more than twice max_unacked_bytes (", limits_.max_unacked_bytes, ") of segments sent")));
      } else if (auto write = CheckSegment(segment, lease.open, lease.batch_tasks); !write.ok()) {
        refuse(write.status());
      } else {
        write->session = stream->session;
        if (!write->returned.empty()) write->returned_lease_id = NewLeaseId(random_);
        if (write->executed) {
          lease.open.Subtract(*write->executed);
        } else {
          lease.open.Clear();
        }
        lease.open.Subtract(write->returned);
        lease.all.Subtract(write->returned);
        ++lease.next_sequence;
        lease.unacked[write->sequence] = bytes;
        stream->unacked_bytes += bytes;
        submit.emplace(lease.job_id, *std::move(write));
      }
    }
  }
  if (submit) submit_(submit->first, std::move(submit->second));
  effects.Run();
}

Fleet::Unsent Fleet::Closed(StreamId id) {
  MutexLock lock(&mu_);
  Unsent unsent;
  const auto found = streams_.find(id);
  if (found == streams_.end()) return unsent;
  Stream& stream = found->second;
  unsent.session = stream.session;
  unsent.attachment = stream.attachment;
  for (const QueuedGrant& grant : stream.queue.WithdrawAll()) {
    const auto lease = leases_.find(grant.lease.lease_id);
    if (lease == leases_.end() || lease->second.stream != id) continue;
    unsent.leases.emplace_back(grant.job_id, grant.lease);
    DropLease(grant.lease.lease_id);
  }
  unsent.goodbye =
      stream.attached && stream.status.draining() && stream.leases.empty() && unsent.leases.empty();
  std::vector<LeaseId> held;
  for (const auto& [job, leases] : stream.leases) held.insert(held.end(), leases.begin(), leases.end());
  for (const LeaseId lease : held) DropLease(lease);
  streams_.erase(found);
  ForgetUnusedContexts();
  return unsent;
}

bool Fleet::IsOpen(StreamId id) const {
  MutexLock lock(&mu_);
  return Find(id) != nullptr;
}

bool Fleet::MayGo(StreamId id) const {
  MutexLock lock(&mu_);
  const Stream* stream = Find(id);
  return stream == nullptr || !stream->attached || (stream->status.draining() && stream->leases.empty());
}

// ------------------------------------------------------------------------------------------------- attaching

void Fleet::Attached(StreamId id, AttachedStream attached) {
  Effects effects;
  {
    MutexLock lock(&mu_);
    Stream* stream = Find(id);
    if (stream == nullptr) return;  // it broke meanwhile; the worker will come back with a higher number
    bool superseded = false;
    for (auto& [other_id, other] : streams_) {
      if (other_id == id || !other.attached || other.session != attached.session || other.closed) continue;
      if (other.attachment > attached.attachment) {
        superseded = true;
      } else {
        CloseLocked(other, Superseded(), effects);
      }
    }
    if (superseded) {
      CloseLocked(*stream, Superseded(), effects);
    } else {
      stream->attached = true;
      stream->session = attached.session;
      stream->attachment = attached.attachment;
      for (const v1::OperationSupport& operation : attached.hello.operations()) {
        stream->operations[operation.name()] = operation.revision();
      }
      for (const v1::StoreSupport& store : attached.hello.stores())
        stream->stores[store.name()] = store.fingerprint();
      stream->queue.PushControl(std::move(attached.welcome));
      for (HeldLeaseRow& row : attached.leases) {
        DropLease(row.key.lease_id);  // of an older stream of the session
        Lease lease;
        lease.stream = id;
        lease.job_id = row.job_id;
        lease.key = row.key;
        lease.batch_tasks = row.batch_tasks;
        lease.all = row.tasks ? *std::move(row.tasks) : TaskSet::All(row.batch_tasks);
        lease.open = lease.all;
        lease.open.Subtract(row.recorded);
        lease.next_sequence = row.last_sequence + 1;
        lease.recorded_sequence = row.last_sequence;
        lease.since = clock_.Elapsed();
        stream->queue.AddHeld(row.job_id, row.key.lease_id);
        stream->leases[row.job_id].insert(row.key.lease_id);
        leases_[row.key.lease_id] = std::move(lease);
      }
      effects.wake.push_back(stream->sink);
    }
  }
  effects.Run();
}

void Fleet::Close(StreamId id, const absl::Status& status) {
  Effects effects;
  {
    MutexLock lock(&mu_);
    if (Stream* stream = Find(id)) CloseLocked(*stream, status, effects);
  }
  effects.Run();
}

// -------------------------------------------------------------------------------------------------- claiming

int64_t Fleet::Credit(const Stream& stream, int32_t priority) const {
  if (!stream.attached || stream.closed || stream.status.number() == 0 || stream.status.draining()) return 0;
  int64_t credit = stream.status.credit();
  if (priority > stream.status.urgent_above()) credit += stream.status.urgent_credit();
  const StreamQueue& queue = stream.queue;
  if (queue.queued_bytes() > limits_.max_queued_grant_bytes) return 0;  // it reads slowly
  return credit - queue.UnseenTasks(stream.status.grants_received()) - queue.queued_tasks();
}

std::vector<Fleet::Slot> Fleet::Slots(const JobInfo& job, int32_t priority) const {
  MutexLock lock(&mu_);
  std::vector<Slot> slots;
  for (const auto& [id, stream] : streams_) {
    const int64_t credit = Credit(stream, priority);
    if (credit <= 0) continue;
    const auto operation = stream.operations.find(job.operation);
    if (operation == stream.operations.end() || operation->second < job.min_revision) continue;
    const bool stores_fit = std::all_of(job.stores.begin(), job.stores.end(), [&](const auto& store) {
      const auto found = stream.stores.find(store.first);
      return found != stream.stores.end() && found->second == store.second;
    });
    if (!stores_fit) continue;
    slots.push_back({id, {stream.session, stream.attachment, credit}});
  }
  return slots;
}

bool Fleet::AnyCredit(int32_t priority) const {
  MutexLock lock(&mu_);
  return std::any_of(streams_.begin(), streams_.end(),
                     [this, priority](const auto& entry)
                         ABSL_NO_THREAD_SAFETY_ANALYSIS { return Credit(entry.second, priority) > 0; });
}

void Fleet::BeginClaim(const std::vector<Slot>& slots) {
  MutexLock lock(&mu_);
  for (const Slot& slot : slots) {
    if (Stream* stream = Find(slot.stream)) {
      ++stream->claims_under_way;
      ++stream->claims;
    }
  }
}

void Fleet::EndClaim(const std::vector<Slot>& slots) {
  MutexLock lock(&mu_);
  for (const Slot& slot : slots) {
    if (Stream* stream = Find(slot.stream)) --stream->claims_under_way;
  }
}

bool Fleet::AddGrant(const Slot& slot, const JobId& job_id, const ClaimedLease& claimed, std::string payload,
                     const v1::JobContext& context) {
  Effects effects;
  {
    MutexLock lock(&mu_);
    Stream* stream = Find(slot.stream);
    if (stream == nullptr) return false;
    v1::JobContext& known = contexts_[job_id];
    if (known.version() <= context.version()) known = context;

    Lease lease;
    lease.stream = slot.stream;
    lease.job_id = job_id;
    lease.key = {claimed.batch_no, claimed.lease_id};
    lease.batch_tasks = claimed.batch_tasks;
    lease.all = claimed.tasks ? *claimed.tasks : TaskSet::All(claimed.batch_tasks);
    lease.open = lease.all;
    lease.since = clock_.Elapsed();

    QueuedGrant grant;
    grant.job_id = job_id;
    grant.lease = lease.key;
    grant.tasks = static_cast<int64_t>(lease.all.count());
    grant.message.set_lease_id(claimed.lease_id);
    grant.message.set_job_id(job_id);
    grant.message.set_batch_no(claimed.batch_no);
    grant.message.set_payload(std::move(payload));
    grant.message.set_batch_tasks(claimed.batch_tasks);
    grant.message.set_first_task(claimed.first_task);
    if (claimed.tasks) {
      claimed.tasks->ForEachRange([&](uint32_t first, uint32_t end) {
        v1::TaskRange* range = grant.message.add_tasks();
        range->set_first(static_cast<int32_t>(first));
        range->set_end(static_cast<int32_t>(end));
      });
    }
    v1::Grant notes;
    if (!claimed.notes.empty() && notes.ParseFromString(claimed.notes))
      grant.message.mutable_notes()->Swap(notes.mutable_notes());

    stream->leases[job_id].insert(claimed.lease_id);
    // The job may have stopped between the claim's commit and now: the next look revokes again, with this
    // lease.
    stream->revoked.erase(job_id);
    leases_[claimed.lease_id] = std::move(lease);
    stream->queue.PushGrant(std::move(grant));
    effects.wake.push_back(stream->sink);
  }
  effects.Run();
  return true;
}

// ---------------------------------------------------------------------------- what the database says of jobs

std::vector<JobId> Fleet::JobsWithLeases() const {
  MutexLock lock(&mu_);
  std::set<JobId> jobs;
  for (const auto& [id, stream] : streams_) {
    for (const auto& [job, leases] : stream.leases) jobs.insert(job);
  }
  return {jobs.begin(), jobs.end()};
}

std::vector<Fleet::Withdrawn> Fleet::ApplyViews(
    const std::vector<JobView>& views, absl::Duration grace,
    const std::function<std::optional<v1::JobContext>(const JobView&)>& context) {
  Effects effects;
  std::vector<Withdrawn> withdrawn;
  const absl::Duration elapsed = clock_.Elapsed();
  {
    MutexLock lock(&mu_);
    for (const JobView& view : views) {
      const auto mode = RevokeMode(view);
      std::optional<v1::JobContext> now;
      for (auto& [id, stream] : streams_) {
        if (stream.closed || !stream.attached || !stream.leases.contains(view.job_id)) continue;
        if (!mode) {
          stream.revoked.erase(view.job_id);
          if (!now) {
            now = context(view);
            if (!now) break;
            v1::JobContext& known = contexts_[view.job_id];
            if (known.version() <= now->version()) known = *now;
          }
          const bool was_empty = stream.queue.empty();
          stream.queue.UpdateContext(*now);
          if (was_empty && !stream.queue.empty()) effects.wake.push_back(stream.sink);
          continue;
        }
        Revoked& revoked = stream.revoked[view.job_id];
        if (revoked.version == view.version) {
          if (elapsed < revoked.abort_due) continue;
          LogWarning("revoke.overdue", {{"job", view.job_id},
                                        {"session", stream.session},
                                        {"leases", stream.leases[view.job_id].size()}});
          const std::set<LeaseId> overdue = stream.leases[view.job_id];
          for (const LeaseId lease : overdue) {
            if (auto taken = TakeLease(lease, effects)) withdrawn.push_back(*std::move(taken));
          }
          continue;
        }
        for (const QueuedGrant& grant : stream.queue.Withdraw(view.job_id)) {
          withdrawn.push_back(
              {stream.session, stream.attachment, view.job_id, grant.lease, CameBack::kGivenBack});
          DropLease(grant.lease.lease_id);
        }
        if (!stream.leases.contains(view.job_id)) continue;  // the worker never heard of it
        revoked.version = view.version;
        if (*mode == v1::Revoke::ABORT) {
          revoked.abort_due = std::min(revoked.abort_due, elapsed + grace + limits_.revoke_slack);
        }
        stream.queue.PushControl(RevokeMessage(view.job_id, *mode, grace));
        effects.wake.push_back(stream.sink);
      }
    }
    ForgetUnusedContexts();
  }
  effects.Run();
  return withdrawn;
}

void Fleet::ForgetUnusedContexts() {
  for (auto context = contexts_.begin(); context != contexts_.end();) {
    const bool used = std::any_of(streams_.begin(), streams_.end(), [&](const auto& entry) {
      return entry.second.leases.contains(context->first);
    });
    context = used ? std::next(context) : contexts_.erase(context);
  }
}

// ------------------------------------------------------------------------------------------------- recording

void Fleet::OnRecorded(const JobId& job_id, const SegmentWrite& segment, SegmentResult result,
                       bool lease_over) {
  Effects effects;
  {
    MutexLock lock(&mu_);
    const auto found = leases_.find(segment.lease.lease_id);
    if (found == leases_.end())
      return;  // its stream is gone: whoever holds the lease now sends the segment again
    Lease& lease = found->second;
    Stream* stream = Find(lease.stream);
    if (stream == nullptr || stream->session != segment.session) return;
    const bool lost = result == SegmentResult::kLost;
    if (const auto unacked = lease.unacked.find(segment.sequence); unacked != lease.unacked.end()) {
      stream->unacked_bytes -= unacked->second;
      lease.unacked.erase(unacked);
    }
    // A group whose commit was in doubt finds its leases gone at each of their segments: the worker is owed
    // an answer to all of them.
    const bool over = lost || (lease_over && lease.unacked.empty());
    if (!lost) {
      // A segment that came by an older stream counts here as well.
      lease.recorded_sequence = std::max(lease.recorded_sequence, segment.sequence);
      lease.next_sequence = std::max(lease.next_sequence, segment.sequence + 1);
      if (segment.executed) {
        lease.open.Subtract(*segment.executed);
      } else {
        lease.open.Clear();
      }
      lease.open.Subtract(segment.returned);
    } else {
      LogInfo("lease.lost", {{"job", job_id},
                             {"session", stream->session},
                             {"lease", segment.lease.lease_id},
                             {"sequence", segment.sequence}});
    }
    stream->queue.PushSegmentAck(job_id, segment.lease.lease_id, segment.sequence,
                                 lost ? v1::SegmentAck::LOST : v1::SegmentAck::RECORDED, over);
    effects.wake.push_back(stream->sink);
    if (over) {
      DropLease(segment.lease.lease_id);
    }
  }
  effects.Run();
}

void Fleet::SetRecorded(LeaseId id, const TaskSet& recorded) {
  MutexLock lock(&mu_);
  const auto found = leases_.find(id);
  if (found == leases_.end()) return;
  found->second.open.Subtract(recorded);
}

std::optional<Fleet::Withdrawn> Fleet::TakeLease(LeaseId id, Effects& effects) {
  const auto found = leases_.find(id);
  if (found == leases_.end()) return std::nullopt;
  const Lease& lease = found->second;
  std::optional<Withdrawn> taken;
  if (Stream* stream = Find(lease.stream)) {
    taken = Withdrawn{stream->session, stream->attachment, lease.job_id, lease.key, CameBack::kLost};
    stream->queue.PushSegmentAck(lease.job_id, id, lease.next_sequence - 1, v1::SegmentAck::LOST, true);
    effects.wake.push_back(stream->sink);
  }
  DropLease(id);
  return taken;
}

std::optional<Fleet::Withdrawn> Fleet::LoseLease(LeaseId id) {
  Effects effects;
  std::optional<Withdrawn> lost;
  {
    MutexLock lock(&mu_);
    lost = TakeLease(id, effects);
  }
  effects.Run();
  return lost;
}

// --------------------------------------------------------------------------------------------------- renewal

std::vector<Fleet::RenewalView> Fleet::TakeRenewals() {
  MutexLock lock(&mu_);
  std::vector<RenewalView> views;
  for (auto& [id, stream] : streams_) {
    if (!stream.attached || stream.closed || stream.status.number() == stream.renewed_number) continue;
    stream.renewed_number = stream.status.number();
    views.push_back(
        {id, {stream.session, stream.attachment, stream.status.draining()}, stream.status.number()});
  }
  return views;
}

void Fleet::Renewed(const std::vector<RenewalView>& asked, const std::vector<SessionId>& renewed) {
  const std::set<SessionId> alive(renewed.begin(), renewed.end());
  Effects effects;
  {
    MutexLock lock(&mu_);
    for (const RenewalView& view : asked) {
      Stream* stream = Find(view.stream);
      if (stream == nullptr) continue;
      if (alive.contains(view.renewal.session)) {
        v1::WorkResponse message;
        message.mutable_status_ack()->set_number(view.status_number);
        stream->queue.PushControl(std::move(message));
        effects.wake.push_back(stream->sink);
      } else {
        CloseLocked(*stream,
                    Error(absl::StatusCode::kAborted, "SESSION_NOT_RENEWED",
                          "the session has ended or is attached elsewhere"),
                    effects);
      }
    }
  }
  effects.Run();
}

void Fleet::RenewalFailed(const std::vector<RenewalView>& asked) {
  MutexLock lock(&mu_);
  for (const RenewalView& view : asked) {
    Stream* stream = Find(view.stream);
    if (stream != nullptr && stream->renewed_number == view.status_number) stream->renewed_number = 0;
  }
}

// ----------------------------------------------------------------------------------------------- reconciling

Fleet::ReconcileMark Fleet::MarkForReconcile() const {
  MutexLock lock(&mu_);
  ReconcileMark mark;
  for (const auto& [id, stream] : streams_) {
    if (!stream.attached || stream.closed || stream.claims_under_way > 0) continue;
    mark.attachments.emplace_back(stream.session, stream.attachment);
    mark.claims[stream.session] = stream.claims;
  }
  return mark;
}

std::vector<Storage::OwnedLease> Fleet::Unknown(const ReconcileMark& mark,
                                                const std::vector<Storage::OwnedLease>& owned) const {
  MutexLock lock(&mu_);
  std::map<SessionId, const Stream*> quiet;
  for (const auto& [id, stream] : streams_) {
    if (!stream.attached || stream.closed) continue;
    const auto claims = mark.claims.find(stream.session);
    if (claims != mark.claims.end() && claims->second == stream.claims) quiet[stream.session] = &stream;
  }
  std::vector<Storage::OwnedLease> unknown;
  for (const Storage::OwnedLease& lease : owned) {
    const auto stream = quiet.find(lease.session);
    if (stream == quiet.end() || stream->second->attachment != lease.attachment) continue;
    if (!leases_.contains(lease.key.lease_id)) unknown.push_back(lease);
  }
  return unknown;
}

// ----------------------------------------------------------------------------------------------------- drain

void Fleet::DrainAll(absl::Duration max_wait) {
  Effects effects;
  {
    MutexLock lock(&mu_);
    for (auto& [id, stream] : streams_) {
      if (stream.closed || !stream.attached) continue;
      v1::WorkResponse message;
      SetDuration(max_wait, message.mutable_drain()->mutable_max_wait());
      stream.queue.PushControl(std::move(message));
      effects.wake.push_back(stream.sink);
    }
  }
  effects.Run();
}

Fleet::Counts Fleet::counts() const {
  MutexLock lock(&mu_);
  Counts counts;
  counts.leases = static_cast<int64_t>(leases_.size());
  const absl::Duration now = clock_.Elapsed();
  for (const auto& [id, lease] : leases_)
    counts.oldest_lease = std::max(counts.oldest_lease, now - lease.since);
  for (const auto& [id, stream] : streams_) {
    if (stream.closed || !stream.attached) continue;
    ++counts.streams;
    counts.unacked_bytes += stream.unacked_bytes;
  }
  return counts;
}

int64_t Fleet::MismatchedStores(const std::map<std::string, std::string>& expected) const {
  MutexLock lock(&mu_);
  int64_t count = 0;
  for (const auto& [id, stream] : streams_) {
    for (const auto& [name, fingerprint] : stream.stores) {
      const auto found = expected.find(name);
      if (found != expected.end() && found->second != fingerprint) ++count;
    }
  }
  return count;
}

}  // namespace drover
