// The content of a compressed object, read as if it were stored as it is.
#ifndef DROVER_SERVICES_CONTROLLER_MANIFEST_DECOMPRESSING_READER_H_
#define DROVER_SERVICES_CONTROLLER_MANIFEST_DECOMPRESSING_READER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/compress/decompressor.h"
#include "common/objectstore/object_store.h"

namespace drover {

// A compressed manifest may hold this many times its own bytes, and kFreeContentBytes more: real ones hold 5
// to 30 times as much, a bomb thousands.
inline constexpr int64_t kMaxContentRatio = 250;
inline constexpr int64_t kFreeContentBytes = 64 << 20;
// Bytes of the object that may follow one another without holding any content (empty members, skippable
// frames, a gzip member's comment).
inline constexpr int64_t kMaxSilentBytes = 16 << 20;

// One thread at a time. Memory: what MakeDecompressor says, and 128 KiB.
class DecompressingReader : public ObjectReader {
 public:
  // Reads `stored` from where it stands, which must be the object's start. `on_stored` is given all bytes of
  // the object as they are stored, in order, on the thread that calls Read(); may be empty.
  DecompressingReader(std::unique_ptr<ObjectReader> stored, Compression compression,
                      std::function<void(std::string_view)> on_stored);

  // As ObjectReader says. Besides errors of the store, INVALID_ARGUMENT, each with about where in the object
  // and in its content it is: those of Decompressor, and COMPRESSED_DATA_TOO_LARGE beyond the limits above.
  absl::StatusOr<size_t> Read(char* buffer, size_t size) override;
  // Of the object as it is stored.
  const ObjectInfo& info() const override { return stored_->info(); }

 private:
  absl::Status Fetch();
  absl::Status CheckLimits() const;
  absl::Status At(const absl::Status& status) const;

  const std::unique_ptr<ObjectReader> stored_;
  const std::unique_ptr<Decompressor> decompressor_;
  const std::function<void(std::string_view)> on_stored_;
  const std::unique_ptr<char[]> buffer_;
  std::string_view in_;        // what is left in buffer_
  bool more_to_come_ = false;  // perhaps, without further input
  bool at_end_ = false;        // of the object
  int64_t consumed_ = 0;       // bytes of the object
  int64_t produced_ = 0;       // bytes of the content
  int64_t silent_since_ = 0;   // consumed_ when the last content was produced
  absl::Status error_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_MANIFEST_DECOMPRESSING_READER_H_
