#include "services/controller/manifest/prepare_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/codec/task_batch.h"
#include "common/failpoint/failpoint.h"
#include "common/status/status.h"
#include "drover/v1/job.pb.h"
#include "services/controller/manifest/inline/inline_manifest.h"
#include "services/controller/manifest/prepare_progress.h"
#include "services/controller/manifest/resumable_sha256.h"
#include "tests/unit/common/compress/compress.h"
#include "tests/unit/services/controller/duties/duty_storage.h"
#include "tests/unit/services/controller/stores/memory_store.h"

namespace drover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kJob[] = "0194e9b6-0000-7000-8000-000000000001";
constexpr char kPath[] = "manifests/list.csv";

struct Line {
  std::string bucket;
  std::string key;
};

std::vector<Line> MakeLines(size_t count) {
  std::vector<Line> lines;
  for (size_t i = 0; i < count; ++i) {
    lines.push_back({i % 100 == 7 ? "archive" : "photos",
                     absl::StrFormat("2024/%02d/user-%06d/img_%08x.jpg", i % 12, i / 10, i * 2654435761u)});
  }
  return lines;
}

std::string ToCsv(const std::vector<Line>& lines) {
  std::string csv;
  for (const Line& line : lines) absl::StrAppend(&csv, line.bucket, ",", line.key, "\n");
  return csv;
}

// What the design says about batches, said once more: clamp(first / 256, 32, cap) tasks, or 512 KiB of raw
// bytes.
std::vector<NewBatch> ExpectedBatches(const std::vector<Line>& lines, int64_t cap) {
  std::vector<NewBatch> batches;
  TaskBatchBuilder builder;
  int64_t first = 0;
  for (size_t i = 0; i < lines.size(); ++i) {
    builder.Add({lines[i].bucket, lines[i].key, ""});
    const int64_t size = std::min(std::max<int64_t>(first / 256, 32), cap);
    if (static_cast<int64_t>(builder.count()) < size && builder.raw_bytes() < 512 * 1024 &&
        i + 1 < lines.size()) {
      continue;
    }
    const auto count = static_cast<int32_t>(builder.count());
    batches.push_back({first, count, builder.Finish()});
    first += count;
  }
  return batches;
}

void ExpectSameBatches(const std::vector<NewBatch>& got, const std::vector<NewBatch>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].first_task, expected[i].first_task) << i;
    ASSERT_EQ(got[i].tasks, expected[i].tasks) << i;
    ASSERT_EQ(got[i].payload, expected[i].payload) << i;
  }
}

