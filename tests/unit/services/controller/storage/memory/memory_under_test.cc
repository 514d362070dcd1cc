#include "common/clock/clock.h"
#include "services/controller/storage/memory/memory_storage.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

memory::MemoryDatabase& Database() {
  static auto* database = new memory::MemoryDatabase(SystemClock());
  return *database;
}

}  // namespace

std::vector<StorageUnderTest> StoragesUnderTest() {
  return {{"Memory", [] { Database().Clear(); },
           []() -> std::unique_ptr<Storage> { return std::make_unique<MemoryStorage>(Database()); }}};
}

}  // namespace drover::testing
