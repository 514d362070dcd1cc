#include "services/controller/api/supported_fields.h"

#include <gmock/gmock.h>
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "common/strings/strings.h"
#include "drover/v1/job_service.pb.h"
#include "google/api/field_behavior.pb.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A way from CreateJobRequest down to one field.
using FieldPath = std::vector<const FieldDescriptor*>;

std::string PathName(const FieldPath& path) {
  std::string name;
  for (const FieldDescriptor* field : path) StrAppend(&name, name.empty() ? "" : ".", field->name());
  return name;
}

// Every field beneath `type`, messages before what they hold.
void Walk(const Descriptor& type, FieldPath& path, const std::function<void(const FieldPath&)>& visit) {
  for (int i = 0; i < type.field_count(); ++i) {
    path.push_back(type.field(i));
    visit(path);
    if (type.field(i)->message_type() != nullptr && !type.field(i)->is_map()) {
      Walk(*type.field(i)->message_type(), path, visit);
    }
    path.pop_back();
  }
}

std::vector<FieldPath> AllPaths() {
  std::vector<FieldPath> paths;
  FieldPath path;
  Walk(*v1::CreateJobRequest::descriptor(), path, [&](const FieldPath& at) { paths.push_back(at); });
  return paths;
}

// Sets one field to something that is not its default; of an enum the value with `enum_index`.
void SetField(Message& message, const FieldDescriptor& field, int enum_index) {
  const auto& r = *message.GetReflection();
  const bool many = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      Message& child = many ? *r.AddMessage(&message, &field) : *r.MutableMessage(&message, &field);
      if (field.is_map()) {
        SetField(child, *field.message_type()->map_key(), 0);
        SetField(child, *field.message_type()->map_value(), 0);
      }
      return;
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field.enum_type()->value(enum_index);
      return many ? r.AddEnum(&message, &field, value) : r.SetEnum(&message, &field, value);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return many ? r.AddString(&message, &field, "x") : r.SetString(&message, &field, "x");
    case FieldDescriptor::CPPTYPE_INT32:
      return many ? r.AddInt32(&message, &field, 7) : r.SetInt32(&message, &field, 7);
    case FieldDescriptor::CPPTYPE_INT64:
      return many ? r.AddInt64(&message, &field, 7) : r.SetInt64(&message, &field, 7);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return many ? r.AddDouble(&message, &field, 0.25) : r.SetDouble(&message, &field, 0.25);
    case FieldDescriptor::CPPTYPE_BOOL:
      return many ? r.AddBool(&message, &field, true) : r.SetBool(&message, &field, true);
    default: FAIL() << "a type that this test does not know: " << field.full_name();
  }
}

// A request in which only this field is set, and the messages above it.
v1::CreateJobRequest RequestWith(const FieldPath& path, int enum_index = 0) {
  v1::CreateJobRequest request;
  Message* at = &request;
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    const auto& r = *at->GetReflection();
    at = path[i]->is_repeated() ? r.AddMessage(at, path[i]) : r.MutableMessage(at, path[i]);
  }
  SetField(*at, *path.back(), enum_index);
  return request;
}

bool IsOutputOnly(const FieldPath& path) {
  for (const FieldDescriptor* field : path) {
    const auto& options = field->options();
    for (int i = 0; i < options.ExtensionSize(google::api::field_behavior); ++i) {
      if (options.GetExtension(google::api::field_behavior, i) == google::api::OUTPUT_ONLY) return true;
    }
  }
  return false;
}

const SupportedField* Listed(const std::string& path) {
  for (const SupportedField& field : SupportedCreateJobFields()) {
    if (path == field.path || StartsWith(path, StrCat(field.path, "."))) return &field;
  }
  return nullptr;
}

bool LeadsToListed(const std::string& path) {
  for (const SupportedField& field : SupportedCreateJobFields()) {
    if (StartsWith(field.path, path + ".")) return true;
  }
  return false;
}

TEST(SupportedFields, EveryFieldIsEitherOnTheListOrRefusedByItsPath) {
  int carried_out = 0;
  int refused = 0;
  for (const FieldPath& path : AllPaths()) {
    if (IsOutputOnly(path)) continue;
    const std::string name = PathName(path);
    SCOPED_TRACE(name);
    const FieldDescriptor& field = *path.back();
    const SupportedField* listed = Listed(name);
    const int last_value = field.enum_type() == nullptr ? 1 : field.enum_type()->value_count() - 1;
    for (int value = 1; value <= last_value; ++value) {
      const absl::Status status = CheckCreateJobFields(RequestWith(path, value));
      bool expected = listed != nullptr || LeadsToListed(name);
      if (listed != nullptr && !listed->values.empty()) {
        const std::string& value_name = field.enum_type()->value(value)->name();
        expected = std::count(listed->values.begin(), listed->values.end(), value_name) == 1;
      }
      if (expected) {
        EXPECT_TRUE(status.ok()) << status;
        ++carried_out;
      } else {
        EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
        EXPECT_EQ(ReasonOf(status), "FIELD_NOT_SUPPORTED");
        EXPECT_THAT(FieldPaths(status), Contains(name));
        ++refused;
      }
    }
  }
  // The walk has met the whole API, not a corner of it.
  EXPECT_GT(carried_out, 40);
  EXPECT_GT(refused, 50);
}

