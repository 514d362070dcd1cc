#include "tests/simulation/controller.h"

#include <algorithm>
#include <utility>

#include "common/codec/task_batch.h"
#include "common/status/status.h"
#include "services/controller/dispatch/dispatcher.h"
#include "services/controller/dispatch/job_info.h"
#include "services/controller/duties/duty_table.h"
#include "services/controller/janitor/janitor.h"
#include "services/controller/outcome/gatherer.h"
#include "services/controller/report/finish_handler.h"
#include "services/controller/report/report_file_handler.h"
#include "services/controller/stores/store_provider.h"
#include "tests/simulation/simulated_storage.h"
#include "tests/simulation/wire.h"
#include "tests/simulation/world.h"
#include "tests/unit/services/controller/stores/memory_store.h"

namespace drover::simulation {
namespace {

constexpr absl::Duration kDutyLease = absl::Seconds(6);
constexpr absl::Duration kDutyPoll = absl::Milliseconds(500);

// The store of reports; what it holds is the world's.
const Stores& ReportStores() {
  static const Stores* stores = new Stores(*Stores::Parse(
      "stores:\n"
      "  - {name: main, kind: s3, endpoint: 'http://127.0.0.1:9000', credentials: {anonymous: true}}\n",
      "stores.yaml"));
  return *stores;
}

// Prepares a job from its plan, in chunks, as the holder of the duty: a successor goes on where the last
// chunk ended. The manifest's reader has threads of its own and is not simulated.
class PlannedPreparation final : public DutyHandler {
 public:
  PlannedPreparation(World& world, Storage& storage, Dice& dice)
      : world_(world), storage_(storage), dice_(dice) {}

  DutyOutcome Run(DutyContext& context) override {
    const Duty& duty = context.duty();
    const auto begun = storage_.ChangeJob(
        duty.job_id,
        [](const lifecycle::Snapshot& snapshot) {
          return lifecycle::Decide(snapshot, {lifecycle::Cause::kPrepareBegins, "", "", {}});
        },
        false);
    if (!begun.ok()) return OutcomeOf(begun.status());
    const JobPlan& plan = *world_.PlanOf(duty.job_id);
    size_t next = duty.progress.empty() ? 0 : std::stoul(duty.progress);
    int64_t first_task = 0;
    for (size_t i = 0; i < next; ++i) first_task += plan.batches[i];
    while (true) {
      if (context.ShouldStop()) return DutyOutcome::Again(absl::ZeroDuration());
      if (plan.manifest_fails && next >= plan.batches.size() / 2) {
        const absl::Status failed = storage_.FailPreparation(duty, {"MANIFEST_LINE", "planned", {}});
        return failed.ok() ? DutyOutcome::Ended() : OutcomeOf(failed);
      }
      Storage::PrepareChunk chunk;
      for (int n = dice_.Between(1, 4); n > 0 && next < plan.batches.size(); --n, ++next) {
        TaskBatchBuilder builder;
        for (int32_t task = 0; task < plan.batches[next]; ++task) {
          const std::string key = KeyOf({JobNumber(duty.job_id), first_task + task});
          builder.Add({.bucket = "bucket", .key = key, .version_id = ""});
        }
        chunk.batches.push_back({first_task, plan.batches[next], builder.Finish()});
        first_task += plan.batches[next];
      }
      chunk.progress = StrCat(next);
      chunk.last = next == plan.batches.size() && !plan.manifest_fails;
      const absl::Status appended = storage_.AppendBatches(duty, chunk);
      if (!appended.ok()) return OutcomeOf(appended);
      if (chunk.last) return DutyOutcome::Ended();
    }
  }

 private:
  int JobNumber(const JobId& job_id) const {
    for (size_t i = 0; i < world_.jobs.size(); ++i) {
      if (world_.jobs[i].job_id == job_id) return static_cast<int>(i);
    }
    return -1;
  }

  World& world_;
  Storage& storage_;
  Dice& dice_;
};

}  // namespace

// The living process; members in the order of dependence. Wired as controller.cc wires them.
struct SimulatedController::Parts {
  Parts(World& world, SimulatedController& self)
      : dice(world.dice.Next()),
        clock(world.agenda),
        process(world.agenda),
        storage(world, process, dice),
        jobs(storage),
        stores(ReportStores(),
               [&world](const StoreConfig& config) -> absl::StatusOr<std::unique_ptr<ObjectStore>> {
                 return std::make_unique<MemoryStore>(world.store, config);
               }),
        gatherer({}, storage, clock, dice, {}, Hooks()),
        fleet(Limits(), clock, dice,
              [this](const JobId& job_id, SegmentWrite segment) {
                gatherer.Submit(job_id, std::move(segment));
                segments.Give();
              }),
        dispatcher(DispatchOptions(world, self), storage, fleet, jobs, clock, dice, {}, [](const JobId&) {}),
        janitor(
            JanitorSettings(world), storage, clock, {}, [this](const JobId&) { Changed(); },
            [this] { look.Give(); }),
        prepare(world, storage, dice),
        finish(MakeFinishHandler(Finish(dice), storage, stores, clock, [this](const JobId&) { Changed(); })),
        report_file(
            MakeReportFileHandler({.sleep = [this](absl::Duration duration) { process.Sleep(duration); }},
                                  storage, stores, [this](const JobId&) { Changed(); })),
        duties({.threads = 6}, {DutyKind::kPrepare, DutyKind::kFinish, DutyKind::kReportFile}) {}

