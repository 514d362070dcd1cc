// delete_object_tagging, change_object_tagging and head_object.
#include "common/codec/outcomes.h"
#include "services/worker/operations/change_object_tagging.h"
#include "services/worker/operations/head_object.h"
#include "tests/unit/services/worker/operations/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

using Tags = std::vector<std::pair<std::string, std::string>>;

class TagsAndHeadTest : public OperationsTest {
 protected:
  static v1::Operation With(const std::function<void(v1::Operation&)>& choose) {
    v1::Operation operation;
    operation.set_store("s");
    choose(operation);
    return operation;
  }
  static v1::Operation Change(const Tags& add, const std::vector<std::string>& remove) {
    return With([&](v1::Operation& o) {
      v1::ChangeObjectTagging& change = *o.mutable_change_object_tagging();
      for (const auto& [key, value] : add) {
        v1::Tag& tag = *change.add_add();
        tag.set_key(key);
        tag.set_value(value);
      }
      for (const std::string& key : remove) change.add_remove_keys(key);
    });
  }
  // Runs a change on an object whose tags the store answers with `document`.
  std::optional<Attempt> RunChange(const v1::Operation& change, const std::string& document,
                                   int get_status = 200) {
    requests_.clear();
    written_.clear();
    TestServer server([&](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        requests_.push_back(StrCat(peer.method(), " ", peer.target()));
        if (peer.method() == "GET") {
          peer.Answer(get_status, document);
        } else {
          EXPECT_EQ(peer.Header("Content-MD5"), ContentMd5(peer.body()));
          written_.push_back(peer.body());
          peer.Answer(200, "");
        }
      }
    });
    Connect(&server);
    return Run(change, {"bucket", "k", "v1"});
  }

  std::vector<std::string> requests_;
  std::vector<std::string> written_;
};

TEST_F(TagsAndHeadTest, DeletingTagsNamesTheVersion) {
  TestServer server(Answering(204, ""));
  Connect(&server);
  const v1::Operation operation = With([](auto& o) { o.mutable_delete_object_tagging(); });
  const std::optional<Attempt> attempt = Run(operation, {"bucket", "a b", "v+1"});
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 204);
  EXPECT_THAT(server.requests(), ElementsAre("DELETE /bucket/a%20b?tagging=&versionId=v%2B1"));
}

TEST_F(TagsAndHeadTest, TagsThatAStoreKeptInSpiteOfItsYesAreWrittenOver) {
  const auto run = [&](int status, const std::string& left) {
    requests_.clear();
    TestServer server([&](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        requests_.push_back(StrCat(peer.method(), " ", peer.target()));
        if (peer.method() == "DELETE") {
          peer.Answer(204, "");
        } else if (peer.method() == "GET") {
          peer.Answer(status, left);
        } else {
          EXPECT_EQ(peer.body(), TaggingXml({}));
          peer.Answer(200, "");
        }
      }
    });
    Connect(&server);
    return Run(With([](auto& o) { o.mutable_delete_object_tagging(); }), {"bucket", "k", ""});
  };
  const std::string remove = "DELETE /bucket/k?tagging=";
  const std::string look = "GET /bucket/k?tagging=";
  EXPECT_EQ(run(200, TaggingXml({}))->outcome.http_status, 204);
  EXPECT_THAT(requests_, ElementsAre(remove, look));
  EXPECT_EQ(run(404, ErrorXml("NoSuchTagSet", ""))->outcome.http_status, 204);
  EXPECT_THAT(requests_, ElementsAre(remove, look));
  EXPECT_FALSE(run(200, TaggingXml({{"kept", "1"}})).has_value());
  EXPECT_THAT(requests_, ElementsAre(remove, look, "PUT /bucket/k?tagging="));
  // What can't be looked at is no success.
  EXPECT_EQ(run(403, ErrorXml("AccessDenied", ""))->outcome.code, "AccessDenied");
  EXPECT_EQ(run(200, "<Tagging>")->outcome.code, "MalformedResponse");
  EXPECT_THAT(requests_, ElementsAre(remove, look));
}

