#include "common/objectstore/file_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "tests/support/reason.h"

namespace drover {
namespace {

namespace fs = std::filesystem;

class FileStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/drover-files-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    base_ = pattern;
    config_.name = "local";
    config_.kind = StoreKind::kFile;
    config_.root = base_ + "/root";
    fs::create_directories(config_.root + "/bucket");
    store_ = OpenFileStore(config_, SystemRandom());
  }
  void TearDown() override { fs::remove_all(base_); }

  void WriteFile(const std::string& path, const std::string& text) const {
    std::ofstream(base_ + "/" + path) << text;
  }
  std::string ReadFile(const std::string& path) const {
    std::ifstream in(base_ + "/" + path);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // Everything from an offset on, in reads of `step` bytes.
  absl::StatusOr<std::string> ReadAll(const ObjectRef& ref, int64_t offset, std::string_view etag,
                                      size_t step = 7) {
    DROVER_ASSIGN_OR_RETURN(auto reader, store_->Open(ref, offset, etag));
    std::string all;
    std::string buffer(step, '\0');
    while (true) {
      DROVER_ASSIGN_OR_RETURN(const size_t n, reader->Read(buffer.data(), buffer.size()));
      if (n == 0) return all;
      all.append(buffer, 0, n);
    }
  }
  std::vector<std::string> Names(const std::string& path) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(base_ + "/" + path))
      names.push_back(entry.path().filename());
    return names;
  }

  std::string base_;
  StoreConfig config_;
  std::unique_ptr<ObjectStore> store_;
};

TEST_F(FileStoreTest, WritesReadsAndDescribesAnObject) {
  const ObjectRef ref = {"bucket", "a/b/c.csv", ""};
  const auto put = store_->Put(ref, "hello world", "text/csv");
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_EQ(ReadFile("root/bucket/a/b/c.csv"), "hello world");
  const auto head = store_->Head(ref);
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->size, 11);
  EXPECT_EQ(head->etag, put->etag);
  struct stat st;
  ASSERT_EQ(stat((base_ + "/root/bucket/a/b/c.csv").c_str(), &st), 0);
  EXPECT_EQ(head->etag, StrCat("11-", st.st_mtim.tv_sec * int64_t{1000000000} + st.st_mtim.tv_nsec));
  EXPECT_LT(absl::AbsDuration(head->modified - SystemClock().Now()), absl::Minutes(1));
  EXPECT_EQ(ReadAll(ref, 0, "").value_or("?"), "hello world");
  EXPECT_EQ(ReadAll(ref, 6, head->etag).value_or("?"), "world");
  EXPECT_EQ(ReadAll(ref, 11, StrCat("\"", head->etag, "\"")).value_or("?"), "");
  EXPECT_EQ(Names("root/bucket/a/b"), std::vector<std::string>{"c.csv"});
}

TEST_F(FileStoreTest, ShowsNothingBeforeTheCommit) {
  const ObjectRef ref = {"bucket", "report.csv", ""};
  ASSERT_TRUE(store_->Put(ref, "old", "").ok());
  auto writer = store_->Create(ref, "text/csv");
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::string piece(300000, 'x');
  for (int i = 0; i < 10; ++i) ASSERT_TRUE((*writer)->Write(piece).ok());
  ASSERT_TRUE((*writer)->Write(std::string(3 << 20, 'y')).ok());
  EXPECT_EQ(ReadFile("root/bucket/report.csv"), "old");
  const auto info = (*writer)->Commit();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->size, 3000000 + (3 << 20));
  EXPECT_EQ(store_->Head(ref)->etag, info->etag);
  const std::string text = ReadFile("root/bucket/report.csv");
  EXPECT_EQ(text.find('y'), 3000000u);
  EXPECT_EQ(static_cast<int64_t>(text.size()), info->size);
  EXPECT_FALSE((*writer)->Write("more").ok());
}

TEST_F(FileStoreTest, LetsAnotherProcessAbortAnUploadByItsId) {
  const ObjectRef ref = {"bucket", "d/report.csv", ""};
  std::string upload_id;
  {
    auto writer = store_->Create(ref, "");
    ASSERT_TRUE(writer.ok());
    upload_id = (*writer)->upload_id();
    ASSERT_TRUE((*writer)->Write(std::string(2 << 20, 'x')).ok());
  }  // as after a crash: the upload stays
  EXPECT_EQ(Names("root/bucket/d"), std::vector<std::string>{upload_id});
  EXPECT_TRUE(OpenFileStore(config_, SystemRandom())->AbortUpload(ref, upload_id).ok());
  EXPECT_TRUE(Names("root/bucket/d").empty());
  EXPECT_TRUE(store_->AbortUpload(ref, upload_id).ok()) << "an absent upload is no error";
  EXPECT_TRUE(store_->AbortUpload({"bucket", "no/such/dir", ""}, upload_id).ok());
}

