// XML answers of a hostile store: nothing but an answer or a refusal comes of them, and what is read of tags
// is written and read as the same.
#include <string>

#include "common/objectstore/s3_client.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = drover::AsText(data, size);
  (void)drover::XmlText(text, "UploadId");
  (void)drover::XmlText(text, "ETag");
  const auto tags = drover::ParseTagging(text);
  if (tags) {
    const auto again = drover::ParseTagging(drover::TaggingXml(*tags));
    DROVER_FUZZ_EXPECT(again && again->size() == tags->size());
  }
  return 0;
}
