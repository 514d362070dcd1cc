// Encoded task sets: whatever is accepted keeps to its limit and has one encoding.
#include "common/codec/task_set.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t limit = (data[0] * 256 + data[1]) % (drover::TaskSet::kMaxTasks + 1);
  const std::string_view bytes = drover::AsText(data + 2, size - 2);
  const auto set = drover::TaskSet::Decode(bytes, limit);
  if (!set.ok()) return 0;
  DROVER_FUZZ_EXPECT(set->end() <= limit);
  DROVER_FUZZ_EXPECT(set->Encode() == bytes);
  return 0;
}
