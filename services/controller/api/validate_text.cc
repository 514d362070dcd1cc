#include "services/controller/api/validate_text.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "common/strings/strings.h"
#include "services/controller/api/errors.h"

namespace drover {
namespace {

constexpr size_t kMaxShownValue = 64;

}  // namespace

std::string Show(std::string_view text) {
  return StrCat(
      "\"", CutText(absl::Utf8SafeCEscape(ToAbsl(text.substr(0, 4 * kMaxShownValue))), kMaxShownValue), "\"");
}

size_t CountChars(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
  });
}

bool IsPrintableAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

}  // namespace drover
