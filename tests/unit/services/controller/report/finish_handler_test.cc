// The finish and the report-file duties together: what a job's report is in the end, whatever happens on the
// way.
#include "services/controller/report/finish_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/failpoint/failpoint.h"
#include "common/status/status.h"
#include "drover/v1/job.pb.h"
#include "nlohmann/json.hpp"
#include "services/controller/report/report_file_handler.h"
#include "tests/unit/services/controller/duties/duty_storage.h"
#include "tests/unit/services/controller/report/executed_job.h"
#include "tests/unit/services/controller/stores/memory_store.h"

namespace drover {
namespace {

using lifecycle::State;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kJob[] = "0194e9b6-0000-7000-8000-000000000001";
constexpr char kManifestKey[] = "jobs/job-0194e9b6-0000-7000-8000-000000000001/manifest.json";

std::string Hex(const EVP_MD* algorithm, const std::string& bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(bytes.data(), bytes.size(), digest, &size, algorithm, nullptr);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), size});
}

// What a crash is to a handler's thread: it goes no further, and cleans nothing up that a writer left behind.
struct Crash : std::runtime_error {
  Crash() : std::runtime_error("crash") {}
};

class FinishHandlerTest : public ::testing::Test {
 protected:
  FinishHandlerTest() : storage_(clock_) {
    char name[] = "/tmp/drover-report-XXXXXX";
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
          if (config.kind == StoreKind::kFile) return OpenObjectStore(config);
          return std::make_unique<MemoryStore>(memory_, config);
        });
    file_options_.piece_bytes = 2000;
    finish_options_.max_file_rows = 500;
    ExecutedJobOptions options;
    options.not_executed = 0.2;
    options.untouched = 0.1;
    options.failed = 0.3;
    executed_ = MakeExecutedJob(options);
  }
  ~FinishHandlerTest() override { std::filesystem::remove_all(root_); }

  v1::Job Request(const std::string& store = "main") {
    v1::Job job;
    job.mutable_operation()->set_store("main");
    job.mutable_operation()->mutable_delete_object_tagging();
    job.mutable_manifest()->mutable_csv()->set_etag("etag-1");
    job.set_description("all \"photos\"");
    job.mutable_report()->set_store(store);
    job.mutable_report()->set_bucket("reports");
    job.mutable_report()->set_prefix("jobs");
    return job;
  }

  // A job whose tasks have run, in a finishing state.
  void AddJob(const v1::Job& request, State state = State::kCompleting, bool wanted = true) {
    memory_->fault = nullptr;
    storage_.fault = nullptr;
    storage_.lost_commit = nullptr;
    {
      MutexLock lock(&memory_->mu);
      memory_->objects.clear();
      memory_->puts.clear();
      memory_->uploads.clear();
    }
    JobSpec spec;
    spec.job_id = kJob;
    spec.request = request.SerializeAsString();
    for (const StoreConfig& store : provider_->stores().list()) spec.stores[store.name] = store.Fingerprint();
    spec.report_wanted = wanted;
    spec.creator = "anonymous";
    spec.created = absl::FromUnixSeconds(1'600'000'000);
    storage_.AddJob(spec);
    storage_.Edit(kJob, [&](DutyStorage::Job& job) {
      job.batches = executed_.batches;
      job.segments = executed_.segments;
      lifecycle::Snapshot& snapshot = job.record.snapshot;
      snapshot.state = State::kActive;
      snapshot.prepared = true;
      snapshot.tasks = executed_.tasks;
      snapshot.succeeded = executed_.succeeded;
      snapshot.failed = executed_.failed;
      snapshot.batches = snapshot.next_batch = static_cast<int32_t>(executed_.batches.size());
      job.record.priority = 7;
    });
    storage_.BeginFinish(kJob, state);
  }

  std::unique_ptr<DutyHandler> Handler(DutyKind kind) {
    const auto changed = [this](const JobId&) { ++changes_; };
    if (kind == DutyKind::kFinish) {
      return MakeFinishHandler(finish_options_, storage_, *provider_, clock_, changed);
    }
    return MakeReportFileHandler(file_options_, storage_, *provider_, changed);
  }

  // One run of a duty as the runner does it, by a new handler as of a new controller.
  DutyOutcome Run(DutyKind kind, int32_t part = 0) {
    DutyContext context(storage_.Take(kJob, kind, part), clock_, absl::InfiniteDuration());
    return Run(context);
  }
  DutyOutcome Run(DutyContext& context) {
    const Duty& duty = context.duty();
    const DutyOutcome outcome = Handler(duty.kind)->Run(context);
    if (outcome.what == DutyOutcome::What::kDone) (void)storage_.FinishDuty(duty);
    if (outcome.what == DutyOutcome::What::kAgain) (void)storage_.ReleaseDuty(duty, outcome.delay, false);
    if (outcome.what == DutyOutcome::What::kFailed) (void)storage_.ReleaseDuty(duty, absl::Seconds(1), true);
    return outcome;
  }

  // Runs duties until none is left, time passing where they wait. A crash is the end of a controller, not of
  // the job.
  void Drive(int limit = 1000) {
    for (int i = 0; i < limit && storage_.duties() > 0; ++i) {
      const auto duties =
          storage_.AcquireDuties("driver", {DutyKind::kFinish, DutyKind::kReportFile}, 1, absl::Seconds(10));
      if (!duties.ok() || duties->empty()) {
        clock_.Advance(absl::Milliseconds(500));
        continue;
      }
      DutyContext context(duties->front(), clock_, absl::InfiniteDuration());
      try {
        Run(context);
      } catch (const Crash&) {
        clock_.Advance(absl::Seconds(10));
      }
    }
    EXPECT_EQ(storage_.duties(), 0u);
  }

  JobRecord record() { return storage_.Get(kJob).record; }

  // The report in the store is the job's, by what the test knows of the tasks.
  void ExpectReport(std::string_view status, const std::string& succeeded, const std::string& failed) {
    ASSERT_EQ(record().report_state, ReportState::kWritten) << record().report_error;
    EXPECT_EQ(record().report_manifest_key, kManifestKey);
    const nlohmann::json manifest =
        nlohmann::json::parse(memory_->Get(absl::StrCat("reports/", kManifestKey)));
    EXPECT_EQ(manifest.at("Status"), std::string(status));
    std::string rows[2];
    std::set<std::string> keys;
    for (const auto& result : manifest.at("Results")) {
      EXPECT_EQ(result.at("Bucket"), "reports");
      const std::string key = result.at("Key");
      EXPECT_THAT(key, testing::MatchesRegex(
                           "jobs/job-0194e9b6-0000-7000-8000-000000000001/results/[0-9a-f]{40}\\.csv"));
      EXPECT_TRUE(keys.insert(key).second);
      const std::string bytes = memory_->Get("reports/" + key);
      EXPECT_EQ(result.at("MD5Checksum"), Hex(EVP_md5(), bytes));
      EXPECT_EQ(result.at("SHA256Checksum"), Hex(EVP_sha256(), bytes));
      EXPECT_EQ(result.at("Bytes"), bytes.size());
      rows[result.at("TaskExecutionStatus") == "failed" ? 1 : 0] += bytes;
    }
    EXPECT_TRUE(rows[0] == succeeded) << "succeeded rows differ";
    EXPECT_TRUE(rows[1] == failed) << "failed rows differ";
    EXPECT_EQ(memory_->open_uploads(), 0u);
    MutexLock lock(&memory_->mu);
    EXPECT_EQ(memory_->puts.back(), kManifestKey);
    EXPECT_EQ(memory_->objects.size(), keys.size() + 1);  // and nothing else lies about
  }
  void ExpectWholeReport(std::string_view status) {
    ExpectReport(status, executed_.succeeded_rows, executed_.failed_rows);
  }

  FakeClock clock_;
  DutyStorage storage_;
  std::string root_;
  std::shared_ptr<MemoryStoreState> memory_ = std::make_shared<MemoryStoreState>();
  std::unique_ptr<StoreProvider> provider_;
  FinishOptions finish_options_;
  ReportFileOptions file_options_;
  ExecutedJob executed_;
  std::atomic<int> changes_ = 0;
};