std::string Sha256(std::string_view bytes) {
  ResumableSha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

class PrepareHandlerTest : public ::testing::Test {
 protected:
  PrepareHandlerTest() : storage_(clock_) {
    char name[] = "/tmp/drover-prepare-XXXXXX";
    root_ = mkdtemp(name);
    auto stores = Stores::Parse(
        absl::StrCat(
            "stores:\n"
            "  - {name: main, kind: s3, endpoint: 'http://127.0.0.1:9000', credentials: {anonymous: true}}\n"
            "  - {name: local, kind: file, root: ",
            root_, "}\n"),
        "stores.yaml");
    if (!stores.ok()) abort();
    provider_ = std::make_unique<StoreProvider>(
        *std::move(stores),
        [this](const StoreConfig& config) -> absl::StatusOr<std::unique_ptr<ObjectStore>> {
          if (config.kind == StoreKind::kFile && !files_in_memory_) return OpenObjectStore(config);
          return std::make_unique<MemoryStore>(memory_, config);
        });
    // Small pieces, so that a few thousand lines have many blocks and chunks.
    options_.block_bytes = 1000;
    options_.chunk_bytes = 2000;
    options_.chunk_age = absl::Hours(1);
  }
  ~PrepareHandlerTest() override { std::filesystem::remove_all(root_); }

  v1::Job Request(const std::string& store) {
    v1::Job job;
    job.mutable_operation()->mutable_no_op();
    v1::CsvManifest& csv = *job.mutable_manifest()->mutable_csv();
    csv.mutable_location()->set_store(store);
    csv.mutable_location()->set_bucket("manifests");
    csv.mutable_location()->set_key("list.csv");
    if (store == "main") csv.set_etag("\"etag-1\"");
    return job;
  }

  void AddJob(const v1::Job& job, const std::string& pin = "", bool confirm = false) {
    JobSpec spec;
    spec.job_id = kJob;
    spec.request = job.SerializeAsString();
    for (const StoreConfig& store : provider_->stores().list()) spec.stores[store.name] = store.Fingerprint();
    spec.manifest_pin = pin;
    spec.confirmation_required = confirm;
    storage_.AddJob(spec);
    storage_.Edit(kJob, [&](DutyStorage::Job& row) { row.record.snapshot.confirmation_required = confirm; });
  }

  void WriteFile(const std::string& content) {
    std::filesystem::create_directories(root_ + "/manifests");
    std::ofstream(root_ + "/" + kPath, std::ios::binary) << content;
  }
  std::string FilePin() {
    const auto info = (*provider_->Get("local"))->Head({"manifests", "list.csv", ""});
    return info.ok() ? info->etag : "?";
  }

  // One run by a new handler, as of a new controller.
  DutyOutcome Run() {
    DutyContext context(storage_.Take(kJob, DutyKind::kPrepare), clock_, absl::Hours(1000));
    return Run(context);
  }
  DutyOutcome Run(DutyContext& context) {
    const auto handler = MakePrepareHandler(options_, storage_, *provider_, clock_,
                                            [this](const JobId&) { changes_.fetch_add(1); });
    DutyOutcome outcome = handler->Run(context);
    if (outcome.what == DutyOutcome::What::kFailed) {
      EXPECT_FALSE(outcome.error.ok());
    }
    if (outcome.what == DutyOutcome::What::kFailed || outcome.what == DutyOutcome::What::kAgain) {
      (void)storage_.ReleaseDuty(context.duty(), absl::ZeroDuration(), false);
    }
    return outcome;
  }

  lifecycle::State state() { return storage_.Get(kJob).record.snapshot.state; }
  std::vector<NewBatch> batches() { return storage_.Get(kJob).batches; }
  lifecycle::Failure failure() {
    const auto failures = storage_.Get(kJob).record.failures;
    return failures.empty() ? lifecycle::Failure{} : failures.front();
  }
  void ExpectFailed(std::string_view code) {
    EXPECT_EQ(state(), lifecycle::State::kFailing);
    EXPECT_EQ(failure().code, code) << failure().reason;
    EXPECT_FALSE(storage_.HasDuty(kJob, DutyKind::kPrepare));
  }

  FakeClock clock_;
  DutyStorage storage_;
  std::string root_;
  std::shared_ptr<MemoryStoreState> memory_ = std::make_shared<MemoryStoreState>();
  bool files_in_memory_ = false;  // the file store is one that can be told to fail
  std::unique_ptr<StoreProvider> provider_;
  PrepareOptions options_;
  std::atomic<int> changes_ = 0;
};

TEST_F(PrepareHandlerTest, MakesTheBatchesThatTheDesignSaysAndTheJobReady) {
  const std::vector<Line> lines = MakeLines(20'000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_THAT(storage_.Get(kJob).states, ElementsAre(lifecycle::State::kPreparing, lifecycle::State::kReady));
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
  const auto job = storage_.Get(kJob);
  EXPECT_EQ(job.record.snapshot.tasks, 20'000);
  EXPECT_TRUE(job.record.snapshot.prepared);
  EXPECT_GT(job.chunk_progress.size(), 20u);
  EXPECT_GE(changes_, 3);
  EXPECT_FALSE(storage_.HasDuty(kJob, DutyKind::kPrepare));
}

TEST_F(PrepareHandlerTest, TheSizesOfBlocksAndChunksMakeNoDifference) {
  const std::vector<Line> lines = MakeLines(12'000);
  const std::vector<NewBatch> expected = ExpectedBatches(lines, 4096);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  for (size_t block : {61, 4096, 1 << 20}) {
    options_.block_bytes = block;
    options_.chunk_bytes = block * 3;
    AddJob(Request("main"));
    EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
    ExpectSameBatches(batches(), expected);
  }
}

TEST_F(PrepareHandlerTest, CutsBatchesOfCopiesAt256Tasks) {
  const std::vector<Line> lines = MakeLines(70'000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  options_.block_bytes = 1 << 16;
  v1::Job job = Request("main");
  job.mutable_operation()->mutable_copy_object()->set_target_bucket("copies");
  AddJob(job);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 256));
  EXPECT_EQ(batches().at(batches().size() - 2).tasks, 256);
}

TEST_F(PrepareHandlerTest, ClosesABatchAtHalfAMebibyteOfKeys) {
  std::string csv;
  for (int i = 0; i < 5000; ++i)
    absl::StrAppend(&csv, "photos,", absl::StrFormat("%06d", i), std::string(294, 'k'), "\n");
  memory_->Set(kPath, csv, "etag-1");
  AddJob(Request("main"));
  // Where batches of a large job would have 4,096 tasks.
  PrepareProgress progress;
  progress.etag = "etag-1";
  progress.next_task = 2'000'000;
  Duty duty = storage_.Take(kJob, DutyKind::kPrepare);
  duty.progress = progress.Serialize();
  DutyContext context(duty, clock_, absl::Hours(1));
  EXPECT_EQ(Run(context).what, DutyOutcome::What::kEnded);
  // 300 bytes each and 6 of the bucket's name: the 1,748th reaches 524,288.
  ASSERT_THAT(batches(), SizeIs(3));
  EXPECT_EQ(batches()[0].tasks, 1748);
  EXPECT_EQ(batches()[1].tasks, 1748);
  EXPECT_EQ(batches()[2].tasks, 5000 - 2 * 1748);
}

TEST_F(PrepareHandlerTest, AnEmptyManifestCompletesTheJob) {
  memory_->Set(kPath, "", "etag-1");
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_EQ(state(), lifecycle::State::kCompleting);
  EXPECT_THAT(batches(), IsEmpty());
  EXPECT_TRUE(storage_.HasDuty(kJob, DutyKind::kFinish));
}

TEST_F(PrepareHandlerTest, AJobThatWantsConfirmationIsSuspended) {
  memory_->Set(kPath, "photos,a\n", "etag-1");
  AddJob(Request("main"), "", /*confirm=*/true);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_EQ(state(), lifecycle::State::kSuspended);
}

// ---- going on where another controller stopped

// Cuts a preparation at its `cut`-th chunk, before or after that one is committed, and lets others go on
// until it is done. The successor must store the same as if nothing had happened.
class PrepareResumeTest : public PrepareHandlerTest, public ::testing::WithParamInterface<const char*> {
 protected:
  // The number of chunks stored in all.
  size_t CutAt(size_t cut, bool committed) {
    size_t chunks = 0;
    const auto broken = [&](const std::string& method) -> absl::Status {
      if (method != "AppendBatches" || ++chunks != cut) return absl::OkStatus();
      return committed ? Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", "connection lost")
                       : absl::UnavailableError("database away");
    };
    const std::function<absl::Status(const std::string&)> none;
    storage_.fault = committed ? none : broken;
    storage_.lost_commit = committed ? broken : none;
    v1::Job job = Request(store_);
    job.mutable_manifest()->mutable_csv()->set_sha256(Sha256(stored_));
    job.mutable_manifest()->mutable_csv()->set_compression(compression_);
    AddJob(job, store_ == "local" ? FilePin() : "");
    memory_->first_read_offset = -1;
    const DutyOutcome first = Run();
    if (cut <= chunks && storage_.HasDuty(kJob, DutyKind::kPrepare)) {
      EXPECT_EQ(first.what, DutyOutcome::What::kFailed);
      EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
    }
    EXPECT_EQ(state(), lifecycle::State::kReady) << cut << " " << failure().code;
    ExpectSameBatches(batches(), ExpectedBatches(lines_, 4096));
    return chunks;
  }

  void SetUp() override {
    // Quoted keys and a wide spread of lengths, so that rows lie across blocks in every way.
    lines_ = MakeLines(3000);
    for (size_t i = 0; i < lines_.size(); i += 3) lines_[i].key += std::string(i % 50, 'x');
    stored_ = ToCsv(lines_);
    const std::string_view param = GetParam();
    store_ = std::string(param.substr(0, param.find(' ')));
    // Cut into members or frames within a row.
    const size_t half = stored_.size() / 2 + 3;
    if (param.ends_with("gzip")) {
      compression_ = v1::CsvManifest::GZIP;
      stored_ = Gzip(stored_.substr(0, half)) + Gzip(stored_.substr(half));
    } else if (param.ends_with("zstd")) {
      compression_ = v1::CsvManifest::ZSTD;
      stored_ = Zstd(stored_.substr(0, half)) + Zstd(stored_.substr(half));
    }
    memory_->Set(kPath, stored_, "etag-1");
    WriteFile(stored_);
    options_.chunk_bytes = 1;  // a chunk for each batch: cut at every boundary that there is
  }

  std::vector<Line> lines_;
  std::string store_;
  v1::CsvManifest::Compression compression_ = v1::CsvManifest::COMPRESSION_UNSPECIFIED;
  std::string stored_;  // the manifest as it is stored
};

TEST_P(PrepareResumeTest, GoesOnAtEveryChunkBoundaryWithTheSameBatches) {
  size_t chunks = 1;
  for (size_t cut = 1; cut <= chunks + 1; ++cut) {
    const size_t seen = CutAt(cut, /*committed=*/false);
    if (cut == 1) chunks = ExpectedBatches(lines_, 4096).size();
    ASSERT_GE(seen, chunks);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(chunks, 50u);
}

TEST_P(PrepareResumeTest, GoesOnAfterACommitWhoseResultWasUnknown) {
  const size_t chunks = ExpectedBatches(lines_, 4096).size();
  for (size_t cut = 1; cut <= chunks + 1; ++cut) {
    CutAt(cut, /*committed=*/true);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, PrepareResumeTest,
                         ::testing::Values("main", "local", "main gzip", "main zstd", "local gzip"));

TEST_F(PrepareHandlerTest, ASuccessorReadsOnAtTheOffsetAndNotFromTheStart) {
  const std::vector<Line> lines = MakeLines(5000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  int chunks = 0;
  storage_.fault = [&](const std::string& method) {
    return method == "AppendBatches" && ++chunks == 10 ? absl::UnavailableError("away") : absl::OkStatus();
  };
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
  EXPECT_EQ(memory_->first_read_offset, 0);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_GT(memory_->first_read_offset, 20'000);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

TEST_F(PrepareHandlerTest, StopsWhenAskedAndASuccessorGoesOn) {
  const std::vector<Line> lines = MakeLines(5000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  AddJob(Request("main"));
  DutyContext context(storage_.Take(kJob, DutyKind::kPrepare), clock_, absl::Hours(1));
  int chunks = 0;
  storage_.fault = [&](const std::string& method) {
    if (method == "AppendBatches" && ++chunks == 5) context.Stop();
    return absl::OkStatus();
  };
  const DutyOutcome outcome = Run(context);
  EXPECT_EQ(outcome.what, DutyOutcome::What::kAgain);
  EXPECT_EQ(outcome.delay, absl::ZeroDuration());
  EXPECT_EQ(state(), lifecycle::State::kPreparing);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

TEST_F(PrepareHandlerTest, OneThatLostItsDutyStoresNothingMoreAndTheOtherDoesItAll) {
  const std::vector<Line> lines = MakeLines(5000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  AddJob(Request("main"));
  int chunks = 0;
  bool other_done = false;
  storage_.fault = [&](const std::string& method) {
    if (method == "AppendBatches" && ++chunks == 5) {
      // In the middle of one controller's work the duty runs out, and another one does all the rest.
      storage_.Expire({kJob, DutyKind::kPrepare, 0, 1, 0, ""});
      EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
      other_done = true;
    }
    return absl::OkStatus();
  };
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_TRUE(other_done);
  EXPECT_EQ(state(), lifecycle::State::kReady);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

TEST_F(PrepareHandlerTest, ACancelledJobIsLeftAlone) {
  memory_->Set(kPath, ToCsv(MakeLines(5000)), "etag-1");
  AddJob(Request("main"));
  int chunks = 0;
  storage_.fault = [&](const std::string& method) {
    if (method == "AppendBatches" && ++chunks == 3) {
      storage_.BeginFinish(kJob, lifecycle::State::kCancelling);
    }
    return absl::OkStatus();
  };
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_EQ(state(), lifecycle::State::kCancelling);
  EXPECT_EQ(failure().code, "");
}

TEST_F(PrepareHandlerTest, AJobCancelledBeforeItsTurnIsNotRead) {
  AddJob(Request("main"));
  const Duty duty = storage_.Take(kJob, DutyKind::kPrepare);
  storage_.BeginFinish(kJob, lifecycle::State::kCancelling);
  DutyContext context(duty, clock_, absl::Hours(1));
  EXPECT_EQ(Run(context).what, DutyOutcome::What::kDone);
  EXPECT_THAT(storage_.Get(kJob).states, ElementsAre(lifecycle::State::kCancelling));
}

// ---- manifests that can't be used

TEST_F(PrepareHandlerTest, NamesBadLinesAndStoresNothingBehindThem) {
  std::string csv = ToCsv(MakeLines(1000));
  for (int i = 0; i < 20; ++i) csv += "Photos,bad-bucket\nphotos,good\n";
  csv += ToCsv(MakeLines(1000));
  memory_->Set(kPath, csv, "etag-1");
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_INVALID");
  const lifecycle::Failure found = failure();
  ASSERT_THAT(found.bad_lines, SizeIs(10));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(found.bad_lines[i].line, 1001 + 2 * i);
  EXPECT_THAT(found.bad_lines[0].reason, HasSubstr("Bucket"));
  EXPECT_THAT(found.reason, HasSubstr("line 1001"));
  EXPECT_LE(storage_.Get(kJob).record.snapshot.tasks, 1000);
}

TEST_F(PrepareHandlerTest, AnObjectThatIsNotThere) {
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_NOT_FOUND");
  EXPECT_THAT(failure().reason, HasSubstr("main"));
}

TEST_F(PrepareHandlerTest, AFileThatIsNotThere) {
  AddJob(Request("local"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_NOT_FOUND");
}

TEST_F(PrepareHandlerTest, AnotherETagThanTheJobNamesIsSaidWithBoth) {
  memory_->Set(kPath, "photos,a\n", "etag-2");
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_ETAG_MISMATCH");
  EXPECT_THAT(failure().reason, HasSubstr("etag-1"));
  EXPECT_THAT(failure().reason, HasSubstr("etag-2"));
}

TEST_F(PrepareHandlerTest, AnObjectThatChangesWhileItIsRead) {
  memory_->Set(kPath, ToCsv(MakeLines(1000)), "etag-1");
  memory_->fault = [](const std::string& method, const std::string&, int64_t at) {
    return method == "Read" && at > 10'000
               ? StoreError(absl::StatusCode::kFailedPrecondition, "OBJECT_CHANGED")
               : absl::OkStatus();
  };
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_CHANGED");
}

TEST_F(PrepareHandlerTest, AnObjectThatChangesBetweenTwoControllers) {
  memory_->Set(kPath, ToCsv(MakeLines(1000)), "etag-1");
  v1::Job job = Request("main");
  AddJob(job);
  int chunks = 0;
  storage_.fault = [&](const std::string& method) {
    return method == "AppendBatches" && ++chunks == 3 ? absl::UnavailableError("away") : absl::OkStatus();
  };
  EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
  memory_->Set(kPath, ToCsv(MakeLines(1001)), "etag-2");
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_CHANGED");
}

TEST_F(PrepareHandlerTest, AFileThatChangedSinceTheJobWasCreated) {
  WriteFile("photos,a\n");
  AddJob(Request("local"), FilePin());
  WriteFile("photos,a\nphotos,b\n");
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_CHANGED");
}

TEST_F(PrepareHandlerTest, AFileThatChangesWhileItIsRead) {
  const std::string csv = ToCsv(MakeLines(3000));
  WriteFile(csv);
  AddJob(Request("local"), FilePin());
  int chunks = 0;
  storage_.fault = [&](const std::string& method) {
    if (method == "AppendBatches" && ++chunks == 10) WriteFile(csv + "photos,one-more\n");
    return absl::OkStatus();
  };
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_CHANGED");
}

TEST_F(PrepareHandlerTest, HoldsTheHashAgainstTheOneThatTheJobNames) {
  for (const char* store : {"main", "local"}) {
    const std::string csv = ToCsv(MakeLines(500));
    memory_->Set(kPath, csv, "etag-1");
    WriteFile(csv);
    v1::Job job = Request(store);
    job.mutable_manifest()->mutable_csv()->set_sha256(Sha256(csv + "x"));
    AddJob(job);
    EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
    ExpectFailed("MANIFEST_SHA256_MISMATCH");
    EXPECT_THAT(failure().reason, HasSubstr(Sha256(csv)));
    EXPECT_THAT(failure().reason, HasSubstr(Sha256(csv + "x")));
  }
}

TEST_F(PrepareHandlerTest, ReadingIsDenied) {
  memory_->Set(kPath, "photos,a\n", "etag-1");
  memory_->fault = [](const std::string& method, const std::string&, int64_t) {
    return method == "Open" ? StoreError(absl::StatusCode::kPermissionDenied, "OBJECT_DENIED")
                            : absl::OkStatus();
  };
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_ACCESS_DENIED");
}

TEST_F(PrepareHandlerTest, AManifestOfAKindThatIsNotReadHere) {
  v1::Job job = Request("main");
  job.mutable_manifest()->mutable_inventory()->set_etag("etag-1");
  AddJob(job);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_UNSUPPORTED");
}

// ---- compressed ones

class PrepareCompressedTest : public PrepareHandlerTest,
                              public ::testing::WithParamInterface<v1::CsvManifest::Compression> {
 protected:
  bool gzip() const { return GetParam() == v1::CsvManifest::GZIP; }
  std::string Pack(std::string_view content) const { return gzip() ? Gzip(content) : Zstd(content); }
  // Runs a job over these bytes.
  void Prepare(std::string stored, const std::string& sha256 = "") {
    memory_->Set(kPath, std::move(stored), "etag-1");
    v1::Job job = Request("main");
    job.mutable_manifest()->mutable_csv()->set_compression(GetParam());
    job.mutable_manifest()->mutable_csv()->set_sha256(sha256);
    AddJob(job);
    EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  }
};

TEST_P(PrepareCompressedTest, MakesTheBatchesOfTheContent) {
  const std::vector<Line> lines = MakeLines(20'000);
  const std::string csv = ToCsv(lines);
  for (const std::string& stored : {Pack(csv), Pack(csv.substr(0, 777)) + Pack("") +
                                                   Pack(csv.substr(777, 5000)) + Pack(csv.substr(5777))}) {
    for (size_t block : {61, 4096, 1 << 20}) {
      options_.block_bytes = block;
      Prepare(stored, Sha256(stored));
      EXPECT_EQ(state(), lifecycle::State::kReady) << failure().reason;
      ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
    }
  }
}

TEST_P(PrepareCompressedTest, AnEmptyContentCompletesTheJob) {
  Prepare(Pack(""));
  EXPECT_EQ(state(), lifecycle::State::kCompleting);
}

TEST_P(PrepareCompressedTest, NamesBadLinesByTheirNumbersInTheContent) {
  const std::string csv = ToCsv(MakeLines(5000)) + "Photos,a\n";
  Prepare(Pack(csv.substr(0, 4321)) + Pack(csv.substr(4321)));
  ExpectFailed("MANIFEST_INVALID");
  ASSERT_THAT(failure().bad_lines, SizeIs(1));
  EXPECT_EQ(failure().bad_lines[0].line, 5001);
}

TEST_P(PrepareCompressedTest, HoldsTheHashAgainstTheBytesAsTheyAreStored) {
  Prepare(Pack("photos,a\n"), Sha256("photos,a\n"));
  ExpectFailed("MANIFEST_SHA256_MISMATCH");
  EXPECT_THAT(failure().reason, HasSubstr(Sha256(Pack("photos,a\n"))));
}

TEST_P(PrepareCompressedTest, OneThatIsCutOffOrDamagedFailsTheJobAndSaysWhere) {
  const std::string packed = Pack(ToCsv(MakeLines(5000)));
  Prepare(packed.substr(0, packed.size() / 2));
  ExpectFailed("MANIFEST_CORRUPT");
  EXPECT_THAT(failure().reason, HasSubstr("in the middle of a"));
  EXPECT_THAT(failure().reason, HasSubstr(absl::StrCat("at about byte ", packed.size() / 2, " (byte ")));
  EXPECT_THAT(failure().reason, HasSubstr("in store 'main'"));
  Prepare(Pack("photos,a\n") + "photos,b\n");
  ExpectFailed("MANIFEST_CORRUPT");
  EXPECT_THAT(failure().reason, HasSubstr("there is something else"));
  Prepare("photos,a\nphotos,b\n");
  ExpectFailed("MANIFEST_CORRUPT");
  EXPECT_THAT(failure().reason, HasSubstr(gzip() ? "it is no gzip file" : "it is no zstd file"));
  Prepare("");
  ExpectFailed("MANIFEST_CORRUPT");
  EXPECT_THAT(failure().reason, HasSubstr("it is empty"));
}

TEST_P(PrepareCompressedTest, ABombFailsTheJob) {
  options_.block_bytes = 1 << 20;
  Prepare(Pack(std::string(200 << 20, '\n')));
  ExpectFailed("MANIFEST_TOO_LARGE");
  EXPECT_THAT(failure().reason, HasSubstr("more than 250 times its own size"));
}

TEST_P(PrepareCompressedTest, OneThatHoldsNothingForLongFailsTheJob) {
  // A member or frame of 20 bytes and more for nothing.
  const std::string empty = Pack("");
  std::string stored;
  while (stored.size() < 17 << 20) stored += empty;
  options_.block_bytes = 1 << 20;
  Prepare(stored);
  ExpectFailed("MANIFEST_TOO_LARGE");
  EXPECT_THAT(failure().reason, HasSubstr("more than 16 MiB of it hold nothing"));
}

TEST_P(PrepareCompressedTest, IsNotGuessedButTheFailureSaysWhatItLooksLike) {
  memory_->Set(kPath, Pack(ToCsv(MakeLines(100))), "etag-1");
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_INVALID");
  EXPECT_THAT(failure().reason,
              HasSubstr(gzip() ? "looks like a file compressed with gzip" : "compressed with zstd"));
  EXPECT_THAT(failure().reason, HasSubstr("job.manifest.csv.compression"));
}

TEST_P(PrepareCompressedTest, ASuccessorReadsFromTheStartAndStoresNothingTwice) {
  const std::vector<Line> lines = MakeLines(5000);
  memory_->Set(kPath, Pack(ToCsv(lines)), "etag-1");
  int chunks = 0;
  storage_.fault = [&](const std::string& method) {
    return method == "AppendBatches" && ++chunks == 10 ? absl::UnavailableError("away") : absl::OkStatus();
  };
  v1::Job job = Request("main");
  job.mutable_manifest()->mutable_csv()->set_compression(GetParam());
  AddJob(job);
  EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
  EXPECT_GT(batches().size(), 5u);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_EQ(memory_->first_read_offset, 0);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

INSTANTIATE_TEST_SUITE_P(Formats, PrepareCompressedTest,
                         ::testing::Values(v1::CsvManifest::GZIP, v1::CsvManifest::ZSTD),
                         [](const auto& info) { return v1::CsvManifest::Compression_Name(info.param); });

TEST_F(PrepareHandlerTest, AZstdManifestWithALargeWindowIsNotRead) {
  memory_->Set(kPath, Zstd(std::string(20 << 20, '\n'), 25), "etag-1");
  v1::Job job = Request("main");
  job.mutable_manifest()->mutable_csv()->set_compression(v1::CsvManifest::ZSTD);
  AddJob(job);
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_UNSUPPORTED");
  EXPECT_THAT(failure().reason, HasSubstr("a window of more than 8 MiB"));
}

// ---- inline ones

class PrepareInlineTest : public PrepareHandlerTest {
 protected:
  // One run over a duty that began with this progress.
  void Prepare(const std::string& progress) {
    v1::Job job;
    job.mutable_operation()->mutable_copy_object()->set_target_bucket("copies");
    job.mutable_manifest()->mutable_inline_()->set_object_count(1);
    AddJob(job);
    Duty duty = storage_.Take(kJob, DutyKind::kPrepare);
    duty.progress = progress;
    DutyContext context(duty, clock_, absl::Hours(1));
    EXPECT_EQ(Run(context).what, DutyOutcome::What::kEnded);
  }
};

TEST_F(PrepareInlineTest, MakesTheBatchesOfItsObjects) {
  const std::vector<Line> lines = MakeLines(3000);
  v1::InlineManifest manifest;
  for (const Line& line : lines) {
    v1::InlineObject& object = *manifest.add_objects();
    object.set_bucket(line.bucket);
    object.set_key(line.key);
  }
  const std::string progress = TakeInlineObjects(manifest);
  EXPECT_EQ(manifest.objects_size(), 0);
  EXPECT_EQ(manifest.object_count(), 3000);
  Prepare(progress);
  EXPECT_EQ(state(), lifecycle::State::kReady) << failure().reason;
  EXPECT_EQ(storage_.Get(kJob).record.snapshot.tasks, 3000);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 256));
  EXPECT_FALSE(storage_.HasDuty(kJob, DutyKind::kPrepare));
}

TEST_F(PrepareInlineTest, KeepsKeysAndVersionsAsTheyWereGiven) {
  v1::InlineManifest manifest;
  v1::InlineObject& object = *manifest.add_objects();
  object.set_bucket("photos");
  object.set_key("a%20b+c,\"\n");
  object.set_version_id("null");
  Prepare(TakeInlineObjects(manifest));
  ASSERT_THAT(batches(), SizeIs(1));
  TaskBatchReader reader;
  const auto batch = reader.Decode(batches()[0].payload);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ((*batch)[0], (Task{"photos", "a%20b+c,\"\n", "null"}));
}

TEST_F(PrepareInlineTest, ObjectsThatCannotBeReadFailTheJob) {
  // No message; an object without bucket and key.
  for (const std::string& progress : {std::string("\x0a\x7f broken"), std::string("\x0a\x00", 2)}) {
    Prepare(progress);
    ExpectFailed("MANIFEST_UNSUPPORTED");
  }
}

TEST_F(PrepareHandlerTest, MoreTasksThanAJobMayHave) {
  memory_->Set(kPath, ToCsv(MakeLines(1000)), "etag-1");
  AddJob(Request("main"));
  Duty duty = storage_.Take(kJob, DutyKind::kPrepare);
  PrepareProgress progress;
  progress.etag = "etag-1";
  progress.next_task = 20'000'000'000 - 10;
  duty.progress = progress.Serialize();
  DutyContext context(duty, clock_, absl::Hours(1));
  EXPECT_EQ(Run(context).what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_TOO_LARGE");
  EXPECT_THAT(batches(), IsEmpty());
}

// ---- stores that are away

TEST_F(PrepareHandlerTest, KeepsWhatItReadBeforeTheStoreWentAway) {
  const std::vector<Line> lines = MakeLines(2000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  bool away = true;
  memory_->fault = [&](const std::string& method, const std::string&, int64_t at) {
    return away && method == "Read" && at > 50'000
               ? StoreError(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE")
               : absl::OkStatus();
  };
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
  EXPECT_GT(batches().size(), 20u);
  away = false;
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_GT(memory_->first_read_offset, 40'000);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

TEST_F(PrepareHandlerTest, TriesAStoreThatIsAwayForAQuarterOfAnHourAndThenFailsTheJob) {
  memory_->Set(kPath, "photos,a\n", "etag-1");
  memory_->fault = [](const std::string&, const std::string&, int64_t) {
    return StoreError(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE");
  };
  AddJob(Request("main"));
  for (int minute = 0; minute < 15; ++minute) {
    EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
    EXPECT_EQ(state(), lifecycle::State::kPreparing);
    clock_.Advance(absl::Minutes(1));
  }
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_UNAVAILABLE");
  EXPECT_THAT(failure().reason, HasSubstr("STORE_UNAVAILABLE"));
}

TEST_F(PrepareHandlerTest, CountsTheTimeAnewOnceSomethingWasRead) {
  const std::vector<Line> lines = MakeLines(2000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  int64_t readable = 0;
  memory_->fault = [&](const std::string& method, const std::string&, int64_t at) {
    return method == "Read" && at >= readable
               ? StoreError(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE")
               : absl::OkStatus();
  };
  AddJob(Request("main"));
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
    EXPECT_EQ(state(), lifecycle::State::kPreparing);
    clock_.Advance(absl::Minutes(10));
    readable += 10'000;
  }
  readable = 1 << 30;
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_EQ(state(), lifecycle::State::kReady);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

TEST_F(PrepareHandlerTest, LeavesAJobOfAnotherStoreOfThatNameToOtherControllers) {
  memory_->Set(kPath, "photos,a\n", "etag-1");
  v1::Job job = Request("main");
  AddJob(job);
  storage_.Edit(kJob, [](DutyStorage::Job& row) { row.record.spec.stores["main"] = "another fingerprint"; });
  const DutyOutcome outcome = Run();
  EXPECT_EQ(outcome.what, DutyOutcome::What::kFailed);
  EXPECT_EQ(GetErrorDetails(outcome.error)->reason, "STORE_MISMATCH");
  EXPECT_EQ(state(), lifecycle::State::kPreparing);
  EXPECT_TRUE(storage_.HasDuty(kJob, DutyKind::kPrepare));
  clock_.Advance(absl::Minutes(16));
  // No controller has it: the job says so instead of waiting for ever.
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  ExpectFailed("MANIFEST_UNAVAILABLE");
}

TEST_F(PrepareHandlerTest, AStoreThatIsAwayAtTheLastLookLosesNoTask) {
  // Whatever part of the tasks is stored by then.
  for (size_t chunk_bytes : {1, 2000, 1 << 20}) {
    const std::vector<Line> lines = MakeLines(2000);
    memory_->Set(kPath, ToCsv(lines), "pin");
    files_in_memory_ = true;
    options_.chunk_bytes = chunk_bytes;
    int looks = 0;
    memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
      return method == "Head" && ++looks <= 2
                 ? StoreError(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE")
                 : absl::OkStatus();
    };
    v1::Job job = Request("local");
    job.mutable_manifest()->mutable_csv()->set_sha256(Sha256(ToCsv(lines)));
    AddJob(job, "pin");
    EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
    EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
    EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
    EXPECT_EQ(state(), lifecycle::State::kReady) << failure().reason;
    EXPECT_EQ(storage_.Get(kJob).record.snapshot.tasks, 2000);
    ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
  }
}

TEST_F(PrepareHandlerTest, PassesOnWhatASlowStoreSentBeforeAWholeChunkIsThere) {
  const std::vector<Line> lines = MakeLines(2000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  options_.chunk_bytes = 1 << 20;
  options_.chunk_age = absl::Seconds(1);
  // Each block takes 300 ms of the clock's time.
  memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
    if (method == "Read") clock_.Advance(absl::Milliseconds(300));
    return absl::OkStatus();
  };
  AddJob(Request("main"));
  EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
  EXPECT_GT(storage_.Get(kJob).chunk_progress.size(), 5u);
  ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
}

TEST_F(PrepareHandlerTest, AFailpointBetweenChunksOrBeforeTheLastIsAPassingError) {
  const std::vector<Line> lines = MakeLines(2000);
  memory_->Set(kPath, ToCsv(lines), "etag-1");
  for (const char* spec : {"prepare.between_chunks=skip(3)error*1", "prepare.before_last=error*1"}) {
    AddJob(Request("main"));
    const failpoint::Scoped points(spec);
    EXPECT_EQ(Run().what, DutyOutcome::What::kFailed);
    EXPECT_EQ(Run().what, DutyOutcome::What::kEnded);
    ExpectSameBatches(batches(), ExpectedBatches(lines, 4096));
  }
}

}  // namespace
}  // namespace drover
