#include "common/objectstore/sigv4.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "absl/strings/escaping.h"
#include "common/hash/sha256.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

std::string FromBase64(const std::string& text) {
  std::string out;
  EXPECT_TRUE(absl::Base64Unescape(text, &out));
  return out;
}

// Signs one request of sigv4_vectors.py as S3Client does and compares every step with botocore's.
void Compare(const nlohmann::json& vector, std::map<std::string, SigV4Signer>& signers) {
  SCOPED_TRACE(vector["name"].get<std::string>());
  const std::string token = vector["token"];
  const std::string region = vector["region"];
  auto found = signers.find(region + token);
  if (found == signers.end()) {
    found = signers
                .emplace(region + token, SigV4Signer("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCY"),
                                                     Secret(token), region))
                .first;
  }
  const std::string path = "/bucket/" + UriEncode(FromBase64(vector["key"]), /*encode_slash=*/false);
  EXPECT_EQ(path, vector["path"].get<std::string>());
  QueryParams params;
  for (const auto& pair : vector["query"]) params.emplace_back(FromBase64(pair[0]), FromBase64(pair[1]));
  const std::string query = CanonicalQuery(params);
  EXPECT_EQ(query, vector["canonical_query"].get<std::string>());
  const std::string body = FromBase64(vector["body"]);
  const std::string host = vector["host"];
  const std::string method = vector["method"];
  const bool secure = host == "store.example";
  const std::string hash = secure ? std::string(kUnsignedPayload) : Sha256Hex(body);
  EXPECT_EQ(hash, vector["payload_hash"].get<std::string>());
  HttpHeaders headers;
  for (const auto& pair : vector["headers"]) headers.Add(FromBase64(pair[0]), FromBase64(pair[1]));
  found->second.Sign({method, path, query, host, hash}, absl::FromUnixSeconds(vector["time"].get<int64_t>()),
                     &headers);
  EXPECT_EQ(headers.Get("x-amz-date"), vector["date"].get<std::string>());
  EXPECT_EQ(headers.Get("Authorization"), vector["authorization"].get<std::string>());
}

TEST(SigV4, EqualsBotocoreForOddKeysQueriesHeadersAndThousandsOfRandomRequests) {
  constexpr int kRandom = 4000;
  const char* given = std::getenv("DROVER_TEST_SEED");
  const std::string seed = given != nullptr ? given : StrCat(std::random_device()() % 1000000);
  const std::string command = StrCat("/usr/bin/python3 ", DROVER_SOURCE_DIR,
                                     "/tests/unit/common/objectstore/sigv4_vectors.py ", seed, " ", kRandom);
  SCOPED_TRACE(StrCat("again with DROVER_TEST_SEED=", seed));
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::map<std::string, SigV4Signer> signers;
  char* line = nullptr;
  size_t capacity = 0;
  int compared = 0;
  while (getline(&line, &capacity, pipe) > 0 && !HasFailure()) {
    Compare(nlohmann::json::parse(line), signers);
    ++compared;
  }
  std::free(line);
  const int exit_code = pclose(pipe);
  if (HasFailure()) return;
  ASSERT_EQ(exit_code, 0) << "python3-boto3 is needed: " << command;
  EXPECT_GT(compared, kRandom + 60);
}

TEST(SigV4, EqualsTheExampleOfAmazonsDocumentation) {
  // https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html, "GET Object".
  SigV4Signer signer("AKIAIOSFODNN7EXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"), Secret(),
                     "us-east-1");
  HttpHeaders headers = {{"Range", "bytes=0-9"}};
  signer.Sign({"GET", "/test.txt", "", "examplebucket.s3.amazonaws.com", kEmptySha256},
              absl::FromCivil(absl::CivilDay(2013, 5, 24), absl::UTCTimeZone()), &headers);
  EXPECT_EQ(headers.Get("Authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

TEST(SigV4, SignsWithTheKeyOfTheDayAlsoWhenTimeGoesBack) {
  const auto sign = [](SigV4Signer& signer, int64_t second) {
    HttpHeaders headers;
    signer.Sign({"GET", "/", "", "h", kEmptySha256}, absl::FromUnixSeconds(second), &headers);
    return std::string(headers.Get("Authorization"));
  };
  const auto fresh = [] { return SigV4Signer("a", Secret("b"), Secret(), "r"); };
  SigV4Signer kept = fresh();
  for (int64_t second : {86399, 86400, 86399, 0, 86400, 864000}) {
    SigV4Signer other = fresh();
    EXPECT_EQ(sign(kept, second), sign(other, second)) << second;
  }
}

TEST(UriEncode, KeepsOnlyUnreservedCharacters) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  const std::string encoded = UriEncode(all, true);
  EXPECT_EQ(encoded.size(), 66u + 3 * (256 - 66));
  EXPECT_EQ(UriEncode("a/b +%\xff", false), "a/b%20%2B%25%FF");
  EXPECT_EQ(UriEncode("a/b", true), "a%2Fb");
}

TEST(CanonicalQuery, SortsByEncodedNameAndThenValue) {
  EXPECT_EQ(CanonicalQuery({{"b", ""}, {"a", "2"}, {"a", "10"}, {"B", "x y"}}), "B=x%20y&a=10&a=2&b=");
  EXPECT_EQ(CanonicalQuery({}), "");
  // '=' is not part of the comparison: "a" comes before "a-b".
  EXPECT_EQ(CanonicalQuery({{"a-b", "1"}, {"a", "2"}}), "a=2&a-b=1");
}

}  // namespace
}  // namespace drover
