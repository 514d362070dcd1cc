#include "common/clock/clock.h"

#include <openssl/rand.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace drover {
namespace {

class RealClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
  absl::Duration Elapsed() const override {
    timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return absl::DurationFromTimespec(ts);
  }
};

class RealRandom final : public Random {
 public:
  uint64_t Next() override {
    uint64_t value;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(&value), sizeof(value)) != 1) {
      // Ids that repeat would break the fence: better to stop.
      std::fputs("no randomness from OpenSSL\n", stderr);
      std::abort();
    }
    return value;
  }
};

}  // namespace

Clock& SystemClock() {
  static RealClock* clock = new RealClock();
  return *clock;
}

Random& SystemRandom() {
  static RealRandom* random = new RealRandom();
  return *random;
}

int64_t NewLeaseId(Random& random) {
  while (true) {
    const auto id = static_cast<int64_t>(random.Next() >> 1);
    if (id != 0) return id;
  }
}

std::string NewUuid7(const Clock& clock, Random& random) {
  const auto ms = static_cast<uint64_t>(absl::ToUnixMillis(clock.Now()));
  const uint64_t a = random.Next();
  const uint64_t b = random.Next();
  return absl::StrFormat("%08x-%04x-7%03x-%04x-%012x", ms >> 16, ms & 0xffff, a & 0xfff,
                         0x8000 | ((a >> 12) & 0x3fff), b & 0xffffffffffffULL);
}

bool IsUuid(const std::string& text) {
  if (text.size() != 36) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (c != '-') return false;
    } else if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return false;
    }
  }
  return true;
}

}  // namespace drover
