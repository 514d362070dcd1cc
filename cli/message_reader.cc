#include "cli/message_reader.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "google/api/field_behavior.pb.h"

namespace drover::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Protobuf's own bounds: 0001-01-01 to 9999-12-31, and some 10,000 years.
constexpr int64_t kLongestDurationSeconds = 315'576'000'000;
// More than this of a wrong value helps nobody.
constexpr size_t kShownBytes = 60;
constexpr size_t kNamesShown = 12;

bool HasBehavior(const FieldDescriptor& field, google::api::FieldBehavior behavior) {
  const auto& behaviors = field.options().GetRepeatedExtension(google::api::field_behavior);
  return std::find(behaviors.begin(), behaviors.end(), behavior) != behaviors.end();
}

std::string Shown(std::string_view text) {
  return text.size() <= kShownBytes ? StrCat("\"", text, "\"")
                                    : StrCat("\"", text.substr(0, kShownBytes), "…\"");
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({change, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row[b.size()];
}

// "; did you mean X?", or else the names that there are.
std::string Suggestion(std::string_view word, const std::vector<std::string>& names) {
  constexpr size_t kLongestName = 64;
  if (word.size() <= kLongestName && !names.empty()) {
    // Names differ from what people write in their case as well: gzip, GZIP.
    const std::string lower = absl::AsciiStrToLower(ToAbsl(word));
    const auto distance = [&](const std::string& name) {
      return EditDistance(lower, absl::AsciiStrToLower(name));
    };
    const auto nearest = std::min_element(
        names.begin(), names.end(), [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
    const size_t allowed = word.size() < 4 ? 1 : std::max<size_t>(2, word.size() / 3);
    if (distance(*nearest) <= allowed) return StrCat("; did you mean ", *nearest, "?");
  }
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kNamesShown));
  if (shown.size() < names.size()) shown.push_back("…");
  return shown.empty() ? "; there are no fields here" : StrCat("; there are ", absl::StrJoin(shown, ", "));
}

const FieldDescriptor* FindField(const Descriptor& descriptor, std::string_view name) {
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor* field = descriptor.field(i);
    if (name == field->name() || name == field->json_name()) return field;
  }
  return nullptr;
}

std::string NoSuchField(const Descriptor& descriptor, std::string_view name) {
  std::vector<std::string> names;
  for (int i = 0; i < descriptor.field_count(); ++i) {
    if (!IsOutputOnly(*descriptor.field(i))) names.push_back(descriptor.field(i)->name());
  }
  return StrCat("there is no field ", Shown(name), Suggestion(name, names));
}

constexpr std::string_view kOutputOnly = "is set by the service; leave it out";
constexpr std::string_view kNoValue = "has no value; give it one, or leave it out";

std::string Join(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : StrCat(path, ".", name);
}

bool IsMessage(const FieldDescriptor& field) { return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE; }

template <typename T>
std::optional<std::string> ReadInteger(std::string_view text, T& value) {
  if (StripWhitespace(text) == text && ParseInteger(text, &value)) return std::nullopt;
  return StrCat("must be a whole number, ", std::numeric_limits<T>::min(), " to ",
                std::numeric_limits<T>::max(), ", not ", Shown(text));
}

std::optional<std::string> ReadDouble(std::string_view text, double& value) {
  // SimpleAtod takes words and blanks too.
  const bool number = text.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
  if (number && absl::SimpleAtod(ToAbsl(text), &value) && std::isfinite(value)) return std::nullopt;
  return StrCat("must be a number, not ", Shown(text));
}

std::optional<std::string> ReadDuration(std::string_view text, Message& message) {
  absl::Duration duration;
  if (!absl::ParseDuration(ToAbsl(text), &duration) ||
      absl::AbsDuration(duration) > absl::Seconds(kLongestDurationSeconds)) {
    return StrCat("must be a duration like 20ms, 1.5s or 2h30m, not ", Shown(text));
  }
  google::protobuf::Duration value;
  SetDuration(duration, &value);
  message.CopyFrom(value);
  return std::nullopt;
}

std::optional<std::string> ReadTimestamp(std::string_view text, Message& message) {
  absl::Time time;
  std::string error;
  // ParseTime() takes "infinite-future" and blanks as well.
  const bool shape = !text.empty() && text[0] >= '0' && text[0] <= '9';
  if (!shape || !absl::ParseTime(absl::RFC3339_full, ToAbsl(text), &time, &error) ||
      time < absl::FromCivil(absl::CivilSecond(1), absl::UTCTimeZone()) ||
      time >= absl::FromCivil(absl::CivilSecond(10'000), absl::UTCTimeZone())) {
    return StrCat("must be a time like 2026-02-03T04:05:06Z, not ", Shown(text));
  }
  google::protobuf::Timestamp value;
  SetTimestamp(time, &value);
  message.CopyFrom(value);
  return std::nullopt;
}

// Whether messages of this type are written as one scalar.
bool IsScalarMessage(const Descriptor& descriptor) {
  return &descriptor == google::protobuf::Duration::descriptor() ||
         &descriptor == google::protobuf::Timestamp::descriptor();
}

// Sets the field, or adds an element to it, from the text of a scalar. What is wrong, if something is.
std::optional<std::string> ReadScalar(std::string_view text, Message& message, const FieldDescriptor& field) {
  const Reflection& set = *message.GetReflection();
  const bool repeated = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value = 0;
      if (auto wrong = ReadInteger(text, value)) return wrong;
      repeated ? set.AddInt32(&message, &field, value) : set.SetInt32(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value = 0;
      if (auto wrong = ReadInteger(text, value)) return wrong;
      repeated ? set.AddInt64(&message, &field, value) : set.SetInt64(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t value = 0;
      if (auto wrong = ReadInteger(text, value)) return wrong;
      repeated ? set.AddUInt32(&message, &field, value) : set.SetUInt32(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value = 0;
      if (auto wrong = ReadInteger(text, value)) return wrong;
      repeated ? set.AddUInt64(&message, &field, value) : set.SetUInt64(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value = 0;
      if (auto wrong = ReadDouble(text, value)) return wrong;
      repeated ? set.AddDouble(&message, &field, value) : set.SetDouble(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_FLOAT: {
      double value = 0;
      if (auto wrong = ReadDouble(text, value)) return wrong;
      const auto narrow = static_cast<float>(value);
      repeated ? set.AddFloat(&message, &field, narrow) : set.SetFloat(&message, &field, narrow);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      if (text != "true" && text != "false") return StrCat("must be true or false, not ", Shown(text));
      const bool value = text == "true";
      repeated ? set.AddBool(&message, &field, value) : set.SetBool(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumDescriptor& type = *field.enum_type();
      const auto* value = type.FindValueByName(std::string(text));
      if (value == nullptr) {
        std::vector<std::string> names;
        for (int i = 0; i < type.value_count(); ++i) {
          if (type.value(i)->number() != 0) names.push_back(type.value(i)->name());
        }
        return StrCat("there is no value ", Shown(text), Suggestion(text, names));
      }
      repeated ? set.AddEnum(&message, &field, value) : set.SetEnum(&message, &field, value);
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      std::string value(text);
      if (field.type() == FieldDescriptor::TYPE_BYTES && !absl::Base64Unescape(ToAbsl(text), &value))
        return StrCat("must be base64, not ", Shown(text));
      repeated ? set.AddString(&message, &field, std::move(value))
               : set.SetString(&message, &field, std::move(value));
      return std::nullopt;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      Message& inner = repeated ? *set.AddMessage(&message, &field) : *set.MutableMessage(&message, &field);
      return inner.GetDescriptor() == google::protobuf::Duration::descriptor() ? ReadDuration(text, inner)
                                                                               : ReadTimestamp(text, inner);
    }
  }
  return "has a type that can't be given here";
}

class Reader {
 public:
  Reader(std::vector<Problem>& problems, Places& places) : problems_(problems), places_(places) {}

  void Read(const YamlNode& node, Message& message, const std::string& path) {
    places_[path] = node.place;
    if (node.kind != YamlNode::Kind::kMapping) {
      Add(node, path, "must be a mapping of fields, each with its value");
      return;
    }
    const Descriptor& descriptor = *message.GetDescriptor();
    std::map<const FieldDescriptor*, int> seen;  // with the line
    for (const auto& [key, value] : node.fields) {
      const FieldDescriptor* field = FindField(descriptor, key.text);
      if (key.kind != YamlNode::Kind::kScalar || field == nullptr) {
        Add(key, path, NoSuchField(descriptor, key.text));
        continue;
      }
      const std::string inner = Join(path, field->name());
      if (IsOutputOnly(*field)) {
        Add(key, inner, kOutputOnly);
      } else if (const auto [at, fresh] = seen.emplace(field, key.place.line); !fresh) {
        Add(key, inner, StrCat("is there twice; first in line ", at->second));
      } else if (const FieldDescriptor* other = Rival(*field, seen); other != nullptr) {
        Add(key, inner,
            StrCat("can't stand beside ", other->name(), " of line ", seen[other],
                   "; only one of them is allowed"));
      } else if (value.kind == YamlNode::Kind::kNull) {
        Add(value.place.line > 0 ? value : key, inner,
            IsMessage(*field) && !field->is_repeated()
                ? "has no value; write {} for one without fields, or leave it out"
                : kNoValue);
      } else {
        Value(value, message, *field, inner);
      }
    }
  }

  // A value of a field that is not there yet, or that it adds to.
  void Value(const YamlNode& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    places_[path] = node.place;
    if (field.is_map()) {
      Map(node, message, field, path);
    } else if (field.is_repeated()) {
      if (node.kind != YamlNode::Kind::kSequence) {
        Add(node, path, "must be a list: [a, b], or lines that begin with \"- \"");
        return;
      }
      for (size_t i = 0; i < node.items.size(); ++i)
        One(node.items[i], message, field, StrCat(path, "[", i, "]"));
    } else {
      One(node, message, field, path);
    }
  }

  // A single value, or an element.
  void One(const YamlNode& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    places_[path] = node.place;
    if (IsMessage(field) && !IsScalarMessage(*field.message_type())) {
      const Reflection& set = *message.GetReflection();
      Read(node,
           field.is_repeated() ? *set.AddMessage(&message, &field) : *set.MutableMessage(&message, &field),
           path);
    } else if (node.kind == YamlNode::Kind::kNull) {
      Add(node, path, kNoValue);
    } else if (node.kind != YamlNode::Kind::kScalar) {
      Add(node, path, "must be a single value");
    } else if (const auto wrong = ReadScalar(node.text, message, field)) {
      Add(node, path, *wrong);
    }
  }

 private:
  void Map(const YamlNode& node, Message& message, const FieldDescriptor& field, const std::string& path) {
    if (node.kind != YamlNode::Kind::kMapping) {
      Add(node, path, "must be a mapping of names, each with its value");
      return;
    }
    std::map<std::string, int> seen;
    for (const auto& [key, value] : node.fields) {
      const std::string inner = Join(path, key.text);
      // A key such as `null` or `~` is text as well.
      if (key.kind != YamlNode::Kind::kScalar && key.kind != YamlNode::Kind::kNull) {
        Add(key, path, "a name must be a single value");
      } else if (const auto [at, fresh] = seen.emplace(key.text, key.place.line); !fresh) {
        Add(key, inner, StrCat("is there twice; first in line ", at->second));
      } else {
        Message& entry = *message.GetReflection()->AddMessage(&message, &field);
        if (const auto wrong = ReadScalar(key.text, entry, *field.message_type()->map_key()))
          Add(key, inner, *wrong);
        One(value, entry, *field.message_type()->map_value(), inner);
      }
    }
  }

  // A field seen already of the same oneof.
  static const FieldDescriptor* Rival(const FieldDescriptor& field,
                                      const std::map<const FieldDescriptor*, int>& seen) {
    const auto* oneof = field.real_containing_oneof();
    if (oneof == nullptr) return nullptr;
    for (const auto& [other, line] : seen) {
      if (other != &field && other->real_containing_oneof() == oneof) return other;
    }
    return nullptr;
  }

  void Add(const YamlNode& node, std::string_view path, std::string_view what) {
    problems_.push_back({node.place, std::string(path), std::string(what)});
  }

  std::vector<Problem>& problems_;
  Places& places_;
};

absl::Status Wrong(std::string_view assignment, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("--set ", assignment.substr(0, kShownBytes), ": ", what));
}

// A step of a path: a field, and which element of it. The rest of the path is taken off `path`.
struct Step {
  const FieldDescriptor* field = nullptr;
  std::optional<int> index;
};

absl::StatusOr<Step> NextStep(std::string_view assignment, const Descriptor& descriptor,
                              std::string_view& path) {
  Step step;
  const std::string_view word = path.substr(0, path.find_first_of(".["));
  path.remove_prefix(word.size());
  step.field = FindField(descriptor, word);
  if (step.field == nullptr) return Wrong(assignment, NoSuchField(descriptor, word));
  if (IsOutputOnly(*step.field)) return Wrong(assignment, StrCat(word, " ", kOutputOnly));
  if (StartsWith(path, "[")) {
    const size_t end = path.find(']');
    int index = 0;
    if (end == std::string_view::npos || !ParseInteger(path.substr(1, end - 1), &index) || index < 0)
      return Wrong(assignment, "an index is a number in brackets, as in tags[0]");
    if (!step.field->is_repeated() || step.field->is_map())
      return Wrong(assignment, StrCat(word, " is no list, and takes no index"));
    step.index = index;
    path.remove_prefix(end + 1);
  }
  if (!path.empty() && !ConsumePrefix(&path, ".")) return Wrong(assignment, "names are separated by dots");
  return step;
}

YamlNode Scalar(std::string_view text) {
  YamlNode node;
  node.kind = YamlNode::Kind::kScalar;
  node.text = text;
  return node;
}

// The value of an assignment to `field`, or to an element of it.
absl::StatusOr<YamlNode> ParseValue(std::string_view assignment, std::string_view text,
                                    const FieldDescriptor& field, bool element) {
  const bool scalar = !IsMessage(field) || IsScalarMessage(*field.message_type());
  if (scalar && (element || !field.is_repeated())) return Scalar(text);
  auto documents = ParseYaml("value", text);
  if (!documents.ok()) return Wrong(assignment, FromAbsl(documents.status().message()));
  if (documents->size() != 1) return Wrong(assignment, "the value is empty; write {} or [] for nothing");
  return std::move(documents->front());
}

// Makes the element exist; false if the index is beyond the next one.
bool Reserve(Message& message, const FieldDescriptor& field, int index) {
  const Reflection& set = *message.GetReflection();
  const int size = set.FieldSize(message, &field);
  if (index > size) return false;
  if (index == size && IsMessage(field)) set.AddMessage(&message, &field);
  return true;
}

// Takes the entry of this key out of a map whose keys are text, as all of the API's are.
void RemoveKey(Message& message, const FieldDescriptor& field, std::string_view key) {
  const Reflection& set = *message.GetReflection();
  for (int i = set.FieldSize(message, &field) - 1; i >= 0; --i) {
    const Message& entry = set.GetRepeatedMessage(message, &field, i);
    if (entry.GetReflection()->GetString(entry, field.message_type()->map_key()) != key) continue;
    set.SwapElements(&message, &field, i, set.FieldSize(message, &field) - 1);
    set.RemoveLast(&message, &field);
  }
}

// Reads the element anew at the end, and moves it to its place.
void ReplaceElement(Reader& reader, const YamlNode& node, Message& message, const FieldDescriptor& field,
                    int index) {
  const Reflection& set = *message.GetReflection();
  const int size = set.FieldSize(message, &field);
  reader.One(node, message, field, field.name());
  if (index < size && set.FieldSize(message, &field) == size + 1) {
    set.SwapElements(&message, &field, index, size);
    set.RemoveLast(&message, &field);
  }
}

}  // namespace

bool IsOutputOnly(const FieldDescriptor& field) { return HasBehavior(field, google::api::OUTPUT_ONLY); }

bool IsRequired(const FieldDescriptor& field) { return HasBehavior(field, google::api::REQUIRED); }

void ReadMessage(const YamlNode& node, Message& message, std::vector<Problem>& problems, Places& places) {
  Reader(problems, places).Read(node, message, "");
}

absl::Status Assign(std::string_view assignment, Message& message) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) return Wrong(assignment, "must be path=value");
  std::string_view path = assignment.substr(0, equals);
  const std::string_view text = assignment.substr(equals + 1);
  std::vector<Problem> problems;
  Places places;
  Reader reader(problems, places);

  Message* target = &message;
  while (true) {
    DROVER_ASSIGN_OR_RETURN(const Step step, NextStep(assignment, *target->GetDescriptor(), path));
    const FieldDescriptor& field = *step.field;
    const Reflection& set = *target->GetReflection();
    if (field.is_map() && !path.empty()) {
      YamlNode node;
      node.kind = YamlNode::Kind::kMapping;
      node.fields.push_back({Scalar(path), Scalar(text)});
      RemoveKey(*target, field, path);
      reader.Value(node, *target, field, field.name());
      break;
    }
    if (step.index.has_value() && !Reserve(*target, field, *step.index)) {
      return Wrong(assignment, StrCat(field.name(), " has ", set.FieldSize(*target, &field),
                                      " elements; the next one is [", set.FieldSize(*target, &field), "]"));
    }
    if (!path.empty()) {
      if (!IsMessage(field) || IsScalarMessage(*field.message_type()))
        return Wrong(assignment, StrCat(field.name(), " has no fields"));
      if (field.is_repeated() && !step.index.has_value())
        return Wrong(assignment,
                     StrCat(field.name(), " is a list: name an element, as in ", field.name(), "[0]"));
      target = step.index.has_value() ? set.MutableRepeatedMessage(target, &field, *step.index)
                                      : set.MutableMessage(target, &field);
      continue;
    }
    DROVER_ASSIGN_OR_RETURN(const YamlNode node, ParseValue(assignment, text, field, step.index.has_value()));
    if (step.index.has_value()) {
      ReplaceElement(reader, node, *target, field, *step.index);
    } else {
      set.ClearField(target, &field);
      reader.Value(node, *target, field, field.name());
    }
    break;
  }
  return problems.empty() ? absl::OkStatus() : Wrong(assignment, problems.front().what);
}

}  // namespace drover::cli
