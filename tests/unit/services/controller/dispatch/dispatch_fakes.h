// What the tests of this folder share.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_DISPATCH_DISPATCH_FAKES_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_DISPATCH_DISPATCH_FAKES_H_

#include <cstdint>

#include "common/clock/clock.h"

namespace drover {

inline constexpr char kJob[] = "01940000-0000-7000-8000-000000000001";

// Even numbers, each larger than the one before.
class CountingRandom final : public Random {
 public:
  uint64_t Next() override { return ++next_ * 2; }

 private:
  uint64_t next_ = 1000;
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_DISPATCH_DISPATCH_FAKES_H_
