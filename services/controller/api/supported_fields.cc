#include "services/controller/api/supported_fields.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "google/api/field_behavior.pb.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/unknown_field_set.h"

namespace drover {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::UnknownFieldSet;

constexpr SupportedField kSupported[] = {
    {"request_id"},
    {"validate_only"},
    {"job.operation.store"},
    {"job.operation.no_op.duration"},
    {"job.operation.no_op.failure_fraction"},
    {"job.operation.put_object_tagging.tags"},
    {"job.operation.delete_object_tagging"},
    {"job.operation.change_object_tagging.add"},
    {"job.operation.change_object_tagging.remove_keys"},
    {"job.operation.delete_object.bypass_governance_retention"},
    {"job.operation.undelete_object"},
    {"job.operation.head_object"},
    {"job.operation.copy_object.target_bucket"},
    {"job.operation.copy_object.target_key_prefix"},
    {"job.operation.copy_object.target_store"},
    {"job.operation.copy_object.metadata_directive"},
    {"job.operation.copy_object.new_metadata"},
    {"job.operation.copy_object.tagging_directive"},
    {"job.operation.copy_object.new_tags"},
    {"job.operation.copy_object.storage_class"},
    {"job.operation.copy_object.canned_acl"},
    {"job.operation.copy_object.acl_grants"},
    {"job.operation.copy_object.encryption"},
    {"job.operation.copy_object.modified_since"},
    {"job.operation.copy_object.unmodified_since"},
    {"job.operation.copy_object.requester_pays"},
    {"job.operation.copy_object.checksum_algorithm"},
    {"job.manifest.csv.location"},
    {"job.manifest.csv.etag"},
    {"job.manifest.csv.fields"},
    {"job.manifest.csv.sha256"},
    {"job.manifest.csv.compression"},
    {"job.manifest.inline.objects"},
    {"job.report"},
    {"job.priority"},
    {"job.description"},
    {"job.confirmation_required"},
    {"job.skip_confirmation"},
    {"job.failure_policy"},
    {"job.retry_policy"},
};

// Most fields that an error names; the rest of a hostile request only costs time.
constexpr size_t kMaxNamed = 50;

// Whether `path` is `ancestor` or lies beneath it.
bool IsBeneath(std::string_view path, std::string_view ancestor) {
  return path.starts_with(ancestor) && (path.size() == ancestor.size() || path[ancestor.size()] == '.');
}

const SupportedField* FindListed(std::string_view path) {
  for (const SupportedField& field : kSupported) {
    if (IsBeneath(path, field.path)) return &field;
  }
  return nullptr;
}

bool IsOutputOnly(const FieldDescriptor& field) {
  const auto& options = field.options();
  for (int i = 0; i < options.ExtensionSize(google::api::field_behavior); ++i) {
    if (options.GetExtension(google::api::field_behavior, i) == google::api::OUTPUT_ONLY) return true;
  }
  return false;
}

std::string Join(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : StrCat(path, ".", name);
}

// Collects fields with what is wrong with them, each path once.
class Violations {
 public:
  void Add(std::string_view path, std::string_view description) {
    if (seen_.size() >= kMaxNamed || !seen_.emplace(path).second) return;
    errors_.Add(path, description);
  }
  bool empty() const { return errors_.empty(); }
  const FieldErrors& errors() const { return errors_; }

 private:
  std::set<std::string> seen_;
  FieldErrors errors_;
};

// Calls visit(value, index) for each enum number of a set field.
void ForEachEnum(const Message& message, const FieldDescriptor& field,
                 const std::function<void(int, int)>& visit) {
  const Reflection& reflection = *message.GetReflection();
  if (!field.is_repeated()) return visit(reflection.GetEnumValue(message, &field), -1);
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    visit(reflection.GetRepeatedEnumValue(message, &field, i), i);
  }
}

// Calls visit(child, index) for each message in a set field; index -1 for a single one.
void ForEachChild(const Message& message, const FieldDescriptor& field,
                  const std::function<void(const Message&, int)>& visit) {
  const Reflection& reflection = *message.GetReflection();
  if (!field.is_repeated()) return visit(reflection.GetMessage(message, &field), -1);
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    visit(reflection.GetRepeatedMessage(message, &field, i), i);
  }
}