  void Changed() {
    look.Give();
    duty.Give();
  }

  Gatherer::Hooks Hooks() {
    Gatherer::Hooks hooks;
    hooks.policy = [this](const JobId& job_id) -> absl::StatusOr<lifecycle::FailurePolicy> {
      DROVER_ASSIGN_OR_RETURN(const auto info, jobs.Get(job_id));
      return info->failure_policy;
    };
    hooks.recorded = [this](const JobId& job_id, const SegmentWrite& segment, SegmentResult result,
                            bool over) {
      fleet.OnRecorded(job_id, segment, result, over);
      if (result == SegmentResult::kAlready && !over) {
        const auto recorded = storage.ReadRecorded(job_id, segment.lease, TaskSet::kMaxTasks);
        if (recorded.ok()) fleet.SetRecorded(segment.lease.lease_id, *recorded);
      }
    };
    hooks.rejected = [this](const JobId&, const SegmentWrite& segment, const absl::Status&) {
      dispatcher.LoseLease(segment.lease.lease_id);
    };
    hooks.committed = [this](const JobId&, const RecordResult& result) {
      if (result.change || result.gave_back) Changed();
    };
    return hooks;
  }
  static FleetLimits Limits() {
    FleetLimits limits;
    limits.revoke_slack = absl::Seconds(2);
    return limits;
  }
  static DispatcherOptions DispatchOptions(const World& world, const SimulatedController& self) {
    DispatcherOptions options;
    options.controller = self.name();
    options.session = {world.options.ttl, world.options.ttl / 5};
    options.limits = Limits();
    options.look_interval = absl::Milliseconds(250);
    options.renew_interval = world.options.ttl / 15;
    options.interrupt_grace = absl::Seconds(3);
    return options;
  }
  static JanitorOptions JanitorSettings(const World& world) {
    JanitorOptions options;
    options.session_ttl = world.options.ttl;
    options.session_interval = world.options.ttl / 15;
    options.settle_interval = absl::Milliseconds(400);
    return options;
  }
  static FinishOptions Finish(Dice& dice) {
    FinishOptions options;
    options.small_rows = dice.Chance(0.5) ? 0 : options.small_rows;
    options.max_file_rows = dice.Between(5, 50);
    return options;
  }
  DutyHandler& Handler(DutyKind kind) {
    switch (kind) {
      case DutyKind::kPrepare: return prepare;
      case DutyKind::kFinish: return *finish;
      case DutyKind::kReportFile: return *report_file;
    }
    std::abort();
  }

