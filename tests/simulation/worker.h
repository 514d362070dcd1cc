// A worker: the real LeaseClient and Executor in virtual time, wired as worker.cc wires them. Its operation
// makes requests to nobody, and tells the world of each.
#ifndef DROVER_TESTS_SIMULATION_WORKER_H_
#define DROVER_TESTS_SIMULATION_WORKER_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/storage/storage.h"
#include "tests/simulation/virtual_time.h"

namespace drover::simulation {

class Wire;
class World;

class SimulatedWorker {
 public:
  SimulatedWorker(World& world, int number);
  ~SimulatedWorker();

  void Start();
  void Crash();
  // SIGSTOP and SIGCONT.
  void Stop();
  void Continue();
  // SIGTERM; it is started anew once it has gone.
  void Drain();
  void ClockJumps();

  bool up() const { return life_ != nullptr; }
  bool stopped() const { return stopped_; }
  const std::string& name() const { return name_; }
  // Of the living process; 0 if there is none.
  size_t leases() const;
  SessionId session() const;

  // ---- for the streams
  // Something arrives: now, or when the process runs again.
  void Receive(std::function<void()> what);
  void OnMessage(const v1::WorkResponse& message);
  void OnBroken(const Wire& wire, const absl::Status& status);
  // An acknowledgment that says "recorded" has arrived.
  void OnRecorded(const v1::SegmentAck& ack);
  // The stream that it has; null if none.
  std::shared_ptr<Wire> wire() const;

 private:
  struct Life;
  friend struct Life;
  // What is due: timers, the client, the executor's coroutines.
  void Look();
  void Note(absl::Duration when);

  World& world_;
  const std::string name_;
  std::unique_ptr<Life> life_;
  uint64_t lives_ = 0;
  bool stopped_ = false;
  std::deque<std::function<void()>> inbox_;
  absl::Duration look_at_ = absl::InfiniteDuration();
  uint64_t look_ = 0;
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_WORKER_H_
