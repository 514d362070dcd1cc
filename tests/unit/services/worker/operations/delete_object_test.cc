// delete_object: what is asked of the store, and what is made of answers, friendly and hostile.
#include "services/worker/operations/delete_object.h"

#include <algorithm>
#include <functional>

#include <pugixml.hpp>

#include "tests/unit/services/worker/operations/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

// What a <Delete> document names: "key" or "key@version".
std::vector<std::string> NamesOf(const std::string& document) {
  pugi::xml_document xml;
  EXPECT_TRUE(xml.load_string(document.c_str(), pugi::parse_default | pugi::parse_ws_pcdata_single))
      << document;
  std::vector<std::string> names;
  for (const pugi::xml_node& object : xml.child("Delete").children("Object")) {
    std::string name = object.child("Key").child_value();
    if (object.child("VersionId")) StrAppend(&name, "@", object.child("VersionId").child_value());
    names.push_back(std::move(name));
  }
  return names;
}

std::string DeletedXml(std::string_view key, std::string_view more = "") {
  return StrCat("<Deleted><Key>", XmlEscape(key), "</Key>", more, "</Deleted>");
}
std::string ResultXml(std::string_view entries) {
  return StrCat("<?xml version=\"1.0\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
                entries, "</DeleteResult>");
}

class DeleteObjectTest : public OperationsTest {
 protected:
  // Answers groups with `answer` of the names in the document, and single deletes with 204.
  TestServer::Handler Store(std::function<std::string(const std::vector<std::string>&)> answer) {
    return [this, answer](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        if (peer.method() == "DELETE") {
          singles_.push_back(peer.target());
          peer.Answer(204, "");
          continue;
        }
        EXPECT_EQ(peer.method(), "POST");
        EXPECT_THAT(peer.target(), StartsWith("/bucket?delete"));
        EXPECT_EQ(peer.Header("Content-MD5"), ContentMd5(peer.body()));
        bypass_ = peer.Header("x-amz-bypass-governance-retention");
        groups_.push_back(NamesOf(peer.body()));
        peer.Answer(200, answer(groups_.back()));
      }
    };
  }
  // What a good store answers.
  static std::string AllDeleted(const std::vector<std::string>& names) {
    std::string entries;
    for (const std::string& name : names) {
      const size_t at = name.find('@');
      const std::string version =
          at == std::string::npos ? "" : StrCat("<VersionId>", name.substr(at + 1), "</VersionId>");
      StrAppend(&entries, DeletedXml(name.substr(0, at), version));
    }
    return ResultXml(entries);
  }

  static v1::Operation Delete() {
    v1::Operation operation;
    operation.set_store("s");
    operation.mutable_delete_object();
    return operation;
  }
  static std::vector<Task> Tasks(const std::vector<std::string>& keys) {
    std::vector<Task> tasks;
    for (const std::string& key : keys) tasks.push_back({"bucket", key, ""});
    return tasks;
  }
  std::map<size_t, Attempt> RunDelete(const std::vector<Task>& tasks) {
    auto made = Make(Delete());
    EXPECT_TRUE(made.ok()) << made.status();
    if (!made.ok()) return {};
    operation_ = *std::move(made);
    return RunGroup(*operation_, tasks);
  }

  std::vector<std::vector<std::string>> groups_;
  std::vector<std::string> singles_;
  std::string bypass_;
  std::unique_ptr<Operation> operation_;
};

TEST_F(DeleteObjectTest, AGroupIsOneRequestThatAsksForEveryOutcome) {
  TestServer server(Store(AllDeleted));
  Connect(&server);
  const std::vector<Task> tasks = {
      {"bucket", "b <&> \"'", ""}, {"bucket", "a\n\tü", ""}, {"bucket", "c", "v1"}};
  EXPECT_THAT(RunDelete(tasks), IsEmpty());
  EXPECT_THAT(groups_, ElementsAre(ElementsAre("a\n\tü", "b <&> \"'", "c@v1")));
  EXPECT_THAT(singles_, IsEmpty());
  EXPECT_EQ(bypass_, "");
  EXPECT_EQ(operation_->limits().max_tasks, 1000u);
  EXPECT_TRUE(operation_->limits().same_bucket);
}

