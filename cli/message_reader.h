// Fills protobuf messages from YAML, by their descriptors: what a field may hold decides what a value means,
// and every mistake is named with its place, its path, and what to do.
#ifndef DROVER_CLI_MESSAGE_READER_H_
#define DROVER_CLI_MESSAGE_READER_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "cli/yaml.h"

namespace google::protobuf {
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace drover::cli {

// Whether only the service may set the field, as its google.api.field_behavior says; and whether a request
// must.
bool IsOutputOnly(const google::protobuf::FieldDescriptor& field);
bool IsRequired(const google::protobuf::FieldDescriptor& field);

// What is wrong with a value.
struct Problem {
  TextPlace place;
  std::string path;  // as `operation.put_object_tagging.tags[0].key`; empty: the whole
  std::string what;
};

// Where the value of each path stood.
using Places = std::map<std::string, TextPlace, std::less<>>;

// Reads a mapping into `message`, whose fields are named as in the .proto file or in lowerCamelCase. Wrong
// are: unknown and output-only fields, a field named twice, two fields of one oneof, a field without a value,
// and values that the field's type can't hold. Text stands for text whatever it looks like (a label `yes` or
// `1.10` needs no quotes); numbers are decimal; booleans are true and false; enums go by name, bytes by
// base64, durations as 1.5s, 20ms, 2h30m, times by RFC 3339. Adds to `problems` all that is wrong, and then
// leaves `message` half filled; adds to `places` what was read.
void ReadMessage(const YamlNode& node, google::protobuf::Message& message, std::vector<Problem>& problems,
                 Places& places);

// Carries out one `path=value`: `operation.store=main`, `labels.team=blue`, `report.scope=ALL_TASKS`,
// `operation.put_object_tagging.tags[0].value=x`. An index may be the next one, which adds an element. After
// a map's name all up to the `=` is the key. The value is text as it is for a field of text, and YAML
// otherwise ({} and [] included); it replaces what was there. INVALID_ARGUMENT that names the assignment.
absl::Status Assign(std::string_view assignment, google::protobuf::Message& message);

}  // namespace drover::cli

#endif  // DROVER_CLI_MESSAGE_READER_H_
