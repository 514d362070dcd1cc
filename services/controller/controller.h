// A whole controller: storage, API, dispatch, recording, duties and janitor, put together and run until told
// to stop.
#ifndef DROVER_SERVICES_CONTROLLER_CONTROLLER_H_
#define DROVER_SERVICES_CONTROLLER_CONTROLLER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock/clock.h"
#include "common/metrics/metrics.h"
#include "common/objectstore/stores.h"
#include "services/controller/config.h"

namespace drover {

class Controller {
 public:
  // Opens the database (which may be away), listens, and starts every part. The schema must be migrated.
  // UNAVAILABLE if it can't listen, INVALID_ARGUMENT for a bad connection string.
  static absl::StatusOr<std::unique_ptr<Controller>> Start(const ControllerConfig& config,
                                                           const std::string& version, const Stores& stores,
                                                           const Metrics& metrics, Clock& clock,
                                                           Random& random);
  ~Controller();
  // Sends the workers elsewhere, finishes what is under way, and stops: at most the configured drain time and
  // some seconds. False if a part did not end in time: the process must then end at once, without destroying
  // this.
  [[nodiscard]] bool Stop();
  int port() const;

 private:
  struct Impl;
  explicit Controller(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_CONTROLLER_H_