TEST_F(DeleteObjectTest, GovernanceRetentionIsBypassedOnlyWhereItIsAskedFor) {
  TestServer server(Store(AllDeleted));
  Connect(&server);
  v1::Operation operation = Delete();
  operation.mutable_delete_object()->set_bypass_governance_retention(true);
  const auto made = Make(operation);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_THAT(RunGroup(**made, Tasks({"a", "b"})), IsEmpty());
  EXPECT_EQ(bypass_, "true");
}

TEST_F(DeleteObjectTest, EachKeyHasItsOwnOutcome) {
  TestServer server(Store([](const auto&) {
    return ResultXml(StrCat(DeletedXml("a"),
                            "<Error><Key>b</Key><Code>AccessDenied</Code><Message>No.</Message></Error>",
                            "<Error><Key>c</Key><Code>InternalError</Code><Message>Oops.</Message></Error>",
                            "<Error><Key>d</Key><Code>SlowDown</Code><Message>Please.</Message></Error>",
                            DeletedXml("e", "<DeleteMarker>true</DeleteMarker>"),
                            "<Error><Key>f</Key><Code>NoSuchKey</Code><Message/></Error>"));
  }));
  Connect(&server);
  const std::map<size_t, Attempt> said = RunDelete(Tasks({"a", "b", "c", "d", "e", "f"}));
  ASSERT_THAT(said, SizeIs(5));
  EXPECT_FALSE(said.contains(0));
  EXPECT_EQ(said.at(1).end, Attempt::End::kDone);
  EXPECT_EQ(said.at(1).outcome.code, "AccessDenied");
  EXPECT_EQ(said.at(1).outcome.http_status, 200);
  EXPECT_EQ(said.at(2).end, Attempt::End::kTransient);
  EXPECT_EQ(said.at(2).transience, Transience::kTransient);
  EXPECT_EQ(said.at(3).transience, Transience::kUnavailable);
  EXPECT_TRUE(said.at(4).outcome.succeeded);
  EXPECT_EQ(said.at(4).outcome.message, "A delete marker was made.");
  EXPECT_TRUE(said.at(5).outcome.succeeded);
  EXPECT_EQ(said.at(5).outcome.message, "There was nothing to delete.");
  EXPECT_THAT(singles_, IsEmpty());
}

TEST_F(DeleteObjectTest, TasksThatNameOneObjectShareARequestAndItsOutcome) {
  TestServer server(Store([](const auto&) {
    return ResultXml(StrCat("<Error><Key>a</Key><Code>AccessDenied</Code></Error>", DeletedXml("b"),
                            DeletedXml("a", "<VersionId>v1</VersionId>")));
  }));
  Connect(&server);
  const std::map<size_t, Attempt> said = RunDelete({{"bucket", "a", ""},
                                                    {"bucket", "b", ""},
                                                    {"bucket", "a", ""},
                                                    {"bucket", "a", "v1"},
                                                    {"bucket", "b", ""}});
  EXPECT_THAT(groups_, ElementsAre(ElementsAre("a", "a@v1", "b")));
  ASSERT_THAT(said, SizeIs(2));
  EXPECT_EQ(said.at(0).outcome.code, "AccessDenied");
  EXPECT_EQ(said.at(2).outcome.code, "AccessDenied");
}

TEST_F(DeleteObjectTest, OneObjectAndKeysThatXmlCantCarryGoByThemselves) {
  TestServer server(Store(AllDeleted));
  Connect(&server);
  const auto one = RunDelete({{"bucket", "a b", "v+1"}, {"bucket", "a b", "v+1"}});
  EXPECT_THAT(groups_, IsEmpty());
  EXPECT_THAT(singles_, ElementsAre("/bucket/a%20b?versionId=v%2B1"));
  EXPECT_EQ(one.at(0).outcome.http_status, 204);
  EXPECT_TRUE(one.at(1).outcome.succeeded);
  singles_.clear();
  const auto odd = RunDelete(Tasks({"a\x01", "b", "c\xff", "d"}));
  EXPECT_THAT(groups_, ElementsAre(ElementsAre("b", "d")));
  EXPECT_THAT(singles_, ElementsAre("/bucket/a%01", "/bucket/c%FF"));
  EXPECT_THAT(odd, SizeIs(2));
}