  Dice dice;
  SimulatedClock clock;
  Signal look, attach, segments, duty, never;
  Process process;
  SimulatedStorage storage;
  JobCache jobs;
  StoreProvider stores;
  Gatherer gatherer;
  Fleet fleet;
  Dispatcher dispatcher;
  Janitor janitor;
  PlannedPreparation prepare;
  std::unique_ptr<DutyHandler> finish;
  std::unique_ptr<DutyHandler> report_file;
  DutyTable duties;
  std::string owner;
  std::vector<std::shared_ptr<DutyContext>> held;
  bool draining = false;
};

SimulatedController::SimulatedController(World& world, int number)
    : world_(world), number_(number), name_(StrCat("controller-", number)) {}

SimulatedController::~SimulatedController() {
  if (parts_ != nullptr) parts_->process.KillThreads();
}

std::string SimulatedController::StoreFingerprint() { return ReportStores().Find("main")->Fingerprint(); }

Fleet& SimulatedController::fleet() { return parts_->fleet; }

int64_t SimulatedController::pending() const { return parts_ == nullptr ? 0 : parts_->gatherer.pending(); }

void SimulatedController::Loop(Signal& signal, absl::Duration interval, std::function<bool()> step) {
  Process& process = parts_->process;
  process.Spawn([&process, &signal, interval, step = std::move(step)] {
    while (true) {
      while (step()) {
      }
      process.Wait(signal, interval);
    }
  });
}

void SimulatedController::Start() {
  world_.Say(name_, " starts");
  parts_ = std::make_unique<Parts>(world_, *this);
  Parts& parts = *parts_;
  parts.owner = StrCat(name_, "/", ++lives_);
  const absl::Duration ttl = world_.options.ttl;
  const auto once = [](auto step) {
    return [step] {
      step();
      return false;
    };
  };
  Loop(parts.look, absl::Milliseconds(250), [&] { return parts.dispatcher.LookStep(); });
  Loop(parts.never, ttl / 15, once([&] { parts.dispatcher.RenewStep(); }));
  if (!world_.Is(Planted::kUnknownClaimForgotten))
    Loop(parts.never, ttl / 5, once([&] { parts.dispatcher.ReconcileStep(); }));
  Loop(parts.attach, absl::Seconds(1), [&] { return parts.dispatcher.AttachStep(); });
  Loop(parts.never, absl::Milliseconds(30), [&] { return parts.dispatcher.AttachStep(); });
  Loop(parts.segments, absl::Milliseconds(200), [&] { return parts.gatherer.Step(); });
  Loop(parts.never, absl::Milliseconds(300), [&] { return parts.gatherer.Step(); });
  Loop(parts.never, ttl / 15, once([&] { parts.janitor.SessionStep(); }));
  Loop(parts.never, absl::Milliseconds(400), once([&] { parts.janitor.SettleStep(); }));
  Loop(parts.never, absl::Seconds(10), once([&] { parts.janitor.PurgeStep(); }));
  Loop(parts.duty, kDutyPoll, once([this] { LookForDuties(); }));
  Loop(parts.never, kDutyLease / 3, once([&] {
         std::vector<Duty> duties;
         const auto held = parts.held;
         for (const auto& one : held) duties.push_back(one->duty());
         if (duties.empty()) return;
         const absl::Duration sent = parts.clock.Elapsed();
         const auto renewed = parts.storage.RenewDuties(duties, kDutyLease);
         for (size_t i = 0; renewed.ok() && i < held.size(); ++i) {
           (*renewed)[i] ? held[i]->Prolong(sent + kDutyLease) : held[i]->MarkLost();
         }
       }));
}

void SimulatedController::LookForDuties() {
  Parts& parts = *parts_;
  const std::optional<DutyAsk> ask = parts.duties.NextAsk();
  if (!ask || parts.draining) return;
  const absl::Duration sent = parts.clock.Elapsed();
  const auto duties = parts.storage.AcquireDuties(parts.owner, ask->kinds, ask->limit, kDutyLease);
  if (!duties.ok()) return;
  for (const Duty& duty : *duties) {
    parts.duties.Started(duty.kind);
    auto context = std::make_shared<DutyContext>(duty, parts.clock, sent + kDutyLease);
    parts.held.push_back(context);
    parts.process.Spawn([this, context] { RunDuty(context); });
  }
}

void SimulatedController::RunDuty(std::shared_ptr<DutyContext> context) {
  Parts& parts = *parts_;
  const Duty& duty = context->duty();
  const DutyOutcome outcome = parts.Handler(duty.kind).Run(*context);
  switch (outcome.what) {
    case DutyOutcome::What::kEnded: break;
    case DutyOutcome::What::kDone: parts.storage.FinishDuty(duty).IgnoreError(); break;
    case DutyOutcome::What::kAgain:
      parts.storage.ReleaseDuty(duty, outcome.delay, false).IgnoreError();
      break;
    case DutyOutcome::What::kFailed:
      if (absl::IsInternal(outcome.error)) world_.Fail(StrCat("a duty: ", outcome.error.ToString()));
      parts.storage.ReleaseDuty(duty, DutyBackoff(duty.tries, absl::Seconds(5), parts.dice.NextUnit()), true)
          .IgnoreError();
      break;
  }
  std::erase(parts.held, context);
  parts.duties.Ended(duty.kind);
  parts.duty.Give();
}

void SimulatedController::Crash() {
  if (parts_ == nullptr) return;
  world_.Say(name_, " crashes");
  parts_->storage.ProcessDies();
  parts_->process.KillThreads();
  const auto wires = std::exchange(wires_, {});
  for (const auto& wire : wires) wire->ControllerDied(world_.options.faults.silence);
  parts_ = nullptr;
}

void SimulatedController::Drain() {
  if (parts_ == nullptr || parts_->draining) return;
  world_.Say(name_, " drains");
  parts_->draining = true;
  // A bound of zero waits for nobody: the time until it goes is given here.
  parts_->dispatcher.Drain(absl::ZeroDuration());
  const int life = lives_;
  world_.agenda.After(world_.dice.Between(absl::Milliseconds(100), absl::Seconds(3)), [this, life] {
    if (life != lives_ || parts_ == nullptr) return;
    Crash();
    world_.agenda.After(world_.dice.Between(absl::Milliseconds(10), absl::Seconds(2)), [this] {
      if (parts_ == nullptr) Start();
    });
  });
}

void SimulatedController::AddWire(std::shared_ptr<Wire> wire) { wires_.push_back(std::move(wire)); }

void SimulatedController::OnHello(StreamId stream, v1::Hello hello) {
  parts_->dispatcher.OnHello(stream, std::move(hello));
  parts_->attach.Give();
}

void SimulatedController::OnStatus(const v1::Status& status) {
  if (status.credit() + status.urgent_credit() > 0) parts_->look.Give();
}

void SimulatedController::OnSegment() { parts_->segments.Give(); }

void SimulatedController::OnClosed(StreamId stream, const std::shared_ptr<Wire>& wire) {
  std::erase(wires_, wire);
  if (parts_ == nullptr) return;
  parts_->dispatcher.OnClosed(stream);
  parts_->look.Give();
}

}  // namespace drover::simulation