TEST_F(FileStoreTest, AbortsAllUploadsOfAFileAndNoOther) {
  const ObjectRef ref = {"bucket", "d/report.csv", ""};
  for (const char* key : {"d/report.csv", "d/report.csv", "d/report.csv2"}) {
    ASSERT_TRUE(store_->Create({"bucket", key, ""}, "").ok());
  }
  ASSERT_TRUE(store_->Put(ref, "whole", "").ok());
  ASSERT_EQ(Names("root/bucket/d").size(), 4u);
  EXPECT_TRUE(store_->AbortUploads(ref).ok());
  EXPECT_EQ(Names("root/bucket/d").size(), 2u) << "the file itself, and the other file's upload";
  EXPECT_EQ(ReadFile("root/bucket/d/report.csv"), "whole");
  EXPECT_TRUE(store_->AbortUploads(ref).ok());
  EXPECT_TRUE(store_->AbortUploads({"bucket", "no/such/dir", ""}).ok());
}

TEST_F(FileStoreTest, AbortsOnlyUploads) {
  ASSERT_TRUE(store_->Put({"bucket", "precious", ""}, "x", "").ok());
  for (const char* id : {"precious", "../bucket/precious", ".drover-upload-", ".drover-upload-../../precious",
                         ".drover-upload-0123456789abcdeg"}) {
    EXPECT_FALSE(store_->AbortUpload({"bucket", "k", ""}, id).ok()) << id;
  }
  EXPECT_EQ(ReadFile("root/bucket/precious"), "x");
}

TEST_F(FileStoreTest, RemovesAnAbortedUpload) {
  auto writer = store_->Create({"bucket", "k", ""}, "");
  ASSERT_TRUE(writer.ok());
  (*writer)->Abort();
  EXPECT_TRUE(Names("root/bucket").empty());
  EXPECT_FALSE((*writer)->Write("x").ok());
  EXPECT_FALSE((*writer)->Commit().ok());
}

TEST_F(FileStoreTest, DeletesAndDoesNotMindWhatIsNotThere) {
  ASSERT_TRUE(store_->Put({"bucket", "k", ""}, "x", "").ok());
  EXPECT_TRUE(store_->Delete({"bucket", "k", ""}).ok());
  EXPECT_TRUE(store_->Delete({"bucket", "k", ""}).ok());
  EXPECT_TRUE(store_->Delete({"none", "a/b", ""}).ok());
  EXPECT_EQ(ReasonOf(store_->Head({"bucket", "k", ""}).status()), "OBJECT_NOT_FOUND");
}

TEST_F(FileStoreTest, RefusesNamesThatItCanNotHold) {
  const std::string nul("a\0b", 3);
  for (const std::string& key :
       {std::string(""), std::string("/a"), std::string("a/"), std::string("a//b"), std::string("."),
        std::string(".."), std::string("../x"), std::string("a/../b"), std::string("a/./b"), nul,
        std::string(256, 'a'), std::string(1025, 'a'), std::string(".drover-upload-0123456789abcdef"),
        std::string("a/.drover-upload-x/b")}) {
    const ObjectRef ref = {"bucket", key, ""};
    EXPECT_EQ(ReasonOf(store_->Head(ref).status()), "OBJECT_NAME_INVALID") << key;
    EXPECT_EQ(ReasonOf(store_->Open(ref, 0, "").status()), "OBJECT_NAME_INVALID") << key;
    EXPECT_EQ(ReasonOf(store_->Put(ref, "x", "").status()), "OBJECT_NAME_INVALID") << key;
    EXPECT_EQ(ReasonOf(store_->Delete(ref)), "OBJECT_NAME_INVALID") << key;
  }
  for (const std::string& bucket :
       {std::string(""), std::string("."), std::string(".."), std::string("a/b"), std::string("/"), nul}) {
    EXPECT_EQ(ReasonOf(store_->Put({bucket, "k", ""}, "x", "").status()), "OBJECT_NAME_INVALID") << bucket;
  }
  EXPECT_EQ(ReasonOf(store_->Head({"bucket", "k", "v1"}).status()), "OBJECT_NAME_INVALID");
  EXPECT_TRUE(Names("root/bucket").empty());
}

TEST_F(FileStoreTest, FollowsNoLinkOutOfItsRoot) {
  fs::create_directories(base_ + "/outside");
  WriteFile("outside/secret", "secret");
  const std::string bucket = base_ + "/root/bucket/";
  fs::create_symlink("../../outside/secret", bucket + "relative");
  fs::create_symlink(base_ + "/outside/secret", bucket + "absolute");
  fs::create_directory_symlink("../../outside", bucket + "directory");
  fs::create_symlink("/proc/self/root/etc/passwd", bucket + "magic");
  fs::create_directory_symlink("/", base_ + "/root/slash");
  for (const ObjectRef& ref : std::vector<ObjectRef>{{"bucket", "relative", ""},
                                                     {"bucket", "absolute", ""},
                                                     {"bucket", "directory/secret", ""},
                                                     {"bucket", "magic", ""},
                                                     {"slash", "etc/passwd", ""}}) {
    EXPECT_EQ(ReasonOf(store_->Head(ref).status()), "OBJECT_DENIED") << ref.key;
    EXPECT_EQ(ReasonOf(store_->Open(ref, 0, "").status()), "OBJECT_DENIED") << ref.key;
  }
  EXPECT_FALSE(store_->Put({"bucket", "directory/new", ""}, "x", "").ok());
  EXPECT_FALSE(store_->Delete({"bucket", "directory/secret", ""}).ok());
  EXPECT_EQ(Names("outside"), std::vector<std::string>{"secret"});
  EXPECT_EQ(ReadFile("outside/secret"), "secret");
}

