// Compressed manifests: hostile bytes give an error or content, the same in whatever pieces they come, and
// every call makes progress.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <string>

#include "common/compress/decompressor.h"
#include "tests/fuzz/fuzz.h"

namespace drover {
namespace {

constexpr size_t kEnough = 1 << 20;

struct Content {
  bool ok = false;
  std::string text;
};

Content Read(Compression compression, std::string_view in, size_t piece, size_t room) {
  const auto decompressor = MakeDecompressor(compression);
  Content content;
  std::string out(room, '\0');
  while (content.text.size() < kEnough) {
    const std::string_view some = in.substr(0, piece);
    Decompressor::Step step;
    const absl::Status status = decompressor->Run(some, out.data(), out.size(), step);
    DROVER_FUZZ_EXPECT(step.consumed <= some.size() && step.produced <= out.size());
    content.text.append(out, 0, step.produced);
    in.remove_prefix(step.consumed);
    if (!status.ok()) return content;
    if (step.consumed == 0 && step.produced == 0) {
      DROVER_FUZZ_EXPECT(in.empty());
      content.ok = decompressor->AtEnd().ok();
      return content;
    }
  }
  content.ok = true;
  return content;
}

}  // namespace
}  // namespace drover

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider provider(data, size);
  const auto compression = provider.ConsumeBool() ? drover::Compression::kGzip : drover::Compression::kZstd;
  const size_t piece = provider.ConsumeIntegralInRange<size_t>(1, 64);
  const size_t room = provider.ConsumeIntegralInRange<size_t>(1, 4096);
  const std::string in = provider.ConsumeRemainingBytesAsString();
  (void)drover::DetectCompression(in);
  const drover::Content whole = drover::Read(compression, in, in.size() + 1, 65536);
  const drover::Content pieces = drover::Read(compression, in, piece, room);
  DROVER_FUZZ_EXPECT(whole.ok == pieces.ok);
  const size_t common = std::min(whole.text.size(), pieces.text.size());
  DROVER_FUZZ_EXPECT(whole.text.compare(0, common, pieces.text, 0, common) == 0);
  return 0;
}
