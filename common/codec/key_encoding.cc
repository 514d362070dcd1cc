#include "common/codec/key_encoding.h"

#include <array>
#include <cstdint>

namespace drover {
namespace {

// Whether a byte stands for itself in an encoded key.
constexpr std::array<bool, 256> kUnreserved = [] {
  std::array<bool, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = true;
  for (const char c : {'-', '.', '_', '~', '/'}) table[static_cast<size_t>(c)] = true;
  return table;
}();

// The value of a hex digit; -1 for another byte.
constexpr std::array<int8_t, 256> kHexValue = [] {
  std::array<int8_t, 256> table{};
  table.fill(-1);
  for (int i = 0; i < 10; ++i) table[static_cast<size_t>('0' + i)] = static_cast<int8_t>(i);
  for (int i = 0; i < 6; ++i) {
    table[static_cast<size_t>('a' + i)] = static_cast<int8_t>(10 + i);
    table[static_cast<size_t>('A' + i)] = static_cast<int8_t>(10 + i);
  }
  return table;
}();

constexpr char kHexDigits[] = "0123456789ABCDEF";

}  // namespace

void AppendUrlEncoded(std::string_view key, std::string& out) {
  size_t done = 0;
  for (size_t i = 0; i < key.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(key[i]);
    if (kUnreserved[byte]) continue;
    out.append(key, done, i - done);
    const char escape[] = {'%', kHexDigits[byte >> 4], kHexDigits[byte & 15]};
    out.append(escape, sizeof escape);
    done = i + 1;
  }
  out.append(key, done);
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
