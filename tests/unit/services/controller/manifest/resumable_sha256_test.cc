#include "services/controller/manifest/resumable_sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace drover {
namespace {

std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 131 + (i >> 8));
  return bytes;
}

TEST(ResumableSha256, IsSha256) {
  ResumableSha256 hash;
  EXPECT_EQ(hash.HexDigest(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  hash.Update("abc");
  EXPECT_EQ(hash.HexDigest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(ResumableSha256, GoesOnFromAnyPointOfASavedState) {
  const std::string bytes = Pattern(300);
  ResumableSha256 whole;
  whole.Update(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    ResumableSha256 first;
    first.Update(std::string_view(bytes).substr(0, cut));
    const std::string saved = first.Save();
    EXPECT_LE(saved.size(), 220u);
    auto second = ResumableSha256::Restore(saved);
    ASSERT_TRUE(second.ok()) << saved;
    EXPECT_EQ(second->Save(), saved);
    second->Update(std::string_view(bytes).substr(cut));
    EXPECT_EQ(second->HexDigest(), whole.HexDigest()) << cut;
  }
}

TEST(ResumableSha256, CountsBeyondFourGigabytes) {
  // A length whose bits need the upper word, made up: it must come back as it was.
  const std::string saved = std::string(64, 'a') + ":68719476736:";
  const auto hash = ResumableSha256::Restore(saved);
  ASSERT_TRUE(hash.ok());
  EXPECT_EQ(hash->Save(), saved);
}

TEST(ResumableSha256, RefusesWhatItDidNotSave) {
  const std::string words(64, '0');
  for (const std::string& bad :
       {std::string(""), words, words + ":", words + ":1:", words + ":0:00", words + ":64:00",
        words + ":-1:", words + ":1:0", words + ":1:zz", words.substr(1) + ":0:", words + ":0::",
        std::string(64, 'G') + ":0:", words + ":18446744073709551615:"}) {
    EXPECT_FALSE(ResumableSha256::Restore(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace drover
