#include "cli/job_file.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "common/strings/strings.h"

namespace drover::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<JobDocument> Read(const std::string& text) {
  auto documents = ReadJobFile("f", text);
  EXPECT_TRUE(documents.ok()) << documents.status();
  return documents.ok() ? *std::move(documents) : std::vector<JobDocument>(1);
}

// What is wrong with a document that consists of this text.
std::string Wrong(const std::string& text) {
  const auto documents = ReadJobFile("f", text);
  EXPECT_EQ(documents.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(documents.status().message());
}

v1::Job JobOf(const std::string& text) {
  v1::Job job;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &job)) << text;
  return job;
}

void ExpectSame(const Message& expected, const Message& actual) {
  std::string difference;
  MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(expected, actual)) << difference;
}

constexpr char kYaml[] = R"(# tags three photos
request_id: tag-1
operation:
  store: main
  put_object_tagging:
    tags:
      - {key: project, value: 1.10}
      - key: year
        value: 2026
manifest:
  csv:
    location: {store: files, bucket: manifests, key: three.csv}
    fields: [MANIFEST_FIELD_BUCKET, MANIFEST_FIELD_KEY]
priority: 10
confirmation_required: true
failure_policy: {failed_fraction: 1e-2, minimum_executed: "9007199254740993", action: PAUSE}
retry_policy: {initial_backoff: 20ms, max_backoff: 1m30s, unavailable_timeout: 0.5s}
labels:
  yes: no
  on: off
schedule_policy: {start_after: 2026-02-03T04:05:06Z}
)";

constexpr char kText[] = R"(
  operation { store: "main" put_object_tagging { tags { key: "project" value: "1.10" }
                                                 tags { key: "year" value: "2026" } } }
  manifest { csv { location { store: "files" bucket: "manifests" key: "three.csv" }
                   fields: MANIFEST_FIELD_BUCKET fields: MANIFEST_FIELD_KEY } }
  priority: 10 confirmation_required: true
  failure_policy { failed_fraction: 0.01 minimum_executed: 9007199254740993 action: PAUSE }
  retry_policy { initial_backoff { nanos: 20000000 } max_backoff { seconds: 90 }
                 unavailable_timeout { nanos: 500000000 } }
  labels { key: "yes" value: "no" } labels { key: "on" value: "off" }
  schedule_policy { start_after { seconds: 1770091506 } })";

TEST(JobFileTest, ValuesMeanWhatTheirFieldsAreFor) {
  const auto documents = Read(kYaml);
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].request_id, "tag-1");
  ExpectSame(JobOf(kText), documents[0].job);
}

TEST(JobFileTest, JsonWithItsOwnNamesIsAJobFileToo) {
  const auto documents = Read(
      R"({"operation": {"store": "main", "copyObject": {"targetBucket": "b\u00e4\/x", "legalHold": true}},
          "retryPolicy": {"maxAttempts": 3}, "requestId": "r"})");
  EXPECT_EQ(documents[0].request_id, "r");
  ExpectSame(JobOf("operation { store: 'main' copy_object { target_bucket: 'b\u00e4/x' legal_hold: true } } "
                   "retry_policy { max_attempts: 3 }"),
             documents[0].job);
}

TEST(JobFileTest, SeveralDocumentsKeepTheirOrder) {
  const auto documents = Read("description: a\n---\n---\n# nothing\n---\ndescription: b\n...\n");
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].job.description(), "a");
  EXPECT_EQ(documents[1].job.description(), "b");
  EXPECT_EQ(documents[1].place.line, 6);
}

TEST(JobFileTest, EveryMistakeOfAllDocumentsIsNamedAtOnce) {
  EXPECT_EQ(Wrong("operatoin: {}\npriority: 5x\n---\nlabels: [a]\n"),
            "f:1:1: there is no field \"operatoin\"; did you mean operation?\n"
            "f:2:11: priority: must be a whole number, -2147483648 to 2147483647, not \"5x\"\n"
            "f:4:9: labels: must be a mapping of names, each with its value");
  std::string many;
  for (int i = 0; i < 100; ++i) StrAppend(&many, "x", i, ": 1\n");
  EXPECT_THAT(Wrong(many), AllOf(HasSubstr("f:20:1"), Not(HasSubstr("f:21:1")), HasSubstr("… and 80 more")));
}

