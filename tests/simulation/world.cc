#include "tests/simulation/world.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "common/log/capture.h"
#include "common/status/status.h"
#include "drover/v1/job.pb.h"
#include "services/controller/report/report_layout.h"
#include "tests/simulation/controller.h"
#include "tests/simulation/simulated_storage.h"
#include "tests/simulation/wire.h"
#include "tests/simulation/worker.h"
#include "tests/unit/services/controller/stores/memory_store.h"

namespace drover::simulation {

using lifecycle::Cause;
using lifecycle::State;
using memory::JobRows;

namespace {

// Once faults have ended, something gets on at least so often until all is done: a session that ends, a
// backoff, a Welcome that does not come and a task take less.
absl::Duration PatienceOf(const Options& options) {
  return absl::Seconds(60) + 4 * options.ttl + 4 * options.task_time;
}

std::string_view StateOf(const JobRows& rows) { return lifecycle::StateName(rows.snapshot.state); }

}  // namespace

std::string KeyOf(const TaskName& task) { return StrCat(task.job, "/", task.position); }

TaskName TaskOf(std::string_view key) {
  TaskName task;
  const size_t slash = key.find('/');
  const std::string text(key);
  if (slash == std::string::npos || !absl::SimpleAtoi(text.substr(0, slash), &task.job) ||
      !absl::SimpleAtoi(text.substr(slash + 1), &task.position))
    std::abort();
  return task;
}

// The people, and the calls that they make.
struct People : Process {
  explicit People(World& world)
      : Process(world.agenda), dice(world.dice.Next()), storage(world, *this, dice) {}
  Dice dice;
  SimulatedStorage storage;
};

World::World(uint64_t the_seed, const Options& the_options, bool the_trace)
    : seed(the_seed),
      options(the_options),
      trace(the_trace),
      dice(the_seed),
      database_clock(agenda),
      database(database_clock),
      store(std::make_shared<MemoryStoreState>()) {
  database.OnCommit([this](std::string_view name, const JobRows* before, const JobRows& after) {
    CheckCommit(name, before, after);
  });
  memory::PlantedFaults& faults = database.faults();
  faults.record_without_fence = Is(Planted::kNoFence);
  faults.regrant_whole_lease = Is(Planted::kRegrantWhole);
  faults.marking_lowers = Is(Planted::kMarkingLowers);
  faults.claim_in_any_state = Is(Planted::kStateNotLocked);
  faults.given_back_apart = Is(Planted::kGivenBackApart);
  faults.completion_never_judged = Is(Planted::kCompletionFromMemory);
  store->fault = [this](const std::string& method, const std::string&, int64_t) -> absl::Status {
    if (faults_on && dice.Chance(options.faults.store_fails))
      return Error(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", method);
    return absl::OkStatus();
  };
  people_ = std::make_unique<People>(*this);
}

World::~World() {
  people_->KillThreads();  // before what they use goes
  workers.clear();
  controllers.clear();
}

void World::SayText(const std::string& text) const {
  std::printf("%10.6f  %s\n", absl::ToDoubleSeconds(agenda.now()), text.c_str());
}

void World::Fail(std::string what) {
  Say("BROKEN: ", what);
  if (!failed()) outcome.failure = StrCat("at ", absl::FormatDuration(agenda.now()), ": ", what);
}

const JobPlan* World::PlanOf(const JobId& job_id) const {
  const auto found = std::ranges::find(jobs, job_id, &JobPlan::job_id);
  return found == jobs.end() ? nullptr : &*found;
}

// ---------------------------------------------------------------------------------------------- what happens

void World::MakeJobs() {
  for (int i = 0; i < options.jobs; ++i) {
    JobPlan plan;
    plan.job_id = absl::StrFormat("0194e9b6-0000-7000-8000-%012d", i);
    const int tasks = dice.Chance(0.05) ? 0 : dice.Between(1, options.max_tasks);
    const int most = dice.Between(1, 40);
    while (plan.tasks < tasks) {
      plan.batches.push_back(
          static_cast<int32_t>(std::min<int64_t>(dice.Between(1, most), tasks - plan.tasks)));
      plan.tasks += plan.batches.back();
    }
    plan.manifest_fails = dice.Chance(0.04);
    plan.fail_percent = dice.Chance(0.5) ? 0 : dice.Between(0, 60);
    plan.task_time = dice.Between(absl::Milliseconds(8), options.task_time);
    plan.created_at = dice.Between(absl::ZeroDuration(), options.faults_for / 2);
    v1::Job request;
    request.mutable_operation()->mutable_no_op();
    NewJob& job = plan.spec;
    job.spec.report_wanted = dice.Chance(0.7);
    if (job.spec.report_wanted) {
      request.mutable_report()->set_store("main");
      request.mutable_report()->set_bucket("reports");
      request.mutable_report()->set_prefix("r");
    }
    job.spec.job_id = plan.job_id;
    job.spec.request = request.SerializeAsString();
    job.spec.operation = "noop";
    job.spec.creator = "ann";
    job.spec.created = database_clock.Now();
    job.spec.confirmation_required = dice.Chance(0.15);
    lifecycle::FailurePolicy& policy = job.spec.failure_policy;
    policy.enabled = dice.Chance(0.6);
    policy.failed_fraction = dice.NextUnit() * 0.6;
    policy.minimum_executed = dice.Between(1, 60);
    policy.pause = dice.Chance(0.4);
    job.priority = dice.Below(4) * 5;
    job.request_id = StrCat("request-", i);
    job.fingerprint = "fingerprint";
    jobs.push_back(std::move(plan));
  }
  auto* people = static_cast<People*>(people_.get());
  for (const JobPlan& plan : jobs) {
    people->Spawn([people, &plan] {
      people->Sleep(plan.created_at);
      NewJob job = plan.spec;
      job.spec.stores["main"] = SimulatedController::StoreFingerprint();
      while (!people->storage.CreateJob(job).ok()) people->Sleep(absl::Milliseconds(200));
    });
  }
}

void World::Plan(double per_minute, std::function<void()> fault) {
  if (per_minute <= 0) return;
  const absl::Duration gap = absl::Minutes(1) / per_minute * 2 * dice.NextUnit();
  agenda.After(gap + absl::Milliseconds(1), [this, per_minute, fault = std::move(fault)] {
    if (!faults_on) return;
    fault();
    Plan(per_minute, fault);
  });
}

void World::PlanFaults() {
  const FaultRates& faults = options.faults;
  const auto any_worker = [this]() -> SimulatedWorker& { return *workers[dice.Below(options.workers)]; };
  const auto any_controller = [this]() -> SimulatedController& {
    return *controllers[dice.Below(options.controllers)];
  };
  Plan(faults.stream_cut, [=, this] {
    if (const auto wire = any_worker().wire()) wire->Cut(options.faults.silence);
  });
  Plan(faults.controller_crash, [=, this] {
    SimulatedController& controller = any_controller();
    const auto up = std::ranges::count_if(controllers, [](const auto& each) { return each->up(); });
    if (options.no_task_runs_twice && up < 2) return;
    if (!controller.up()) return;
    controller.Crash();
    const absl::Duration down = options.no_task_runs_twice || dice.Chance(0.7)
                                    ? dice.Between(absl::Milliseconds(50), absl::Seconds(2))
                                    : dice.Between(absl::Seconds(2), absl::Seconds(30));
    agenda.After(down, [&controller] {
      if (!controller.up()) controller.Start();
    });
  });
  Plan(faults.controller_drain, [=] { any_controller().Drain(); });
  Plan(faults.worker_crash, [=, this] {
    SimulatedWorker& worker = any_worker();
    if (!worker.up()) return;
    worker.Crash();
    agenda.After(dice.Between(absl::Milliseconds(50), absl::Seconds(10)), [&worker] {
      if (!worker.up()) worker.Start();
    });
  });
  Plan(faults.worker_stop, [=, this] {
    SimulatedWorker& worker = any_worker();
    if (!worker.up() || worker.stopped()) return;
    worker.Stop();
    agenda.After(dice.Between(absl::Milliseconds(50), 3 * options.ttl), [&worker] { worker.Continue(); });
  });
  Plan(faults.worker_drain, [=] { any_worker().Drain(); });
  Plan(faults.worker_clock, [=] { any_worker().ClockJumps(); });
  Plan(faults.database_away, [this] {
    if (database_away) return;
    database_away = true;
    Say("the database is away");
    const absl::Duration away = dice.Chance(0.5) ? dice.Between(absl::Milliseconds(10), absl::Seconds(2))
                                                 : dice.Between(absl::Seconds(1), 2 * options.ttl);
    agenda.After(away, [this] {
      database_away = false;
      Say("the database is back");
    });
  });
  Plan(faults.person, [this] { PersonActs(); });
}

void World::PersonActs() {
  const JobId job_id = jobs[dice.Below(options.jobs)].job_id;
  const int what = dice.Below(20);
  auto* people = static_cast<People*>(people_.get());
  people->Spawn([this, people, job_id, what] {
    if (what >= 15) {
      Say("a person sets a priority of job ", job_id);
      people->storage.SetPriority(job_id, people->dice.Below(4) * 5, "bob").IgnoreError();
      return;
    }
    const Cause cause = what == 0   ? Cause::kCancel
                        : what < 6  ? Cause::kPause
                        : what < 12 ? Cause::kResume
                                    : Cause::kConfirm;
    Say("a person: ", lifecycle::CauseName(cause), " job ", job_id);
    people->storage
        .ChangeJob(
            job_id,
            [cause](const lifecycle::Snapshot& snapshot) {
              return lifecycle::Decide(snapshot, {cause, "so I want", "bob", {}});
            },
            false)
        .IgnoreError();
  });
}

void World::FaultsEnd() {
  Say("the faults end");
  faults_on = false;
  database_away = false;
  for (const auto& controller : controllers) {
    if (!controller->up()) controller->Start();
  }
  for (const auto& worker : workers) {
    worker->Continue();
    if (!worker->up()) worker->Start();
  }
  PersonTidiesUp();
}

// Whoever paused a job resumes it, and confirms what waits for that.
void World::PersonTidiesUp() {
  auto* people = static_cast<People*>(people_.get());
  for (const JobPlan& plan : jobs) {
    people->Spawn([people, &plan] {
      people->storage
          .ChangeJob(
              plan.job_id,
              [](const lifecycle::Snapshot& snapshot) -> absl::StatusOr<std::optional<lifecycle::Change>> {
                const bool person =
                    snapshot.state == State::kPaused && snapshot.reason_code != lifecycle::kReasonPreempted;
                if (person) return lifecycle::Decide(snapshot, {Cause::kResume, "", "bob", {}});
                if (snapshot.state == State::kSuspended)
                  return lifecycle::Decide(snapshot, {Cause::kConfirm, "", "bob", {}});
                return std::optional<lifecycle::Change>();
              },
              false)
          .IgnoreError();
    });
  }
  agenda.After(absl::Seconds(2), [this] { PersonTidiesUp(); });
}

Outcome World::Run() {
  MakeJobs();
  for (int i = 0; i < options.controllers; ++i)
    controllers.push_back(std::make_unique<SimulatedController>(*this, i));
  for (int i = 0; i < options.workers; ++i) workers.push_back(std::make_unique<SimulatedWorker>(*this, i));
  for (const auto& controller : controllers) controller->Start();
  for (const auto& worker : workers) {
    agenda.After(dice.Between(absl::ZeroDuration(), absl::Seconds(2)), [&worker] {
      if (!worker->up()) worker->Start();
    });
  }
  PlanFaults();
  agenda.At(options.faults_for, [this] { FaultsEnd(); });
  absl::Duration look = options.faults_for;
  absl::Duration changed = options.faults_for;
  std::string waited_for;
  LogCapture logs(trace ? LogLevel::kInfo : LogLevel::kError);
  size_t said = 0;
  const auto read_logs = [&] {
    for (const std::vector<std::string> lines = logs.lines(); said < lines.size(); ++said) {
      // Without its time, which is not that of the run.
      const std::string line = lines[said].substr(std::min(lines[said].find("level="), lines[said].size()));
      Say("    ", line);
      if (line.find("level=error") == 0) Fail(line);
    }
  };
  while (!failed() && agenda.Step()) {
    if (trace) read_logs();
    if (faults_on || agenda.now() < look) continue;
    look = agenda.now() + absl::Milliseconds(500);
    const std::string waiting = Waiting();
    if (waiting.empty()) break;
    if (waiting != waited_for) {
      waited_for = waiting;
      changed = agenda.now();
    }
    if (agenda.now() - changed > PatienceOf(options)) Fail(StrCat("waits for ever: ", waiting));
  }
  read_logs();
  if (!failed()) CheckEnd();
  outcome.steps = agenda.steps();
  outcome.virtual_time = agenda.now();
  for (const JobPlan& plan : jobs) outcome.tasks += plan.tasks;
  return outcome;
}

// ------------------------------------------------------------------------------------------------ invariants

void World::RequestStarts(SimulatedWorker& worker, const SessionId& session, const TaskName& task) {
  ++outcome.requests;
  Say(worker.name(), " request for task ", KeyOf(task));
  if (!database.Session(session)) {
    Fail(StrCat(worker.name(), " starts a request for task ", KeyOf(task), " though its session ", session,
                " has ended"));
  }
  const JobPlan& plan = jobs[static_cast<size_t>(task.job)];
  BatchNo batch_no = 0;
  int64_t index = task.position;
  for (; index >= plan.batches[static_cast<size_t>(batch_no)]; ++batch_no)
    index -= plan.batches[static_cast<size_t>(batch_no)];
  database.Look(plan.job_id, [&](const JobRows* rows) {
    // A job that stops takes leases from workers that take no notice, and they may not know yet.
    if (rows == nullptr || lifecycle::IsFinishing(rows->snapshot.state)) return;
    const bool holds = std::ranges::any_of(rows->leases, [&](const auto& entry) {
      const auto& [key, lease] = entry;
      return key.batch_no == batch_no && lease.session == session &&
             (!lease.tasks || lease.tasks->Contains(static_cast<uint32_t>(index)));
    });
    if (!holds) Fail(StrCat(worker.name(), " starts a request for task ", KeyOf(task), " without a lease"));
  });
  for (const auto& [other, requests] : running_[task]) {
    if (requests > 0 && other != &worker && other->up() && !other->stopped()) {
      Fail(StrCat(worker.name(), " and ", other->name(), " run task ", KeyOf(task), " at once"));
    }
  }
  ++running_[task][&worker];
}

void World::RequestEnds(SimulatedWorker& worker, const TaskName& task) { --running_[task][&worker]; }

void World::TaskDone(const TaskName& task) {
  if (++done_[task] > 1 && options.no_task_runs_twice)
    Fail(StrCat("task ", KeyOf(task), " ran twice, though nobody lost a session"));
}

void World::Accused(std::string_view by, const absl::Status& status) {
  Fail(StrCat(by, " accuses its peer: ", status.ToString()));
}

void World::SessionEnded(const SessionId& session) {
  Say("session ", session, " ends");
  if (!options.no_session_ends) return;
  for (const auto& worker : workers) {
    if (worker->up() && worker->session() == session)
      Fail(StrCat("the session of ", worker->name(), " was ended though it lives"));
  }
}

void World::CheckCommit(std::string_view name, const JobRows* before, const JobRows& after) {
  const lifecycle::Snapshot& job = after.snapshot;
  const auto broken = [&](const std::string& what) {
    Fail(StrCat(name, " of job ", after.spec->job_id, " (", StateOf(after), "): ", what));
  };
  if (before != nullptr && before->snapshot.state != job.state)
    Say("job ", after.spec->job_id, ": ", StateOf(*before), " -> ", StateOf(after), " ", job.reason_code);

  // Each task is recorded at most once, and the counters are what is recorded.
  std::map<BatchNo, TaskSet> recorded;
  int64_t succeeded = 0;
  int64_t failed_tasks = 0;
  const auto tasks_of = [&](BatchNo batch_no) {
    return static_cast<size_t>((*after.batches)[static_cast<size_t>(batch_no)].tasks);
  };
  for (const auto& [key, segment] : after.segments) {
    const BatchNo batch_no = std::get<0>(key);
    const TaskSet tasks = segment->executed ? *segment->executed : TaskSet::All(tasks_of(batch_no));
    if (tasks.Intersects(recorded[batch_no]))
      broken(StrCat("a task of batch ", batch_no, " is counted twice"));
    recorded[batch_no].Union(tasks);
    succeeded += segment->succeeded;
    failed_tasks += segment->failed;
    if (tasks.count() != static_cast<size_t>(segment->succeeded + segment->failed))
      broken("a segment counts other than it covers");
  }
  if (succeeded != job.succeeded || failed_tasks != job.failed) broken("counters and segments disagree");
  if (before != nullptr && lifecycle::IsTerminal(before->snapshot.state) &&
      after.segments.size() > before->segments.size())
    broken("something is recorded after the end");

  // Each claimed task is recorded or in exactly one lease.
  std::map<BatchNo, TaskSet> covered = recorded;
  for (const auto& [key, lease] : after.leases) {
    TaskSet left = lease.tasks ? *lease.tasks : TaskSet::All(static_cast<size_t>(lease.batch_tasks));
    left.Subtract(after.Recorded(key, lease.batch_tasks));
    if (left.Intersects(covered[key.batch_no]))
      broken(StrCat("a task of batch ", key.batch_no, " is in two leases, or recorded as well"));
    covered[key.batch_no].Union(left);
    if (left.count() != static_cast<size_t>(lease.task_count - lease.done)) broken("a lease counts wrongly");
  }
  for (BatchNo batch_no = 0; batch_no < job.batches && !lifecycle::IsTerminal(job.state); ++batch_no) {
    const size_t wanted = batch_no < job.next_batch ? tasks_of(batch_no) : 0;
    const auto found = covered.find(batch_no);
    if ((found == covered.end() ? 0 : found->second.count()) != wanted)
      broken(StrCat("tasks of batch ", batch_no, " are neither recorded nor in a lease"));
  }

  const bool all = job.prepared && job.succeeded + job.failed == job.tasks;
  if ((job.state == State::kCompleting || job.state == State::kComplete) && !all)
    broken("it completes, but not all of it is recorded");
  if (all && lifecycle::IsClaimable(job.state, job.reason_code)) broken("all is recorded, but it goes on");
  const bool rests = lifecycle::IsTerminal(job.state) || job.state == State::kPaused;
  if (rests && after.OwnedLeases() > 0) broken("it rests, but a lease is owned");
  for (size_t i = 0; i < after.events.size(); ++i) {
    if (after.events[i].version != static_cast<int64_t>(i) + 1) broken("an event is missing");
  }
}

std::string World::Waiting() const {
  std::string waiting;
  size_t found = 0;
  database.LookAtAll([&](const JobRows& rows) {
    ++found;
    const lifecycle::Snapshot& job = rows.snapshot;
    if (!lifecycle::IsTerminal(job.state)) {
      absl::StrAppend(&waiting, "job ", rows.spec->job_id, " is ", std::string(StateOf(rows)), " ",
                      job.reason_code, ", ", job.succeeded + job.failed, " of ", job.tasks, " tasks, cursor ",
                      job.next_batch, " of ", job.batches, ", ", rows.OwnedLeases(), " of ",
                      rows.leases.size(), " leases owned; ");
    } else if (!rows.leases.empty()) {
      absl::StrAppend(&waiting, "job ", rows.spec->job_id, " has ended and has leases; ");
    } else if (!rows.duties.empty()) {
      absl::StrAppend(&waiting, "job ", rows.spec->job_id, " has ended and has duties; ");
    }
  });
  if (found < jobs.size()) absl::StrAppend(&waiting, jobs.size() - found, " jobs are not created; ");
  for (const auto& worker : workers) {
    if (worker->leases() > 0)
      absl::StrAppend(&waiting, worker->name(), " holds ", worker->leases(), " leases; ");
  }
  for (const auto& controller : controllers) {
    if (controller->pending() > 0)
      absl::StrAppend(&waiting, controller->name(), " has ", controller->pending(), " segments to record; ");
  }
  return waiting;
}

// The report of a job has a row for each executed task.
void World::CheckEnd() {
  database.LookAtAll([&](const JobRows& rows) {
    const lifecycle::Snapshot& job = rows.snapshot;
    if (rows.report_state != ReportState::kWritten) {
      if (rows.report_state == ReportState::kFailed)
        Fail("a report was given up, though its store came back");
      return;
    }
    const auto place = PlanReportPlace(*rows.spec);
    if (!place.ok() || !rows.report) return Fail("a report without a place");
    int64_t succeeded = 0;
    int64_t failed_rows = 0;
    for (const auto& [part, file] : rows.report->files) {
      const std::string text = store->Get(StrCat(place->bucket, "/", file.key));
      (file.failed_rows ? failed_rows : succeeded) += std::ranges::count(text, '\n');
    }
    const bool all = place->scope == ReportScope::kAllTasks;
    if (failed_rows != job.failed || (all && succeeded != job.succeeded)) {
      Fail(StrCat("the report of job ", rows.spec->job_id, " has ", succeeded, " and ", failed_rows,
                  " rows, but ", job.succeeded, " and ", job.failed, " are counted"));
    }
    if (!store->Has(StrCat(place->bucket, "/", ReportManifestKey(*place))))
      Fail("a report without its manifest");
  });
}

Outcome Simulate(uint64_t seed, const Options& options, bool trace) {
  return World(seed, options, trace).Run();
}

}  // namespace drover::simulation
