// One object to work on, as a manifest names it. Borrowed bytes: the views live as long as whatever handed
// the Task out says (a parser until its sink returns, a DecodedBatch until it is destroyed or filled anew).
#ifndef DROVER_COMMON_CODEC_TASK_H_
#define DROVER_COMMON_CODEC_TASK_H_

#include <cstddef>
#include <string_view>

namespace drover {

// Limits of the parts of a task, in bytes, after decoding. S3 has keys of at most 1,024 bytes.
inline constexpr size_t kMaxKeyBytes = 1024;
inline constexpr size_t kMaxVersionIdBytes = 1024;
inline constexpr size_t kMaxBucketBytes = 255;

struct Task {
  std::string_view bucket;
  std::string_view key;         // decoded: the bytes that the store knows
  std::string_view version_id;  // empty: none, the version that is current when the task runs

  friend bool operator==(const Task&, const Task&) = default;
};

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_TASK_H_
