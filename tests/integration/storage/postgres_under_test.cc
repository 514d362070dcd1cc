#include "tests/integration/storage/harness.h"
#include "tests/integration/storage/postgres_env.h"

namespace drover::testing {

std::vector<StorageUnderTest> StoragesUnderTest() {
  return {{"Postgres", [] { ClearDatabase(); }, []() -> std::unique_ptr<Storage> { return OpenStorage(); }}};
}

}  // namespace drover::testing