TEST_F(FileStoreTest, FollowsLinksThatStayInside) {
  ASSERT_TRUE(store_->Put({"bucket", "real/file", ""}, "inside", "").ok());
  fs::create_directory_symlink("real", base_ + "/root/bucket/link");
  EXPECT_EQ(ReadAll({"bucket", "link/file", ""}, 0, "").value_or("?"), "inside");
  ASSERT_TRUE(store_->Put({"bucket", "link/deep/er", ""}, "x", "").ok());
  EXPECT_EQ(ReadFile("root/bucket/real/deep/er"), "x");
}

TEST_F(FileStoreTest, ReadsOnlyFiles) {
  fs::create_directories(base_ + "/root/bucket/directory");
  ASSERT_EQ(mkfifo((base_ + "/root/bucket/pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReasonOf(store_->Open({"bucket", "directory", ""}, 0, "").status()), "OBJECT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(store_->Open({"bucket", "pipe", ""}, 0, "").status()), "OBJECT_NOT_FOUND");
  EXPECT_FALSE(store_->Put({"bucket", "directory", ""}, "x", "").ok());
  EXPECT_EQ(Names("root/bucket").size(), 2u) << "the failed upload was left behind";
}

TEST_F(FileStoreTest, NoticesAnotherObjectUnderTheSameName) {
  const ObjectRef ref = {"bucket", "k", ""};
  const std::string etag = store_->Put(ref, "one", "")->etag;
  ASSERT_TRUE(store_->Put(ref, "two", "").ok());
  EXPECT_EQ(ReasonOf(store_->Open(ref, 0, etag).status()), "OBJECT_CHANGED");
}

TEST_F(FileStoreTest, NoticesAChangeWhileReading) {
  const ObjectRef ref = {"bucket", "k", ""};
  ASSERT_TRUE(store_->Put(ref, std::string(1000, 'x'), "").ok());
  for (const bool shrink : {true, false}) {
    auto reader = store_->Open(ref, 0, "");
    ASSERT_TRUE(reader.ok());
    char buffer[600];
    ASSERT_EQ((*reader)->Read(buffer, sizeof(buffer)).value_or(0), 600u);
    const std::string path = base_ + "/root/bucket/k";
    if (shrink) {
      ASSERT_EQ(truncate(path.c_str(), 100), 0);
    } else {
      std::ofstream(path, std::ios::app) << "appended";
    }
    absl::StatusOr<size_t> read = size_t{1};
    while (read.ok() && *read > 0) read = (*reader)->Read(buffer, sizeof(buffer));
    EXPECT_EQ(ReasonOf(read.status()), "OBJECT_CHANGED");
    ASSERT_TRUE(store_->Put(ref, std::string(1000, 'x'), "").ok());
  }
}

TEST_F(FileStoreTest, GoesOnReadingAFileThatWasReplaced) {
  const ObjectRef ref = {"bucket", "k", ""};
  ASSERT_TRUE(store_->Put(ref, "first", "").ok());
  auto reader = store_->Open(ref, 0, "");
  ASSERT_TRUE(store_->Put(ref, "other", "").ok());
  char buffer[10];
  const auto n = (*reader)->Read(buffer, sizeof(buffer));
  ASSERT_TRUE(n.ok()) << n.status();
  EXPECT_EQ(std::string(buffer, *n), "first");
}

TEST_F(FileStoreTest, ReportsOffsetsBeyondTheEnd) {
  ASSERT_TRUE(store_->Put({"bucket", "k", ""}, "abc", "").ok());
  EXPECT_EQ(store_->Open({"bucket", "k", ""}, 4, "").status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store_->Open({"bucket", "k", ""}, -1, "").status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(FileStoreTest, IsUnavailableWhileItsRootIsMissing) {
  fs::rename(base_ + "/root", base_ + "/away");
  EXPECT_EQ(ReasonOf(store_->Head({"bucket", "k", ""}).status()), "STORE_UNAVAILABLE");
  EXPECT_EQ(ReasonOf(store_->Put({"bucket", "k", ""}, "x", "").status()), "STORE_UNAVAILABLE");
  fs::rename(base_ + "/away", base_ + "/root");
  EXPECT_TRUE(store_->Put({"bucket", "k", ""}, "x", "").ok());
}

TEST_F(FileStoreTest, ManyThreadsMayUseItAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 20; ++i) {
        const ObjectRef ref = {"bucket", StrCat("d", i, "/e/f", t), ""};
        EXPECT_TRUE(store_->Put(ref, ref.key, "").ok());
        EXPECT_EQ(ReadAll(ref, 0, "").value_or("?"), ref.key);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace drover
