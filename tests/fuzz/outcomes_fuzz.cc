// Payloads of outcome segments: whatever is accepted keeps to all limits, encodes to the same outcomes again,
// and has its failures counted.
#include <string>

#include "common/codec/outcomes.h"
#include "common/codec/task_batch.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view payload = drover::AsText(data, size);
  const auto outcomes = drover::DecodeOutcomes(payload);
  const auto failures = drover::CountFailures(payload);
  if (!outcomes.ok()) return 0;
  int64_t failed = 0;
  int64_t last = -1;
  for (const drover::Outcome& outcome : *outcomes) {
    DROVER_FUZZ_EXPECT(outcome.index > last && outcome.index < drover::kMaxBatchTasks);
    DROVER_FUZZ_EXPECT(outcome.message.size() <= drover::kMaxOutcomeMessageBytes);
    DROVER_FUZZ_EXPECT(outcome.attempts >= 1 && outcome.http_status <= 999);
    last = outcome.index;
    if (!outcome.succeeded) ++failed;
  }
  const auto again = drover::DecodeOutcomes(drover::EncodeOutcomes(*outcomes));
  DROVER_FUZZ_EXPECT(again.ok() && *again == *outcomes);
  DROVER_FUZZ_EXPECT(failures.ok());
  for (const drover::FailureCount& count : *failures) failed -= count.tasks;
  DROVER_FUZZ_EXPECT(failed == 0);
  return 0;
}
