// Compressed streams, read piece by piece in bounded memory; the bytes may be hostile.
//
//   const std::unique_ptr<Decompressor> decompressor = MakeDecompressor(Compression::kGzip);
//   while (…) {
//     Decompressor::Step step;
//     DROVER_RETURN_IF_ERROR(decompressor->Run(in, out, out_size, step));
//     in.remove_prefix(step.consumed);                       // step.produced bytes are in `out`
//   }
//   DROVER_RETURN_IF_ERROR(decompressor->AtEnd());           // all of the input was given
//
// A stream of gzip (RFC 1952) is one member or more, one of zstd (RFC 8878) one frame or more, skippable ones
// among them; their contents follow one another. Nothing else may stand before, between or behind them.
//
// Errors are INVALID_ARGUMENT with a reason (GetErrorDetails):
//   COMPRESSED_DATA_INVALID      not this format, damaged, cut off, or something else behind it
//   COMPRESSED_DATA_UNSUPPORTED  zstd with a window over kMaxZstdWindowBytes, or with a dictionary
#ifndef DROVER_COMMON_COMPRESS_DECOMPRESSOR_H_
#define DROVER_COMMON_COMPRESS_DECOMPRESSOR_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/status.h"

namespace drover {

enum class Compression { kGzip, kZstd };

// What a decompressor of zstd keeps of the content, hence its memory; a gzip one needs 32 KiB. RFC 8878 asks
// every reader for this much. zstd's levels up to 19 need no more, --ultra and --long may.
inline constexpr size_t kMaxZstdWindowBytes = size_t{8} << 20;

// "gzip" or "zstd".
std::string_view CompressionName(Compression compression);

// What a file of this format begins with tells: its first four bytes are enough. Nothing for any other file.
std::optional<Compression> DetectCompression(std::string_view first_bytes);

// One pass over one stream. Not thread-safe.
class Decompressor {
 public:
  struct Step {
    size_t consumed = 0;  // bytes of `in`
    size_t produced = 0;  // bytes written to `out`
  };

  virtual ~Decompressor() = default;

  // Decompresses from `in` to `out` until one of them is used up, a member or frame ends, or there is an
  // error. `step` is set in any case; after an error the decompressor is of no more use. Where `out` was
  // filled there may be more to come without further input.
  virtual absl::Status Run(std::string_view in, char* out, size_t out_size, Step& step) = 0;

  // Whether the stream may end here: after a whole member or frame.
  virtual absl::Status AtEnd() const = 0;
};

std::unique_ptr<Decompressor> MakeDecompressor(Compression compression);

}  // namespace drover

#endif  // DROVER_COMMON_COMPRESS_DECOMPRESSOR_H_