TEST_F(FinishHandlerTest, WritesASmallReportItselfInOneRun) {
  AddJob(Request());
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kDone);
  EXPECT_EQ(record().snapshot.state, State::kComplete);
  EXPECT_EQ(storage_.duties(), 0u);
  ExpectWholeReport("Complete");
  EXPECT_THAT(storage_.Get(kJob).uploads, IsEmpty());
  EXPECT_GE(changes_, 1);
}

TEST_F(FinishHandlerTest, LeavesALargeReportToADutyForEachFile) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kAgain);
  EXPECT_EQ(record().snapshot.state, State::kCompleting);
  EXPECT_EQ(record().report_state, ReportState::kWriting);
  const size_t files = storage_.Get(kJob).plan->files.size();
  EXPECT_GT(files, 3u);
  EXPECT_EQ(storage_.duties(), files + 1);
  Drive();
  EXPECT_EQ(record().snapshot.state, State::kComplete);
  ExpectWholeReport("Complete");
  // Cut by rows: no file has more than the limit and what the last batch of it adds.
  const DutyStorage::Job job = storage_.Get(kJob);
  for (const ReportFile& file : job.plan->files) EXPECT_LE(file.rows, 500 + 120);
}

TEST_F(FinishHandlerTest, AReportThatTurnsOutTooLargeForOnePieceIsLeftToDuties) {
  finish_options_.small_file_bytes = 1000;
  AddJob(Request());
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kAgain);
  Drive();
  ExpectWholeReport("Complete");
}

