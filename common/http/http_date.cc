#include "common/http/http_date.h"

#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr char kFormat[] = "%a, %d %b %Y %H:%M:%S GMT";

}  // namespace

std::optional<absl::Time> ParseHttpDate(std::string_view text) {
  absl::Time time;
  if (!absl::ParseTime(kFormat, ToAbsl(StripWhitespace(text)), &time, nullptr)) return std::nullopt;
  return time;
}

std::string FormatHttpDate(absl::Time time) { return absl::FormatTime(kFormat, time, absl::UTCTimeZone()); }

}  // namespace drover
