// copy_object: its requests and what it makes of the answers, within one store and across two.
#include <google/protobuf/text_format.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include <boost/asio/steady_timer.hpp>

#include "absl/strings/escaping.h"
#include "common/hash/md5.h"
#include "common/sync/mutex.h"
#include "services/worker/operations/copy_across_stores.h"
#include "tests/unit/services/worker/operations/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr std::string_view kModified = "Sun, 06 Nov 1994 08:49:37 GMT";
constexpr int64_t kModifiedSeconds = 784111777;

std::string Md5Hex(std::string_view data) {
  Md5 md5;
  md5.Update(data);
  return absl::BytesToHexString(*md5.Finish());
}

// A store of one object at a time: `answer` says what each request gets, and all requests are kept.
class ScriptedStore {
 public:
  struct Request {
    std::string method;
    std::string target;
    std::string head;
    std::string body;
  };
  struct Answer {
    int status = 200;
    std::string body;
    std::string headers;
  };
  using Script = std::function<Answer(const Request&)>;

  explicit ScriptedStore(Script answer)
      : answer_(std::move(answer)), server_([this](TestServer::Peer& peer) { Serve(peer); }) {}

  const TestServer& server() const { return server_; }
  // "METHOD target" of each request, in order.
  std::vector<std::string> lines() const {
    std::vector<std::string> lines;
    MutexLock lock(&mu_);
    for (const Request& request : requests_) lines.push_back(request.method + " " + request.target);
    return lines;
  }
  Request request(size_t i) const {
    MutexLock lock(&mu_);
    return requests_.at(i);
  }

 private:
  void Serve(TestServer::Peer& peer) {
    while (peer.ReadRequest()) {
      Request request{peer.method(), peer.target(), peer.head(), peer.body()};
      const Answer answer = answer_(request);
      {
        MutexLock lock(&mu_);
        requests_.push_back(std::move(request));
      }
      peer.Answer(answer.status, answer.body, answer.headers);
    }
  }

  const Script answer_;
  mutable Mutex mu_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mu_);
  TestServer server_;
};

class CopyObjectTest : public OperationsTest {
 protected:
  using Answer = ScriptedStore::Answer;
  using Request = ScriptedStore::Request;

  static v1::Operation Operation(const std::string& text = "") {
    v1::Operation operation = Copy("target", "");
    EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(text, operation.mutable_copy_object()));
    return operation;
  }
  static v1::Operation Across(const std::string& text = "") {
    return Operation("target_store: \"t\" " + text);
  }

  static Answer Copied(std::string headers = "") {
    return {200, "<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>", std::move(headers)};
  }
  static std::string Tagging(const std::string& key, const std::string& value) {
    return TaggingXml({{key, value}});
  }
  // A source that has `body`, with these headers.
  static ScriptedStore::Script Source(const std::string& body, const std::string& headers) {
    return [=](const Request& request) -> Answer {
      if (request.target.find("tagging") != std::string::npos) return {200, Tagging("kept", "y s")};
      return {200, body, headers};
    };
  }
  static std::string SourceHeaders(const std::string& etag) {
    return StrCat("ETag: \"", etag, "\"\r\nLast-Modified: ", kModified, "\r\n");
  }
  // A target that keeps what it is given.
  static ScriptedStore::Script Target() {
    return [](const Request& request) -> Answer {
      if (request.method == "GET") return {200, Tagging("kept", "y s")};
      return {200, "", StrCat("ETag: \"", Md5Hex(request.body), "\"\r\n")};
    };
  }

  void ExpectFailure(const std::optional<Attempt>& attempt, const std::string& code,
                     Attempt::End end = Attempt::End::kDone) {
    ASSERT_TRUE(attempt.has_value()) << "it succeeded";
    EXPECT_FALSE(attempt->outcome.succeeded);
    EXPECT_EQ(attempt->outcome.code, code) << attempt->outcome.message;
    EXPECT_EQ(attempt->end, end);
  }

  const Task task_{"bucket", "k", ""};
};

// --- Within one store.