TEST_F(TagsAndHeadTest, AChangeKeepsTheOtherTags) {
  const Tags before = {{"keep", " a <&> b "}, {"gone", "x"}, {"changed", "old"}, {"", "empty"}};
  EXPECT_FALSE(
      RunChange(Change({{"changed", "new"}, {"added", ""}}, {"gone", "absent"}), TaggingXml(before)));
  EXPECT_THAT(requests_,
              ElementsAre("GET /bucket/k?tagging=&versionId=v1", "PUT /bucket/k?tagging=&versionId=v1"));
  ASSERT_EQ(written_.size(), 1u);
  EXPECT_THAT(*ParseTagging(written_[0]), ElementsAre(Pair("keep", " a <&> b "), Pair("changed", "new"),
                                                      Pair("", "empty"), Pair("added", "")));
}

TEST_F(TagsAndHeadTest, AChangeThatChangesNothingWritesNothing) {
  EXPECT_FALSE(RunChange(Change({{"a", "1"}}, {"b"}), TaggingXml({{"c", "2"}, {"a", "1"}})));
  EXPECT_THAT(written_, IsEmpty());
}

TEST_F(TagsAndHeadTest, TagsAreAddedWhereThereWereNone) {
  EXPECT_FALSE(RunChange(Change({{"a", "1"}}, {}), "<Tagging><TagSet/></Tagging>"));
  EXPECT_THAT(written_, ElementsAre(TaggingXml({{"a", "1"}})));
  EXPECT_FALSE(RunChange(Change({{"a", "1"}}, {}), ErrorXml("NoSuchTagSet", "None."), 404));
  EXPECT_THAT(written_, ElementsAre(TaggingXml({{"a", "1"}})));
}

TEST_F(TagsAndHeadTest, AnEleventhTagFailsAndTheObjectKeepsWhatItHas) {
  Tags nine;
  for (int i = 0; i < 9; ++i) nine.emplace_back(StrCat("k", i), "v");
  EXPECT_FALSE(RunChange(Change({{"a", "1"}}, {}), TaggingXml(nine)));
  const std::optional<Attempt> attempt = RunChange(Change({{"a", "1"}, {"b", "2"}}, {}), TaggingXml(nine));
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kDone);
  EXPECT_EQ(attempt->outcome.code, "TooManyTags");
  EXPECT_THAT(attempt->outcome.message, HasSubstr("11 tags"));
  EXPECT_THAT(written_, IsEmpty());
  EXPECT_FALSE(RunChange(Change({{"a", "1"}, {"b", "2"}}, {"k3"}), TaggingXml(nine)));
}

TEST_F(TagsAndHeadTest, TagsThatWereReadWronglyAreNeverWrittenBack) {
  const std::string whole = TaggingXml({{"a", "1"}});
  for (const std::string& document :
       {whole.substr(0, whole.size() - 2), std::string(), std::string("<html/>"), std::string("<Tagging/>"),
        std::string("<Tagging><TagSet><Tag><Value>v</Value></Tag></TagSet></Tagging>")}) {
    const std::optional<Attempt> attempt = RunChange(Change({{"b", "2"}}, {}), document);
    ASSERT_TRUE(attempt.has_value()) << document;
    EXPECT_EQ(attempt->end, Attempt::End::kTransient);
    EXPECT_EQ(attempt->outcome.code, "MalformedResponse");
    EXPECT_THAT(written_, IsEmpty());
  }
  // A document can't carry this one back.
  const std::optional<Attempt> odd =
      RunChange(Change({{"b", "2"}}, {}),
                "<Tagging><TagSet><Tag><Key>a</Key><Value>\x01</Value></Tag></TagSet></Tagging>");
  EXPECT_EQ(odd->outcome.code, "TagNotXml");
  EXPECT_THAT(written_, IsEmpty());
}

