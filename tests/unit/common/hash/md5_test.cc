#include "common/hash/md5.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace drover {
namespace {

TEST(Md5, IsTheSameHoweverTheBytesCome) {
  Md5 whole;
  whole.Update("abc");
  EXPECT_EQ(absl::BytesToHexString(*whole.Finish()), "900150983cd24fb0d6963f7d28e17f72");
  Md5 pieces;
  for (const char* piece : {"a", "", "bc"}) pieces.Update(piece);
  EXPECT_EQ(absl::BytesToHexString(*pieces.Finish()), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(absl::BytesToHexString(*Md5().Finish()), "d41d8cd98f00b204e9800998ecf8427e");
}

TEST(Md5, IsHadOnce) {
  Md5 md5;
  EXPECT_TRUE(md5.Finish().has_value());
  EXPECT_FALSE(md5.Finish().has_value());
}

}  // namespace
}  // namespace drover
