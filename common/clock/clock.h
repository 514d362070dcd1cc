// Time and randomness as dependencies, so that logic can be run in virtual time from a seed.
#ifndef DROVER_COMMON_CLOCK_CLOCK_H_
#define DROVER_COMMON_CLOCK_CLOCK_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace drover {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall time, for people and for records.
  virtual absl::Time Now() const = 0;
  // Time since an arbitrary point that never jumps and counts suspended time (CLOCK_BOOTTIME): for timeouts
  // and fences.
  virtual absl::Duration Elapsed() const = 0;
};

// Thread-safe.
class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next() = 0;
  // Uniform in [0, 1).
  double NextUnit() { return static_cast<double>(Next() >> 11) * (1.0 / 9007199254740992.0); }
};

// The machine's clock, and the operating system's cryptographic randomness. Never destroyed.
Clock& SystemClock();
Random& SystemRandom();

// A random positive 63-bit number, never 0: lease ids.
int64_t NewLeaseId(Random& random);

// A UUID version 7 (RFC 9562) in its 36-character form: job and session ids sort by creation time.
std::string NewUuid7(const Clock& clock, Random& random);

// Whether `text` is a UUID in canonical lower-case form.
bool IsUuid(const std::string& text);

}  // namespace drover

#endif  // DROVER_COMMON_CLOCK_CLOCK_H_