TEST(JobFileTest, MistakesSayWhatToDo) {
  EXPECT_THAT(Wrong(""), HasSubstr("holds no job"));
  EXPECT_THAT(Wrong("- a"), HasSubstr("f:1:1: must be a mapping"));
  EXPECT_THAT(Wrong("state: NEW"), HasSubstr("f:1:1: state: is set by the service; leave it out"));
  EXPECT_THAT(Wrong("jobId: x"), HasSubstr("job_id: is set by the service"));
  EXPECT_THAT(Wrong("priority: 1\npriority: 2"),
              HasSubstr("f:2:1: priority: is there twice; first in line 1"));
  EXPECT_THAT(Wrong("retry_policy: {}\nretryPolicy: {}"), HasSubstr("is there twice; first in line 1"));
  EXPECT_THAT(Wrong("labels: {a: x, a: y}"), HasSubstr("labels.a: is there twice"));
  EXPECT_THAT(Wrong("operation: {no_op: {}, head_object: {}}"),
              HasSubstr("operation.head_object: can't stand beside no_op of line 1"));
  EXPECT_THAT(Wrong("operation:\n  no_op:\n"), HasSubstr("operation.no_op: has no value; write {}"));
  EXPECT_THAT(Wrong("description:\n"), HasSubstr("description: has no value"));
  EXPECT_THAT(Wrong("description: [a]"), HasSubstr("must be a single value"));
  EXPECT_THAT(Wrong("confirmation_required: yes"), HasSubstr("must be true or false, not \"yes\""));
  EXPECT_THAT(Wrong("report: {scope: all_tasks}"), HasSubstr("did you mean ALL_TASKS?"));
  EXPECT_THAT(Wrong("report: {scope: SCOPE}"), HasSubstr("there are ALL_TASKS, FAILED_TASKS_ONLY"));
  EXPECT_THAT(Wrong("manifest: {csv: {fields: KEY}}"), HasSubstr("must be a list"));
  EXPECT_THAT(Wrong("priority: 2147483648"), HasSubstr("must be a whole number"));
  EXPECT_THAT(Wrong("priority: 1.0"), HasSubstr("must be a whole number"));
  EXPECT_THAT(Wrong("priority: ' 1'"), HasSubstr("must be a whole number"));
  EXPECT_THAT(Wrong("failure_policy: {failed_fraction: nan}"), HasSubstr("must be a number"));
  EXPECT_THAT(Wrong("failure_policy: {failed_fraction: 1e999}"), HasSubstr("must be a number"));
  EXPECT_THAT(Wrong("retry_policy: {max_backoff: inf}"), HasSubstr("must be a duration like"));
  EXPECT_THAT(Wrong("retry_policy: {max_backoff: 5}"), HasSubstr("must be a duration like"));
  EXPECT_THAT(Wrong("schedule_policy: {deadline: infinite-future}"), HasSubstr("must be a time like"));
  EXPECT_THAT(Wrong("schedule_policy: {deadline: 2026-02-30T00:00:00Z}"), HasSubstr("must be a time like"));
  EXPECT_THAT(Wrong("operation: {custom: {parameters: '%%'}}"), HasSubstr("must be base64"));
  EXPECT_THAT(Wrong("request_id: ''"), HasSubstr("must be 1 to 64 characters"));
  EXPECT_THAT(Wrong("request_id: a\nrequestId: b"), HasSubstr("is there twice"));
  EXPECT_THAT(Wrong("request_id: a\n---\nrequest_id: a"), HasSubstr("each job needs its own"));
}

TEST(JobFileTest, NoControlCharacterOfTheFileReachesTheTerminal) {
  EXPECT_THAT(Wrong("\"\\e[31m\": 1"), Not(HasSubstr("\x1b")));
  EXPECT_THAT(Wrong("priority: \"\\e[31m\""), Not(HasSubstr("\x1b")));
}

TEST(JobFileTest, FieldsThatTheServerNamesAreFoundInTheFile) {
  const auto documents = Read(kYaml);
  EXPECT_EQ(PlaceOf("f", documents[0], "job.operation.store"), "f:4:10");
  EXPECT_EQ(PlaceOf("f", documents[0], "job.operation.put_object_tagging.tags[1].value"), "f:9:16");
  EXPECT_EQ(PlaceOf("f", documents[0], "job.labels.on"), "f:20:7");
  EXPECT_EQ(PlaceOf("f", documents[0], "job.manifest.csv.etag"), "f:12:5");  // not there: the manifest's
  EXPECT_EQ(PlaceOf("f", documents[0], "request_id"), "f:2:1");
}

