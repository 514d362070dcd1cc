// Reading goes by yaml-cpp's events, not by its nodes: events come with places, anchors and tags can be
// refused as they appear, and limits hold before memory is spent. yaml-cpp throws; ParseYaml() catches.
#include "cli/yaml.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/message.h>
#include <google/protobuf/timestamp.pb.h>
#include <google/protobuf/util/time_util.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

// ------------------------------------------------------------------------------------------------- reading

class TreeBuilder final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (documents_.size() >= kMaxYamlDocuments)
      throw YAML::Exception(mark, StrCat("more than ", kMaxYamlDocuments, " documents"));
    document_ = YamlNode();
  }
  void OnDocumentEnd() override {
    if (document_.kind != YamlNode::Kind::kNull) documents_.push_back(std::move(document_));
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Place(mark, anchor, YamlNode::Kind::kNull);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YAML::Exception(mark, "aliases (*name) are not supported: write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckTag(mark, tag);
    const bool plain = tag == "?";
    const bool null = plain && (value.empty() || value == "~" || absl::EqualsIgnoreCase(value, "null"));
    Place(mark, anchor, null ? YamlNode::Kind::kNull : YamlNode::Kind::kScalar).text = value;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(mark, Place(mark, anchor, YamlNode::Kind::kSequence));
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open(mark, Place(mark, anchor, YamlNode::Kind::kMapping));
  }
  void OnMapEnd() override { open_.pop_back(); }

  std::vector<YamlNode> Take() { return std::move(documents_); }

 private:
  // "?" is what a plain value has, "!" a quoted one.
  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!")
      throw YAML::Exception(mark, "tags (!name) are not supported: the field says what its value is");
  }

  // The node for the event, put where the innermost open node wants it. Valid until that gets another one.
  YamlNode& Place(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (anchor != 0) throw YAML::Exception(mark, "anchors (&name) are not supported: write the value out");
    if (++nodes_ > kMaxYamlNodes) throw YAML::Exception(mark, StrCat("more than ", kMaxYamlNodes, " values"));
    YamlNode* node = &document_;
    if (!open_.empty()) {
      YamlNode& parent = *open_.back().node;
      if (parent.kind == YamlNode::Kind::kSequence) {
        node = &parent.items.emplace_back();
      } else if (!std::exchange(open_.back().key_read, !open_.back().key_read)) {
        node = &parent.fields.emplace_back().key;
      } else {
        node = &parent.fields.back().value;
      }
    }
    node->kind = kind;
    node->place = {mark.line + 1, mark.column + 1};
    return *node;
  }

  void Open(const YAML::Mark& mark, YamlNode& node) {
    if (open_.size() >= static_cast<size_t>(kMaxYamlDepth))
      throw YAML::Exception(mark, StrCat("nested deeper than ", kMaxYamlDepth));
    open_.push_back({&node, false});
  }

  struct OpenNode {
    YamlNode* node;
    bool key_read;  // of a mapping: the next event is the value
  };
  std::vector<YamlNode> documents_;
  YamlNode document_;
  std::vector<OpenNode> open_;
  size_t nodes_ = 0;
};

absl::Status Wrong(std::string_view name, TextPlace place, std::string_view what) {
  return absl::InvalidArgumentError(StrCat(name, ":", place.line, ":", place.column, ": ", what));
}

// Length of the UTF-8 sequence at the front of `text`; 0 if there is none.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const size_t length = byte(0) < 0x80 ? 1 : byte(0) < 0xc2 ? 0 : byte(0) < 0xe0 ? 2 : byte(0) < 0xf0 ? 3 : 4;
  if (length == 0 || byte(0) > 0xf4 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if (length == 3 && ((byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xed && byte(1) > 0x9f))) return 0;
  if (length == 4 && ((byte(0) == 0xf0 && byte(1) < 0x90) || (byte(0) == 0xf4 && byte(1) > 0x8f))) return 0;
  return length;
}

// yaml-cpp guesses encodings and lets control characters pass.
absl::Status CheckCharacters(std::string_view name, std::string_view text) {
  TextPlace place{1, 1};
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    const size_t length = Utf8Length(text.substr(at));
    if (length == 0) return Wrong(name, place, "not UTF-8: save the file in that encoding");
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t') || c == 0x7f) {
      return Wrong(name, place, "a control character: write it as an escape within double quotes");
    }
    place = c == '\n' ? TextPlace{place.line + 1, 1}
                      : TextPlace{place.line, place.column + static_cast<int>(length)};
    at += length;
  }
  return absl::OkStatus();
}

