// Texts of clients: what they are made of, and how an error shows them. Thread-safe.
#ifndef DROVER_SERVICES_CONTROLLER_API_VALIDATE_TEXT_H_
#define DROVER_SERVICES_CONTROLLER_API_VALIDATE_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace drover {

// A client's text as an error shows it: escaped, cut to 64 bytes, in quotes.
std::string Show(std::string_view text);
// Code points of a text that is valid UTF-8 (protobuf's parser saw to that).
size_t CountChars(std::string_view text);
// U+0000 to U+001F, and U+007F.
bool HasControlCharacter(std::string_view text);
// Only bytes from blank to '~'; true for "".
bool IsPrintableAscii(std::string_view text);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_VALIDATE_TEXT_H_