// ------------------------------------------------------------------------------------------------
// assignments

std::string AssignError(const std::string& assignment) {
  v1::Job job = JobOf(kText);
  const absl::Status status = Assign(assignment, job);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << assignment;
  return std::string(status.message());
}

TEST(AssignTest, ReachesEveryKindOfField) {
  v1::Job job = JobOf(kText);
  for (const char* assignment :
       {"operation.store=a=b", "operation.putObjectTagging.tags[0].value=: x", "priority=3",
        "operation.put_object_tagging.tags[2]={key: new}", "operation.put_object_tagging.tags[1]={key: k}",
        "labels.yes=true", "labels.example.com/team=blue", "report.scope=ALL_TASKS",
        "description=", "retry_policy.max_backoff=2s", "manifest.csv.fields=[MANIFEST_FIELD_KEY]",
        "manifest.csv.fields[1]=MANIFEST_FIELD_BUCKET", "failure_policy={}"}) {
    EXPECT_TRUE(Assign(assignment, job).ok()) << Assign(assignment, job);
  }
  ExpectSame(JobOf(R"(
      operation { store: "a=b" put_object_tagging { tags { key: "project" value: ": x" } tags { key: "k" }
                                                    tags { key: "new" } } }
      manifest { csv { location { store: "files" bucket: "manifests" key: "three.csv" }
                       fields: MANIFEST_FIELD_KEY fields: MANIFEST_FIELD_BUCKET } }
      report { scope: ALL_TASKS }
      priority: 3 confirmation_required: true failure_policy {}
      retry_policy { initial_backoff { nanos: 20000000 } max_backoff { seconds: 2 }
                     unavailable_timeout { nanos: 500000000 } }
      labels { key: "yes" value: "true" } labels { key: "on" value: "off" }
      labels { key: "example.com/team" value: "blue" }
      schedule_policy { start_after { seconds: 1770091506 } })"),
             JobOf(job.DebugString()));
}

TEST(AssignTest, AnotherKindTakesThePlaceOfTheOneThereWas) {
  v1::Job job = JobOf(kText);
  ASSERT_TRUE(Assign("operation.no_op={duration: 1s}", job).ok());
  EXPECT_EQ(job.operation().no_op().duration().seconds(), 1);
  EXPECT_FALSE(job.operation().has_put_object_tagging());
}

TEST(AssignTest, MistakesSayWhatToDo) {
  EXPECT_THAT(AssignError("priority"), HasSubstr("--set priority: must be path=value"));
  EXPECT_THAT(AssignError("=x"), HasSubstr("must be path=value"));
  EXPECT_THAT(AssignError("operation.stroe=x"), HasSubstr("did you mean store?"));
  EXPECT_THAT(AssignError("state=NEW"), HasSubstr("is set by the service"));
  EXPECT_THAT(AssignError("priority=x"), HasSubstr("must be a whole number"));
  EXPECT_THAT(AssignError("priority.x=1"), HasSubstr("priority has no fields"));
  EXPECT_THAT(AssignError("priority[0]=1"), HasSubstr("is no list"));
  EXPECT_THAT(AssignError("labels[0]=1"), HasSubstr("is no list"));
  EXPECT_THAT(AssignError("operation.put_object_tagging.tags.key=x"),
              HasSubstr("name an element, as in tags[0]"));
  EXPECT_THAT(AssignError("operation.put_object_tagging.tags[3].key=x"),
              HasSubstr("tags has 2 elements; the next one is [2]"));
  EXPECT_THAT(AssignError("operation.put_object_tagging.tags[x].key=x"), HasSubstr("a number in brackets"));
  EXPECT_THAT(AssignError("operation.put_object_tagging.tags[0]key=x"), HasSubstr("separated by dots"));
  EXPECT_THAT(AssignError("operation.no_op="), HasSubstr("write {} or []"));
  EXPECT_THAT(AssignError("operation.no_op={duration: 1s"), HasSubstr("value:1:"));
  EXPECT_THAT(AssignError("operation..store=x"), HasSubstr("there is no field \"\""));
  EXPECT_THAT(AssignError("report.scope=SOME"), HasSubstr("there is no value \"SOME\""));
}

