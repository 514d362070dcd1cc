// Outcomes of tasks, and the payload of an outcome segment: a dictionary of results and sparse entries for
// the tasks that did not succeed in the default way. Which tasks a segment is about is stored beside it, as
// an encoded TaskSet; those of them without an entry succeeded by default, so a segment in which all did has
// no payload.
#ifndef DROVER_COMMON_CODEC_OUTCOMES_H_
#define DROVER_COMMON_CODEC_OUTCOMES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace drover {

inline constexpr size_t kMaxOutcomeCodeChars = 64;       // characters (Unicode scalar values) of a code
inline constexpr size_t kMaxOutcomeMessageBytes = 1024;  // bytes of a message or result
inline constexpr size_t kMaxOutcomesPayloadBytes = 8 * 1024 * 1024;
inline constexpr uint16_t kDefaultHttpStatus = 200;
inline constexpr std::string_view kDefaultMessage = "Successful";

// What became of one task.
struct Outcome {
  uint32_t index = 0;  // of the task in its batch, below kMaxBatchTasks
  bool succeeded = true;
  uint16_t http_status = kDefaultHttpStatus;  // of the last answer; 0: there was none. 0 to 999
  std::string code;  // the store's or Drover's error code, e.g. NoSuchKey; empty for a plain success
  std::string message{kDefaultMessage};  // of the report: an error's text or an operation's result
  uint32_t attempts = 1;                 // ≥ 1
  uint64_t bytes = 0;                    // of the object that was moved; 0: not known or none

  // Whether this says nothing but that the task succeeded: 200, no code, "Successful", 1 attempt, 0 bytes.
  bool IsDefault() const;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// `text` as it may be stored as a code or message: NUL and each byte that is not part of valid UTF-8 become
// U+FFFD, and what is over `max_bytes` is cut off between characters.
std::string SanitizeOutcomeText(std::string_view text, size_t max_bytes);
// Brings what a worker sent within the limits above: texts as SanitizeOutcomeText does, a status over 999
// becomes 0, 0 attempts become 1.
void SanitizeOutcome(Outcome& outcome);

// The payload of `non_default`, in any order; the empty string if there are none. They are brought within the
// limits as by SanitizeOutcome. Two of one task, or an index out of limits, end the process: whoever takes
// outcomes from a worker has held them against the tasks of its lease before.
std::string EncodeOutcomes(absl::Span<const Outcome> non_default);

// The outcomes of a payload, ascending by index; none for the empty string. Hostile bytes give
// INVALID_ARGUMENT (reason BAD_OUTCOMES_PAYLOAD): whatever is returned keeps to all limits, and memory is
// bounded.
absl::StatusOr<std::vector<Outcome>> DecodeOutcomes(std::string_view payload);

// Failed outcomes of a payload that have one code and HTTP status.
struct FailureCount {
  std::string code;
  uint16_t http_status = 0;
  uint32_t tasks = 0;
  std::vector<uint32_t> first;  // indexes of the first kFirstFailures of them, ascending

  friend bool operator==(const FailureCount&, const FailureCount&) = default;
};
inline constexpr size_t kFirstFailures = 3;

// The failed outcomes of a payload by code and HTTP status, in the order of their first tasks; none for the
// empty string. Errors are DecodeOutcomes's. Copies no message, so it is cheap enough for each segment that
// is recorded.
absl::StatusOr<std::vector<FailureCount>> CountFailures(std::string_view payload);

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_OUTCOMES_H_
