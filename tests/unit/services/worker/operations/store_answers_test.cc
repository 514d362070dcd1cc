#include "services/worker/operations/store_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/objectstore/s3_client.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(FitsXmlTest, TellsWhatADocumentCanHold) {
  EXPECT_TRUE(FitsXml(""));
  EXPECT_TRUE(FitsXml("a/b ü 写真 📷 <&>\"' \t\n\r \x7f"));
  EXPECT_FALSE(FitsXml("a\x01"));
  EXPECT_FALSE(FitsXml("\x1f"));
  EXPECT_FALSE(FitsXml(std::string("a\0b", 3)));
  EXPECT_FALSE(FitsXml("a\xff"));          // no UTF-8
  EXPECT_FALSE(FitsXml("\xed\xa0\x80"));   // half of a surrogate pair
  EXPECT_FALSE(FitsXml("a\xef\xbf\xbe"));  // U+FFFE
  EXPECT_FALSE(
      FitsXml("\xef\xbf\xbf"
              "a"));                     // U+FFFF
  EXPECT_TRUE(FitsXml("\xef\xbf\xbd"));  // U+FFFD
}

TEST(DeleteXmlTest, EscapesKeysSoThatTheyComeBackAsTheyWere) {
  for (const std::string key :
       {"plain", "<Key>&amp;</Key>", "it's \"quoted\"", "a\tb\nc\r\nd", " ", "ü\x7f"}) {
    // An answer that escapes as well as the request did.
    const std::string xml =
        StrCat("<DeleteResult><Deleted><Key>", XmlEscape(key), "</Key></Deleted></DeleteResult>");
    EXPECT_THAT(DeleteXmlObject({key, ""}), HasSubstr(XmlEscape(key)));
    const auto entries = ParseDeleteResult(xml);
    ASSERT_TRUE(entries.has_value()) << key;
    EXPECT_EQ(entries->at(0).key, key);
  }
  EXPECT_EQ(DeleteXmlObject({"k", ""}), "<Object><Key>k</Key></Object>");
  EXPECT_EQ(DeleteXmlObject({"k", "v&1"}), "<Object><Key>k</Key><VersionId>v&amp;1</VersionId></Object>");
}

TEST(DeleteResultTest, SaysOfEachObjectWhatBecameOfIt) {
  const auto entries = ParseDeleteResult(R"(<?xml version="1.0" encoding="UTF-8"?>
      <s:DeleteResult xmlns:s="http://s3.amazonaws.com/doc/2006-03-01/">
        <s:Deleted><s:Key>a</s:Key><s:VersionId>v1</s:VersionId></s:Deleted>
        <s:Deleted><s:Key>b</s:Key><s:DeleteMarker>true</s:DeleteMarker>
                   <s:DeleteMarkerVersionId>m</s:DeleteMarkerVersionId></s:Deleted>
        <s:Error><s:Key>c</s:Key><s:Code>AccessDenied</s:Code><s:Message>Access <![CDATA[Denied]]></s:Message></s:Error>
        <s:Other/>
      </s:DeleteResult>)");
  ASSERT_TRUE(entries.has_value());
  ASSERT_THAT(*entries, SizeIs(3));
  EXPECT_TRUE(entries->at(0).deleted);
  EXPECT_EQ(entries->at(0).version_id, "v1");
  EXPECT_FALSE(entries->at(0).delete_marker);
  EXPECT_TRUE(entries->at(1).delete_marker);
  EXPECT_FALSE(entries->at(2).deleted);
  EXPECT_EQ(entries->at(2).code, "AccessDenied");
  EXPECT_EQ(entries->at(2).message, "Access Denied");
  EXPECT_EQ(entries->at(2).status, 0);
}