// -------------------------------------------------------------------------------------------------- round
// trip

// Fills a message with values of a seed, among them odd ones.
class Filler {
 public:
  explicit Filler(uint32_t seed) : random_(seed) {}

  void Fill(Message& message, int depth) {
    const auto& descriptor = *message.GetDescriptor();
    if (descriptor.full_name() == "google.protobuf.Duration" ||
        descriptor.full_name() == "google.protobuf.Timestamp") {
      message.GetReflection()->SetInt64(&message, descriptor.FindFieldByName("seconds"), Pick(2'000'000'000));
      message.GetReflection()->SetInt32(&message, descriptor.FindFieldByName("nanos"), Pick(1'000'000'000));
      return;
    }
    for (int i = 0; i < descriptor.field_count(); ++i) {
      const FieldDescriptor& field = *descriptor.field(i);
      if (Pick(3) == 0 || IsOutputOnly(field)) continue;
      const int count = field.is_repeated() ? Pick(3) : 1;
      for (int j = 0; j < count; ++j) Field(message, field, depth);
    }
  }

 private:
  int Pick(int bound) { return static_cast<int>(random_() % static_cast<uint32_t>(bound)); }

  std::string Text() {
    static const char* const kTexts[] = {"",     "a",   "null", "yes",           "0", "1.5",
                                         "a: b", "- x", "\n",   "\u00e4 \u2028", "#", "\"'\\"};
    return kTexts[Pick(12)];
  }

  void Field(Message& message, const FieldDescriptor& field, int depth) {
    const auto& set = *message.GetReflection();
    const bool add = field.is_repeated();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        add ? set.AddInt32(&message, &field, Pick(100) - 50) : set.SetInt32(&message, &field, Pick(100) - 50);
        break;
      case FieldDescriptor::CPPTYPE_INT64: {
        const auto value = static_cast<int64_t>(uint64_t{random_()} << 32 | random_());
        add ? set.AddInt64(&message, &field, value) : set.SetInt64(&message, &field, value);
        break;
      }
      case FieldDescriptor::CPPTYPE_DOUBLE:
        set.SetDouble(&message, &field, static_cast<double>(random_()) / 3e7);
        break;
      case FieldDescriptor::CPPTYPE_BOOL: set.SetBool(&message, &field, Pick(2) == 1); break;
      case FieldDescriptor::CPPTYPE_STRING:
        add ? set.AddString(&message, &field, Text()) : set.SetString(&message, &field, Text());
        break;
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* value = field.enum_type()->value(Pick(field.enum_type()->value_count()));
        add ? set.AddEnum(&message, &field, value) : set.SetEnum(&message, &field, value);
        break;
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (field.is_map()) {
          Message& entry = *set.AddMessage(&message, &field);
          const auto& text = *entry.GetReflection();
          // Keys of their own: two of one name would be one entry.
          text.SetString(&entry, field.message_type()->map_key(),
                         StrCat(Text(), set.FieldSize(message, &field)));
          text.SetString(&entry, field.message_type()->map_value(), Text());
        } else if (depth < 6) {
          Fill(add ? *set.AddMessage(&message, &field) : *set.MutableMessage(&message, &field), depth + 1);
        }
        break;
      default: FAIL() << field.full_name() << " has a type that no field of a job had so far";
    }
  }

  std::mt19937 random_;
};

TEST(JobFileTest, WhatIsWrittenIsReadBackTheSame) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    v1::Job job;
    Filler(seed).Fill(job, 0);
    v1::Job with_output = job;
    with_output.set_job_id("0194");
    with_output.set_state(v1::COMPLETE);
    with_output.mutable_progress()->set_total_tasks(5);
    const std::string text = WriteJobFile(with_output);
    if (ToYaml(job, false) == "{}\n") continue;
    const auto documents = ReadJobFile("f", text);
    ASSERT_TRUE(documents.ok()) << documents.status() << "\nseed " << seed << "\n" << text;
    std::string difference;
    MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&difference);
    ASSERT_TRUE(differencer.Compare(job, documents->front().job)) << "seed " << seed << "\n"
                                                                  << difference << text;
  }
}

}  // namespace
}  // namespace drover::cli