TEST_F(CopyObjectTest, SaysAllThatIsAskedOfTheCopyInOneRequest) {
  ScriptedStore store([](const Request& request) -> Answer {
    if (request.method == "GET") return {200, TaggingXml({{"b", "2"}, {"a", "1 +"}})};
    return Copied("x-amz-version-id: v7\r\n");
  });
  Connect(&store.server());
  const auto attempt = Run(Operation(R"(metadata_directive: REPLACE
      new_metadata { content_type: "text/x-odd" cache_control: "max-age=7" content_disposition: "inline"
                     content_encoding: "br" content_language: "de" expires { seconds: 784111777 }
                     user_metadata { key: "name" value: "its value" } }
      tagging_directive: REPLACE new_tags { key: "a" value: "1 +" } new_tags { key: "b" value: "2" }
      canned_acl: "bucket-owner-full-control" requester_pays: true)"),
                           {"bucket", "k", "v1"});
  EXPECT_FALSE(attempt.has_value()) << attempt->outcome.message;
  EXPECT_THAT(store.lines(), ElementsAre("PUT /target/k", "GET /target/k?tagging=&versionId=v7"));
  const std::string head = store.request(0).head;
  for (const char* line :
       {"x-amz-copy-source: /bucket/k?versionId=v1", "x-amz-metadata-directive: REPLACE",
        "Content-Type: text/x-odd", "Cache-Control: max-age=7", "Content-Disposition: inline",
        "Content-Encoding: br", "Content-Language: de", "Expires: Sun, 06 Nov 1994 08:49:37 GMT",
        "x-amz-meta-name: its value", "x-amz-tagging-directive: REPLACE", "x-amz-tagging: a=1%20%2B&b=2",
        "x-amz-acl: bucket-owner-full-control", "x-amz-request-payer: requester"}) {
    EXPECT_THAT(head, HasSubstr(StrCat(line, "\r\n")));
  }
  EXPECT_THAT(store.request(1).head, HasSubstr("x-amz-request-payer: requester"));
}

TEST_F(CopyObjectTest, ACopyOntoItselfIsMadeWhereSomethingChanges) {
  ScriptedStore store([](const Request& request) -> Answer {
    if (request.method == "HEAD") return {200, "", "x-amz-storage-class: COLD\r\n"};
    if (request.method == "GET") return {501, ErrorXml("NotImplemented", "no tags here")};
    return Copied("x-amz-server-side-encryption: AES256\r\n");
  });
  Connect(&store.server());
  for (const std::string text :
       {"metadata_directive: REPLACE", "storage_class: \"COLD\"", "encryption { algorithm: \"AES256\" }"}) {
    v1::Operation operation = Operation(text);
    operation.mutable_copy_object()->clear_target_bucket();
    EXPECT_FALSE(Run(operation, task_).has_value()) << text;
    // New tags or an ACL are no change of an object, for S3.
    operation = Operation("tagging_directive: REPLACE canned_acl: \"private\"");
    operation.mutable_copy_object()->clear_target_bucket();
    ExpectFailure(Run(operation, task_), "CopyOntoItself");
  }
}

TEST_F(CopyObjectTest, TagsThatTheStorePassedOverArePutByARequestOfTheirOwn) {
  ScriptedStore store([](const Request& request) -> Answer {
    if (request.method == "GET") return {200, Tagging("old", "1")};
    return Copied();
  });
  Connect(&store.server());
  const auto attempt =
      Run(Operation("tagging_directive: REPLACE new_tags { key: \"new\" value: \"2\" }"), task_);
  EXPECT_FALSE(attempt.has_value());
  EXPECT_THAT(store.lines(),
              ElementsAre("PUT /target/k", "GET /target/k?tagging=", "PUT /target/k?tagging="));
  EXPECT_THAT(store.request(2).body, HasSubstr("<Key>new</Key><Value>2</Value>"));
}

TEST_F(CopyObjectTest, TagsThatTheStoreDropsWithTheOldMetadataArePutBack) {
  ScriptedStore store([](const Request& request) -> Answer {
    if (request.method == "PUT") return Copied();
    return {200, request.target.find("/bucket/") == 0 ? Tagging("kept", "1") : TaggingXml({})};
  });
  Connect(&store.server());
  EXPECT_FALSE(Run(Operation("metadata_directive: REPLACE"), {"bucket", "k", "v1"}).has_value());
  EXPECT_THAT(store.lines(), ElementsAre("GET /bucket/k?tagging=&versionId=v1", "PUT /target/k",
                                         "GET /target/k?tagging=", "PUT /target/k?tagging="));
  EXPECT_THAT(store.request(3).body, HasSubstr("<Key>kept</Key><Value>1</Value>"));
}

