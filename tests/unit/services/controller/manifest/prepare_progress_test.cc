#include "services/controller/manifest/prepare_progress.h"

#include <gtest/gtest.h>

namespace drover {
namespace {

TEST(PrepareProgress, NothingStoredIsTheBeginning) {
  const auto progress = PrepareProgress::Parse("");
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress->position, CsvPosition());
  EXPECT_EQ(progress->next_task, 0);
  EXPECT_EQ(progress->etag, "");
  EXPECT_FALSE(progress->unavailable_since);
}

TEST(PrepareProgress, ComesBackAsItWasStored) {
  PrepareProgress progress;
  progress.position = {123456789012, 77, CsvPosition::VersionIds::kWithout};
  progress.next_task = 5'000'000'000;
  progress.batches = 1'300'000;
  progress.etag = "\"odd\" \xff etag";
  progress.hashed = 123456780000;
  progress.hash.Update("some bytes");
  progress.unavailable_since = absl::FromUnixMillis(1'700'000'000'123);
  const auto again = PrepareProgress::Parse(progress.Serialize());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->position, progress.position);
  EXPECT_EQ(again->next_task, progress.next_task);
  EXPECT_EQ(again->batches, progress.batches);
  EXPECT_EQ(again->hashed, progress.hashed);
  EXPECT_EQ(again->hash.HexDigest(), progress.hash.HexDigest());
  EXPECT_EQ(again->unavailable_since, progress.unavailable_since);
}

TEST(PrepareProgress, RefusesAnythingElse) {
  for (const char* bad :
       {"{", "[]", "{}", "null", R"({"position":"x","task":0,"batches":0,"etag":""})",
        R"({"position":"0:0:unknown","task":-1,"batches":0,"etag":""})",
        R"({"position":"0:0:unknown","task":"0","batches":0,"etag":""})",
        R"({"position":"0:0:unknown","task":0,"batches":0,"etag":"","hashed":5,"hash":"x"})"}) {
    EXPECT_FALSE(PrepareProgress::Parse(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace drover
