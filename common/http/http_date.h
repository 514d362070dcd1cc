// Times as HTTP writes them: "Sun, 06 Nov 1994 08:49:37 GMT".
#ifndef DROVER_COMMON_HTTP_HTTP_DATE_H_
#define DROVER_COMMON_HTTP_HTTP_DATE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace drover {

// nullopt for anything else; blanks around it are let pass. Thread-safe, as the next.
std::optional<absl::Time> ParseHttpDate(std::string_view text);
// `time` is finite; parts of a second are dropped.
std::string FormatHttpDate(absl::Time time);

}  // namespace drover

#endif  // DROVER_COMMON_HTTP_HTTP_DATE_H_
