#include "common/codec/key_encoding.h"

#include <array>
#include <bit>
#include <cstdint>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace drover {
namespace {

// Whether a byte stands for itself in an encoded key.
constexpr std::array<bool, 256> kUnreserved = [] {
  std::array<bool, 256> table{};
  for (const char c :
       std::string_view("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")) {
    table[static_cast<uint8_t>(c)] = true;
  }
  return table;
}();

// The value of a hex digit; -1 for another byte.
constexpr std::array<int8_t, 256> kHexValue = [] {
  std::array<int8_t, 256> table{};
  table.fill(-1);
  for (const std::string_view digits : {"0123456789abcdef", "0123456789ABCDEF"}) {
    for (size_t i = 0; i < digits.size(); ++i)
      table[static_cast<uint8_t>(digits[i])] = static_cast<int8_t>(i);
  }
  return table;
}();

constexpr char kHexDigits[] = "0123456789ABCDEF";

// Offset of the first byte at or after `from` that does not stand for itself; key.size() if all do.
size_t FindReserved(std::string_view key, size_t from) {
#ifdef __SSE2__
  const auto within = [](__m128i bytes, char low, char high) {
    const __m128i clamped = _mm_min_epu8(_mm_max_epu8(bytes, _mm_set1_epi8(low)), _mm_set1_epi8(high));
    return _mm_cmpeq_epi8(bytes, clamped);
  };
  for (; key.size() - from >= 16; from += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key.data() + from));
    const __m128i letters = within(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), 'a', 'z');
    const __m128i digits_and_marks = within(bytes, '-', '9');  // - . / and the digits lie side by side
    const __m128i others =
        _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('_')), _mm_cmpeq_epi8(bytes, _mm_set1_epi8('~')));
    const int unreserved = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letters, digits_and_marks), others));
    if (unreserved != 0xffff)
      return from + static_cast<size_t>(std::countr_one(static_cast<unsigned>(unreserved)));
  }
#endif
  while (from < key.size() && kUnreserved[static_cast<uint8_t>(key[from])]) ++from;
  return from;
}

}  // namespace

void AppendUrlEncoded(std::string_view key, std::string& out) {
  for (size_t at = 0;;) {
    const size_t reserved = FindReserved(key, at);
    out.append(key.data() + at, reserved - at);
    if (reserved == key.size()) return;
    const uint8_t byte = static_cast<uint8_t>(key[reserved]);
    const char escape[] = {'%', kHexDigits[byte >> 4], kHexDigits[byte & 15]};
    out.append(escape, sizeof escape);
    at = reserved + 1;
  }
}

bool UrlDecode(std::string_view text, std::string& out, size_t& bad_offset) {
  out.clear();
  size_t done = 0;
  for (size_t at; (at = text.find('%', done)) != std::string_view::npos; done = at + 3) {
    const int high = text.size() - at > 2 ? kHexValue[static_cast<uint8_t>(text[at + 1])] : -1;
    const int low = text.size() - at > 2 ? kHexValue[static_cast<uint8_t>(text[at + 2])] : -1;
    if (high < 0 || low < 0) {
      bad_offset = at;
      return false;
    }
    out.append(text, done, at - done);
    out.push_back(static_cast<char>(high << 4 | low));
  }
  out.append(text, done);
  return true;
}

}  // namespace drover