std::string Indexed(std::string_view path, int index) {
  return index < 0 ? std::string(path) : StrCat(path, "[", index, "]");
}

void FindUnknown(const Message& message, const std::string& path, Violations& out) {
  const UnknownFieldSet& unknown = message.GetReflection()->GetUnknownFields(message);
  for (int i = 0; i < unknown.field_count(); ++i) {
    const std::string where = path.empty() ? "the request" : path;
    out.Add(
        path.empty() ? StrCat("#", unknown.field(i).number()) : StrCat(path, ".#", unknown.field(i).number()),
        StrCat(where, " has a field number ", unknown.field(i).number(), ", which this release's ",
               message.GetDescriptor()->full_name(), " does not have; leave it out"));
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string child_path = Join(path, field->name());
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      ForEachEnum(message, *field, [&](int value, int index) {
        if (field->enum_type()->FindValueByNumber(value) == nullptr) {
          out.Add(Indexed(child_path, index),
                  StrCat("this release knows no value ", value, " of ", field->enum_type()->full_name()));
        }
      });
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ForEachChild(message, *field, [&](const Message& child, int index) {
        FindUnknown(child, Indexed(child_path, index), out);
      });
    }
  }
}

void FindOutputOnly(const Message& message, const std::string& path, Violations& out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string child_path = Join(path, field->name());
    if (IsOutputOnly(*field)) {
      out.Add(child_path, "is set by the service only; leave it out");
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ForEachChild(message, *field,
                   [&](const Message& child, int) { FindOutputOnly(child, child_path, out); });
    }
  }
}

void CheckEnumValues(const Message& message, const FieldDescriptor& field, const SupportedField& listed,
                     const std::string& path, Violations& out) {
  ForEachEnum(message, field, [&](int number, int) {
    const EnumValueDescriptor* value = field.enum_type()->FindValueByNumber(number);
    if (number == 0 || value == nullptr) return;  // unknown ones are named by FindUnknown
    if (std::find(listed.values.begin(), listed.values.end(), value->name()) != listed.values.end()) return;
    out.Add(path, StrCat("the value ", value->name(), " is not carried out by this release"));
  });
}

void FindUnsupported(const Message& message, const std::string& path, Violations& out) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string child_path = Join(path, field->name());
    if (const SupportedField* listed = FindListed(child_path)) {
      if (!listed->values.empty()) CheckEnumValues(message, *field, *listed, child_path, out);
      continue;
    }
    if (!IsSupportedCreateJobField(child_path))
      out.Add(child_path, "is not carried out by this release; leave it out");
    // Beneath a field that is not carried out, each field set is named as well: `delete_object`, and what it
    // has.
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_map()) {
      ForEachChild(message, *field,
                   [&](const Message& child, int) { FindUnsupported(child, child_path, out); });
    }
  }
}

}  // namespace

std::span<const SupportedField> SupportedCreateJobFields() { return kSupported; }

bool IsSupportedCreateJobField(std::string_view path) {
  return FindListed(path) != nullptr ||
         std::any_of(std::begin(kSupported), std::end(kSupported),
                     [&](const SupportedField& f) { return IsBeneath(f.path, path); });
}

absl::Status CheckNoUnknownFields(const Message& request) {
  Violations unknown;
  FindUnknown(request, "", unknown);
  if (unknown.empty()) return absl::OkStatus();
  return unknown.errors().ToStatus(absl::StatusCode::kInvalidArgument, "UNKNOWN_FIELD");
}

absl::Status CheckCreateJobFields(const Message& request) {
  DROVER_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  Violations output_only;
  FindOutputOnly(request, "", output_only);
  if (!output_only.empty()) {
    return output_only.errors().ToStatus(absl::StatusCode::kInvalidArgument, "OUTPUT_ONLY_FIELD");
  }
  Violations unsupported;
  FindUnsupported(request, "", unsupported);
  if (!unsupported.empty()) {
    return unsupported.errors().ToStatus(absl::StatusCode::kUnimplemented, "FIELD_NOT_SUPPORTED");
  }
  return absl::OkStatus();
}

}  // namespace drover
