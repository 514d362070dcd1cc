// Whether a store that does not answer is to be asked now: so that one dead store takes a thread or two of
// the few that do duties, and not all of them for as long as their tries last.
//
//   StoreBreaker breaker;
//   if (!breaker.Admit(now)) …         // not now
//   breaker.Observe(status, now);      // after each request
#ifndef DROVER_SERVICES_CONTROLLER_STORES_STORE_BREAKER_H_
#define DROVER_SERVICES_CONTROLLER_STORES_STORE_BREAKER_H_

#include <algorithm>

#include "absl/time/time.h"

namespace drover {

// Decides by what it is told; has no clock. Not thread-safe.
class StoreBreaker {
 public:
  // As many requests in a row without an answer, or with one that says that the server is out of order (500
  // and above), shut the store off.
  static constexpr int kFailures = 4;
  // Between two callers that are let through to a store that is shut off: short at first, since most servers
  // are only started anew, and doubled up to as long as one caller tries.
  static constexpr absl::Duration kFirstPause = absl::Seconds(1);
  static constexpr absl::Duration kMaxPause = absl::Seconds(10);

  // A request ended with this HTTP status; 0: without an answer. `now`: by Clock::Elapsed().
  void Observe(int status, absl::Duration now) {
    if (status > 0 && status < 500) {
      failures_ = 0;
      return;
    }
    if (failures_ == kFailures) return;
    ++failures_;
    pause_ = kFirstPause;
    next_ = now + pause_;
  }

  // Whether a caller may go to the store. One that is let through to a store that is shut off tries for all.
  bool Admit(absl::Duration now) {
    if (failures_ < kFailures) return true;
    if (now < next_) return false;
    pause_ = std::min(2 * pause_, kMaxPause);
    next_ = now + pause_;
    return true;
  }

 private:
  int failures_ = 0;      // in a row, at most kFailures
  absl::Duration pause_;  // before the next one is let through; once shut off
  absl::Duration next_;   // when it is
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORES_STORE_BREAKER_H_