TEST_F(CopyObjectTest, TagsThatCanNotBePutAreAFailureThatSaysThatTheCopyIsThere) {
  ScriptedStore store([](const Request& request) -> Answer {
    if (request.method == "GET") return {404, ErrorXml("NoSuchTagSet", "none")};
    if (request.target.find("tagging") != std::string::npos) return {403, ErrorXml("AccessDenied", "no")};
    return Copied();
  });
  Connect(&store.server());
  const auto attempt = Run(Operation("tagging_directive: REPLACE new_tags { key: \"new\" }"), task_);
  ExpectFailure(attempt, "AccessDenied");
  EXPECT_THAT(attempt->outcome.message, HasSubstr("Copied, but its tags could not be put: no"));
}

TEST_F(CopyObjectTest, TimesAreComparedHereForStoresThatIgnoreConditions) {
  ScriptedStore store([](const Request& request) -> Answer {
    if (request.method == "HEAD") return {200, "", StrCat("Last-Modified: ", kModified, "\r\n")};
    return Copied();
  });
  Connect(&store.server());
  const auto run = [&](const std::string& field, int64_t seconds) {
    return Run(Operation(StrCat(field, " { seconds: ", seconds, " }")), task_);
  };
  ExpectFailure(run("modified_since", kModifiedSeconds), "PreconditionFailed");
  ExpectFailure(run("modified_since", kModifiedSeconds + 1), "PreconditionFailed");
  ExpectFailure(run("unmodified_since", kModifiedSeconds - 1), "PreconditionFailed");
  EXPECT_THAT(store.lines(), SizeIs(3)) << "nothing was copied";
  EXPECT_FALSE(run("modified_since", kModifiedSeconds - 1).has_value());
  EXPECT_FALSE(run("unmodified_since", kModifiedSeconds).has_value());
  EXPECT_THAT(store.lines(), SizeIs(7));
  EXPECT_THAT(store.request(4).head,
              HasSubstr("x-amz-copy-source-if-modified-since: Sun, 06 Nov 1994 08:49:36 GMT"));
  EXPECT_THAT(store.request(6).head, HasSubstr(StrCat("x-amz-copy-source-if-unmodified-since: ", kModified)));
}

TEST_F(CopyObjectTest, AConditionIsNoSuccessWhereTheStoreTellsNoTime) {
  ScriptedStore store([](const Request&) -> Answer { return {200, ""}; });
  Connect(&store.server());
  ExpectFailure(Run(Operation("modified_since { seconds: 1 }"), task_), "MalformedResponse");
  EXPECT_THAT(store.lines(), ElementsAre("HEAD /bucket/k"));
}

TEST_F(CopyObjectTest, EncryptionThatIsNotShownIsAFailure) {
  std::string shown;
  std::string stored;
  ScriptedStore store([&](const Request& request) -> Answer {
    return request.method == "HEAD" ? Answer{200, "", stored} : Copied(shown);
  });
  Connect(&store.server());
  const v1::Operation kms =
      Operation("encryption { algorithm: \"aws:kms\" kms_key_id: \"key\" bucket_key: true }");
  ExpectFailure(Run(kms, task_), "EncryptionNotApplied");
  EXPECT_THAT(store.request(0).head, HasSubstr("x-amz-server-side-encryption: aws:kms\r\n"));
  EXPECT_THAT(store.request(0).head, HasSubstr("x-amz-server-side-encryption-aws-kms-key-id: key\r\n"));
  EXPECT_THAT(store.request(0).head, HasSubstr("x-amz-server-side-encryption-bucket-key-enabled: true\r\n"));
  stored = "x-amz-server-side-encryption: aws:kms\r\n";
  ExpectFailure(Run(kms, task_), "EncryptionNotApplied");
  shown = stored + "x-amz-server-side-encryption-bucket-key-enabled: true\r\n";
  EXPECT_FALSE(Run(kms, task_).has_value());
  EXPECT_THAT(store.lines(), SizeIs(5)) << "what the answer shows is not asked for";
}

