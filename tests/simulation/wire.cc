#include "tests/simulation/wire.h"

#include <algorithm>

#include "common/status/status.h"
#include "tests/simulation/controller.h"
#include "tests/simulation/worker.h"
#include "tests/simulation/world.h"

namespace drover::simulation {
namespace {

// Messages on the way to a worker before it has read them: HTTP/2's window, in messages.
constexpr int kWindow = 3;

// Runs within a weak reference: the stream may be gone by then.
template <typename Action>
std::function<void()> If(const std::shared_ptr<Wire>& wire, Action action) {
  return [weak = std::weak_ptr<Wire>(wire), action] {
    if (const auto alive = weak.lock()) action(*alive);
  };
}

bool IsControl(const v1::WorkResponse& message) { return !message.has_grant() && !message.has_job_context(); }

}  // namespace

class Wire::Sink final : public StreamSink {
 public:
  explicit Sink(std::weak_ptr<Wire> wire) : wire_(std::move(wire)) {}
  void WriteReady() override {
    const auto wire = wire_.lock();
    if (wire == nullptr || wire->writing_to_worker_) return;
    wire->writing_to_worker_ = true;
    wire->world_.agenda.After(wire->world_.dice.Between(absl::ZeroDuration(), absl::Milliseconds(2)),
                              If(wire, [](Wire& alive) {
                                alive.writing_to_worker_ = false;
                                alive.WriteToWorker();
                              }));
  }
  void Close(const absl::Status& status) override {
    const auto wire = wire_.lock();
    if (wire == nullptr) return;
    wire->world_.agenda.After(absl::ZeroDuration(),
                              If(wire, [status](Wire& alive) { alive.CloseByController(status); }));
  }

