// The numbered migrations, embedded in the program from migrations/*.sql.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_MIGRATIONS_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_MIGRATIONS_H_

#include <span>
#include <string_view>

#include "absl/status/statusor.h"

namespace drover::postgres {

struct Migration {
  int version;            // 1, 2, 3 … without gaps
  std::string_view name;  // "0001_core"
  std::string_view sql;
};

// All of them, in order.
std::span<const Migration> Migrations();

// What a migration's line "-- least-controller: 1.2.3" says: the oldest controller that may run on the schema
// once it is applied. kInternal without such a line.
absl::StatusOr<std::string_view> LeastController(const Migration& migration);

// Whether version `a` ("1.2.3") is older than `b`; kInvalidArgument if either is no version.
absl::StatusOr<bool> IsOlder(std::string_view a, std::string_view b);

}  // namespace drover::postgres

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_POSTGRES_MIGRATIONS_H_
