// UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing over U+10FFFF.
#ifndef DROVER_COMMON_CODEC_UTF8_H_
#define DROVER_COMMON_CODEC_UTF8_H_

#include <cstddef>
#include <string_view>

namespace drover {

// Bytes of the character that `text` begins with: 1 to 4, or 0 if it begins with none (or is empty).
size_t Utf8CharBytes(std::string_view text);

// Offset of the first byte that is not part of a valid character; text.size() if all is valid.
size_t FindInvalidUtf8(std::string_view text);

inline bool IsValidUtf8(std::string_view text) { return FindInvalidUtf8(text) == text.size(); }

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_UTF8_H_
