// An array in PostgreSQL's binary format (array_recv in src/backend/utils/adt/arrayfuncs.c):
//
//   array   := dimensions:i32 has_null:i32 element_oid:i32 [ size:i32 lower_bound:i32 ] element*
//   element := length:i32 byte*      -- length -1: NULL
//
// all big-endian; dimensions is 0 for an empty array (and size and bound are left out), else 1.
#include "services/controller/storage/postgres/pqxx_adapter.h"

#include <poll.h>

#include <algorithm>
#include <concepts>
#include <stdexcept>

#include "absl/time/civil_time.h"
#include "common/codec/utf8.h"

namespace drover::postgres {
namespace {

// Oids of built-in types; they are part of PostgreSQL's protocol and never change.
enum Oid : int32_t { kBool = 16, kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kUuid = 2950 };

constexpr size_t kUuidBytes = 16;

template <std::integral T>
void PutBigEndian(T value, std::string& out) {
  for (int shift = static_cast<int>(sizeof(T) - 1) * 8; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> shift & 0xff));
  }
}

void PutHeader(Oid element, size_t size, bool has_null, std::string& out) {
  PutBigEndian<int32_t>(size == 0 ? 0 : 1, out);
  PutBigEndian<int32_t>(has_null ? 1 : 0, out);
  PutBigEndian<int32_t>(element, out);
  if (size == 0) return;
  PutBigEndian(static_cast<int32_t>(size), out);
  PutBigEndian<int32_t>(1, out);
}

void PutElement(std::string_view bytes, std::string& out) {
  PutBigEndian(static_cast<int32_t>(bytes.size()), out);
  out.append(bytes);
}

template <typename T, typename Values>
BinaryParameter IntegerArray(Oid element, const Values& values) {
  std::string out;
  out.reserve(20 + values.size() * (4 + sizeof(T)));
  PutHeader(element, values.size(), false, out);
  for (const T value : values) {
    PutBigEndian<int32_t>(sizeof(T), out);
    PutBigEndian<T>(value, out);
  }
  return Bytes(out);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void PutUuid(std::string_view text, std::string& out) {
  const size_t begin = out.size();
  int high = -1;
  for (const char c : text) {
    if (c == '-') continue;
    const int digit = HexDigit(c);
    if (digit < 0) throw std::invalid_argument("not a UUID");
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<char>(high << 4 | digit));
      high = -1;
    }
  }
  if (out.size() - begin != kUuidBytes || high >= 0) throw std::invalid_argument("not a UUID");
}

template <typename Values>
BinaryParameter Uuids(const Values& values) {
  std::string out;
  PutHeader(kUuid, values.size(), false, out);
  for (const auto& value : values) {
    PutBigEndian<int32_t>(kUuidBytes, out);
    PutUuid(value, out);
  }
  return Bytes(out);
}

}  // namespace

Connection::Connection(const std::string& conninfo) : connection_(conninfo) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection_.inhibit_reactivation(true);  // libpqxx 7 never reconnects, and has no such function
#pragma GCC diagnostic pop
}

bool Connection::IsQuiet() const {
  pollfd poll_fd{connection_.sock(), POLLIN, 0};
  return poll_fd.fd >= 0 && poll(&poll_fd, 1, 0) == 0;
}

BinaryParameter Int2Array(const std::vector<int16_t>& values) { return IntegerArray<int16_t>(kInt2, values); }
BinaryParameter Int4Array(const std::vector<int32_t>& values) { return IntegerArray<int32_t>(kInt4, values); }
BinaryParameter Int8Array(const std::vector<int64_t>& values) { return IntegerArray<int64_t>(kInt8, values); }
BinaryParameter BoolArray(const std::vector<bool>& values) { return IntegerArray<int8_t>(kBool, values); }
BinaryParameter UuidArray(const std::vector<std::string_view>& values) { return Uuids(values); }
BinaryParameter UuidArray(const std::vector<std::string>& values) { return Uuids(values); }

BinaryParameter TextArray(const std::vector<std::string_view>& values) {
  std::string out;
  PutHeader(kText, values.size(), false, out);
  for (const std::string_view value : values) PutElement(value, out);
  return Bytes(out);
}

BinaryParameter BytesArray(const std::vector<std::optional<std::string_view>>& values) {
  size_t size = 20;
  for (const auto& value : values) size += 4 + (value ? value->size() : 0);
  std::string out;
  out.reserve(size);
  PutHeader(kBytea, values.size(), std::ranges::any_of(values, [](const auto& value) { return !value; }),
            out);
  for (const auto& value : values) {
    if (value) {
      PutElement(*value, out);
    } else {
      PutBigEndian<int32_t>(-1, out);
    }
  }
  return Bytes(out);
}

std::string CleanText(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const size_t bytes = text.front() == '\0' ? 0 : Utf8CharBytes(text);
    clean.append(bytes == 0 ? "\xef\xbf\xbd" : text.substr(0, bytes));
    text.remove_prefix(std::max<size_t>(bytes, 1));
  }
  return clean;
}

std::string Timestamp(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%E6S+00", time, absl::UTCTimeZone());
}

std::string ReadBytes(const pqxx::field& field) {
  if (field.is_null() || field.size() == 0) return "";
  return pqxx::binarystring(field).str();
}

std::string_view ReadBinary(const pqxx::field& field) { return {field.c_str(), field.size()}; }

std::optional<absl::Time> ReadTime(const pqxx::field& field) {
  if (field.is_null()) return std::nullopt;
  return absl::FromUnixMicros(field.as<int64_t>());
}

std::string ReadText(const pqxx::field& field) { return {field.c_str(), field.size()}; }

}  // namespace drover::postgres