TEST_F(TagsAndHeadTest, WhatTheStoreRefusesIsTheOutcomeOfAChange) {
  EXPECT_EQ(RunChange(Change({}, {"a"}), ErrorXml("NoSuchKey", "None."), 404)->outcome.code, "NoSuchKey");
  EXPECT_EQ(RunChange(Change({}, {"a"}), ErrorXml("SlowDown", ""), 503)->end, Attempt::End::kTransient);
  context_.fence_after = context_.requests + 1;
  EXPECT_EQ(RunChange(Change({}, {"a"}), TaggingXml({{"a", ""}}))->end, Attempt::End::kCancelled);
  EXPECT_THAT(written_, IsEmpty());
}

// --- head_object

class HeadTest : public OperationsTest {
 protected:
  std::optional<Attempt> Head(int status, const std::string& headers, const std::string& version = "") {
    TestServer server([&](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        line_ = StrCat(peer.method(), " ", peer.target());
        peer.Send(StrCat("HTTP/1.1 ", status, " X\r\n", headers, "\r\n"));
      }
    });
    Connect(&server);
    v1::Operation operation;
    operation.set_store("s");
    operation.mutable_head_object();
    return Run(operation, {"bucket", "k", version});
  }

  std::string line_;
};

TEST_F(HeadTest, SizeAndEtagAreTheResult) {
  const std::optional<Attempt> attempt = Head(200, "Content-Length: 12345\r\nETag: \"abc-2\"\r\n", "v1");
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 200);
  EXPECT_EQ(attempt->outcome.message, "size=12345 etag=abc-2");
  EXPECT_EQ(line_, "HEAD /bucket/k?versionId=v1");
}

TEST_F(HeadTest, WhatIsNotThereOrDeniedIsAFailureWithAWord) {
  EXPECT_EQ(Head(404, "Content-Length: 0\r\n")->outcome.code, "NotFound");
  EXPECT_EQ(Head(403, "Content-Length: 0\r\n")->outcome.code, "Forbidden");
  const std::optional<Attempt> marker = Head(404, "Content-Length: 0\r\nx-amz-delete-marker: true\r\n");
  EXPECT_EQ(marker->outcome.message, "It is a delete marker.");
  EXPECT_FALSE(marker->outcome.succeeded);
  EXPECT_EQ(Head(405, "Content-Length: 0\r\nx-amz-delete-marker: true\r\n", "m")->outcome.code,
            "MethodNotAllowed");
  EXPECT_EQ(Head(503, "Content-Length: 0\r\n")->end, Attempt::End::kTransient);
}

TEST_F(HeadTest, ArchivedContentCantBeReadUntilItIsRestored) {
  const std::string glacier = "Content-Length: 1\r\nETag: \"e\"\r\nx-amz-storage-class: GLACIER\r\n";
  const std::optional<Attempt> archived = Head(200, glacier);
  EXPECT_FALSE(archived->outcome.succeeded);
  EXPECT_EQ(archived->outcome.code, "InvalidObjectState");
  EXPECT_FALSE(Head(200, glacier + "x-amz-restore: ongoing-request=\"true\"\r\n")->outcome.succeeded);
  EXPECT_TRUE(Head(200, glacier + "x-amz-restore: ongoing-request=\"false\", expiry-date=\"x\"\r\n")
                  ->outcome.succeeded);
  EXPECT_FALSE(Head(200,
                    "Content-Length: 1\r\nx-amz-storage-class: INTELLIGENT_TIERING\r\n"
                    "x-amz-archive-status: ARCHIVE_ACCESS\r\n")
                   ->outcome.succeeded);
  EXPECT_TRUE(Head(200, "Content-Length: 1\r\nx-amz-storage-class: GLACIER_IR\r\n")->outcome.succeeded);
}

}  // namespace
}  // namespace drover