// ------------------------------------------------------------------------------------------------- writing

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Whether a plain scalar of this text is read as this text by readers of YAML 1.1 and 1.2 alike: nothing that
// looks like a number, a time, a boolean or null, or has a meaning in the syntax.
bool IsPlain(std::string_view text) {
  if (text.empty() || text.size() > 100) return false;
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto inner = [&](char c) {
    return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/' || c == '+';
  };
  if (!letter(text[0]) && text[0] != '/') return false;
  if (!std::all_of(text.begin(), text.end(), inner)) return false;
  for (const std::string_view word :
       {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"}) {
    if (absl::EqualsIgnoreCase(ToAbsl(text), ToAbsl(word))) return false;
  }
  return true;
}

// In double quotes. Control characters, and those that editors and terminals take for line ends or show as
// nothing, are escaped.
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const char c = text[at];
    const size_t length = Utf8Length(rest);
    if (length == 0) {  // never of a valid message
      StrAppend(&out, "\\uFFFD");
      ++at;
      continue;
    }
    if (c == '"' || c == '\\') {
      StrAppend(&out, "\\", std::string(1, c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&out, "\\x%02X", static_cast<unsigned char>(c));
    } else if (length == 2 && c == '\xc2' && static_cast<unsigned char>(rest[1]) < 0xa0) {  // C1 controls
      absl::StrAppendFormat(&out, "\\x%02X", static_cast<unsigned char>(rest[1]));
    } else if (StartsWith(rest, "\u2028") || StartsWith(rest, "\u2029")) {
      out += StartsWith(rest, "\u2028") ? "\\u2028" : "\\u2029";
    } else if (StartsWith(rest, "\uFEFF")) {
      out += "\\uFEFF";
    } else {
      out += rest.substr(0, length);
    }
    at += length;
  }
  return out + "\"";
}

std::string Text(std::string_view text) { return IsPlain(text) ? std::string(text) : Quoted(text); }

// The shortest text that is read as the same number.
std::string Number(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  for (const int digits : {15, 17}) {
    std::string text = absl::StrFormat("%.*g", digits, value);
    double back = 0;
    if (absl::SimpleAtod(text, &back) && back == value) return text;
  }
  return absl::StrFormat("%.17g", value);
}

