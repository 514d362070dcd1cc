// One WorkerService.Work stream between a simulated worker and a simulated controller: in order both ways,
// with delays; it may be cut at any moment, and each side hears of it when it does. What gRPC and the two
// thin layers around it do (work_stream.cc, worker_service.cc) is done here in virtual time.
#ifndef DROVER_TESTS_SIMULATION_WIRE_H_
#define DROVER_TESTS_SIMULATION_WIRE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/dispatch/fleet.h"

namespace drover::simulation {

class SimulatedController;
class SimulatedWorker;
class World;

class Wire : public std::enable_shared_from_this<Wire> {
 public:
  // From `worker` to `controller`, which may be down.
  Wire(World& world, SimulatedWorker& worker, SimulatedController& controller);

  // ---- the worker's side
  void Open();
  void Send(std::shared_ptr<const v1::WorkRequest> message);
  bool status_waiting() const;
  // The worker ends it, and hears no more of it.
  void CloseByWorker();
  // The worker's threads run (again).
  void WorkerRuns() { WriteToController(); }
  bool worker_side() const { return worker_side_; }

  // ---- the network
  // Breaks it; each side hears of it after at most `silence`.
  void Cut(absl::Duration silence);
  // The worker's process is gone.
  void WorkerDied(absl::Duration silence);
  // The controller's process is gone.
  void ControllerDied(absl::Duration silence);

  SimulatedController& controller() { return controller_; }
  SimulatedWorker& worker() { return worker_; }
  bool controller_side() const { return controller_side_; }

 private:
  class Sink;

  void WriteToController();
  void ArriveAtController(const std::shared_ptr<const v1::WorkRequest>& message);
  void WriteToWorker();
  void ArriveAtWorker(const v1::WorkResponse& message);
  void CloseByController(const absl::Status& status);
  void ControllerHears();
  void WorkerHears(const absl::Status& status);
  absl::Duration Latency();

  World& world_;
  SimulatedWorker& worker_;
  SimulatedController& controller_;

  bool worker_side_ = false;         // the worker takes it for open
  bool controller_side_ = false;     // so does the controller
  bool cut_ = false;                 // nothing new gets through
  bool lose_to_controller_ = false;  // nor what is on the way
  bool lose_to_worker_ = false;
  bool greeted_ = false;
  bool ending_ = false;  // the controller has said how it ends
  StreamId stream_ = 0;
  std::shared_ptr<StreamSink> sink_;

  std::deque<std::shared_ptr<const v1::WorkRequest>> to_controller_;  // not yet written
  bool writing_to_controller_ = false;
  bool writing_to_worker_ = false;
  int unread_by_worker_ = 0;
  absl::Duration controller_gets_;  // when the last message on the way arrives
  absl::Duration worker_gets_;

  // Planted::kContextDecidedEarly.
  std::deque<v1::WorkResponse> drained_;  // of a queue that was emptied too early
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_WIRE_H_
