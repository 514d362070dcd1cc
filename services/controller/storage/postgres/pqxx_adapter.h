// The one place that includes libpqxx (6.4 in Debian 12), and all that this folder uses of it: what differs
// in libpqxx 7 is here and in pqxx_adapter.cc.
//
//   Connection connection(url);                       // throws pqxx::broken_connection
//   pqxx::nontransaction tx(connection.raw());
//   auto rows = tx.exec_params("SELECT … WHERE payload = $1 AND batch_no = ANY($2::int4[])",
//                              Bytes(payload), Int4Array({1, 2, 3}));
//   std::string payload = ReadBytes(rows[0][0]);
//
// Arrays and bytea go to the server in PostgreSQL's binary format, in which nothing is escaped: they are
// written here byte by byte and passed as binary parameters. Results are text, but for those of a BINARY
// CURSOR (ReadBinary), which is how large payloads come back without being turned into hexadecimal digits.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_PQXX_ADAPTER_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_PQXX_ADAPTER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <pqxx/pqxx>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace drover::postgres {

// A connection that never comes back to life by itself: libpqxx 6 would reconnect in silence, even within
// what the caller thinks is one transaction. Not thread-safe.
class Connection {
 public:
  // Connects; throws pqxx::broken_connection.
  explicit Connection(const std::string& conninfo);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  pqxx::connection& raw() { return connection_; }
  // Whether it is usable, as far as is known on this side.
  bool IsOpen() const { return connection_.is_open(); }
  // Whether nothing has arrived on an idle connection: a server that goes away says goodbye, or closes the
  // socket.
  bool IsQuiet() const;

 private:
  pqxx::connection connection_;
};

// ------------------------------------------------------------------------------------------------------
// parameters

// What libpqxx passes in binary format.
using BinaryParameter = pqxx::binarystring;

// A bytea.
inline BinaryParameter Bytes(std::string_view bytes) { return BinaryParameter(bytes.data(), bytes.size()); }

// One-dimensional arrays: int2[], int4[], int8[], bool[].
BinaryParameter Int2Array(const std::vector<int16_t>& values);
BinaryParameter Int4Array(const std::vector<int32_t>& values);
BinaryParameter Int8Array(const std::vector<int64_t>& values);
BinaryParameter BoolArray(const std::vector<bool>& values);
// uuid[]; each must be a UUID in canonical form (IsUuid), anything else throws std::invalid_argument.
BinaryParameter UuidArray(const std::vector<std::string_view>& values);
BinaryParameter UuidArray(const std::vector<std::string>& values);
// text[].
BinaryParameter TextArray(const std::vector<std::string_view>& values);
// bytea[]; no value is NULL.
BinaryParameter BytesArray(const std::vector<std::optional<std::string_view>>& values);

// Text that may quote foreign bytes (a manifest's line, a store's answer): what is not UTF-8, and NUL, which
// PostgreSQL's text can't hold, becomes U+FFFD. Other text that is not UTF-8 is refused by the server
// (INVALID_TEXT).
std::string CleanText(std::string_view text);

// A timestamptz, as text, exact to the microsecond.
std::string Timestamp(absl::Time time);

// ---------------------------------------------------------------------------------------------------------
// results

// A bytea in text format; NULL is empty.
std::string ReadBytes(const pqxx::field& field);
// Any column of a binary cursor's row, as it lies in the result; NULL is empty. Valid as long as the result.
std::string_view ReadBinary(const pqxx::field& field);
// int8 microseconds since the epoch (Micros() in SQL); NULL is nothing.
std::optional<absl::Time> ReadTime(const pqxx::field& field);
// Text; NULL is empty.
std::string ReadText(const pqxx::field& field);

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_PQXX_ADAPTER_H_