TEST_F(DeleteObjectTest, LongKeysMakeSeveralRequestsOfOneGroup) {
  TestServer server(Store(AllDeleted));
  Connect(&server);
  std::vector<std::string> keys;
  for (int i = 0; i < 500; ++i) keys.push_back(StrCat(std::string(1000, '&'), i));
  EXPECT_THAT(RunDelete(Tasks(keys)), IsEmpty());
  EXPECT_GT(groups_.size(), 4u);
  size_t names = 0;
  for (const auto& group : groups_) names += group.size();
  EXPECT_EQ(names, 500u);
}

TEST_F(DeleteObjectTest, WhatTheAnswerLeavesOutIsAskedForAloneAndForeignNamesMeanNothing) {
  TestServer server(Store([](const auto&) {
    return ResultXml(StrCat(DeletedXml("foreign"), DeletedXml("a"),
                            "<Error><Key>other</Key><Code>x</Code></Error>",
                            DeletedXml("c", "<VersionId>v2</VersionId>")));
  }));
  Connect(&server);
  const auto said = RunDelete({{"bucket", "a", ""}, {"bucket", "b", ""}, {"bucket", "c", "v1"}});
  EXPECT_THAT(singles_, ElementsAre("/bucket/b", "/bucket/c?versionId=v1"));
  EXPECT_EQ(said.at(1).outcome.http_status, 204);
  EXPECT_EQ(said.at(2).outcome.http_status, 204);
}

TEST_F(DeleteObjectTest, AVersionThatTheStoreNamesByItselfIsNoStranger) {
  TestServer server(Store([](const auto&) {
    return ResultXml(StrCat(DeletedXml("a", "<VersionId>v7</VersionId>"), DeletedXml("b")));
  }));
  Connect(&server);
  EXPECT_THAT(RunDelete(Tasks({"a", "b"})), IsEmpty());
  EXPECT_THAT(singles_, IsEmpty());
}

TEST_F(DeleteObjectTest, AnAnswerThatSaysBothIsAFailure) {
  TestServer server(Store([](const auto&) {
    return ResultXml(
        StrCat(DeletedXml("a"), "<Error><Key>a</Key><Code>AccessDenied</Code></Error>", DeletedXml("b")));
  }));
  Connect(&server);
  const auto said = RunDelete(Tasks({"a", "b"}));
  ASSERT_THAT(said, SizeIs(1));
  EXPECT_EQ(said.at(0).outcome.code, "AccessDenied");
}

TEST_F(DeleteObjectTest, AnAnswerThatCantBeReadIsTransientAndNeverASuccess) {
  const std::string whole = AllDeleted({"a", "b"});
  for (const std::string& body : {whole.substr(0, whole.size() - 3), std::string(), std::string("<html/>")}) {
    TestServer server(Store([&](const auto&) { return body; }));
    Connect(&server);
    const auto said = RunDelete(Tasks({"a", "b"}));
    ASSERT_THAT(said, SizeIs(2)) << body;
    for (const auto& [i, attempt] : said) {
      EXPECT_EQ(attempt.end, Attempt::End::kTransient);
      EXPECT_FALSE(attempt.outcome.succeeded);
      EXPECT_EQ(attempt.outcome.code, "MalformedResponse");
    }
  }
}

TEST_F(DeleteObjectTest, AFailureOfTheWholeRequestIsEachTasks) {
  const std::pair<int, std::string> answers[] = {
      {503, "SlowDown"}, {404, "NoSuchBucket"}, {500, "InternalError"}, {403, "InvalidAccessKeyId"}};
  for (const auto& [status, code] : answers) {
    TestServer server(Answering(status, ErrorXml(code, "m"), "Retry-After: 3\r\n"));
    Connect(&server);
    const auto said = RunDelete(Tasks({"a", "b", "c"}));
    ASSERT_THAT(said, SizeIs(3)) << code;
    EXPECT_EQ(said.at(2).outcome.code, code);
    EXPECT_EQ(said.at(2).outcome.http_status, status);
    EXPECT_EQ(said.at(2).end, status >= 500 ? Attempt::End::kTransient : Attempt::End::kDone) << code;
    if (status >= 500) {
      EXPECT_EQ(said.at(2).retry_after, absl::Seconds(3));
    }
    EXPECT_THAT(server.requests(), SizeIs(1)) << code;
  }
}

