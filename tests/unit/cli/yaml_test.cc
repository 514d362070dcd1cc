#include "cli/yaml.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>

#include "common/strings/strings.h"
#include "drover/v1/job.pb.h"

namespace drover::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<YamlNode> Parse(const std::string& text) {
  auto documents = ParseYaml("f", text);
  EXPECT_TRUE(documents.ok()) << documents.status();
  return documents.ok() ? *std::move(documents) : std::vector<YamlNode>();
}

std::string Error(const std::string& text) {
  const auto documents = ParseYaml("f", text);
  EXPECT_EQ(documents.status().code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 100);
  return std::string(documents.status().message());
}

std::string Repeated(std::string_view part, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part;
  return text;
}

TEST(ParseYamlTest, KnowsWhereEachValueStands) {
  const auto documents = Parse("a: 1\nb:\n  - x\n  - {c: 'd'}\n---\n# nothing here\n---\n[e]\n");
  ASSERT_EQ(documents.size(), 2u);
  const YamlNode& root = documents[0];
  ASSERT_EQ(root.kind, YamlNode::Kind::kMapping);
  ASSERT_EQ(root.fields.size(), 2u);
  EXPECT_EQ(root.fields[0].key.text, "a");
  EXPECT_EQ(root.fields[0].value.text, "1");
  EXPECT_EQ(root.fields[0].value.place.column, 4);
  const YamlNode& list = root.fields[1].value;
  ASSERT_EQ(list.items.size(), 2u);
  EXPECT_EQ(list.items[1].fields[0].value.text, "d");
  EXPECT_EQ(list.items[1].fields[0].value.place.line, 4);
  EXPECT_EQ(list.items[1].fields[0].value.place.column, 9);
  EXPECT_EQ(documents[1].place.line, 8);
}

TEST(ParseYamlTest, NothingAndNullAreNullUnlessQuoted) {
  const auto documents = Parse("a:\nb: ~\nc: null\nd: 'null'\ne: ''\n");
  ASSERT_EQ(documents.size(), 1u);
  std::vector<YamlNode::Kind> kinds;
  for (const auto& [key, value] : documents[0].fields) kinds.push_back(value.kind);
  using enum YamlNode::Kind;
  EXPECT_THAT(kinds, testing::ElementsAre(kNull, kNull, kNull, kScalar, kScalar));
}

TEST(ParseYamlTest, RepeatedKeysAreKeptForTheReaderToRefuse) {
  EXPECT_EQ(Parse("a: 1\na: 2\n")[0].fields.size(), 2u);
}

TEST(ParseYamlTest, WhatAFileHasNoUseForIsRefusedWithItsPlace) {
  EXPECT_EQ(Error("a: &x 1\n").substr(0, 7), "f:1:4: ");
  EXPECT_THAT(Error("a: &x 1\nb: *x\n"), HasSubstr("anchors (&name) are not supported"));
  EXPECT_THAT(Error("&x {a: 1}\n"), HasSubstr("anchors"));
  EXPECT_THAT(Error("a: *x\n"), StartsWith("f:1:4: "));
  EXPECT_THAT(Error("a: !!binary aGk=\n"), HasSubstr("tags (!name) are not supported"));
  EXPECT_THAT(Error("a: !python/object:os.system x\n"), HasSubstr("tags"));
  EXPECT_THAT(Error("a: [1, 2\nb: 3\n"), StartsWith("f:2:"));
  EXPECT_THAT(Error("a:\n\tb: 1\n"), StartsWith("f:2:"));
  EXPECT_THAT(Error("a: \"\\q\"\n"), StartsWith("f:1:"));
}

TEST(ParseYamlTest, OtherEncodingsAndControlCharactersAreRefused) {
  EXPECT_EQ(Error("a: \xff"), "f:1:4: not UTF-8: save the file in that encoding");
  EXPECT_THAT(Error("a: 1\nb: \xc0\xaf"), HasSubstr("f:2:4: not UTF-8"));
  EXPECT_THAT(Error("a: \xed\xa0\x80"), HasSubstr("not UTF-8"));
  EXPECT_THAT(Error("a: \xf4\x90\x80\x80"), HasSubstr("not UTF-8"));
  EXPECT_THAT(Error("a: \xe2\x82"), HasSubstr("not UTF-8"));
  EXPECT_THAT(Error(std::string("a\0:\0 \0", 6)), HasSubstr("f:1:2: a control character"));
  EXPECT_THAT(Error("a: \x1b[31m"), HasSubstr("a control character"));
  EXPECT_EQ(Parse("a: \u00e4\u20ac\U0001f600\n")[0].fields[0].value.text, "\u00e4\u20ac\U0001f600");
}