TEST(DeleteResultTest, RadosgwsErrorsComeOutAsS3s) {
  const auto entries = ParseDeleteResult(
      "<DeleteResult><Error><Key>a</Key><Code>403</Code><Message>AccessDenied</Message></Error>"
      "<Error><Key>b</Key><Code>500</Code><Message></Message></Error>"
      "<Error><Key>c</Key><Message>?</Message></Error></DeleteResult>");
  ASSERT_TRUE(entries.has_value());
  EXPECT_EQ(entries->at(0).status, 403);
  EXPECT_EQ(entries->at(0).code, "AccessDenied");
  EXPECT_EQ(entries->at(0).message, "");
  EXPECT_EQ(entries->at(1).status, 500);
  EXPECT_EQ(entries->at(1).code, "HTTP500");
  EXPECT_EQ(entries->at(2).code, "UnknownError");
}

TEST(DeleteResultTest, HalfADocumentIsNone) {
  const std::string whole = "<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>";
  ASSERT_TRUE(ParseDeleteResult(whole).has_value());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(ParseDeleteResult(std::string_view(whole).substr(0, size)).has_value()) << size;
  }
  EXPECT_FALSE(ParseDeleteResult("<html><body>welcome</body></html>").has_value());
  EXPECT_FALSE(ParseDeleteResult("{\"Deleted\": []}").has_value());
  EXPECT_FALSE(ParseDeleteResult("<DeleteResult><Deleted/></DeleteResult>").has_value());
  EXPECT_FALSE(ParseDeleteResult("<DeleteResult><Error><Code>x</Code></Error></DeleteResult>").has_value());
  // Nothing was said, but that wholly.
  EXPECT_THAT(*ParseDeleteResult("<DeleteResult/>"), SizeIs(0));
}

TEST(VersionsTest, ReadsVersionsAndMarkersInTheirOrder) {
  const auto page = ParseVersions(R"(<ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
      <Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
      <DeleteMarker><Key>a+b%2Bc%01</Key><VersionId>2</VersionId><IsLatest>true</IsLatest></DeleteMarker>
      <Version><Key>a+b%2Bc%01</Key><VersionId>1</VersionId><IsLatest>false</IsLatest><Size>1</Size></Version>
      <CommonPrefixes><Prefix>x</Prefix></CommonPrefixes></ListVersionsResult>)");
  ASSERT_TRUE(page.has_value());
  EXPECT_TRUE(page->truncated);
  ASSERT_THAT(page->versions, SizeIs(2));
  EXPECT_EQ(page->versions[0].key, "a b+c\x01");
  EXPECT_TRUE(page->versions[0].is_delete_marker);
  EXPECT_TRUE(page->versions[0].is_latest);
  EXPECT_EQ(page->versions[1].version_id, "1");
  EXPECT_FALSE(page->versions[1].is_delete_marker);
  EXPECT_FALSE(page->versions[1].is_latest);
}

TEST(VersionsTest, KeysAreDecodedOnlyWhereTheStoreEncodedThem) {
  const auto page = ParseVersions(
      "<ListVersionsResult><Version><Key>a+b%2B</Key><VersionId>1</VersionId></Version></"
      "ListVersionsResult>");
  ASSERT_TRUE(page.has_value());
  EXPECT_EQ(page->versions[0].key, "a+b%2B");
  EXPECT_FALSE(page->truncated);
}

TEST(VersionsTest, WhatIsDamagedIsNoPage) {
  EXPECT_FALSE(ParseVersions("").has_value());
  EXPECT_FALSE(ParseVersions("<ListBucketResult/>").has_value());
  EXPECT_FALSE(ParseVersions("<ListVersionsResult><Version><Key>a</Key></Version>").has_value());
  EXPECT_FALSE(ParseVersions("<ListVersionsResult><Version/></ListVersionsResult>").has_value());
  EXPECT_FALSE(ParseVersions("<ListVersionsResult><EncodingType>url</EncodingType>"
                             "<Version><Key>%zz</Key></Version></ListVersionsResult>")
                   .has_value());
}

}  // namespace
}  // namespace drover