TEST_F(FinishHandlerTest, ListsFailedTasksOnlyWhereOnlyTheyAreAskedFor) {
  for (int64_t small_rows : {0, 100'000}) {
    finish_options_.small_rows = small_rows;
    v1::Job request = Request();
    request.mutable_report()->set_scope(v1::ReportRequest::FAILED_TASKS_ONLY);
    AddJob(request);
    Drive();
    ExpectReport("Complete", "", executed_.failed_rows);
  }
}

TEST_F(FinishHandlerTest, AFailedOnlyReportWithoutFailuresIsAManifestAlone) {
  ExecutedJobOptions options;
  options.failed = 0;
  executed_ = MakeExecutedJob(options);
  v1::Job request = Request();
  request.mutable_report()->set_scope(v1::ReportRequest::FAILED_TASKS_ONLY);
  AddJob(request);
  Drive();
  ExpectReport("Complete", "", "");
}

TEST_F(FinishHandlerTest, TheManifestTellsTheJobAndItsEnd) {
  v1::Job request = Request();
  AddJob(request, State::kFailing);
  storage_.Edit(kJob, [](DutyStorage::Job& job) {
    job.record.failures = {{"FAILURE_THRESHOLD", "601 of 1000 executed tasks failed", {}}};
  });
  Drive();
  EXPECT_EQ(record().snapshot.state, State::kFailed);
  ExpectWholeReport("Failed");
  const nlohmann::json manifest = nlohmann::json::parse(memory_->Get(absl::StrCat("reports/", kManifestKey)));
  EXPECT_EQ(manifest.at("Format"), "Report_CSV_20180820");
  EXPECT_EQ(manifest.at("JobId"), kJob);
  EXPECT_THAT(manifest.at("FailureCodes"), ElementsAre("FAILURE_THRESHOLD"));
  EXPECT_THAT(manifest.at("FailureReasons"), ElementsAre("601 of 1000 executed tasks failed"));
  EXPECT_EQ(manifest.at("Counts").at("Total"), executed_.tasks);
  EXPECT_EQ(manifest.at("Counts").at("Succeeded"), executed_.succeeded);
  EXPECT_EQ(manifest.at("Counts").at("Failed"), executed_.failed);
  EXPECT_EQ(manifest.at("Job").at("description"), "all \"photos\"");
  EXPECT_EQ(manifest.at("Job").at("jobId"), kJob);
  EXPECT_EQ(manifest.at("Job").at("priority"), 7);
  EXPECT_EQ(manifest.at("Job").at("createTime"), "2020-09-13T12:26:40Z");
  EXPECT_EQ(manifest.at("ReportCreationDate"), "2023-11-14T22:13:20.000Z");
}

TEST_F(FinishHandlerTest, ACancelledJobHasAReportOfWhatRan) {
  AddJob(Request(), State::kCancelling);
  Drive();
  EXPECT_EQ(record().snapshot.state, State::kCancelled);
  ExpectWholeReport("Cancelled");
}

TEST_F(FinishHandlerTest, TheManifestTellsTheUnconfirmedTasksOfLeasesThatCameBackLast) {
  AddJob(Request(), State::kCancelling);
  // The last lease comes back after the job was read, before it is seen that none is left.
  storage_.fault = [&](const std::string& method) {
    if (method == "ChangeJob") {
      storage_.Edit(kJob, [](DutyStorage::Job& job) { job.record.unconfirmed = 2; });
    }
    return absl::OkStatus();
  };
  Drive();
  const nlohmann::json manifest = nlohmann::json::parse(memory_->Get(absl::StrCat("reports/", kManifestKey)));
  EXPECT_EQ(manifest.at("Counts").at("Unconfirmed"), 2);
}

TEST_F(FinishHandlerTest, WritesToAFileStoreAsWell) {
  for (int64_t small_rows : {0, 100'000}) {
    finish_options_.small_rows = small_rows;
    AddJob(Request("local"));
    Drive();
    EXPECT_EQ(record().report_state, ReportState::kWritten) << record().report_error;
    const auto read = [this](const std::string& key) {
      std::ostringstream text;
      text << std::ifstream(root_ + "/reports/" + key, std::ios::binary).rdbuf();
      return text.str();
    };
    std::string rows[2];
    size_t files = 1;
    const nlohmann::json manifest = nlohmann::json::parse(read(kManifestKey));
    for (const auto& result : manifest.at("Results")) {
      rows[result.at("TaskExecutionStatus") == "failed" ? 1 : 0] += read(result.at("Key"));
      ++files;
    }
    EXPECT_TRUE(rows[0] == executed_.succeeded_rows);
    EXPECT_TRUE(rows[1] == executed_.failed_rows);
    size_t found = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_))
      found += entry.is_regular_file();
    EXPECT_EQ(found, files);
    std::filesystem::remove_all(root_ + "/reports");
  }
}

