// A whole controller: storage, API, dispatch, recording, duties and janitor, put together and run until told
// to stop.
#ifndef DROVER_SERVICES_CONTROLLER_CONTROLLER_H_
#define DROVER_SERVICES_CONTROLLER_CONTROLLER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/metrics/metrics.h"
#include "common/objectstore/stores.h"
#include "services/controller/config.h"

namespace drover {

// How long stopping may take beyond the configured drain time. With the default of 20 s that makes 34 s: the
// chart's terminationGracePeriodSeconds (40 s) leaves room.
inline constexpr absl::Duration kStopTail = absl::Seconds(14);

class Controller {
 public:
  // Opens the database (which may be away), listens, and starts every part. The schema must be migrated.
  // UNAVAILABLE if it can't listen, INVALID_ARGUMENT for a bad connection string.
  static absl::StatusOr<std::unique_ptr<Controller>> Start(const ControllerConfig& config,
                                                           const std::string& version, const Stores& stores,
                                                           const Metrics& metrics, Clock& clock,
                                                           Random& random);
  ~Controller();
  // Says NOT_SERVING, sends the workers elsewhere, finishes what is under way, and stops. Takes at most the
  // configured drain time and kStopTail: then it ends the process (exit code 1). False if a part did not end
  // in time: the process must then end at once, without destroying this.
  [[nodiscard]] bool Stop();
  int port() const;

 private:
  // Stop, without the bound over all.
  bool StopParts();

  struct Impl;
  explicit Controller(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_CONTROLLER_H_
