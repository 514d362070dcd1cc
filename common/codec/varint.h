// Unsigned LEB128, the variable-length integers of Drover's binary formats: seven bits a byte, low bits
// first, the top bit set in all bytes but the last, in as few bytes as possible.
#ifndef DROVER_COMMON_CODEC_VARINT_H_
#define DROVER_COMMON_CODEC_VARINT_H_

#include <cstdint>
#include <string>

namespace drover {

inline void PutVarint(uint64_t value, std::string& out) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

// Reads a varint at `in`, which it moves behind it, never reading at or after `end`. False, with `in`
// anywhere up to `end`, if there is none, if it is over `max`, or if it has more bytes than it needs.
inline bool GetVarint(const char*& in, const char* end, uint64_t max, uint64_t& value) {
  value = 0;
  for (int shift = 0; in < end && shift < 64; shift += 7) {
    const uint64_t byte = static_cast<uint8_t>(*in++);
    if (shift == 63 && byte > 1) return false;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value <= max && (byte != 0 || shift == 0);
  }
  return false;
}

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_VARINT_H_
