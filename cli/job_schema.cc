// The structure comes from the generated descriptors, the comments from a descriptor set that protoc wrote
// with source info and cli/CMakeLists.txt has put into the program (generated code carries none).
#include "cli/job_schema.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "absl/strings/str_replace.h"
#include "cli/descriptor_set.h"
#include "cli/job_file.h"
#include "cli/message_reader.h"
#include "common/strings/strings.h"
#include "drover/v1/job.pb.h"

namespace drover::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::SourceLocation;
using Json = nlohmann::ordered_json;

constexpr char kReference[] = "#/definitions/";
constexpr char kDuration[] = "Duration";
constexpr char kTimestamp[] = "Timestamp";

std::string NameOf(const Descriptor& descriptor) {
  // Nested types are unique by their outer one's name: drover.v1.CopyObject.Directive.
  const std::string& name = descriptor.full_name();
  const std::string package = StrCat(descriptor.file()->package(), ".");
  return StartsWith(name, package) ? name.substr(package.size()) : name;
}

class SchemaMaker {
 public:
  SchemaMaker() {
    google::protobuf::FileDescriptorSet set;
    set.ParseFromArray(kDescriptorSet, static_cast<int>(kDescriptorSetSize));
    for (const auto& file : set.file()) commented_.BuildFile(file);
  }

  Json Make() {
    const Descriptor& job = *v1::Job::descriptor();
    Json schema = Json::object();
    schema["$schema"] = "http://json-schema.org/draft-07/schema#";
    schema["title"] = "Drover job";
    const Json object = Object(job);
    for (const auto& [key, value] : object.items()) schema[key] = value;
    schema["properties"][kRequestIdKey] = Json{
        {"description", "Makes creating the job again harmless: the same id returns the job made before."},
        {"type", "string"},
        {"minLength", 1},
        {"maxLength", kMaxRequestIdLength}};
    Json definitions = Json::object();
    while (!wanted_.empty()) {
      const Descriptor* next = *wanted_.begin();
      wanted_.erase(wanted_.begin());
      if (definitions.contains(NameOf(*next))) continue;
      definitions[NameOf(*next)] = Object(*next);
    }
    definitions[kDuration] = Json{{"type", "string"},
                                  {"pattern", R"(^-?([0-9]+(\.[0-9]*)?(ns|us|ms|s|m|h))+$|^0$)"},
                                  {"examples", {"20ms", "1.5s", "2h30m"}}};
    definitions[kTimestamp] = Json{{"type", "string"}, {"format", "date-time"}};
    schema["definitions"] = std::move(definitions);
    return schema;
  }

 private:
  struct ByName {
    bool operator()(const Descriptor* a, const Descriptor* b) const {
      return a->full_name() < b->full_name();
    }
  };

  template <typename D>
  static std::string Comment(const D* descriptor) {
    SourceLocation location;
    if (descriptor == nullptr || !descriptor->GetSourceLocation(&location)) return "";
    return absl::StrReplaceAll(std::string(StripWhitespace(location.leading_comments)), {{"\n ", "\n"}});
  }

  static void Describe(Json& json, const std::string& comment) {
    if (!comment.empty()) json["description"] = comment;
  }

  Json Object(const Descriptor& descriptor) {
    Json object = Json::object();
    Describe(object, Comment(commented_.FindMessageTypeByName(descriptor.full_name())));
    object["type"] = "object";
    object["additionalProperties"] = false;
    Json properties = Json::object();
    Json required = Json::array();
    for (int i = 0; i < descriptor.field_count(); ++i) {
      const FieldDescriptor& field = *descriptor.field(i);
      if (IsOutputOnly(field)) continue;
      properties[field.name()] = Property(field);
      if (IsRequired(field)) required.push_back(field.name());
    }
    object["properties"] = std::move(properties);
    if (!required.empty()) object["required"] = std::move(required);
    // Every oneof of what a client gives is a choice that must be made.
    for (int i = 0; i < descriptor.real_oneof_decl_count(); ++i) {
      Json choices = Json::array();
      for (int j = 0; j < descriptor.oneof_decl(i)->field_count(); ++j)
        choices.push_back(Json{{"required", Json::array({descriptor.oneof_decl(i)->field(j)->name()})}});
      object["oneOf"] = std::move(choices);
    }
    return object;
  }

  Json Property(const FieldDescriptor& field) {
    Json property = Json::object();
    Describe(property, Comment(commented_.FindFieldByName(field.full_name())));
    Json type = Json::object();
    if (field.is_map()) {
      type["type"] = "object";
      type["additionalProperties"] = Type(*field.message_type()->map_value());
    } else if (field.is_repeated()) {
      type["type"] = "array";
      type["items"] = Type(field);
    } else {
      type = Type(field);
    }
    // Draft 7 ignores what stands beside a $ref.
    if (type.contains("$ref")) {
      property["allOf"] = Json::array({type});
    } else {
      property.update(type);
    }
    return property;
  }

  template <typename T>
  static Json Integer() {
    return Json{{"type", "integer"},
                {"minimum", std::numeric_limits<T>::min()},
                {"maximum", std::numeric_limits<T>::max()}};
  }

  Json Type(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32: return Integer<int32_t>();
      case FieldDescriptor::CPPTYPE_INT64: return Integer<int64_t>();
      case FieldDescriptor::CPPTYPE_UINT32: return Integer<uint32_t>();
      case FieldDescriptor::CPPTYPE_UINT64: return Integer<uint64_t>();
      case FieldDescriptor::CPPTYPE_DOUBLE:
      case FieldDescriptor::CPPTYPE_FLOAT: return Json{{"type", "number"}};
      case FieldDescriptor::CPPTYPE_BOOL: return Json{{"type", "boolean"}};
      case FieldDescriptor::CPPTYPE_ENUM: return Enum(*field.enum_type());
      case FieldDescriptor::CPPTYPE_STRING:
        return field.type() == FieldDescriptor::TYPE_BYTES
                   ? Json{{"type", "string"}, {"contentEncoding", "base64"}}
                   : Json{{"type", "string"}};
      case FieldDescriptor::CPPTYPE_MESSAGE: break;
    }
    const Descriptor* message = field.message_type();
    if (message == google::protobuf::Duration::descriptor())
      return Json{{"$ref", StrCat(kReference, kDuration)}};
    if (message == google::protobuf::Timestamp::descriptor())
      return Json{{"$ref", StrCat(kReference, kTimestamp)}};
    wanted_.insert(message);
    return Json{{"$ref", StrCat(kReference, NameOf(*message))}};
  }

  // The value 0 is how a field is left out.
  Json Enum(const EnumDescriptor& type) const {
    Json values = Json::array();
    Json comments = Json::array();
    for (int i = 0; i < type.value_count(); ++i) {
      if (type.value(i)->number() == 0) continue;
      values.push_back(type.value(i)->name());
      const EnumDescriptor* commented = commented_.FindEnumTypeByName(type.full_name());
      comments.push_back(
          Comment(commented == nullptr ? nullptr : commented->FindValueByNumber(type.value(i)->number())));
    }
    return Json{{"type", "string"}, {"enum", std::move(values)}, {"enumDescriptions", std::move(comments)}};
  }

  DescriptorPool commented_;
  std::set<const Descriptor*, ByName> wanted_;
};

}  // namespace

std::string JobSchema() { return SchemaMaker().Make().dump(2) + "\n"; }

}  // namespace drover::cli