// ---- ends without a report

TEST_F(FinishHandlerTest, AJobThatWantsNoReportEndsWithoutOne) {
  AddJob(Request(), State::kCompleting, /*wanted=*/false);
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kDone);
  EXPECT_EQ(record().snapshot.state, State::kComplete);
  EXPECT_EQ(record().report_state, ReportState::kNotNeeded);
  EXPECT_EQ(memory_->objects.size(), 0u);
}

TEST_F(FinishHandlerTest, AJobThatWasCancelledBeforeItRanGoesStraightToItsEnd) {
  executed_ = ExecutedJob();
  for (const auto& [finishing, end] :
       std::vector<std::pair<State, State>>{{State::kCancelling, State::kCancelled},
                                            {State::kFailing, State::kFailed},
                                            {State::kCompleting, State::kComplete}}) {
    AddJob(Request(), finishing);
    EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kDone);
    EXPECT_EQ(record().snapshot.state, end);
    EXPECT_EQ(record().report_state, ReportState::kNotNeeded);
    EXPECT_EQ(storage_.duties(), 0u);
  }
}

// ---- waiting

TEST_F(FinishHandlerTest, WaitsWithoutAThreadUntilNoLeaseIsOwned) {
  AddJob(Request(), State::kCancelling);
  storage_.Edit(kJob, [](DutyStorage::Job& job) { job.owned_leases = 2; });
  absl::Duration last;
  for (int i = 0; i < 20; ++i) {
    const DutyOutcome outcome = Run(DutyKind::kFinish);
    ASSERT_EQ(outcome.what, DutyOutcome::What::kAgain);
    EXPECT_GE(outcome.delay, absl::Milliseconds(50));
    EXPECT_LE(outcome.delay, absl::Milliseconds(500));
    EXPECT_GE(outcome.delay, last);
    last = outcome.delay;
    clock_.Advance(outcome.delay);
  }
  EXPECT_EQ(last, absl::Milliseconds(500));
  EXPECT_EQ(record().report_state, ReportState::kPending);
  storage_.Edit(kJob, [](DutyStorage::Job& job) { job.owned_leases = 0; });
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kDone);
  EXPECT_EQ(record().snapshot.state, State::kCancelled);
}

