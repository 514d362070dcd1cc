// The machine-readable part of a status, for tests.
#ifndef DROVER_TESTS_SUPPORT_REASON_H_
#define DROVER_TESTS_SUPPORT_REASON_H_

#include <string>

#include "absl/status/status.h"
#include "common/status/status.h"

namespace drover {

// The reason of a status made by Error(); the whole text of any other, so that a failed expectation shows it.
inline std::string ReasonOf(const absl::Status& status) {
  const auto details = GetErrorDetails(status);
  return details.has_value() ? details->reason : status.ToString();
}

}  // namespace drover

#endif  // DROVER_TESTS_SUPPORT_REASON_H_
