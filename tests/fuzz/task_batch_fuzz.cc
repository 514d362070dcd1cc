// Payloads of batches: whatever is accepted keeps to all limits, and is what its tasks encode to and back.
// The first byte chooses whether the rest is a payload, or content to be compressed into one: random bytes
// are hardly ever good zstd.
#include <zstd.h>

#include <string>

#include "common/codec/task_batch.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::string Compressed(std::string_view content) {
  std::string payload(1 + ZSTD_compressBound(content.size()), '\0');
  payload[0] = static_cast<char>(drover::kTaskBatchCodec);
  const size_t bytes =
      ZSTD_compress(payload.data() + 1, payload.size() - 1, content.data(), content.size(), 1);
  payload.resize(1 + bytes);
  return payload;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::string payload(drover::AsText(data + 1, size - 1));
  if (data[0] % 2 == 1) payload = Compressed(payload);

  static drover::TaskBatchReader& reader = *new drover::TaskBatchReader();
  static drover::TaskBatchBuilder& builder = *new drover::TaskBatchBuilder();
  const auto batch = reader.Decode(payload);
  if (!batch.ok()) return 0;
  DROVER_FUZZ_EXPECT(batch->size() >= 1 && batch->size() <= drover::kMaxBatchTasks);
  DROVER_FUZZ_EXPECT(batch->raw_bytes() <= drover::kMaxBatchRawBytes);
  for (size_t i = 0; i < batch->size(); ++i) builder.Add((*batch)[i]);
  const auto again = drover::TaskBatchReader().Decode(builder.Finish());
  DROVER_FUZZ_EXPECT(again.ok() && again->size() == batch->size());
  for (size_t i = 0; i < batch->size(); ++i) {
    DROVER_FUZZ_EXPECT((*again)[i].bucket == (*batch)[i].bucket);
    DROVER_FUZZ_EXPECT((*again)[i].key == (*batch)[i].key);
    DROVER_FUZZ_EXPECT((*again)[i].version_id == (*batch)[i].version_id);
  }
  return 0;
}