TEST_F(CopyObjectTest, AnotherStorageClassIsAFailure) {
  std::string stored;
  ScriptedStore store([&](const Request& request) -> Answer {
    return request.method == "HEAD" ? Answer{200, "", stored} : Copied();
  });
  Connect(&store.server());
  EXPECT_FALSE(Run(Operation("storage_class: \"STANDARD\""), task_).has_value());
  ExpectFailure(Run(Operation("storage_class: \"COLD\""), task_), "StorageClassNotApplied");
  stored = "x-amz-storage-class: COLD\r\n";
  EXPECT_FALSE(Run(Operation("storage_class: \"COLD\""), task_).has_value());
  EXPECT_THAT(store.request(0).head, HasSubstr("x-amz-storage-class: STANDARD\r\n"));
}

std::string AclXml(const std::string& grants) {
  return StrCat(
      "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>me</ID></Owner>"
      "<AccessControlList><Grant><Grantee xmlns:xsi=\"x\" xsi:type=\"CanonicalUser\"><ID>me</ID></Grantee>"
      "<Permission>FULL_CONTROL</Permission></Grant>",
      grants, "</AccessControlList></AccessControlPolicy>");
}

TEST_F(CopyObjectTest, AnAccessControlListThatIsNotThereIsAFailure) {
  const std::string all_read =
      "<Grant><Grantee><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>"
      "<Permission>READ</Permission></Grant>";
  std::string acl = AclXml("");
  ScriptedStore store([&](const Request& request) -> Answer {
    return request.method == "GET" ? Answer{200, acl} : Copied();
  });
  Connect(&store.server());
  const v1::Operation granted = Operation(R"(acl_grants { grantee: "id=\"you\"" permission: "READ" }
      acl_grants { grantee: "emailAddress=\"a@b.c\"" permission: "READ" }
      acl_grants { grantee: "uri=\"urn:x\"" permission: "WRITE_ACP" })");
  ExpectFailure(Run(Operation("canned_acl: \"public-read\""), task_), "AclNotApplied");
  EXPECT_FALSE(Run(Operation("canned_acl: \"private\""), task_).has_value());
  ExpectFailure(Run(granted, task_), "AclNotApplied");
  acl = AclXml(all_read);
  EXPECT_FALSE(Run(Operation("canned_acl: \"public-read\""), task_).has_value());
  ExpectFailure(Run(Operation("canned_acl: \"private\""), task_), "AclNotApplied");
  ExpectFailure(Run(Operation("canned_acl: \"public-read-write\""), task_), "AclNotApplied");
  acl = AclXml(
      "<Grant><Grantee><ID>you</ID></Grantee><Permission>READ</Permission></Grant>"
      "<Grant><Grantee><URI>urn:x</URI></Grantee><Permission>WRITE_ACP</Permission></Grant>");
  EXPECT_FALSE(Run(granted, task_).has_value());
  acl = "<html/>";
  ExpectFailure(Run(granted, task_), "AclNotApplied");
  EXPECT_THAT(store.lines()[1], "GET /target/k?acl=");
  EXPECT_THAT(store.request(4).head, HasSubstr("x-amz-grant-read: id=\"you\", emailAddress=\"a@b.c\"\r\n"));
  EXPECT_THAT(store.request(4).head, HasSubstr("x-amz-grant-write-acp: uri=\"urn:x\"\r\n"));
}

TEST_F(CopyObjectTest, AChecksumThatIsNotInTheAnswerIsAFailure) {
  std::string result = "<CopyObjectResult><ChecksumSHA1>x</ChecksumSHA1></CopyObjectResult>";
  ScriptedStore store([&](const Request&) -> Answer { return {200, result}; });
  Connect(&store.server());
  ExpectFailure(Run(Operation("checksum_algorithm: \"SHA256\""), task_), "ChecksumNotComputed");
  EXPECT_FALSE(Run(Operation("checksum_algorithm: \"SHA1\""), task_).has_value());
  EXPECT_THAT(store.request(0).head, HasSubstr("x-amz-checksum-algorithm: SHA256\r\n"));
}

