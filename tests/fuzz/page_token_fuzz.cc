// Page tokens: what is not one of ours is refused, and each cursor comes back from its token.
#include <string>

#include "services/controller/api/page_token.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = drover::AsText(data, size);
  const drover::PageQuery query = drover::WorkersQuery();
  const auto cursor = drover::DecodePageToken(query, text);
  if (cursor.ok() && !text.empty()) {
    DROVER_FUZZ_EXPECT(drover::EncodePageToken(query, *cursor) == text);
  }
  if (size == 0 || size > 512) return 0;
  const std::string token = drover::EncodePageToken(query, text);
  DROVER_FUZZ_EXPECT(token.size() <= drover::kMaxPageTokenBytes);
  const auto back = drover::DecodePageToken(query, token);
  DROVER_FUZZ_EXPECT(back.ok() && *back == text);
  DROVER_FUZZ_EXPECT(!drover::DecodePageToken(drover::JobsQuery({}), token).ok());
  return 0;
}
