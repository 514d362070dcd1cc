#include "tests/simulation/worker.h"

#include <algorithm>
#include <map>
#include <utility>

#include <boost/asio/io_context.hpp>

#include "common/codec/task_batch.h"
#include "services/worker/executor/executor.h"
#include "services/worker/lease/lease_client.h"
#include "tests/simulation/controller.h"
#include "tests/simulation/wire.h"
#include "tests/simulation/world.h"

namespace drover::simulation {
namespace {

constexpr absl::Duration kLookGap = absl::Milliseconds(1);

uint64_t HashOf(const TaskName& task) {
  uint64_t hash =
      (static_cast<uint64_t>(task.job) << 40) + static_cast<uint64_t>(task.position) + 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

v1::Hello Identity(const std::string& name) {
  v1::Hello hello;
  hello.add_codecs(kTaskBatchCodec);
  hello.set_name(name);
  hello.set_version("simulated");
  v1::OperationSupport& operation = *hello.add_operations();
  operation.set_name("noop");
  operation.set_revision(1);
  return hello;
}

// A request for as long as it lives: the world hears of its end even if its coroutine is destroyed.
class Request {
 public:
  Request(World& world, SimulatedWorker& worker, const SessionId& session, const TaskName& task)
      : world_(world), worker_(worker), task_(task) {
    world_.RequestStarts(worker_, session, task_);
  }
  ~Request() { world_.RequestEnds(worker_, task_); }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

 private:
  World& world_;
  SimulatedWorker& worker_;
  const TaskName task_;
};

}  // namespace

// The living process; destroyed in reverse order, as Worker::Impl's members are.
struct SimulatedWorker::Life final : LeaseTransport {
  Life(World& the_world, SimulatedWorker& the_worker)
      : world(the_world),
        worker(the_worker),
        dice(world.dice.Next()),
        clock(world.agenda),
        io(1),
        executor(
            io, {.concurrency = world.options.concurrency, .version = "simulated"}, clock, dice, timers,
            [this](const v1::Operation&) -> absl::StatusOr<Executor::NamedOperation> {
              return Executor::NamedOperation{"noop", std::make_unique<Touch>(*this)};
            },
            nullptr),
        client(Identity(worker.name_), {.controllers = world.controllers.size()}, clock, dice, *this,
               executor, LeaseMetrics()) {
    executor.Connect(client, [this] { worker.Note(world.agenda.now() + kLookGap); });
    timers.OnEarlier([this] { worker.Note(world.agenda.now() + kLookGap); });
  }
  ~Life() override {
    if (wire != nullptr) wire->WorkerDied(world.options.faults.silence);
  }

  // One or two requests for a task, each of which takes a while; fails as planned, or for the moment.
  class Touch final : public Operation {
   public:
    explicit Touch(Life& life) : life_(life) {}
    Limits limits() const override { return {.max_tasks = 1, .same_bucket = true}; }
    boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                     GroupResult& result) override {
      World& world = life_.world;
      const TaskName task = TaskOf(group[0].key);
      const JobPlan& plan = world.jobs[static_cast<size_t>(task.job)];
      for (int requests = 1 + static_cast<int>(HashOf(task) % 2); requests > 0; --requests) {
        if (!life_.client.MayRequest()) {
          result.Set(0, CancelledAttempt());
          co_return;
        }
        const Request request(world, life_.worker, life_.client.session_id(), task);
        const absl::Duration takes = life_.dice.Chance(0.1)
                                         ? life_.dice.Between(absl::ZeroDuration(), plan.task_time)
                                         : life_.dice.Between(absl::Milliseconds(1), plan.task_time / 8);
        if (!co_await context.Sleep(takes)) {
          result.Set(0, CancelledAttempt());
          co_return;
        }
      }
      if (world.faults_on && life_.dice.Chance(world.options.faults.task_transient)) {
        Attempt attempt = FailedAttempt("SlowDown", "for the moment");
        attempt.end = Attempt::End::kTransient;
        attempt.transience = Transience::kTransient;
        result.Set(0, std::move(attempt));
        co_return;
      }
      world.TaskDone(task);
      if (HashOf(task) / 7 % 100 < static_cast<uint64_t>(plan.fail_percent))
        result.Set(0, FailedAttempt("AccessDenied", "as planned"));
    }

   private:
    Life& life_;
  };