TEST_F(CopyObjectTest, ParametersThatAreNotCarriedOutAreRefusedNotIgnored) {
  ScriptedStore store([](const Request&) -> Answer { return Copied(); });
  Connect(&store.server(), &store.server());
  EXPECT_TRUE(Make(Operation("metadata_directive: COPY tagging_directive: COPY")).ok());
  for (const std::string text :
       {"redirect_location: \"/x\"", "legal_hold: true", "retention { mode: \"GOVERNANCE\" }",
        "new_tags { key: \"a\" }", "new_metadata { content_type: \"a/b\" }",
        "metadata_directive: COPY new_metadata { content_type: \"a/b\" }",
        "canned_acl: \"private\" acl_grants { grantee: \"id=\\\"x\\\"\" permission: \"READ\" }",
        "acl_grants { grantee: \"id=\\\"x\\\"\" permission: \"EAT\" }",
        "target_store: \"t\" checksum_algorithm: \"SHA1\""}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Make(Operation(text)).status())) << text;
  }
  v1::Operation operation = Operation();
  operation.mutable_copy_object()->set_tagging_directive(static_cast<v1::CopyObject::Directive>(7));
  EXPECT_TRUE(absl::IsInvalidArgument(Make(operation).status()));
  // A field of a later release.
  operation = Operation();
  operation.mutable_copy_object()
      ->GetReflection()
      ->MutableUnknownFields(operation.mutable_copy_object())
      ->AddVarint(900, 1);
  EXPECT_TRUE(absl::IsInvalidArgument(Make(operation).status()));
  EXPECT_TRUE(absl::IsNotFound(Make(Operation("target_store: \"unknown\"")).status()));
}

// --- Across two stores.

TEST_F(CopyObjectTest, ASmallObjectIsReadWholeAndWrittenWithItsMetadataAndTags) {
  const std::string body = "small <body>";
  ScriptedStore source(
      Source(body, SourceHeaders(Md5Hex(body)) +
                       "Content-Type: text/x-odd\r\nCache-Control: max-age=7\r\nExpires: never\r\n"
                       "Content-Encoding: gzip, aws-chunked\r\nx-amz-meta-a: the a\r\nX-Amz-Meta-B: b\r\n"
                       "x-amz-tagging-count: 1\r\nx-amz-storage-class: COLD\r\nServer: x\r\n"));
  ScriptedStore target(Target());
  Connect(&source.server(), &target.server());
  v1::Operation operation = Across("requester_pays: true");
  operation.mutable_copy_object()->set_target_key_prefix("p/");
  const auto attempt = Run(operation, {"bucket", "k", "v1"});
  EXPECT_FALSE(attempt.has_value()) << attempt->outcome.code << " " << attempt->outcome.message;
  EXPECT_THAT(source.lines(),
              ElementsAre("HEAD /bucket/k?versionId=v1", "GET /bucket/k?tagging=&versionId=v1",
                          "GET /bucket/k?versionId=v1"));
  EXPECT_THAT(source.request(2).head, HasSubstr(StrCat("If-Match: \"", Md5Hex(body), "\"\r\n")));
  EXPECT_THAT(source.request(0).head, HasSubstr("x-amz-request-payer: requester"));
  EXPECT_THAT(target.lines(), ElementsAre("PUT /target/p/k", "GET /target/p/k?tagging="));
  const Request put = target.request(0);
  EXPECT_EQ(put.body, body);
  for (const char* line :
       {"Content-Type: text/x-odd", "Cache-Control: max-age=7", "Expires: never", "Content-Encoding: gzip",
        "x-amz-meta-a: the a", "X-Amz-Meta-B: b", "x-amz-tagging: kept=y%20s"}) {
    EXPECT_THAT(put.head, HasSubstr(StrCat(line, "\r\n")));
  }
  EXPECT_THAT(put.head, HasSubstr(StrCat("Content-MD5: ", ContentMd5(body), "\r\n")));
  EXPECT_THAT(put.head, Not(HasSubstr("storage-class"))) << "the target's default, as within one store";
}

