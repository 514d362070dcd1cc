#include "services/controller/dispatch/stream_queue.h"

#include <utility>

namespace drover {

void StreamQueue::PushControl(v1::WorkResponse message) { control_.push_back({std::move(message), {}, 0}); }

void StreamQueue::PushSegmentAck(const JobId& job_id, LeaseId lease, int64_t sequence,
                                 v1::SegmentAck::Result result, bool lease_over) {
  Control control;
  v1::SegmentAck* ack = control.message.mutable_segment_ack();
  ack->set_lease_id(lease);
  ack->set_sequence(sequence);
  ack->set_result(result);
  control.job_id = job_id;
  control.over = lease_over ? lease : 0;
  control_.push_back(std::move(control));
}

void StreamQueue::PushGrant(QueuedGrant grant) {
  queued_tasks_ += grant.tasks;
  queued_bytes_ += static_cast<int64_t>(grant.message.payload().size());
  grants_.push_back(std::move(grant));
}

void StreamQueue::AddHeld(const JobId& job_id, LeaseId lease) { known_[job_id].leases.insert(lease); }

void StreamQueue::UpdateContext(const v1::JobContext& context) {
  const auto known = known_.find(context.job_id());
  if (known == known_.end() || known->second.version >= context.version()) return;
  known->second.version = context.version();
  v1::WorkResponse message;
  *message.mutable_job_context() = context;
  PushControl(std::move(message));
}

std::vector<QueuedGrant> StreamQueue::Withdraw(const JobId& job_id, LeaseId lease) {
  std::vector<QueuedGrant> withdrawn;
  std::deque<QueuedGrant> kept;
  const auto meant = [&](const QueuedGrant& grant) {
    return grant.job_id == job_id && (lease == 0 || grant.lease.lease_id == lease);
  };
  const auto withdraw = [&](QueuedGrant grant) {
    queued_tasks_ -= grant.tasks;
    queued_bytes_ -= static_cast<int64_t>(grant.message.payload().size());
    withdrawn.push_back(std::move(grant));
  };
  for (QueuedGrant& grant : grants_) {
    if (meant(grant)) {
      withdraw(std::move(grant));
    } else {
      kept.push_back(std::move(grant));
    }
  }
  grants_ = std::move(kept);
  if (pending_grant_ && meant(*pending_grant_)) {
    // Its context went out alone: the worker keeps a context that no lease uses, until the next one replaces
    // it.
    known_[job_id].leases.erase(pending_grant_->lease.lease_id);
    if (known_[job_id].leases.empty()) known_.erase(job_id);
    withdraw(*std::move(pending_grant_));
    pending_grant_.reset();
  }
  return withdrawn;
}

std::vector<QueuedGrant> StreamQueue::WithdrawAll() {
  std::vector<QueuedGrant> withdrawn(std::make_move_iterator(grants_.begin()),
                                     std::make_move_iterator(grants_.end()));
  grants_.clear();
  if (pending_grant_) withdrawn.push_back(*std::move(pending_grant_));
  pending_grant_.reset();
  queued_tasks_ = 0;
  queued_bytes_ = 0;
  return withdrawn;
}

std::optional<v1::WorkResponse> StreamQueue::Next(const ContextFn& context) {
  // A Grant follows its context at once (Stream.tla writes both in one step): an acknowledgment in between
  // could end the job's last other lease, and the worker would forget the context with it.
  if (pending_grant_) return TakePending();
  if (!control_.empty()) {
    Control control = std::move(control_.front());
    control_.pop_front();
    if (control.over != 0) {
      const auto known = known_.find(control.job_id);
      if (known != known_.end()) {
        known->second.leases.erase(control.over);
        if (known->second.leases.empty()) known_.erase(known);
      }
    }
    return std::move(control.message);
  }
  if (grants_.empty()) return std::nullopt;
  pending_grant_ = std::move(grants_.front());
  grants_.pop_front();
  KnownJob& known = known_[pending_grant_->job_id];
  const bool has_context = !known.leases.empty() && known.version >= 0;
  known.leases.insert(pending_grant_->lease.lease_id);
  if (has_context) return TakePending();
  v1::WorkResponse message;
  *message.mutable_job_context() = context(pending_grant_->job_id);
  known.version = message.job_context().version();
  return message;
}

v1::WorkResponse StreamQueue::TakePending() {
  queued_bytes_ -= static_cast<int64_t>(pending_grant_->message.payload().size());
  v1::WorkResponse message;
  *message.mutable_grant() = std::move(pending_grant_->message);
  ++grants_written_;
  unseen_.emplace_back(grants_written_, pending_grant_->tasks);
  queued_tasks_ -= pending_grant_->tasks;
  pending_grant_.reset();
  return message;
}

int64_t StreamQueue::UnseenTasks(int64_t received) const {
  int64_t tasks = 0;
  for (const auto& [number, count] : unseen_) {
    if (number > received) tasks += count;
  }
  return tasks;
}

void StreamQueue::ForgetSeen(int64_t received) {
  while (!unseen_.empty() && unseen_.front().first <= received) unseen_.pop_front();
}

}  // namespace drover
