#include "services/controller/report/rows/md5_sha256.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <random>
#include <string>

#include "absl/strings/escaping.h"
#include "services/controller/report/rows/file_hasher.h"

namespace drover {
namespace {

std::string ByOpenSsl(const EVP_MD* algorithm, std::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EXPECT_EQ(EVP_Digest(bytes.data(), bytes.size(), digest, &length, algorithm, nullptr), 1);
  return {reinterpret_cast<const char*>(digest), length};
}

template <size_t size>
std::string AsString(const std::array<uint8_t, size>& digest) {
  return {digest.begin(), digest.end()};
}

std::string RandomBytes(size_t size, std::mt19937& random) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

class Md5Sha256Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Md5Sha256::Available()) GTEST_SKIP() << "this processor has no SHA extensions";
  }
  void ExpectDigests(Md5Sha256& hashes, std::string_view bytes) {
    const Md5Sha256::Digests digests = hashes.Finish();
    ASSERT_EQ(AsString(digests.md5), ByOpenSsl(EVP_md5(), bytes)) << bytes.size() << " bytes";
    ASSERT_EQ(AsString(digests.sha256), ByOpenSsl(EVP_sha256(), bytes)) << bytes.size() << " bytes";
  }
  std::mt19937 random_{20240301};
};

TEST_F(Md5Sha256Test, AgreesWithOpenSslForEveryLengthAroundABlock) {
  Md5Sha256 hashes;
  for (size_t size = 0; size <= 260; ++size) {
    const std::string bytes = RandomBytes(size, random_);
    hashes.Update(bytes);
    ExpectDigests(hashes, bytes);
  }
}

TEST_F(Md5Sha256Test, AgreesWithOpenSslHoweverTheBytesAreCut) {
  for (int round = 0; round < 200; ++round) {
    const std::string bytes = RandomBytes(random_() % 10'000, random_);
    Md5Sha256 hashes;
    for (size_t at = 0; at < bytes.size();) {
      const size_t piece = random_() % (round % 2 == 0 ? 70 : 1500);
      hashes.Update(std::string_view(bytes).substr(at, piece));
      at += piece;
    }
    ExpectDigests(hashes, bytes);
  }
}

TEST_F(Md5Sha256Test, CountsMoreBitsThanFitIn32) {
  const std::string piece = RandomBytes(1 << 20, random_);
  constexpr int kPieces = 513;
  Md5Sha256 hashes;
  FileHasher by_openssl(/*in_one_pass=*/false);
  for (int i = 0; i < kPieces; ++i) {
    hashes.Update(piece);
    by_openssl.Update(piece);
  }
  const Md5Sha256::Digests digests = hashes.Finish();
  const FileDigest expected = *by_openssl.Finish();
  EXPECT_EQ(absl::BytesToHexString(AsString(digests.md5)), expected.md5);
  EXPECT_EQ(absl::BytesToHexString(AsString(digests.sha256)), expected.sha256);
}

}  // namespace
}  // namespace drover
