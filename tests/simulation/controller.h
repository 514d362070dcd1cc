// A controller: the real Fleet, Dispatcher, Gatherer, Janitor and report handlers on the simulated database,
// their threads as fibers.
#ifndef DROVER_TESTS_SIMULATION_CONTROLLER_H_
#define DROVER_TESTS_SIMULATION_CONTROLLER_H_

#include <memory>
#include <string>
#include <vector>

#include "drover/v1/worker_service.pb.h"
#include "services/controller/dispatch/fleet.h"
#include "services/controller/duties/duty_handler.h"
#include "tests/simulation/virtual_time.h"

namespace drover::simulation {

class SimulatedStorage;
class Wire;
class World;

class SimulatedController {
 public:
  SimulatedController(World& world, int number);
  ~SimulatedController();

  void Start();
  // At any step of any of its threads.
  void Crash();
  // Lets its workers go, as at SIGTERM, and is started anew a little later.
  void Drain();
  bool up() const { return parts_ != nullptr; }
  const std::string& name() const { return name_; }
  // Of the store "main", which reports are written to.
  static std::string StoreFingerprint();
  // Of the living process.
  Fleet& fleet();
  // What is under way to be recorded.
  int64_t pending() const;

  // ---- for the streams
  void AddWire(std::shared_ptr<Wire> wire);
  void OnHello(StreamId stream, v1::Hello hello);
  void OnStatus(const v1::Status& status);
  void OnSegment();
  void OnClosed(StreamId stream, const std::shared_ptr<Wire>& wire);

 private:
  struct Parts;
  void Loop(Signal& signal, absl::Duration interval, std::function<bool()> step);
  void LookForDuties();
  void RunDuty(std::shared_ptr<DutyContext> context);

  World& world_;
  const int number_;
  const std::string name_;
  int lives_ = 0;
  std::unique_ptr<Parts> parts_;
  std::vector<std::shared_ptr<Wire>> wires_;  // until it hears of their end
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_CONTROLLER_H_
