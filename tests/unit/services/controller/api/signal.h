// Waiting in tests: on conditions with a deadline, never by sleeping.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_SIGNAL_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_SIGNAL_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/sync/mutex.h"

namespace drover {

// Something that happens once. Thread-safe.
class Signal {
 public:
  void Set() {
    MutexLock lock(&mu_);
    set_ = true;
    changed_.NotifyAll();
  }
  // False if it did not happen within ten seconds.
  [[nodiscard]] bool Wait() {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    MutexLock lock(&mu_);
    while (!set_ && absl::Now() < deadline) changed_.WaitWithTimeout(&mu_, deadline - absl::Now());
    return set_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mu_) = false;
};

// Whether `condition` becomes true within ten seconds.
template <typename Condition>
[[nodiscard]] bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_SIGNAL_H_
