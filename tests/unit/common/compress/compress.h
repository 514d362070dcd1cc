// Compressed bytes for tests, made with the libraries themselves.
#ifndef DROVER_TESTS_UNIT_COMMON_COMPRESS_COMPRESS_H_
#define DROVER_TESTS_UNIT_COMMON_COMPRESS_COMPRESS_H_

#include <zlib.h>
#include <zstd.h>

#include <string>
#include <string_view>

namespace drover {

// One gzip member.
inline std::string Gzip(std::string_view content) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, content.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// One zstd frame, with a checksum; of a window of 2^window_log bytes if that is given.
inline std::string Zstd(std::string_view content, int window_log = 0) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  std::string out(ZSTD_compressBound(content.size()) + 64, '\0');
  ZSTD_inBuffer input{content.data(), content.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  // As a stream of unknown length, so that the window is the one asked for.
  ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue);
  ZSTD_compressStream2(context, &output, &input, ZSTD_e_end);
  out.resize(output.pos);
  ZSTD_freeCCtx(context);
  return out;
}

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_COMMON_COMPRESS_COMPRESS_H_