  // LeaseTransport.
  void Open(size_t controller) override {
    wire = std::make_shared<Wire>(world, worker, *world.controllers[controller]);
    wire->Open();
  }
  void Send(std::shared_ptr<const v1::WorkRequest> message) override {
    if (wire == nullptr) return;
    if (message->has_segment()) message = Cut(std::move(message));
    if (message->has_hello() && world.Is(Planted::kHelloForgetsUnacked)) message = Forget(*message);
    const bool status = message->has_status();
    const int64_t number = message->status().number();
    wire->Send(std::move(message));
    const bool at_once =
        world.Is(Planted::kWorkerNeverFences) || (world.Is(Planted::kWelcomeLiftsFence) && number == 1);
    if (status && at_once) {
      v1::WorkResponse ack;
      ack.mutable_status_ack()->set_number(number);
      world.agenda.After(absl::ZeroDuration(), [this, life = worker.lives_, &w = worker, ack, sent = wire] {
        if (w.life_ == nullptr || w.lives_ != life || wire != sent) return;
        w.Receive([this, life, &w, ack, sent] {
          if (w.life_ != nullptr && w.lives_ == life && wire == sent) w.OnMessage(ack);
        });
      });
    }
  }
  bool status_waiting() const override { return wire != nullptr && wire->status_waiting(); }
  void Close() override {
    if (wire == nullptr) return;
    wire->CloseByWorker();
    wire = nullptr;
  }

  // Planted: counts what each lease has left and what is not acknowledged, for the two below.
  std::shared_ptr<const v1::WorkRequest> Cut(std::shared_ptr<const v1::WorkRequest> message) {
    const v1::Segment& segment = message->segment();
    auto& sent = unacked[segment.lease_id()];
    const bool again = !sent.insert(segment.sequence()).second;
    int64_t tasks = segment.outcomes_size();
    for (const v1::TaskRange& range : segment.succeeded()) tasks += range.end() - range.first();
    for (const v1::TaskRange& range : segment.returned()) tasks += range.end() - range.first();
    if (!again) left[segment.lease_id()] -= tasks;
    if (!again || !world.Is(Planted::kSegmentsCutAnew) || tasks < 2) return message;
    // The content that it has now is another one: a task short.
    auto other = std::make_shared<v1::WorkRequest>(*message);
    v1::Segment& cut = *other->mutable_segment();
    if (cut.outcomes_size() > 0) {
      cut.mutable_outcomes()->RemoveLast();
    } else if (cut.succeeded_size() > 0) {
      v1::TaskRange& last = *cut.mutable_succeeded(cut.succeeded_size() - 1);
      if (last.end() - last.first() > 1) {
        last.set_end(last.end() - 1);
      } else {
        cut.mutable_succeeded()->RemoveLast();
      }
    }
    return other;
  }
  std::shared_ptr<const v1::WorkRequest> Forget(const v1::WorkRequest& message) {
    auto other = std::make_shared<v1::WorkRequest>(message);
    auto& held = *other->mutable_hello()->mutable_held_leases();
    held.erase(std::remove_if(held.begin(), held.end(),
                              [&](const v1::HeldLease& lease) { return left[lease.lease_id()] <= 0; }),
               held.end());
    return other;
  }

