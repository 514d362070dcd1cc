// CSV manifests: the same rows, positions and bad lines in whatever pieces the bytes come, and when reading
// goes on at a position that was handed out.
#include <fuzzer/FuzzedDataProvider.h>

#include <string>
#include <vector>

#include "services/controller/manifest/csv/csv_manifest.h"
#include "tests/fuzz/fuzz.h"

namespace drover {
namespace {

struct Row {
  std::string bucket, key, version_id, position;
  friend bool operator==(const Row&, const Row&) = default;
};

struct Pass {
  std::vector<Row> rows;
  std::vector<BadLine> bad_lines;
};

Pass Read(const CsvFormat& format, const CsvPosition& from, std::string_view text, size_t piece) {
  Pass pass;
  auto parser = CsvManifestParser::Create(format, from);
  DROVER_FUZZ_EXPECT(parser.ok());
  do {
    const std::string_view chunk = text.substr(0, piece);
    text.remove_prefix(chunk.size());
    parser->Feed(chunk, text.empty(), [&](const Task& task) {
      DROVER_FUZZ_EXPECT(IsValidBucketName(task.bucket));
      DROVER_FUZZ_EXPECT(!task.key.empty() && task.key.size() <= kMaxKeyBytes);
      DROVER_FUZZ_EXPECT(task.version_id.size() <= kMaxVersionIdBytes);
      pass.rows.push_back({std::string(task.bucket), std::string(task.key), std::string(task.version_id),
                           parser->position().Serialize()});
    });
  } while (!text.empty() && !parser->done());
  pass.bad_lines = parser->bad_lines();
  DROVER_FUZZ_EXPECT(pass.bad_lines.size() <= kMaxBadLines);
  return pass;
}

}  // namespace
}  // namespace drover

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace drover;  // NOLINT: a target is one function
  FuzzedDataProvider provider(data, size);
  CsvFormat format;
  format.fields = {CsvField::kBucket, CsvField::kKey};
  if (provider.ConsumeBool()) format.fields.push_back(CsvField::kVersionId);
  if (provider.ConsumeBool()) format.fields.insert(format.fields.begin(), CsvField::kIgnore);
  if (provider.ConsumeBool()) format.key_encoding = KeyEncoding::kPlain;
  const size_t piece = provider.ConsumeIntegralInRange<size_t>(1, 64);
  const std::string text = provider.ConsumeRemainingBytesAsString();

  const Pass whole = Read(format, {}, text, text.size() + 1);
  const Pass pieces = Read(format, {}, text, piece);
  DROVER_FUZZ_EXPECT(whole.rows == pieces.rows);
  DROVER_FUZZ_EXPECT(whole.bad_lines == pieces.bad_lines);

  if (whole.rows.size() < 2) return 0;
  const size_t half = whole.rows.size() / 2;
  const auto from = CsvPosition::Parse(whole.rows[half].position);
  DROVER_FUZZ_EXPECT(from.ok());
  const Pass rest = Read(format, *from, std::string_view(text).substr(from->offset), text.size() + 1);
  DROVER_FUZZ_EXPECT(std::vector<Row>(whole.rows.begin() + half + 1, whole.rows.end()) == rest.rows);
  DROVER_FUZZ_EXPECT(whole.bad_lines == rest.bad_lines);
  return 0;
}