TEST_F(FinishHandlerTest, ADutyOfAJobThatHasEndedIsRemoved) {
  AddJob(Request());
  Drive();
  storage_.AddDuty(kJob, DutyKind::kFinish, 0);
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kDone);
  EXPECT_EQ(storage_.duties(), 0u);
}

TEST_F(FinishHandlerTest, OutcomesThatDoNotAddUpNeverEndTheJob) {
  AddJob(Request());
  storage_.Edit(kJob, [](DutyStorage::Job& job) { ++job.record.snapshot.succeeded; });
  const DutyOutcome outcome = Run(DutyKind::kFinish);
  EXPECT_EQ(outcome.what, DutyOutcome::What::kFailed);
  EXPECT_EQ(outcome.error.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(record().snapshot.state, State::kCompleting);
}

// ---- uploads

TEST_F(FinishHandlerTest, StoresTheUploadsIdBeforeItsFirstPart) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  std::atomic<int> early = 0;
  std::atomic<int> writes = 0;
  memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
    if (method == "Write") {
      ++writes;
      if (storage_.Get(kJob).uploads.empty()) ++early;
    }
    return absl::OkStatus();
  };
  Drive();
  EXPECT_GT(writes, 3);
  EXPECT_EQ(early, 0);
  EXPECT_GT(storage_.Get(kJob).uploads.size(), 1u);
}

TEST_F(FinishHandlerTest, AnUploadWhoseIdCouldNotBeStoredIsAborted) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  storage_.fault = [](const std::string& method) {
    return method == "SetUpload" ? absl::UnavailableError("away") : absl::OkStatus();
  };
  EXPECT_EQ(Run(DutyKind::kReportFile).what, DutyOutcome::What::kFailed);
  EXPECT_EQ(memory_->open_uploads(), 0u);
  storage_.fault = nullptr;
  Drive();
  ExpectWholeReport("Complete");
}

TEST_F(FinishHandlerTest, ASuccessorAbortsTheUploadOfAControllerThatDied) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  int commits = 0;
  memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
    if (method == "Commit" && ++commits == 1) throw Crash();
    return absl::OkStatus();
  };
  const Duty duty = storage_.Take(kJob, DutyKind::kReportFile);
  DutyContext context(duty, clock_, absl::InfiniteDuration());
  EXPECT_THROW(Run(context), Crash);
  EXPECT_EQ(memory_->open_uploads(), 1u);
  storage_.Expire(duty);
  Drive();
  ExpectWholeReport("Complete");
}

TEST_F(FinishHandlerTest, ASuccessorAbortsAnUploadWhoseIdWasNeverStored) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  storage_.fault = [](const std::string& method) -> absl::Status {
    if (method == "SetUpload") throw Crash();
    return absl::OkStatus();
  };
  const Duty duty = storage_.Take(kJob, DutyKind::kReportFile);
  DutyContext context(duty, clock_, absl::InfiniteDuration());
  EXPECT_THROW(Run(context), Crash);
  EXPECT_EQ(memory_->open_uploads(), 1u);
  storage_.fault = nullptr;
  storage_.Expire(duty);
  Drive();
  ExpectWholeReport("Complete");  // and no open upload
  EXPECT_EQ(memory_->open_uploads(), 0u);
}

TEST_F(FinishHandlerTest, AStoreThatCanNotListUploadsStillGetsTheReport) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  int listed = 0;
  memory_->fault = [&](const std::string& method, const std::string&, int64_t) -> absl::Status {
    if (method != "AbortUploads") return absl::OkStatus();
    // The first time it can't be reached, later it doesn't know the call.
    return ++listed == 1 ? absl::UnavailableError("away") : absl::UnimplementedError("what?");
  };
  const Duty duty = storage_.Take(kJob, DutyKind::kReportFile);
  storage_.Expire(duty);
  EXPECT_EQ(Run(DutyKind::kReportFile).what, DutyOutcome::What::kFailed);
  Drive();
  EXPECT_GE(listed, 2);
  ExpectWholeReport("Complete");
}

