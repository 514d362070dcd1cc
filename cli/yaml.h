// YAML in and out: files of hostile origin into plain trees that know where each value stands, and protobuf
// messages into YAML. Pure functions; no type of yaml-cpp leaves the source.
#ifndef DROVER_CLI_YAML_H_
#define DROVER_CLI_YAML_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace drover::cli {

// A place in a text, both from 1; columns count bytes. Line 0: not from a text.
struct TextPlace {
  int line = 0;
  int column = 0;
};

struct YamlField;

// A value. Scalars keep their text; what it means depends on the field that they are for.
struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;  // kNull: nothing, "~" or "null", not quoted
  std::string text;         // of a scalar, and of a kNull as written
  TextPlace place;
  std::vector<YamlNode> items;    // of a sequence
  std::vector<YamlField> fields;  // of a mapping, in the text's order; keys may repeat
};

// A key and its value.
struct YamlField {
  YamlNode key;
  YamlNode value;
};

// What a text may hold; more is refused.
inline constexpr size_t kMaxYamlBytes = 4 << 20;
inline constexpr int kMaxYamlDepth = 32;
inline constexpr size_t kMaxYamlNodes = 200'000;  // keys and values of all documents
inline constexpr size_t kMaxYamlDocuments = 1'000;
inline constexpr size_t kMaxYamlBrackets = 50'000;  // '[' and '{', wherever they stand

// The documents of a text, empty ones left out. YAML 1.2, and so JSON too, without what a job file has no use
// for and an attacker has: anchors, aliases and tags. INVALID_ARGUMENT "NAME:LINE:COLUMN: what is wrong" if
// it isn't that, isn't UTF-8, holds control characters, or is beyond the limits.
absl::StatusOr<std::vector<YamlNode>> ParseYaml(std::string_view name, std::string_view text);

// A message as YAML, its fields under the names of the .proto files: enums by name, durations as "1.5s",
// times as RFC 3339, bytes as base64, 64-bit numbers as numbers. `zeros` writes fields without presence that
// are 0 or empty as well. Ends with a line end; an empty message is "{}".
std::string ToYaml(const google::protobuf::Message& message, bool zeros);

}  // namespace drover::cli

#endif  // DROVER_CLI_YAML_H_