// A value of one line, or nothing for a message of several.
std::string Scalar(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& get = *message.GetReflection();
  const bool repeated = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return StrCat(repeated ? get.GetRepeatedInt32(message, &field, index) : get.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return StrCat(repeated ? get.GetRepeatedInt64(message, &field, index) : get.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return StrCat(repeated ? get.GetRepeatedUInt32(message, &field, index)
                             : get.GetUInt32(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return StrCat(repeated ? get.GetRepeatedUInt64(message, &field, index)
                             : get.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Number(repeated ? get.GetRepeatedDouble(message, &field, index)
                             : get.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return Number(repeated ? get.GetRepeatedFloat(message, &field, index) : get.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (repeated ? get.GetRepeatedBool(message, &field, index) : get.GetBool(message, &field))
                 ? "true"
                 : "false";
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number =
          repeated ? get.GetRepeatedEnumValue(message, &field, index) : get.GetEnumValue(message, &field);
      const auto* value = field.enum_type()->FindValueByNumber(number);
      return value == nullptr ? StrCat(number) : value->name();
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text =
          repeated ? get.GetRepeatedString(message, &field, index) : get.GetString(message, &field);
      return Text(field.type() == FieldDescriptor::TYPE_BYTES ? absl::Base64Escape(text) : text);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const Message& inner =
          repeated ? get.GetRepeatedMessage(message, &field, index) : get.GetMessage(message, &field);
      if (inner.GetDescriptor() == google::protobuf::Duration::descriptor()) {
        google::protobuf::Duration duration;
        duration.CopyFrom(inner);
        return google::protobuf::util::TimeUtil::ToString(duration);
      }
      if (inner.GetDescriptor() == google::protobuf::Timestamp::descriptor()) {
        google::protobuf::Timestamp time;
        time.CopyFrom(inner);
        return Quoted(google::protobuf::util::TimeUtil::ToString(time));
      }
      return "";
    }
  }
  return "";
}

class Writer {
 public:
  explicit Writer(bool zeros) : zeros_(zeros) {}

  // The fields of a message, a line each at least, indented by `indent`; the first line without, since it
  // stands behind "- ".
  void Fields(const Message& message, size_t indent, bool first_indented) {
    const Descriptor& descriptor = *message.GetDescriptor();
    bool indented = first_indented;
    for (int i = 0; i < descriptor.field_count(); ++i) {
      const FieldDescriptor& field = *descriptor.field(i);
      if (!IsWritten(message, field)) continue;
      Field(message, field, indented ? indent : 0, indent);
      indented = true;
    }
  }

  bool HasFields(const Message& message) const {
    const Descriptor& descriptor = *message.GetDescriptor();
    for (int i = 0; i < descriptor.field_count(); ++i) {
      if (IsWritten(message, *descriptor.field(i))) return true;
    }
    return false;
  }

  std::string Take() { return std::move(out_); }

 private:
  bool IsWritten(const Message& message, const FieldDescriptor& field) const {
    const Reflection& get = *message.GetReflection();
    if (field.is_repeated()) return zeros_ || get.FieldSize(message, &field) > 0;
    return get.HasField(message, &field) || (zeros_ && !field.has_presence());
  }

  void Line(size_t indent, std::string_view text) { StrAppend(&out_, std::string(indent, ' '), text, "\n"); }

  // "name: value", or "name:" and lines indented by more than `indent`.
  void Named(std::string_view name, std::string_view scalar, const Message* inner, size_t first,
             size_t indent) {
    if (!scalar.empty()) {
      Line(first, StrCat(name, ": ", scalar));
    } else if (inner == nullptr || !HasFields(*inner)) {
      Line(first, StrCat(name, ": {}"));
    } else {
      Line(first, StrCat(name, ":"));
      Fields(*inner, indent + 2, true);
    }
  }

  void Field(const Message& message, const FieldDescriptor& field, size_t first, size_t indent) {
    const Reflection& get = *message.GetReflection();
    if (!field.is_repeated()) {
      const bool is_message = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      Named(field.name(), Scalar(message, field, 0), is_message ? &get.GetMessage(message, &field) : nullptr,
            first, indent);
      return;
    }
    const int count = get.FieldSize(message, &field);
    if (count == 0) {
      Line(first, StrCat(field.name(), field.is_map() ? ": {}" : ": []"));
      return;
    }
    Line(first, StrCat(field.name(), ":"));
    if (field.is_map()) {
      Map(message, field, indent + 2);
      return;
    }
    for (int i = 0; i < count; ++i) {
      const std::string scalar = Scalar(message, field, i);
      out_ += std::string(indent + 2, ' ') + "- ";
      if (!scalar.empty()) {
        Line(0, scalar);
      } else if (const Message& item = get.GetRepeatedMessage(message, &field, i); HasFields(item)) {
        Fields(item, indent + 4, false);
      } else {
        Line(0, "{}");
      }
    }
  }

  // In the order of the keys, so that the same message is always the same text.
  void Map(const Message& message, const FieldDescriptor& field, size_t indent) {
    const Reflection& get = *message.GetReflection();
    const FieldDescriptor& key = *field.message_type()->map_key();
    const FieldDescriptor& value = *field.message_type()->map_value();
    std::vector<std::pair<std::string, const Message*>> entries;
    for (int i = 0; i < get.FieldSize(message, &field); ++i) {
      const Message& entry = get.GetRepeatedMessage(message, &field, i);
      entries.emplace_back(Scalar(entry, key, 0), &entry);
    }
    std::sort(entries.begin(), entries.end());
    for (const auto& [name, entry] : entries) {
      const bool is_message = value.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
      Named(name, Scalar(*entry, value, 0),
            is_message ? &entry->GetReflection()->GetMessage(*entry, &value) : nullptr, indent, indent);
    }
  }

  const bool zeros_;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::vector<YamlNode>> ParseYaml(std::string_view name, std::string_view text) {
  if (text.size() > kMaxYamlBytes)
    return absl::InvalidArgumentError(StrCat(name, ": larger than ", kMaxYamlBytes, " bytes"));
  // yaml-cpp looks ahead over all of them for the end of a possible key, at 250 bytes each, before the first
  // event.
  const auto is_bracket = [](char c) { return c == '[' || c == '{'; };
  if (std::count_if(text.begin(), text.end(), is_bracket) > static_cast<std::ptrdiff_t>(kMaxYamlBrackets))
    return absl::InvalidArgumentError(StrCat(name, ": more than ", kMaxYamlBrackets, " opening brackets"));
  if (absl::Status status = CheckCharacters(name, text); !status.ok()) return status;
  TreeBuilder builder;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    return Wrong(name, {error.mark.line + 1, error.mark.column + 1}, error.msg);
  }
  return builder.Take();
}

std::string ToYaml(const Message& message, bool zeros) {
  Writer writer(zeros);
  if (!writer.HasFields(message)) return "{}\n";
  writer.Fields(message, 0, true);
  return writer.Take();
}

}  // namespace drover::cli