TEST_F(FinishHandlerTest, OneThatLostItsFileWritesNothingIntoTheReport) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  std::atomic<int> writes = 0;
  DutyContext slow(storage_.Take(kJob, DutyKind::kReportFile), clock_, absl::InfiniteDuration());
  bool others_done = false;
  memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
    if (method == "Commit" && ++writes == 1) {
      // As the slow one is about to finish, its duty has run out, and others have done all the rest.
      storage_.Expire(slow.duty());
      Drive();
      others_done = true;
    }
    return absl::OkStatus();
  };
  EXPECT_EQ(Run(slow).what, DutyOutcome::What::kEnded);
  EXPECT_TRUE(others_done);
  ExpectWholeReport("Complete");
}

TEST_F(FinishHandlerTest, StopsBetweenPiecesAndLeavesNoUpload) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  DutyContext context(storage_.Take(kJob, DutyKind::kReportFile), clock_, absl::InfiniteDuration());
  memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
    if (method == "Write") context.Stop();
    return absl::OkStatus();
  };
  const DutyOutcome outcome = Run(context);
  EXPECT_EQ(outcome.what, DutyOutcome::What::kAgain);
  EXPECT_EQ(outcome.delay, absl::ZeroDuration());
  EXPECT_EQ(memory_->open_uploads(), 0u);
  EXPECT_EQ(record().report_error, "");
  memory_->fault = nullptr;
  Drive();
  ExpectWholeReport("Complete");
}

// ---- stores that refuse or are away

