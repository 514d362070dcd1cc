#include "common/http/url.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

TEST(ParseHttpOrigin, KnowsSchemesAndTheirPorts) {
  const auto plain = ParseHttpOrigin("http://store.example");
  ASSERT_TRUE(plain.ok());
  EXPECT_FALSE(plain->tls);
  EXPECT_EQ(plain->host, "store.example");
  EXPECT_EQ(plain->port, 80);
  EXPECT_EQ(plain->path, "");
  const auto secure = ParseHttpOrigin("https://Store.Example:9443/s3/");
  ASSERT_TRUE(secure.ok());
  EXPECT_TRUE(secure->tls);
  EXPECT_EQ(secure->host, "store.example");
  EXPECT_EQ(secure->port, 9443);
  EXPECT_EQ(secure->path, "/s3");
}

TEST(ParseHttpOrigin, TakesTheBracketsOffIpv6Addresses) {
  const auto origin = ParseHttpOrigin("http://[::1]:7480/");
  ASSERT_TRUE(origin.ok());
  EXPECT_EQ(origin->host, "::1");
  EXPECT_EQ(origin->port, 7480);
  EXPECT_EQ(origin->path, "");
}

TEST(ParseHttpOrigin, RefusesWhatCanNotBeAnEndpoint) {
  for (const char* url :
       {"", "store.example", "ftp://a", "http://", "http://:80", "http://a:0", "http://a:65536", "http://a:x",
        "http://a:", "http://user:secret@a", "http://a/?q", "http://a#f", "http://[::1", "http://[]:1",
        "http://[::1]x", "http://a b", "http://a/\x01", "http://a\r\nX: y"}) {
    EXPECT_FALSE(ParseHttpOrigin(url).ok()) << url;
  }
}

TEST(ParseHttpOrigin, DoesNotRepeatAPasswordInItsError) {
  const auto origin = ParseHttpOrigin("http://user:hunter2@store.example");
  ASSERT_FALSE(origin.ok());
  EXPECT_EQ(std::string(origin.status().message()).find("hunter2"), std::string::npos);
}

}  // namespace
}  // namespace drover
