// undelete_object: which delete markers are removed, and what is never deleted.
#include "services/worker/operations/undelete_object.h"

#include "tests/unit/services/worker/operations/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Entry(std::string_view kind, std::string_view key, std::string_view version,
                  bool latest = false) {
  return StrCat("<", kind, "><Key>", key, "</Key><VersionId>", version, "</VersionId><IsLatest>",
                latest ? "true" : "false", "</IsLatest></", kind, ">");
}
std::string Marker(std::string_view version, bool latest = false) {
  return Entry("DeleteMarker", "k", version, latest);
}
std::string Version(std::string_view version, bool latest = false) {
  return Entry("Version", "k", version, latest);
}
std::string Page(std::string_view entries, bool truncated = false) {
  return StrCat("<ListVersionsResult><IsTruncated>", truncated ? "true" : "false", "</IsTruncated>", entries,
                "</ListVersionsResult>");
}

class UndeleteObjectTest : public OperationsTest {
 protected:
  // A store that lists `few`, and `many` when it is asked for more.
  std::optional<Attempt> Undelete(const std::string& few, const std::string& version = "",
                                  const std::string& many = "") {
    deleted_.clear();
    lists_.clear();
    TestServer server([&](TestServer::Peer& peer) {
      while (peer.ReadRequest()) {
        if (peer.method() == "DELETE") {
          deleted_.push_back(peer.target());
          peer.Answer(delete_status_, delete_status_ == 204 ? "" : ErrorXml("AccessDenied", "No."));
        } else {
          lists_.push_back(peer.target());
          peer.Answer(200, peer.target().find("max-keys=2&") != std::string::npos ? few : many);
        }
      }
    });
    Connect(&server);
    v1::Operation operation;
    operation.set_store("s");
    operation.mutable_undelete_object();
    return Run(operation, {"bucket", "k", version});
  }
  std::string Failure(const std::string& few, const std::string& version = "", const std::string& many = "") {
    const std::optional<Attempt> attempt = Undelete(few, version, many);
    EXPECT_TRUE(attempt.has_value() && !attempt->outcome.succeeded);
    EXPECT_THAT(deleted_, IsEmpty());
    return attempt.has_value() ? attempt->outcome.code : "";
  }

  int delete_status_ = 204;
  std::vector<std::string> deleted_;
  std::vector<std::string> lists_;
};

TEST_F(UndeleteObjectTest, TheMarkerThatIsCurrentIsRemoved) {
  const std::optional<Attempt> attempt = Undelete(Page(StrCat(Marker("m+1", true), Version("v1")), true));
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 204);
  EXPECT_THAT(lists_, ElementsAre("/bucket?encoding-type=url&max-keys=2&prefix=k&versions="));
  EXPECT_THAT(deleted_, ElementsAre("/bucket/k?versionId=m%2B1"));
}

TEST_F(UndeleteObjectTest, MarkersOnTopOfEachOtherAreAllRemovedTheNewestFirst) {
  const std::optional<Attempt> attempt =
      Undelete(Page(StrCat(Marker("m3", true), Marker("m2")), true), "",
               Page(StrCat(Marker("m3", true), Marker("m2"), Marker("m1"), Version("v2"), Marker("m0"))));
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(lists_.size(), 2u);
  EXPECT_THAT(deleted_,
              ElementsAre("/bucket/k?versionId=m3", "/bucket/k?versionId=m2", "/bucket/k?versionId=m1"));
}

TEST_F(UndeleteObjectTest, AnObjectThatIsNotDeletedIsLeftAsItIs) {
  const std::optional<Attempt> attempt = Undelete(Page(StrCat(Version("v2", true), Marker("m1")), true));
  ASSERT_TRUE(attempt.has_value());
  EXPECT_TRUE(attempt->outcome.succeeded);
  EXPECT_EQ(attempt->outcome.http_status, 200);
  EXPECT_EQ(attempt->outcome.message, "The object is not deleted.");
  EXPECT_THAT(deleted_, IsEmpty());
}

TEST_F(UndeleteObjectTest, WhatHasNoVersionIsNotRestored) {
  EXPECT_EQ(Failure(Page("")), "NoSuchKey");
  EXPECT_EQ(Failure(Page(Entry("Version", "k2", "v1", true))), "NoSuchKey");
  EXPECT_EQ(Failure(Page(StrCat(Marker("m2", true), Marker("m1")))), "NothingToRestore");
  // The versions of another key, which begins in the same way, restore nothing.
  EXPECT_EQ(Failure(Page(StrCat(Marker("m2", true), Entry("Version", "k2", "v1", true)), true)),
            "NothingToRestore");
}

TEST_F(UndeleteObjectTest, TooManyMarkersAreNotRemovedByHalves) {
  std::string markers = Marker("m0", true);
  for (int i = 1; i < 1000; ++i) markers += Marker(StrCat("m", i));
  EXPECT_EQ(Failure(Page(StrCat(Marker("m0", true), Marker("m1")), true), "", Page(markers, true)),
            "TooManyDeleteMarkers");
}

TEST_F(UndeleteObjectTest, AVersionIdNamesTheOneMarkerToRemove) {
  const std::string stacked = Page(StrCat(Marker("m2", true), Marker("m1")), true);
  ASSERT_TRUE(Undelete(stacked, "m2").has_value());
  EXPECT_THAT(deleted_, ElementsAre("/bucket/k?versionId=m2"));
  EXPECT_EQ(Failure(stacked, "m1"), "NotCurrent");
  EXPECT_EQ(Failure(stacked, "m7"), "NotCurrent");
  const std::string usual = Page(StrCat(Marker("m1", true), Version("v1")));
  EXPECT_EQ(Failure(usual, "v1"), "NotADeleteMarker");
  EXPECT_EQ(Failure(Page(Version("v1", true)), "v1"), "NotADeleteMarker");
  // Removed before, as when a task runs twice.
  EXPECT_TRUE(Undelete(Page(Version("v1", true)), "m1")->outcome.succeeded);
}

TEST_F(UndeleteObjectTest, AListThatMakesNoSenseIsTransientAndDeletesNothing) {
  EXPECT_EQ(Failure("<ListVersionsResult>"), "MalformedResponse");
  EXPECT_EQ(Failure(Page(StrCat(Marker("m1"), Version("v1")))), "MalformedResponse");
  EXPECT_EQ(Failure(Page(Entry("Version", "a", "v1", true), true), "",
                    Page(Entry("Version", "b", "v", true), true)),
            "MalformedResponse");
  const std::optional<Attempt> attempt = Undelete("");
  EXPECT_EQ(attempt->end, Attempt::End::kTransient);
}

TEST_F(UndeleteObjectTest, ARefusedDeleteIsTheOutcome) {
  delete_status_ = 403;
  const std::optional<Attempt> attempt =
      Undelete(Page(StrCat(Marker("m2", true), Marker("m1"), Version("v"))));
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->outcome.code, "AccessDenied");
  EXPECT_EQ(attempt->outcome.http_status, 403);
  EXPECT_EQ(deleted_.size(), 1u);
}

TEST_F(UndeleteObjectTest, TheFenceIsAskedBeforeEachRequest) {
  context_.fence_after = 1;
  EXPECT_EQ(Undelete(Page(StrCat(Marker("m", true), Version("v"))))->end, Attempt::End::kCancelled);
  EXPECT_THAT(deleted_, IsEmpty());
}

}  // namespace
}  // namespace drover