TEST_F(DeleteObjectTest, AStoreWithoutGroupsIsServedOneByOneFromThenOn) {
  for (const int status : {501, 405}) {
    int groups = 0;
    TestServer server([&](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        const bool single = peer.method() == "DELETE";
        groups += single ? 0 : 1;
        peer.Answer(single ? 204 : status, "");
      }
    });
    Connect(&server);
    const auto said = RunDelete(Tasks({"a", "b", "c"}));
    EXPECT_THAT(said, SizeIs(3));
    EXPECT_TRUE(
        std::all_of(said.begin(), said.end(), [](const auto& s) { return s.second.outcome.succeeded; }));
    EXPECT_EQ(operation_->limits().max_tasks, 1u);
    EXPECT_THAT(RunGroup(*operation_, Tasks({"d", "e"})), SizeIs(2));
    EXPECT_EQ(groups, 1);
    EXPECT_EQ(context_.requests, 6);
    context_.requests = 0;
  }
}

TEST_F(DeleteObjectTest, AGroupThatIsRefusedAsAGroupIsAskedForOneByOne) {
  const std::pair<int, std::string> answers[] = {
      {400, "MalformedXML"}, {403, "AccessDenied"}, {404, "NoSuchThing"}};
  for (const auto& [status, code] : answers) {
    TestServer server([&, status = status, code = code](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        if (peer.method() == "POST") {
          peer.Answer(status, ErrorXml(code, ""));
        } else if (peer.target() == "/bucket/b") {
          peer.Answer(403, ErrorXml("AccessDenied", "That one."));
        } else {
          peer.Answer(204, "", peer.target() == "/bucket/c" ? "x-amz-delete-marker: true\r\n" : "");
        }
      }
    });
    Connect(&server);
    const auto said = RunDelete(Tasks({"a", "b", "c"}));
    EXPECT_TRUE(said.at(0).outcome.succeeded);
    EXPECT_EQ(said.at(1).outcome.code, "AccessDenied");
    EXPECT_EQ(said.at(1).outcome.message, "That one.");
    EXPECT_EQ(said.at(2).outcome.message, "A delete marker was made.");
    EXPECT_EQ(operation_->limits().max_tasks, kMaxDeleteGroup) << "it may do better with the next group";
  }
}

TEST_F(DeleteObjectTest, AVersionThatIsGoneIsNothingToDelete) {
  TestServer server(Answering(404, ErrorXml("NoSuchVersion", "Gone.")));
  Connect(&server);
  const std::optional<Attempt> attempt = Run(Delete(), {"bucket", "k", "v"});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 404);
  EXPECT_EQ(attempt->outcome.message, "There was nothing to delete.");
}

TEST_F(DeleteObjectTest, TheFenceIsAskedBeforeEachRequestAndTheRestIsCancelled) {
  TestServer server(Answering(501, ""));
  Connect(&server);
  context_.fence_after = 2;  // the group, and one object of it
  const auto said = RunDelete(Tasks({"a", "b", "c"}));
  ASSERT_THAT(said, SizeIs(3));
  EXPECT_EQ(said.at(0).end, Attempt::End::kDone);  // 501 once more
  EXPECT_EQ(said.at(1).end, Attempt::End::kCancelled);
  EXPECT_EQ(said.at(2).end, Attempt::End::kCancelled);
  EXPECT_THAT(server.requests(), SizeIs(2));
}

TEST_F(DeleteObjectTest, UnknownParametersAreRefused) {
  TestServer server(Answering(200, ""));
  Connect(&server);
  v1::Operation operation = Delete();
  v1::DeleteObject& message = *operation.mutable_delete_object();
  message.GetReflection()->MutableUnknownFields(&message)->AddVarint(900, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(Make(operation).status()));
  Connect(nullptr);
  EXPECT_TRUE(absl::IsNotFound(Make(Delete()).status()));
}

}  // namespace
}  // namespace drover