TEST_F(CopyObjectTest, WhatReplacesMetadataAndTagsIsWrittenInsteadOfTheSources) {
  ScriptedStore source(Source("", SourceHeaders(Md5Hex("")) +
                                      "Content-Type: old/type\r\nx-amz-meta-old: 1\r\n"
                                      "x-amz-tagging-count: 1\r\nx-amz-missing-meta: 3\r\n"));
  ScriptedStore target(Target());
  Connect(&source.server(), &target.server());
  const auto attempt =
      Run(Across("metadata_directive: REPLACE new_metadata { content_type: \"new/type\" } "
                 "tagging_directive: REPLACE storage_class: \"\" canned_acl: \"aws-exec-read\""),
          task_);
  EXPECT_FALSE(attempt.has_value()) << attempt->outcome.code;
  EXPECT_THAT(source.lines(), ElementsAre("HEAD /bucket/k", "GET /bucket/k"));
  const Request put = target.request(0);
  EXPECT_THAT(put.head, HasSubstr("Content-Type: new/type\r\n"));
  EXPECT_THAT(put.head, HasSubstr("x-amz-acl: aws-exec-read\r\n"));
  EXPECT_THAT(put.head, HasSubstr("Content-Length: 0\r\n"));
  EXPECT_THAT(put.head, Not(HasSubstr("old")));
}

std::string LargeBody() {
  std::string body(3'000'000, '\0');
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>(i * 31 >> 7);
  return body;
}

TEST_F(CopyObjectTest, ALargeObjectIsWrittenWhileItIsRead) {
  const std::string body = LargeBody();
  for (const std::string& etag : {Md5Hex(body), std::string("0123456789abcdef0123456789abcdef-2")}) {
    ScriptedStore source(Source(body, SourceHeaders(etag) + "x-amz-meta-a: the a\r\n"));
    ScriptedStore target(Target());
    Connect(&source.server(), &target.server());
    const auto attempt = Run(Across(), task_);
    EXPECT_FALSE(attempt.has_value()) << attempt->outcome.code << " " << attempt->outcome.message;
    EXPECT_THAT(source.lines(), ElementsAre("HEAD /bucket/k", "GET /bucket/k"));
    ASSERT_THAT(target.lines(), ElementsAre("PUT /target/k"));
    EXPECT_TRUE(target.request(0).body == body);
    EXPECT_THAT(target.request(0).head, HasSubstr("Expect: 100-continue"));
    EXPECT_THAT(target.request(0).head, HasSubstr("x-amz-meta-a: the a\r\n"));
    EXPECT_EQ(target.request(0).head.find("Content-MD5") != std::string::npos, etag.size() == 32);
  }
}

// A source that announces `body` and sends what `send` says of it.
TestServer::Handler Sending(const std::string& body, const std::string& etag,
                            std::function<void(TestServer::Peer&)> send) {
  return [=](TestServer::Peer& peer) {
    while (peer.ReadRequest()) {
      peer.Send(
          StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\nETag: \"", etag, "\"\r\n\r\n"));
      if (peer.method() != "HEAD") return send(peer);
    }
  };
}

TEST_F(CopyObjectTest, ASourceThatIsCutInTheMiddleIsTransientAndLeavesNothing) {
  const std::string body = LargeBody();
  TestServer source(Sending(body, "e-2", [&](TestServer::Peer& peer) {
    peer.Send(std::string_view(body).substr(0, body.size() - 1));
  }));
  ScriptedStore target(Target());
  Connect(&source, &target.server());
  ExpectFailure(Run(Across(), task_), "ConnectionLost", Attempt::End::kTransient);
  EXPECT_THAT(target.lines(), IsEmpty()) << "the target got a whole object";
}

TEST_F(CopyObjectTest, WhatIsReadWithAnotherMd5NeverReachesTheTargetWhole) {
  for (const std::string& body : {LargeBody(), std::string("small")}) {
    ScriptedStore source(Source(body, SourceHeaders(Md5Hex("other"))));
    ScriptedStore target(Target());
    Connect(&source.server(), &target.server());
    ExpectFailure(Run(Across(), task_), "SourceChecksumMismatch", Attempt::End::kTransient);
    EXPECT_THAT(target.lines(), IsEmpty());
  }
}