  World& world;
  SimulatedWorker& worker;
  Dice dice;
  SimulatedClock clock;
  std::map<int64_t, int64_t> left;               // lease -> tasks that are in no segment
  std::map<int64_t, std::set<int64_t>> unacked;  // lease -> sequence numbers sent
  std::shared_ptr<Wire> wire;
  Timers timers;
  boost::asio::io_context io;
  Executor executor;
  LeaseClient client;
};

SimulatedWorker::SimulatedWorker(World& world, int number)
    : world_(world), name_(StrCat("worker-", number)) {}
SimulatedWorker::~SimulatedWorker() = default;

size_t SimulatedWorker::leases() const { return life_ == nullptr ? 0 : life_->client.leases(); }
SessionId SimulatedWorker::session() const { return life_ == nullptr ? "" : life_->client.session_id(); }
std::shared_ptr<Wire> SimulatedWorker::wire() const { return life_ == nullptr ? nullptr : life_->wire; }

void SimulatedWorker::Start() {
  world_.Say(name_, " starts");
  ++lives_;
  stopped_ = false;
  inbox_.clear();
  life_ = std::make_unique<Life>(world_, *this);
  life_->client.Start();
  Look();
}

void SimulatedWorker::Crash() {
  if (life_ == nullptr) return;
  world_.Say(name_, " crashes");
  ++lives_;
  ++look_;
  look_at_ = absl::InfiniteDuration();
  stopped_ = false;
  inbox_.clear();
  life_ = nullptr;
}

void SimulatedWorker::Stop() {
  if (life_ == nullptr || stopped_) return;
  world_.Say(name_, " is stopped");
  stopped_ = true;
}

void SimulatedWorker::Continue() {
  if (life_ == nullptr || !stopped_) return;
  world_.Say(name_, " goes on");
  stopped_ = false;
  // All of it in one step: what it does first after a stop, messages or timers, is a matter of luck.
  const bool timers_first = world_.dice.Chance(0.5);
  if (timers_first) Look();
  const auto inbox = std::exchange(inbox_, {});
  for (const auto& what : inbox) {
    if (life_ != nullptr) what();
  }
  if (life_ == nullptr) return;
  Look();
  if (life_ != nullptr && life_->wire != nullptr) life_->wire->WorkerRuns();
}

void SimulatedWorker::Drain() {
  if (life_ == nullptr || stopped_ || life_->client.draining()) return;
  world_.Say(name_, " drains");
  life_->client.StartDrain();
  Look();
}

void SimulatedWorker::ClockJumps() {
  if (life_ == nullptr) return;
  Dice& dice = world_.dice;
  if (dice.Chance(0.5)) {
    life_->clock.wall_offset += dice.Between(-absl::Hours(30), absl::Hours(30));
  } else {
    // Suspended, or a clock that runs ahead: it never goes back.
    life_->clock.elapsed_offset += dice.Between(absl::ZeroDuration(), 2 * world_.options.ttl);
  }
  if (!stopped_) Note(world_.agenda.now());
}

void SimulatedWorker::Receive(std::function<void()> what) {
  if (stopped_) {
    inbox_.push_back(std::move(what));
  } else {
    what();
  }
}

void SimulatedWorker::OnMessage(const v1::WorkResponse& message) {
  if (life_ == nullptr) return;
  if (message.has_grant()) {
    int64_t tasks = message.grant().batch_tasks();
    if (!message.grant().tasks().empty()) {
      tasks = 0;
      for (const v1::TaskRange& range : message.grant().tasks()) tasks += range.end() - range.first();
    }
    life_->left[message.grant().lease_id()] = tasks;
  }
  life_->client.OnMessage(message);
  Note(world_.agenda.now() + kLookGap);
}

void SimulatedWorker::OnRecorded(const v1::SegmentAck& ack) {
  // An acknowledgment names no job: the lease's id is enough, for no two are the same.
  bool found = false;
  world_.database.LookAtAll([&](const memory::JobRows& rows) {
    for (const auto& [key, segment] : rows.segments) {
      found |= std::get<1>(key) == ack.lease_id() && std::get<2>(key) == ack.sequence();
    }
  });
  if (!found) {
    world_.Fail(StrCat(name_, " was told that segment ", ack.sequence(), " of lease ", ack.lease_id(),
                       " is recorded, but it is not in the database"));
  }
}

void SimulatedWorker::OnBroken(const Wire& wire, const absl::Status& status) {
  if (life_ == nullptr || life_->wire.get() != &wire) return;
  world_.Say(name_, " hears that its stream is over: ", status.ToString());
  life_->wire = nullptr;
  life_->client.OnStreamBroken(status);
  Note(world_.agenda.now() + kLookGap);
}

void SimulatedWorker::Look() {
  look_at_ = absl::InfiniteDuration();
  ++look_;
  Life& life = *life_;
  life.timers.RunDue(life.clock.Elapsed());
  life.client.Tick();
  do {
    life.io.restart();
  } while (life.io.poll() > 0);
  if (life.client.done()) {
    world_.Say(name_, " has drained");
    life.client.Stop();
    Crash();
    world_.agenda.After(world_.dice.Between(absl::Milliseconds(10), absl::Seconds(3)), [this] {
      if (life_ == nullptr) Start();
    });
    return;
  }
  const absl::Duration next = std::min(life.client.next_tick(), life.timers.next());
  const absl::Duration wait = std::max(next - life.clock.Elapsed(), kLookGap);
  Note(world_.agenda.now() + wait);
}

void SimulatedWorker::Note(absl::Duration when) {
  if (life_ == nullptr || look_at_ <= when || when == absl::InfiniteDuration()) return;
  look_at_ = when;
  world_.agenda.At(when, [this, look = ++look_] {
    if (look != look_ || life_ == nullptr) return;
    look_at_ = absl::InfiniteDuration();
    if (!stopped_) Look();
  });
}

}  // namespace drover::simulation
