#include "common/compress/decompressor.h"

#define ZLIB_CONST  // next_in points to const bytes
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr int kZstdWindowLog = std::countr_zero(kMaxZstdWindowBytes);
constexpr int kGzipWindowBits = 15 + 16;  // the largest window; a gzip header and nothing else

absl::Status Invalid(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "COMPRESSED_DATA_INVALID", what);
}

absl::Status Unsupported(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "COMPRESSED_DATA_UNSUPPORTED", what);
}

absl::Status CutOff(std::string_view what) { return Invalid(StrCat("it ends in the middle of a ", what)); }

class GzipDecompressor : public Decompressor {
 public:
  GzipDecompressor() {
    // Fails only without memory, like any other allocation.
    if (inflateInit2(&stream_, kGzipWindowBits) != Z_OK) std::abort();
  }
  ~GzipDecompressor() override { inflateEnd(&stream_); }
  GzipDecompressor(const GzipDecompressor&) = delete;
  GzipDecompressor& operator=(const GzipDecompressor&) = delete;

  absl::Status Run(std::string_view in, char* out, size_t out_size, Step& step) override {
    step = {};
    if (!in_member_) {
      if (in.empty()) return absl::OkStatus();
      if (in.front() != '\x1f') return NoMember();  // zlib would wait for a second byte
      inflateReset(&stream_);
      in_member_ = true;
    }
    constexpr size_t kMost = std::numeric_limits<uInt>::max();
    const auto in_bytes = static_cast<uInt>(std::min(in.size(), kMost));
    const auto out_bytes = static_cast<uInt>(std::min(out_size, kMost));
    stream_.next_in = reinterpret_cast<const Bytef*>(in.data());
    stream_.avail_in = in_bytes;
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = out_bytes;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    step = {in_bytes - stream_.avail_in, out_bytes - stream_.avail_out};
    switch (result) {
      case Z_STREAM_END:
        in_member_ = false;
        any_member_ = true;
        return absl::OkStatus();
      case Z_OK:
      case Z_BUF_ERROR:  // no progress without more input or room
        return absl::OkStatus();
      default: break;
    }
    const std::string_view why = stream_.msg != nullptr ? stream_.msg : "damaged";
    const bool in_header = stream_.total_out == 0 && why.find("header check") != std::string_view::npos;
    return in_header ? NoMember() : Invalid(StrCat("its gzip data is damaged: ", why));
  }

  absl::Status AtEnd() const override {
    if (in_member_) return CutOff("gzip member");
    return any_member_ ? absl::OkStatus() : Invalid("it is empty, where a gzip file has a member at least");
  }

 private:
  absl::Status NoMember() const {
    return Invalid(any_member_ ? "behind a gzip member there is something else" : "it is no gzip file");
  }

  z_stream stream_{};
  bool in_member_ = false;   // some of it was read, but not its end
  bool any_member_ = false;  // one has ended
};

class ZstdDecompressor : public Decompressor {
 public:
  ZstdDecompressor() : context_(ZSTD_createDCtx()) {
    if (context_ == nullptr) std::abort();
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kZstdWindowLog);
  }

  absl::Status Run(std::string_view in, char* out, size_t out_size, Step& step) override {
    step = {};
    // The library may read the formats from before version 0.8 as well, without bounds on their windows.
    if (!in_frame_ && !in.empty() && !MayBeginFrame(in.front())) return NoFrame();
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out, out_size, 0};
    const size_t result = ZSTD_decompressStream(context_.get(), &output, &input);
    step = {input.pos, output.pos};
    if (ZSTD_isError(result)) return Describe(result);
    if (result == 0) {
      in_frame_ = false;
      any_frame_ = true;
    } else if (step.consumed > 0 || step.produced > 0) {
      in_frame_ = true;
    }
    return absl::OkStatus();
  }

  absl::Status AtEnd() const override {
    if (in_frame_) return CutOff("zstd frame");
    return any_frame_ ? absl::OkStatus() : Invalid("it is empty, where a zstd file has a frame at least");
  }

 private:
  struct FreeContext {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };

  static bool MayBeginFrame(char first) {
    const auto byte = static_cast<uint8_t>(first);
    return byte == (ZSTD_MAGICNUMBER & 0xff) || (byte & 0xf0) == (ZSTD_MAGIC_SKIPPABLE_START & 0xf0);
  }

  absl::Status NoFrame() const {
    return Invalid(any_frame_ ? "behind a zstd frame there is something else" : "it is no zstd file");
  }

  absl::Status Describe(size_t result) const {
    switch (ZSTD_getErrorCode(result)) {
      case ZSTD_error_frameParameter_windowTooLarge:
        return Unsupported(StrCat("it was compressed with a window of more than ", kMaxZstdWindowBytes >> 20,
                                  " MiB; use a level up to 19, without --ultra and --long"));
      // Not ..._corrupted, which zstd says of damaged tables as well.
      case ZSTD_error_dictionary_wrong: return Unsupported("it was compressed with a dictionary");
      case ZSTD_error_prefix_unknown: return NoFrame();
      default: return Invalid(StrCat("its zstd data is damaged: ", ZSTD_getErrorName(result)));
    }
  }

  const std::unique_ptr<ZSTD_DCtx, FreeContext> context_;
  bool in_frame_ = false;   // some of it was read, but not its end
  bool any_frame_ = false;  // one has ended
};

}  // namespace

std::string_view CompressionName(Compression compression) {
  return compression == Compression::kGzip ? "gzip" : "zstd";
}

std::optional<Compression> DetectCompression(std::string_view first_bytes) {
  if (StartsWith(first_bytes, "\x1f\x8b")) return Compression::kGzip;
  if (first_bytes.size() < 4) return std::nullopt;
  uint32_t magic = 0;
  for (int i = 3; i >= 0; --i) magic = magic << 8 | static_cast<uint8_t>(first_bytes[i]);
  const bool frame = magic == ZSTD_MAGICNUMBER;
  const bool skippable = (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
  return frame || skippable ? std::optional(Compression::kZstd) : std::nullopt;
}

std::unique_ptr<Decompressor> MakeDecompressor(Compression compression) {
  if (compression == Compression::kGzip) return std::make_unique<GzipDecompressor>();
  return std::make_unique<ZstdDecompressor>();
}

}  // namespace drover
