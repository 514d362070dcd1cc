// Abseil's string functions for std::string_view. Debian's Abseil is built for C++14, where absl::string_view
// is a type of its own that std::string_view does not convert to (and StrCat, SimpleAtoi, StrSplit, … don't
// take).
//
//   StrCat("key ", view, " has ", n, " bytes");     // drover::StrCat: what absl::StrCat takes, and
//   std::string_view absl::SimpleAtoi(ToAbsl(view), &n); StartsWith(view, "s3://"); StripWhitespace(view);
//   Split(view, ',');
#ifndef DROVER_COMMON_STRINGS_STRINGS_H_
#define DROVER_COMMON_STRINGS_STRINGS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace drover {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view FromAbsl(absl::string_view text) { return {text.data(), text.size()}; }

namespace strings_internal {
template <typename T>
decltype(auto) Piece(const T& value) {
  if constexpr (std::is_same_v<T, std::string_view>) {
    return ToAbsl(value);
  } else {
    return (value);
  }
}
}  // namespace strings_internal

// absl::StrCat and absl::StrAppend, whose arguments may also be std::string_view.
template <typename... Args>
[[nodiscard]] std::string StrCat(const Args&... args) {
  return absl::StrCat(strings_internal::Piece(args)...);
}
template <typename... Args>
void StrAppend(std::string* out, const Args&... args) {
  absl::StrAppend(out, strings_internal::Piece(args)...);
}

// Whether `text` begins or ends with `part`.
inline bool StartsWith(std::string_view text, std::string_view part) { return text.starts_with(part); }
inline bool EndsWith(std::string_view text, std::string_view part) { return text.ends_with(part); }

// Takes `prefix` away from the front of `text`; false, and nothing taken, if it does not begin so.
inline bool ConsumePrefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// Without the blanks, tabs and line ends of ASCII at both ends.
inline std::string_view StripWhitespace(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n\v\f");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n\v\f") - first + 1);
}

// The parts between separators, empty ones included; one empty part for an empty text. They point into
// `text`.
inline std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// A whole decimal number that fits T; false for anything else (blanks around it are let pass, as absl does).
template <typename T>
  requires std::is_integral_v<T>
[[nodiscard]] bool ParseInteger(std::string_view text, T* value) {
  return absl::SimpleAtoi(ToAbsl(text), value);
}

}  // namespace drover

#endif  // DROVER_COMMON_STRINGS_STRINGS_H_