TEST_F(FinishHandlerTest, TriesAReportForAQuarterOfAnHourAndThenSaysWhyThereIsNone) {
  for (int64_t small_rows : {0, 100'000}) {
    for (const char* refused : {"*", "manifest.json", "results/"}) {
      finish_options_.small_rows = small_rows;
      AddJob(Request());
      memory_->fault = [&](const std::string& method, const std::string& key, int64_t) {
        const bool writes = method == "Put" || method == "Create" || method == "Write" || method == "Commit";
        const bool hit = refused == std::string("*") || key.find(refused) != std::string::npos;
        return writes && hit ? StoreError(absl::StatusCode::kPermissionDenied, "OBJECT_DENIED")
                             : absl::OkStatus();
      };
      const absl::Duration start = clock_.Elapsed();
      Drive(10'000);
      EXPECT_EQ(record().snapshot.state, State::kComplete);
      EXPECT_EQ(record().report_state, ReportState::kFailed);
      EXPECT_THAT(record().report_error, HasSubstr("OBJECT_DENIED"));
      EXPECT_THAT(record().report_error, HasSubstr("15m"));
      EXPECT_GE(clock_.Elapsed() - start, absl::Minutes(15));
      EXPECT_LE(clock_.Elapsed() - start, absl::Minutes(16));
      EXPECT_EQ(memory_->open_uploads(), 0u);
      EXPECT_FALSE(memory_->Has(absl::StrCat("reports/", kManifestKey)));
    }
  }
}

TEST_F(FinishHandlerTest, NotesTheErrorOfAReportThatIsStillTried) {
  file_options_.piece_bytes = 1 << 20;  // so that files are put
  AddJob(Request());
  memory_->fault = [](const std::string& method, const std::string&, int64_t) {
    return method == "Put" ? StoreError(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE")
                           : absl::OkStatus();
  };
  (void)Run(DutyKind::kFinish);
  EXPECT_EQ(Run(DutyKind::kReportFile).what, DutyOutcome::What::kFailed);
  EXPECT_THAT(record().report_error, HasSubstr("STORE_UNAVAILABLE"));
  EXPECT_EQ(record().snapshot.state, State::kCompleting);
  memory_->fault = nullptr;
  Drive();
  ExpectWholeReport("Complete");
}

TEST_F(FinishHandlerTest, AnUploadLeftByAControllerThatDiedIsAbortedWhenTheReportIsGivenUp) {
  finish_options_.small_rows = 0;
  AddJob(Request());
  (void)Run(DutyKind::kFinish);
  memory_->fault = [](const std::string& method, const std::string&, int64_t) -> absl::Status {
    if (method == "Commit") throw Crash();
    return absl::OkStatus();
  };
  const Duty duty = storage_.Take(kJob, DutyKind::kReportFile);
  DutyContext context(duty, clock_, absl::InfiniteDuration());
  EXPECT_THROW(Run(context), Crash);
  EXPECT_EQ(memory_->open_uploads(), 1u);
  clock_.Advance(absl::Minutes(20));
  EXPECT_EQ(Run(DutyKind::kFinish).what, DutyOutcome::What::kDone);
  EXPECT_EQ(record().report_state, ReportState::kFailed);
  EXPECT_EQ(memory_->open_uploads(), 0u);
  EXPECT_EQ(storage_.duties(), 0u);
}

TEST_F(FinishHandlerTest, LeavesAReportInAnotherStoreOfThatNameToOtherControllers) {
  AddJob(Request());
  storage_.Edit(kJob, [](DutyStorage::Job& job) { job.record.spec.stores["main"] = "another fingerprint"; });
  (void)Run(DutyKind::kFinish);
  const DutyOutcome outcome = Run(DutyKind::kReportFile);
  EXPECT_EQ(outcome.what, DutyOutcome::What::kFailed);
  EXPECT_EQ(GetErrorDetails(outcome.error)->reason, "STORE_MISMATCH");
  EXPECT_TRUE(storage_.HasDuty(kJob, DutyKind::kReportFile));
  storage_.Edit(kJob, [this](DutyStorage::Job& job) {
    job.record.spec.stores["main"] = provider_->stores().Find("main")->Fingerprint();
  });
  Drive();
  ExpectWholeReport("Complete");
}

// ---- any error, anywhere

// Lets the n-th call of database or store fail, for every n there is, in one of four ways, and drives the job
// to its end: the report must be the same.
enum class Breakage { kDatabaseAway, kCommitUnknown, kStoreAway, kCrash };

class FinishBreakageTest : public FinishHandlerTest,
                           public ::testing::WithParamInterface<std::tuple<Breakage, int64_t>> {};

TEST_P(FinishBreakageTest, AtAnyCallLeavesTheSameReport) {
  const auto [breakage, small_rows] = GetParam();
  finish_options_.small_rows = small_rows;
  int64_t calls = 1;
  int broken = 0;
  for (int64_t at = 1; at <= calls; ++at) {
    AddJob(Request());
    std::atomic<int64_t> count = 0;
    bool hit = false;
    const auto next = [&] { return ++count == at; };
    if (breakage == Breakage::kDatabaseAway) {
      storage_.fault = [&](const std::string&) {
        if (!next()) return absl::OkStatus();
        hit = true;
        return absl::UnavailableError("database away");
      };
    } else if (breakage == Breakage::kCommitUnknown) {
      storage_.lost_commit = [&](const std::string&) {
        if (!next()) return absl::OkStatus();
        hit = true;
        return Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", "connection lost");
      };
    } else if (breakage == Breakage::kStoreAway) {
      memory_->fault = [&](const std::string&, const std::string&, int64_t) {
        if (!next()) return absl::OkStatus();
        hit = true;
        return StoreError(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE");
      };
    } else {
      memory_->fault = [&](const std::string& method, const std::string&, int64_t) {
        if (method == "Write" || !next()) return absl::OkStatus();
        hit = true;
        throw Crash();
      };
    }
    Drive();
    EXPECT_EQ(record().snapshot.state, State::kComplete) << at;
    ExpectWholeReport("Complete");
    if (HasFailure()) FAIL() << "after breaking call " << at;
    calls = std::max<int64_t>(calls, count);
    broken += hit ? 1 : 0;
  }
  EXPECT_GE(broken, 2);
}

INSTANTIATE_TEST_SUITE_P(All, FinishBreakageTest,
                         ::testing::Combine(::testing::Values(Breakage::kDatabaseAway,
                                                              Breakage::kCommitUnknown, Breakage::kStoreAway,
                                                              Breakage::kCrash),
                                            ::testing::Values(0, 100'000)));

TEST_F(FinishHandlerTest, FailpointsAreErrorsThatPass) {
  for (const char* spec :
       {"report.between_parts=error*1", "report.before_finish_file=error*1", "finish.before_plan=error*1",
        "finish.before_manifest=error*1", "finish.before_settle=error*1", "finish.before_end=error*1"}) {
    finish_options_.small_rows = 0;
    AddJob(Request());
    const failpoint::Scoped points(spec);
    Drive();
    ExpectWholeReport("Complete");
    const std::string point(spec, std::string_view(spec).find('='));
    EXPECT_GE(failpoint::Hits(point), 1) << point;
  }
}

}  // namespace
}  // namespace drover
