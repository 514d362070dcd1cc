// Everything in a run, and what it is held against.
#ifndef DROVER_TESTS_SIMULATION_WORLD_H_
#define DROVER_TESTS_SIMULATION_WORLD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/strings/strings.h"
#include "services/controller/storage/memory/memory_storage.h"
#include "tests/simulation/options.h"
#include "tests/simulation/virtual_time.h"

namespace drover {
struct MemoryStoreState;
}  // namespace drover

namespace drover::simulation {

class SimulatedController;
class SimulatedWorker;

// A job as the run's author means it.
struct JobPlan {
  JobId job_id;
  std::vector<int32_t> batches;  // their sizes
  int64_t tasks = 0;
  bool manifest_fails = false;
  int fail_percent = 0;  // of its tasks
  absl::Duration task_time;
  absl::Duration created_at;
  NewJob spec;
};

// What a task is called in its manifest, and back.
struct TaskName {
  int job = 0;
  int64_t position = 0;
  friend auto operator<=>(const TaskName&, const TaskName&) = default;
};
std::string KeyOf(const TaskName& task);
TaskName TaskOf(std::string_view key);

class World {
 public:
  World(uint64_t seed, const Options& options, bool trace);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Outcome Run();

  bool Is(Planted planted) const { return options.planted == planted; }
  // Says what happened, with `trace`.
  template <typename... Parts>
  void Say(const Parts&... parts) const {
    if (trace) SayText(StrCat(parts...));
  }
  // An invariant is broken: the run ends with this.
  void Fail(std::string what);
  bool failed() const { return !outcome.failure.empty(); }
  const JobPlan* PlanOf(const JobId& job_id) const;

  // ---- what is held against the invariants

  // A worker makes a request for a task, as the holder of `session`.
  void RequestStarts(SimulatedWorker& worker, const SessionId& session, const TaskName& task);
  void RequestEnds(SimulatedWorker& worker, const TaskName& task);
  // A task was run to its end.
  void TaskDone(const TaskName& task);
  // Somebody was accused of breaking the protocol; both sides are real, so somebody has.
  void Accused(std::string_view by, const absl::Status& status);
  // The janitor ended a session.
  void SessionEnded(const SessionId& session);

  const uint64_t seed;
  const Options options;
  const bool trace;
  Agenda agenda;
  Dice dice;
  SimulatedClock database_clock;
  memory::MemoryDatabase database;
  const std::shared_ptr<MemoryStoreState> store;  // of reports
  bool database_away = false;
  bool faults_on = true;
  std::vector<JobPlan> jobs;
  std::vector<std::unique_ptr<SimulatedController>> controllers;
  std::vector<std::unique_ptr<SimulatedWorker>> workers;
  Outcome outcome;

 private:
  void SayText(const std::string& text) const;
  void MakeJobs();
  void PlanFaults();
  // Repeats `fault` at random times, `per_minute` on average, while faults are on.
  void Plan(double per_minute, std::function<void()> fault);
  void PersonActs();
  void FaultsEnd();
  void PersonTidiesUp();
  // A transaction on a job commits.
  void CheckCommit(std::string_view name, const memory::JobRows* before, const memory::JobRows& after);
  void CheckEnd();
  // What is not over yet; empty if all is.
  std::string Waiting() const;

  std::unique_ptr<Process> people_;
  std::map<TaskName, std::map<SimulatedWorker*, int>> running_;
  std::map<TaskName, int> done_;
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_WORLD_H_
