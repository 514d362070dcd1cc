// Job files: any text is read or refused, and what was read is written to a file that reads as the same job.
#include <google/protobuf/util/message_differencer.h>

#include "cli/job_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto documents = drover::cli::ReadJobFile("job.yaml", drover::AsText(data, size));
  if (!documents.ok()) return 0;
  for (const drover::cli::JobDocument& document : *documents) {
    const drover::v1::Job input = drover::cli::InputOf(document.job);
    const auto again = drover::cli::ReadJobFile("job.yaml", drover::cli::WriteJobFile(input));
    DROVER_FUZZ_EXPECT(again.ok() && again->size() == 1);
    DROVER_FUZZ_EXPECT(google::protobuf::util::MessageDifferencer::Equals((*again)[0].job, input));
  }
  return 0;
}