TEST_F(CopyObjectTest, AnEtagThatIsNoMd5IsNotTakenForOne) {
  for (const std::string& body : {LargeBody(), std::string("small")}) {
    ScriptedStore source(
        Source(body, SourceHeaders(Md5Hex("other")) + "x-amz-server-side-encryption: aws:kms\r\n"));
    ScriptedStore target([](const Request&) -> Answer {
      return {200, "",
              "ETag: \"0123456789abcdef0123456789abcdef\"\r\nx-amz-server-side-encryption: aws:kms\r\n"};
    });
    Connect(&source.server(), &target.server());
    EXPECT_FALSE(Run(Across(), task_).has_value());
  }
}

TEST_F(CopyObjectTest, ATargetThatStoredSomethingElseIsTransient) {
  for (const std::string& body : {LargeBody(), std::string("small")}) {
    ScriptedStore source(Source(body, SourceHeaders("parts-2")));
    ScriptedStore target([](const Request&) -> Answer {
      return {200, "", StrCat("ETag: \"", Md5Hex("something else"), "\"\r\n")};
    });
    Connect(&source.server(), &target.server());
    ExpectFailure(Run(Across(), task_), "TargetChecksumMismatch", Attempt::End::kTransient);
  }
}

TEST_F(CopyObjectTest, ASourceThatChangesMeanwhileIsTransient) {
  for (const bool heeds : {true, false}) {
    for (const std::string& body : {LargeBody(), std::string("small")}) {
      ScriptedStore source([&](const Request& request) -> Answer {
        if (request.method == "HEAD") return {200, body, SourceHeaders("first")};
        if (heeds) return {412, ErrorXml("PreconditionFailed", "changed")};
        return {200, body, SourceHeaders("second")};
      });
      ScriptedStore target(Target());
      Connect(&source.server(), &target.server());
      ExpectFailure(Run(Across(), task_), "SourceChanged", Attempt::End::kTransient);
      EXPECT_THAT(target.lines(), IsEmpty());
    }
  }
}

TEST_F(CopyObjectTest, ATargetThatRefusesEndsTheReading) {
  const std::string body = LargeBody();
  ScriptedStore source(Source(body, SourceHeaders(Md5Hex(body))));
  TestServer target([](TestServer::Peer& peer) {
    while (peer.ReadHead()) peer.Answer(403, ErrorXml("AccessDenied", "Not here."), "Connection: close\r\n");
  });
  Connect(&source.server(), &target);
  const auto attempt = Run(Across(), task_);
  ExpectFailure(attempt, "AccessDenied");
  EXPECT_EQ(attempt->outcome.http_status, 403);
  EXPECT_EQ(attempt->outcome.message, "Not here.");
}

TEST_F(CopyObjectTest, ATargetThatSaysYesToWhatItNeverGotIsNoSuccess) {
  const std::string body = LargeBody();
  ScriptedStore source(Source(body, SourceHeaders(Md5Hex(body))));
  TestServer target([](TestServer::Peer& peer) {
    while (peer.ReadHead()) peer.Answer(200, "");
  });
  Connect(&source.server(), &target);
  ExpectFailure(Run(Across(), task_), "ConnectionLost", Attempt::End::kTransient);
}

TEST_F(CopyObjectTest, ObjectsAboveTheLimitAreRefusedWithoutReadingThem) {
  ScriptedStore source([](const Request&) -> Answer { return {500, ""}; });
  TestServer large([](TestServer::Peer& peer) {
    while (peer.ReadRequest()) {
      peer.Send(
          StrCat("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: ", kMaxStreamedBytes + 1, "\r\n\r\n"));
    }
  });
  Connect(&large, &source.server());
  ExpectFailure(Run(Across(), task_), "EntityTooLarge");
  EXPECT_THAT(large.requests(), SizeIs(1));
  EXPECT_THAT(source.lines(), IsEmpty());
}

TEST_F(CopyObjectTest, MetadataThatCanNotBeReadIsNotLostSilently) {
  ScriptedStore source(Source("small", SourceHeaders("x") + "x-amz-missing-meta: 2\r\n"));
  ScriptedStore target(Target());
  Connect(&source.server(), &target.server());
  ExpectFailure(Run(Across(), task_), "MetadataNotReadable");
  EXPECT_THAT(target.lines(), IsEmpty());
}

TEST_F(CopyObjectTest, ConditionsHoldAcrossStoresToo) {
  ScriptedStore source(Source("small", SourceHeaders("x")));
  ScriptedStore target(Target());
  Connect(&source.server(), &target.server());
  ExpectFailure(Run(Across(StrCat("modified_since { seconds: ", kModifiedSeconds, " }")), task_),
                "PreconditionFailed");
  EXPECT_THAT(source.lines(), ElementsAre("HEAD /bucket/k"));
}

