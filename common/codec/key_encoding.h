// How object keys are written in manifests, in reports and in calls of functions.
#ifndef DROVER_COMMON_CODEC_KEY_ENCODING_H_
#define DROVER_COMMON_CODEC_KEY_ENCODING_H_

#include <string>
#include <string_view>

namespace drover {

enum class KeyEncoding {
  kUrl,    // percent-encoded; a plus is a plus, not a space (S3 Batch Operations' manifests)
  kPlain,  // as it is
};

// Appends `key` percent-encoded: letters, digits, `-`, `.`, `_`, `~` and `/` stand for themselves, any other
// byte becomes % and two capital hex digits. The result needs no quoting in CSV.
void AppendUrlEncoded(std::string_view key, std::string& out);

// Replaces `out` by `text` with its percent escapes resolved; everything else, a plus too, stays. False if a
// % is not followed by two hex digits; then `bad_offset` is where that % is.
bool UrlDecode(std::string_view text, std::string& out, size_t& bad_offset);

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_KEY_ENCODING_H_
