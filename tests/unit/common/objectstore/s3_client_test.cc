#include "common/objectstore/s3_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>

#include "common/strings/strings.h"
#include "tests/support/http/test_server.h"

namespace drover {
namespace {

namespace asio = boost::asio;
using ::testing::HasSubstr;
using Peer = TestServer::Peer;

class S3ClientTest : public ::testing::Test {
 protected:
  S3ClientTest() {
    config_.name = "test";
    config_.origin.host = "127.0.0.1";
    config_.credentials.access_key_id = "AKID";
    config_.credentials.secret_access_key = Secret("secret");
  }

  absl::StatusOr<S3Response> Send(const TestServer& server, S3Request request) {
    config_.origin.port = server.port();
    auto http = HttpClient::Create(io_, SystemClock(), HttpOptionsFor(config_));
    EXPECT_TRUE(http.ok());
    S3Client s3(config_, **http, SystemClock());
    std::optional<absl::StatusOr<S3Response>> result;
    asio::co_spawn(io_, s3.Send(std::move(request)),
                   [&](std::exception_ptr, absl::StatusOr<S3Response> response) {
                     result = std::move(response);
                     (*http)->Shutdown();
                   });
    io_.restart();
    io_.run();
    return *result;
  }

  // What a server that answers `status` with `body` makes of a request.
  S3Response Answered(const std::string& method, int status, const std::string& body) {
    TestServer server([&](Peer& peer) {
      while (peer.ReadRequest()) peer.Answer(status, body, "x-amz-request-id: r1\r\n");
    });
    const auto response = Send(server, {.method = method, .bucket = "b", .key = "k"});
    EXPECT_TRUE(response.ok()) << response.status();
    return response.value_or(S3Response());
  }

  // Sends to a server that answers 200, and gives the head and body that it got.
  std::pair<std::string, std::string> Seen(S3Request request) {
    std::pair<std::string, std::string> seen;
    TestServer server([&](Peer& peer) {
      while (peer.ReadRequest()) {
        seen = {peer.head(), peer.body()};
        peer.Answer(200, "");
      }
    });
    EXPECT_TRUE(Send(server, std::move(request)).ok());
    return seen;
  }

  asio::io_context io_{1};
  StoreConfig config_;
};

TEST_F(S3ClientTest, EncodesKeyAndQueryOnce) {
  const auto [head, body] =
      Seen({.method = "GET", .bucket = "bucket", .key = "/a//b +%?ü", .query = {{"tagging", ""}}});
  EXPECT_THAT(head, HasSubstr("GET /bucket//a//b%20%2B%25%3F%C3%BC?tagging= HTTP/1.1\r\n"));
}

TEST_F(S3ClientTest, AddressesBucketsAndTheServiceItself) {
  EXPECT_THAT(Seen({.method = "GET", .bucket = "bucket"}).first, HasSubstr("GET /bucket HTTP/1.1\r\n"));
  EXPECT_THAT(Seen({.method = "GET"}).first, HasSubstr("GET / HTTP/1.1\r\n"));
  config_.origin.path = "/s3";
  EXPECT_THAT(Seen({.method = "GET", .bucket = "b", .key = "k"}).first,
              HasSubstr("GET /s3/b/k HTTP/1.1\r\n"));
}

TEST_F(S3ClientTest, PutsTheBucketIntoTheHostNameWhereTheStoreWantsIt) {
  config_.path_style = false;
  config_.origin.host = "localhost";
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(200, peer.Header("Host") + peer.target());
  });
  const auto response = Send(server, {.method = "GET", .bucket = "my.bucket", .key = "k"});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, StrCat("my.bucket.localhost:", server.port(), "/k"));
  for (const char* bucket : {"a/b", "UPPER", "a b", "a\r\nb"}) {
    const auto refused = Send(server, {.method = "GET", .bucket = bucket, .key = "k"});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << bucket;
  }
}

TEST_F(S3ClientTest, SendsUserAgentMd5AndHashOfTheBody) {
  const auto [head, body] = Seen({.method = "PUT",
                                  .bucket = "b",
                                  .key = "k",
                                  .body = "hello",
                                  .content_md5 = true,
                                  .user_agent = "drover job/1"});
  EXPECT_EQ(body, "hello");
  EXPECT_THAT(head, HasSubstr("User-Agent: drover job/1\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\n"));
  EXPECT_THAT(
      head,
      HasSubstr(
          "x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n"));
  EXPECT_THAT(head, HasSubstr("Authorization: AWS4-HMAC-SHA256 Credential=AKID/"));
  EXPECT_THAT(head, HasSubstr("SignedHeaders=content-md5;host;x-amz-content-sha256;x-amz-date,"));
}

TEST_F(S3ClientTest, SignsNothingForAnonymousStores) {
  config_.credentials.anonymous = true;
  const auto [head, body] = Seen({.method = "GET", .bucket = "b", .key = "k"});
  EXPECT_EQ(head.find("Authorization"), head.npos);
  EXPECT_EQ(head.find("x-amz-"), head.npos);
}