TEST_F(CopyObjectTest, ASourceThatIsNotThereIsTheStoresAnswer) {
  ScriptedStore source([](const Request&) -> Answer { return {404, ""}; });
  ScriptedStore target(Target());
  Connect(&source.server(), &target.server());
  const auto attempt = Run(Across(), task_);
  ExpectFailure(attempt, "NotFound");
  EXPECT_EQ(attempt->outcome.http_status, 404);
}

TEST_F(CopyObjectTest, ACancelEndsATransferInTheMiddle) {
  const std::string body = LargeBody();
  TestServer source(Sending(body, "e-2", [&](TestServer::Peer& peer) {
    peer.Send(std::string_view(body).substr(0, 1 << 20));
    peer.AwaitClose();
  }));
  ScriptedStore target(Target());
  Connect(&source, &target.server());
  boost::asio::steady_timer timer(io_, std::chrono::milliseconds(300));
  timer.async_wait([&](const boost::system::error_code&) { context_.Cancel(); });
  const auto begin = std::chrono::steady_clock::now();
  const auto attempt = Run(Across(), task_);
  ASSERT_TRUE(attempt.has_value());
  EXPECT_EQ(attempt->end, Attempt::End::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_THAT(target.lines(), IsEmpty());
}

TEST_F(CopyObjectTest, ASlowTargetHoldsBackTheSource) {
  const std::string body(64 << 20, 'x');
  std::atomic<size_t> sent{0};
  size_t sent_while_held = 0;
  TestServer source(Sending(body, "e-2", [&](TestServer::Peer& peer) {
    for (size_t i = 0; i < body.size(); i += 1 << 16) {
      peer.Send(std::string_view(body).substr(i, 1 << 16));
      sent += 1 << 16;
    }
    peer.AwaitClose();
  }));
  TestServer target([&](TestServer::Peer& peer) {
    if (!peer.ReadHead()) return;
    peer.Send("HTTP/1.1 100 Continue\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    sent_while_held = sent;
    if (peer.ReadBody()) peer.Answer(200, "", StrCat("ETag: \"", Md5Hex(peer.body()), "\"\r\n"));
  });
  Connect(&source, &target);
  const auto attempt = Run(Across(), task_);
  EXPECT_FALSE(attempt.has_value()) << attempt->outcome.code;
  EXPECT_EQ(sent, body.size());
  EXPECT_LT(sent_while_held, body.size() / 2);
}

TEST_F(CopyObjectTest, TheSameStoreUnderTwoNamesIsOneObjectAndTwoStoresAreTwo) {
  ScriptedStore store(Source("small", SourceHeaders("x")));
  Connect(&store.server(), &store.server());
  v1::Operation operation = Across();
  operation.mutable_copy_object()->clear_target_bucket();
  ExpectFailure(Run(operation, task_), "CopyOntoItself");
  EXPECT_THAT(store.lines(), IsEmpty());
  ScriptedStore target(Target());
  Connect(&store.server(), &target.server());
  EXPECT_FALSE(Run(operation, task_).has_value());
  EXPECT_THAT(target.lines(), ElementsAre("PUT /bucket/k"));
}

TEST_F(CopyObjectTest, TheFenceIsAskedBeforeEachRequest) {
  const std::string body = LargeBody();
  ScriptedStore source(Source(body, SourceHeaders(Md5Hex(body))));
  ScriptedStore target(Target());
  Connect(&source.server(), &target.server());
  for (int allowed = 0; allowed < 3; ++allowed) {
    context_.requests = 0;
    context_.fence_after = allowed;
    const auto attempt = Run(Across(), task_);
    ASSERT_TRUE(attempt.has_value());
    EXPECT_EQ(attempt->end, Attempt::End::kCancelled) << allowed;
    EXPECT_THAT(target.lines(), IsEmpty());
  }
  EXPECT_THAT(source.lines(), ElementsAre("HEAD /bucket/k", "HEAD /bucket/k", "GET /bucket/k"));
}

}  // namespace
}  // namespace drover