 private:
  const std::weak_ptr<Wire> wire_;
};

Wire::Wire(World& world, SimulatedWorker& worker, SimulatedController& controller)
    : world_(world), worker_(worker), controller_(controller) {}

absl::Duration Wire::Latency() {
  Dice& dice = world_.dice;
  if (world_.faults_on && dice.Below(50) == 0)
    return dice.Between(absl::Milliseconds(10), absl::Milliseconds(700));
  return dice.Between(absl::Microseconds(100), absl::Milliseconds(5));
}

// ------------------------------------------------------------------------------------------------ opening

void Wire::Open() {
  worker_side_ = true;
  controller_gets_ = world_.agenda.now() + Latency();
  world_.agenda.At(controller_gets_, If(shared_from_this(), [](Wire& wire) {
                     if (wire.cut_ || !wire.worker_side_) return;
                     if (!wire.controller_.up()) {
                       const absl::Duration delay =
                           wire.world_.dice.Between(absl::Milliseconds(1), absl::Seconds(1));
                       wire.world_.agenda.After(delay, If(wire.shared_from_this(), [](Wire& alive) {
                                                  alive.WorkerHears(absl::UnavailableError("refused"));
                                                }));
                       return;
                     }
                     wire.controller_side_ = true;
                     wire.sink_ = std::make_shared<Sink>(wire.weak_from_this());
                     wire.stream_ = wire.controller_.fleet().Open(wire.sink_);
                     wire.controller_.AddWire(wire.shared_from_this());
                   }));
}

// ----------------------------------------------------------------------------------- worker to controller

void Wire::Send(std::shared_ptr<const v1::WorkRequest> message) {
  to_controller_.push_back(std::move(message));
  WriteToController();
}

bool Wire::status_waiting() const {
  return std::any_of(to_controller_.begin(), to_controller_.end(),
                     [](const auto& message) { return message->has_status(); });
}

void Wire::WriteToController() {
  if (writing_to_controller_ || to_controller_.empty() || !worker_side_ || worker_.stopped()) return;
  writing_to_controller_ = true;
  const absl::Duration delay = world_.dice.Between(absl::ZeroDuration(), absl::Milliseconds(1));
  world_.agenda.After(
      delay, If(shared_from_this(), [](Wire& wire) {
        wire.writing_to_controller_ = false;
        if (wire.to_controller_.empty() || !wire.worker_side_ || wire.worker_.stopped()) return;
        // Hello and Status go before Segments.
        auto next = std::find_if(wire.to_controller_.begin(), wire.to_controller_.end(),
                                 [](const auto& message) { return !message->has_segment(); });
        if (next == wire.to_controller_.end()) next = wire.to_controller_.begin();
        const std::shared_ptr<const v1::WorkRequest> message = *next;
        wire.to_controller_.erase(next);
        if (!wire.cut_) {
          absl::Duration latency = wire.Latency();
          if (message->has_hello() && wire.world_.faults_on &&
              wire.world_.dice.Chance(wire.world_.options.faults.late_hellos))
            latency = wire.world_.dice.Between(absl::Milliseconds(100), absl::Milliseconds(2500));
          wire.controller_gets_ = std::max(wire.controller_gets_, wire.world_.agenda.now() + latency);
          wire.world_.agenda.At(wire.controller_gets_, If(wire.shared_from_this(), [message](Wire& alive) {
                                  alive.ArriveAtController(message);
                                }));
        }
        wire.WriteToController();
      }));
}

void Wire::ArriveAtController(const std::shared_ptr<const v1::WorkRequest>& message) {
  if (!controller_side_ || lose_to_controller_ || ending_) return;
  Fleet& fleet = controller_.fleet();
  switch (message->message_case()) {
    case v1::WorkRequest::kHello: {
      if (greeted_) return world_.Accused("controller", absl::InvalidArgumentError("a second Hello"));
      greeted_ = true;
      v1::Hello hello = message->hello();
      if (world_.Is(Planted::kNumberReadByController)) {
        const std::optional<memory::SessionRow> row = world_.database.Session(hello.session_id());
        if (row) hello.set_attachment(row->info.attachment + 1);
      }
      world_.Say(worker_.name(), " -> ", controller_.name(), " Hello ", hello.attachment(), " of ",
                 hello.session_id(), ", ", hello.held_leases_size(), " leases");
      controller_.OnHello(stream_, std::move(hello));
      break;
    }
    case v1::WorkRequest::kStatus:
      fleet.OnStatus(stream_, message->status());
      controller_.OnStatus(message->status());
      break;
    case v1::WorkRequest::kSegment: {
      const v1::Segment& segment = message->segment();
      world_.Say(worker_.name(), " -> ", controller_.name(), " Segment ", segment.sequence(), " of lease ",
                 segment.lease_id());
      if (world_.Is(Planted::kBitmapBeforeKey)) {
        TaskSet recorded;
        world_.database.Look(segment.job_id(), [&](const memory::JobRows* rows) {
          if (rows != nullptr) {
            recorded = rows->Recorded({static_cast<BatchNo>(segment.batch_no()), segment.lease_id()},
                                      TaskSet::kMaxTasks);
          }
        });
        for (const v1::TaskRange& range : segment.succeeded()) {
          if (recorded.Contains(static_cast<uint32_t>(range.first()))) {
            return fleet.Close(stream_, absl::InvalidArgumentError("a task recorded before"));
          }
        }
      }
      fleet.OnSegment(stream_, segment);
      controller_.OnSegment();
      break;
    }
    case v1::WorkRequest::MESSAGE_NOT_SET: world_.Fail("an empty message"); break;
  }
}

// ----------------------------------------------------------------------------------- controller to worker

void Wire::WriteToWorker() {
  if (writing_to_worker_ || !controller_side_ || ending_ || unread_by_worker_ >= kWindow) return;
  std::optional<v1::WorkResponse> next;
  if (world_.Is(Planted::kContextDecidedEarly)) {
    // The queue is emptied as soon as something is in it; acknowledgments and the like then go first.
    while (auto message = controller_.fleet().NextMessage(stream_)) drained_.push_back(*std::move(message));
    if (drained_.empty()) return;
    auto first = std::find_if(drained_.begin(), drained_.end(), IsControl);
    if (first == drained_.end()) first = drained_.begin();
    next = *std::move(first);
    drained_.erase(first);
    worker_gets_ += world_.dice.Between(absl::ZeroDuration(), absl::Milliseconds(300));
  } else {
    next = controller_.fleet().NextMessage(stream_);
  }
  if (!next) return;
  if (!cut_) {
    ++unread_by_worker_;
    worker_gets_ = std::max(worker_gets_, world_.agenda.now() + Latency());
    world_.agenda.At(worker_gets_, If(shared_from_this(), [message = *std::move(next)](Wire& wire) {
                       wire.worker_.Receive([weak = wire.weak_from_this(), message] {
                         if (const auto alive = weak.lock()) alive->ArriveAtWorker(message);
                       });
                     }));
  }
  writing_to_worker_ = true;
  world_.agenda.After(world_.dice.Between(absl::ZeroDuration(), absl::Milliseconds(1)),
                      If(shared_from_this(), [](Wire& wire) {
                        wire.writing_to_worker_ = false;
                        wire.WriteToWorker();
                      }));
}

void Wire::ArriveAtWorker(const v1::WorkResponse& message) {
  --unread_by_worker_;
  if (worker_side_ && !lose_to_worker_) {
    if (message.has_segment_ack() && message.segment_ack().result() == v1::SegmentAck::RECORDED)
      worker_.OnRecorded(message.segment_ack());
    if (world_.trace) {
      std::string what = "StatusAck";
      if (message.has_welcome()) what = StrCat("Welcome ", message.welcome().session_id());
      if (message.has_grant()) {
        what = StrCat("Grant job ", message.grant().job_id(), " batch ", message.grant().batch_no(),
                      " lease ", message.grant().lease_id());
      }
      if (message.has_segment_ack()) {
        what = StrCat("SegmentAck ", message.segment_ack().sequence(), " of lease ",
                      message.segment_ack().lease_id(), ": ",
                      message.segment_ack().result() == v1::SegmentAck::LOST ? "lost" : "recorded");
      }
      if (message.has_revoke()) what = StrCat("Revoke job ", message.revoke().job_id());
      if (message.has_job_context()) what = StrCat("JobContext job ", message.job_context().job_id());
      if (message.has_drain()) what = "Drain";
      if (!message.has_status_ack()) world_.Say(controller_.name(), " -> ", worker_.name(), " ", what);
    }
    worker_.OnMessage(message);
  }
  if (sink_ != nullptr && controller_side_) sink_->WriteReady();
}

// -------------------------------------------------------------------------------------------------- ends

void Wire::CloseByController(const absl::Status& status) {
  if (!controller_side_ || ending_) return;
  ending_ = true;
  if (absl::IsInvalidArgument(status) || absl::IsPermissionDenied(status) ||
      absl::IsFailedPrecondition(status))
    world_.Accused(controller_.name(), status);
  world_.Say(controller_.name(), " ends the stream of ", worker_.name(), ": ", status.ToString());
  if (!cut_) {
    worker_gets_ = std::max(worker_gets_, world_.agenda.now() + Latency());
    world_.agenda.At(worker_gets_, If(shared_from_this(), [status](Wire& wire) {
                       if (!wire.cut_) wire.WorkerHears(status);
                     }));
  }
  world_.agenda.After(Latency(), If(shared_from_this(), [](Wire& wire) { wire.ControllerHears(); }));
}

void Wire::CloseByWorker() {
  if (!worker_side_) return;
  worker_side_ = false;
  to_controller_.clear();
  // gRPC drops what it has not handed over yet, or not.
  lose_to_controller_ = world_.dice.Chance(0.5);
  controller_gets_ = std::max(controller_gets_, world_.agenda.now() + Latency());
  world_.agenda.At(controller_gets_, If(shared_from_this(), [](Wire& wire) { wire.ControllerHears(); }));
}

void Wire::Cut(absl::Duration silence) {
  if (cut_) return;
  cut_ = true;
  lose_to_controller_ |= world_.dice.Chance(0.5);
  lose_to_worker_ |= world_.dice.Chance(0.5);
  world_.Say("the stream of ", worker_.name(), " with ", controller_.name(), " is cut");
  const auto soon = [&] {
    return world_.dice.Chance(0.5) ? world_.dice.Between(absl::Milliseconds(1), absl::Milliseconds(100))
                                   : world_.dice.Between(absl::ZeroDuration(), silence);
  };
  // What is still on the way arrives before the end does, perhaps well before: a late Hello is then answered
  // as one of a stream that lives.
  absl::Duration controller_hears = world_.agenda.now() + soon();
  if (!lose_to_controller_) controller_hears = std::max(controller_hears, controller_gets_ + soon());
  world_.agenda.At(controller_hears, If(shared_from_this(), [](Wire& wire) { wire.ControllerHears(); }));
  world_.agenda.After(soon(), If(shared_from_this(), [](Wire& wire) {
                        wire.WorkerHears(absl::UnavailableError("the connection broke"));
                      }));
}

void Wire::WorkerDied(absl::Duration silence) {
  worker_side_ = false;
  to_controller_.clear();
  Cut(silence);
}

void Wire::ControllerDied(absl::Duration silence) {
  controller_side_ = false;
  sink_ = nullptr;
  Cut(silence);
}

void Wire::ControllerHears() {
  if (!controller_side_) return;
  controller_side_ = false;
  controller_.OnClosed(stream_, shared_from_this());
}

void Wire::WorkerHears(const absl::Status& status) {
  worker_.Receive([weak = weak_from_this(), status] {
    const auto wire = weak.lock();
    if (wire == nullptr || !wire->worker_side_) return;
    wire->worker_side_ = false;
    wire->to_controller_.clear();
    wire->worker_.OnBroken(*wire, status);
  });
}

}  // namespace drover::simulation