TEST(SupportedFields, TheListNamesOnlyFieldsAndValuesThatExist) {
  std::set<std::string> names;
  for (const FieldPath& path : AllPaths()) {
    names.insert(PathName(path));
    const SupportedField* listed = Listed(PathName(path));
    if (listed == nullptr || listed->values.empty()) continue;
    for (const std::string_view value : listed->values) {
      EXPECT_NE(path.back()->enum_type()->FindValueByName(std::string(value)), nullptr)
          << listed->path << " " << value;
    }
  }
  for (const SupportedField& field : SupportedCreateJobFields()) {
    EXPECT_EQ(names.count(std::string(field.path)), 1u) << field.path;
  }
}

TEST(SupportedFields, EveryOutputOnlyFieldIsRefusedByItsPath) {
  int seen = 0;
  for (const FieldPath& path : AllPaths()) {
    // Those beneath an output-only message are refused by the message.
    if (!IsOutputOnly(path) || IsOutputOnly(FieldPath(path.begin(), path.end() - 1))) continue;
    const absl::Status status = CheckCreateJobFields(RequestWith(path, 1));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(ReasonOf(status), "OUTPUT_ONLY_FIELD");
    EXPECT_THAT(FieldPaths(status), ElementsAre(PathName(path)));
    ++seen;
  }
  EXPECT_GE(seen, 14);
}

TEST(SupportedFields, ACompleteRequestPasses) { EXPECT_TRUE(CheckCreateJobFields(GoodRequest()).ok()); }

TEST(SupportedFields, UnknownFieldsAreRefusedInEveryMessageOfTheRequest) {
  for (const FieldPath& path : AllPaths()) {
    if (path.back()->message_type() == nullptr || path.back()->is_map()) continue;
    SCOPED_TRACE(PathName(path));
    v1::CreateJobRequest request = RequestWith(path);
    Message* at = &request;
    std::string name;
    for (const FieldDescriptor* field : path) {
      const auto& r = *at->GetReflection();
      at = field->is_repeated() ? r.MutableRepeatedMessage(at, field, 0) : r.MutableMessage(at, field);
      StrAppend(&name, name.empty() ? "" : ".", field->name(), field->is_repeated() ? "[0]" : "");
    }
    at->GetReflection()->MutableUnknownFields(at)->AddVarint(4711, 1);
    const absl::Status status = CheckCreateJobFields(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(ReasonOf(status), "UNKNOWN_FIELD");
    EXPECT_THAT(FieldPaths(status), ElementsAre(name + ".#4711"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    EXPECT_THAT(std::string(status.message()), HasSubstr("4711"));
  }
}

TEST(SupportedFields, AnUnknownFieldOfTheRequestItselfIsRefused) {
  v1::CreateJobRequest request = GoodRequest();
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(99, "x");
  EXPECT_THAT(FieldPaths(CheckCreateJobFields(request)), ElementsAre("#99"));
  v1::CancelJobRequest cancel;
  cancel.GetReflection()->MutableUnknownFields(&cancel)->AddFixed32(9, 1);
  EXPECT_EQ(ReasonOf(CheckNoUnknownFields(cancel)), "UNKNOWN_FIELD");
}

TEST(SupportedFields, UnknownFieldsSurviveTheWireAndAreRefused) {
  // A client of a later release: field 900 of Job.
  std::string bytes = GoodRequest().SerializeAsString();
  v1::CreateJobRequest extra;
  extra.mutable_job()->GetReflection()->MutableUnknownFields(extra.mutable_job())->AddVarint(900, 1);
  bytes += extra.SerializeAsString();
  v1::CreateJobRequest request;
  ASSERT_TRUE(request.ParseFromString(bytes));
  EXPECT_THAT(FieldPaths(CheckCreateJobFields(request)), ElementsAre("job.#900"));
}

TEST(SupportedFields, UnknownEnumValuesAreRefused) {
  v1::CreateJobRequest request = GoodRequest();
  request.mutable_job()->mutable_report()->set_scope(static_cast<v1::ReportRequest::Scope>(55));
  request.mutable_job()->mutable_manifest()->mutable_csv()->add_fields(v1::MANIFEST_FIELD_BUCKET);
  request.mutable_job()->mutable_manifest()->mutable_csv()->add_fields(static_cast<v1::ManifestField>(77));
  const absl::Status status = CheckCreateJobFields(request);
  EXPECT_EQ(ReasonOf(status), "UNKNOWN_FIELD");
  EXPECT_THAT(FieldPaths(status), ElementsAre("job.manifest.csv.fields[1]", "job.report.scope"));
}

TEST(SupportedFields, AHostileRequestMakesABoundedError) {
  v1::CreateJobRequest request = GoodRequest();
  auto* unknown = request.GetReflection()->MutableUnknownFields(&request);
  for (int i = 0; i < 100000; ++i) unknown->AddVarint(1000 + i, 1);
  EXPECT_LE(FieldPaths(CheckCreateJobFields(request)).size(), 50u);
}

}  // namespace
}  // namespace drover