TEST(ParseYamlTest, HostileSizesEndAtTheirLimits) {
  EXPECT_THAT(Error(std::string(kMaxYamlBytes + 1, ' ')), HasSubstr("larger than 4194304 bytes"));
  EXPECT_THAT(Error(Repeated("[", kMaxYamlBytes)), HasSubstr("opening brackets"));
  EXPECT_THAT(Error(Repeated("{a: ", kMaxYamlBrackets)), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(Error(Repeated("- ", 1000)), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(Error(Repeated("\n- a", kMaxYamlNodes + 1)), HasSubstr("more than 200000 values"));
  EXPECT_THAT(Error(Repeated("---\na\n", kMaxYamlDocuments + 1)), HasSubstr("more than 1000 documents"));
  // Ten aliases of ten aliases of …: stopped at the first.
  EXPECT_THAT(Error("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n"), HasSubstr("anchors"));
}

v1::Job JobOf(const std::string& text) {
  v1::Job job;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &job));
  return job;
}

TEST(ToYamlTest, WritesEveryKindOfField) {
  EXPECT_EQ(ToYaml(JobOf(R"(
      operation { store: "main" put_object_tagging { tags { key: "team" value: "on" } tags { key: "\x1b\n\"\\" } } }
      manifest { csv { location { store: "s" bucket: "b" key: "2026/a b" }
                       fields: MANIFEST_FIELD_BUCKET fields: MANIFEST_FIELD_KEY } }
      priority: 5
      failure_policy { failed_fraction: 0.1 minimum_executed: 9007199254740993 }
      retry_policy { initial_backoff { nanos: 200000000 } }
      labels { key: "b" value: "1.10" } labels { key: "a" value: "" }
      schedule_policy { start_after { seconds: 1770091506 } }
      report {})"),
                   false),
            R"(operation:
  store: main
  put_object_tagging:
    tags:
      - key: team
        value: "on"
      - key: "\x1B\n\"\\"
manifest:
  csv:
    location:
      store: s
      bucket: b
      key: "2026/a b"
    fields:
      - MANIFEST_FIELD_BUCKET
      - MANIFEST_FIELD_KEY
report: {}
priority: 5
failure_policy:
  failed_fraction: 0.1
  minimum_executed: 9007199254740993
retry_policy:
  initial_backoff: 0.200s
labels:
  a: ""
  b: "1.10"
schedule_policy:
  start_after: "2026-02-03T04:05:06Z"
)");
}

TEST(ToYamlTest, ZerosAreWrittenWhereTheyAreAskedFor) {
  EXPECT_EQ(ToYaml(v1::StateReason(), false), "{}\n");
  EXPECT_EQ(ToYaml(v1::StateReason(), true), "code: \"\"\nmessage: \"\"\ncaller: \"\"\n");
  EXPECT_EQ(ToYaml(v1::FailurePolicy(), true), "action: ACTION_UNSPECIFIED\ndisabled: false\n");
}

// Words that some reader of YAML takes for something else than text come back as they were.
TEST(ToYamlTest, TextComesBackAsItWas) {
  for (const std::string& text : {std::string("null"),
                                  std::string("~"),
                                  std::string("NO"),
                                  std::string("y"),
                                  std::string("1e3"),
                                  std::string("0x1f"),
                                  std::string("12:30:45"),
                                  std::string("2026-02-03"),
                                  std::string("- a"),
                                  std::string("a: b"),
                                  std::string("#x"),
                                  std::string("*x"),
                                  std::string("&x"),
                                  std::string("!x"),
                                  std::string(" x "),
                                  std::string("'"),
                                  std::string("a\nb\n"),
                                  std::string("\t"),
                                  std::string("\0x", 2),
                                  std::string("\x7f"),
                                  std::string("\u0085\u2028\u2029\uFEFF"),
                                  std::string("\u00e4\U0001f600"),
                                  std::string(300, 'a'),
                                  std::string(".inf"),
                                  std::string("="),
                                  std::string("<<"),
                                  std::string("{}"),
                                  std::string("[]")}) {
    v1::StateReason reason;
    reason.set_code(text);
    const auto documents = Parse(ToYaml(reason, false));
    ASSERT_EQ(documents.size(), 1u) << text;
    EXPECT_EQ(documents[0].fields[0].value.kind, YamlNode::Kind::kScalar) << text;
    EXPECT_EQ(documents[0].fields[0].value.text, text);
  }
}

}  // namespace
}  // namespace drover::cli