TEST_F(S3ClientTest, ReadsTheErrorOfAnAnswer) {
  const S3Response response =
      Answered("GET", 404,
               "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>It &lt;is&gt; not "
               "there.</Message><Key>k</Key><RequestId>x</RequestId></Error>");
  EXPECT_FALSE(response.ok());
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(response.error_code, "NoSuchKey");
  EXPECT_EQ(response.error_message, "It <is> not there.");
  EXPECT_EQ(response.request_id, "r1");
}

TEST_F(S3ClientTest, FindsAnErrorUnderStatus200) {
  const S3Response response =
      Answered("PUT", 200,
               "<?xml version=\"1.0\" "
               "encoding=\"UTF-8\"?>\n\n<Error><Code>InternalError</Code><Message>We</Message></Error>");
  EXPECT_EQ(response.status, 200);
  EXPECT_FALSE(response.ok());
  EXPECT_EQ(response.error_code, "InternalError");
}

TEST_F(S3ClientTest, TakesNobodysDataForAnError) {
  EXPECT_TRUE(Answered("GET", 200, "<Error><Code>InternalError</Code></Error>").ok());
  // Errors of single keys in an answer of DeleteObjects are not an error of the whole.
  const S3Response deleted = Answered(
      "POST", 200, "<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>");
  EXPECT_TRUE(deleted.ok());
}

TEST_F(S3ClientTest, GivesACodeToErrorsWithoutABody) {
  EXPECT_EQ(Answered("HEAD", 404, "").error_code, "NotFound");
  EXPECT_EQ(Answered("GET", 503, "<html>Service Unavailable: Error</html>").error_code, "ServiceUnavailable");
  EXPECT_EQ(Answered("GET", 418, "").error_code, "HTTP418");
  EXPECT_EQ(Answered("GET", 500, "<Error><Code></Code></Error>").error_code, "UnknownError");
}

TEST_F(S3ClientTest, BoundsWhatAStoreMaySay) {
  std::string message;
  for (int i = 0; i < 1000; ++i) message += "ü";
  const S3Response response = Answered(
      "GET", 500,
      StrCat("<Error><Code>", std::string(500, 'C'), "</Code><Message>", message, "</Message></Error>"));
  EXPECT_EQ(response.error_code.size(), 64u);
  EXPECT_EQ(response.error_message.size(), 1024u);  // ends with a whole character
}

TEST(S3Text, EncodesCopySourceAndTagging) {
  EXPECT_EQ(EncodeCopySource("b", "/a b//ü?+", ""), "/b//a%20b//%C3%BC%3F%2B");
  EXPECT_EQ(EncodeCopySource("b", "k", "3/L+4="), "/b/k?versionId=3%2FL%2B4%3D");
  EXPECT_EQ(EncodeTagging({{"a b", "c&d"}, {"e", ""}}), "a%20b=c%26d&e=");
  EXPECT_EQ(EncodeTagging({}), "");
}

TEST(S3Text, ReadsTheTagsThatItWrites) {
  const std::vector<std::pair<std::string, std::string>> tags = {
      {"a b", "<&>\"'"}, {"ä", ""}, {"blank", "  "}};
  EXPECT_EQ(ParseTagging(TaggingXml(tags)), tags);
  EXPECT_EQ(ParseTagging("<?xml version=\"1.0\"?><x:Tagging xmlns:x=\"u\"><x:TagSet/></x:Tagging>"),
            (std::vector<std::pair<std::string, std::string>>()));
  for (const char* other : {"", "no XML", "<Error/>", "<Tagging><TagSet><Tag>", "<TagSet/>"}) {
    EXPECT_FALSE(ParseTagging(other).has_value()) << other;
  }
}

TEST(S3Text, EscapesXml) {
  EXPECT_EQ(XmlEscape("a<b>&\"'\r\n\t\x01"), "a&lt;b&gt;&amp;&quot;&apos;&#13;&#10;&#9;\xEF\xBF\xBD");
  EXPECT_EQ(TaggingXml({{"k<", "v&"}}),
            "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>k&lt;</Key>"
            "<Value>v&amp;</Value></Tag></TagSet></Tagging>");
}

TEST(S3Text, FindsAnElementWhateverItsNamespace) {
  EXPECT_EQ(XmlText("<a xmlns='x'><b><UploadId>2~x&amp;</UploadId></b></a>", "UploadId"), "2~x&");
  EXPECT_EQ(XmlText("<s:a xmlns:s='x'><s:ETag>&quot;e&quot;</s:ETag></s:a>", "ETag"), "\"e\"");
  EXPECT_EQ(XmlText("<a/>", "b"), "");
  EXPECT_EQ(XmlText("not xml", "b"), "");
  EXPECT_EQ(XmlText("", "b"), "");
}

}  // namespace
}  // namespace drover
