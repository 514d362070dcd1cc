#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace drover::cli {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + elapsed; }
  absl::Duration Elapsed() const override { return elapsed; }
  absl::Duration elapsed;
};

v1::Job MakeJob(v1::JobState state, int64_t total, int64_t succeeded, int64_t failed) {
  v1::Job job;
  job.set_state(state);
  job.mutable_progress()->set_total_tasks(total);
  job.mutable_progress()->set_succeeded_tasks(succeeded);
  job.mutable_progress()->set_failed_tasks(failed);
  return job;
}

TEST(RateMeterTest, MeasuresOverTheWindowAndForgetsWhatIsOlder) {
  RateMeter rate;
  EXPECT_EQ(rate.per_second(), 0);
  rate.Add(absl::Seconds(0), 0);
  EXPECT_EQ(rate.per_second(), 0);
  for (int second = 1; second <= 10; ++second) rate.Add(absl::Seconds(second), second * 1000);
  EXPECT_DOUBLE_EQ(rate.per_second(), 1000);
  for (int second = 11; second <= 40; ++second) rate.Add(absl::Seconds(second), 10000);
  EXPECT_DOUBLE_EQ(rate.per_second(), 0);
}

TEST(RateMeterTest, SamplesOfTheSameInstantAreNoRate) {
  RateMeter rate;
  rate.Add(absl::Seconds(1), 0);
  rate.Add(absl::Seconds(1), 100);
  EXPECT_EQ(rate.per_second(), 0);
}

TEST(BarTest, FillsFromEmptyToFull) {
  EXPECT_EQ(Bar(0, 10), "[>         ]");
  EXPECT_EQ(Bar(0.5, 10), "[=====>    ]");
  EXPECT_EQ(Bar(1, 10), "[==========]");
  EXPECT_EQ(Bar(7, 10), "[==========]");
  EXPECT_EQ(Bar(-1, 3), "[>  ]");
}

TEST(ProgressLineTest, ShowsCountsRateFailuresAndTimeLeft) {
  const v1::Job job = MakeJob(v1::ACTIVE, 20000, 12300, 45);
  EXPECT_EQ(ProgressLine(job, 100, 0), "Active   61.7%  12,345/20,000  100/s  45 failed  1m16s left");
  EXPECT_EQ(
      ProgressLine(job, 100, 100),
      "Active [=======================>              ]  61.7%  12,345/20,000  100/s  45 failed  1m16s left");
  EXPECT_EQ(ProgressLine(job, 2.25, 0), "Active   61.7%  12,345/20,000  2.2/s  45 failed  56m42s left");
}

TEST(ProgressLineTest, NeverIsWiderThanTheTerminal) {
  v1::Job job = MakeJob(v1::PAUSED, 2'000'000'000, 1'234'567'890, 1'000'000);
  job.mutable_state_reason()->set_code("USER_REQUEST");
  job.mutable_state_reason()->set_message("длинная причина, that goes on and on");
  for (size_t columns = 1; columns < 200; ++columns) {
    EXPECT_LE(ProgressLine(job, 12345, columns).size(), columns);
  }
}

TEST(ProgressLineTest, TellsWhatAJobThatDoesNotRunWaitsFor) {
  EXPECT_EQ(ProgressLine(MakeJob(v1::PREPARING, 1234000, 0, 0), 0, 0), "Preparing  1,234,000 tasks found");
  v1::Job paused = MakeJob(v1::PAUSED, 10, 5, 0);
  paused.mutable_state_reason()->set_code("PREEMPTED");
  EXPECT_EQ(ProgressLine(paused, 0, 0), "Paused   50.0%  5/10  0 failed (PREEMPTED)");
  v1::Job active = MakeJob(v1::ACTIVE, 10, 5, 0);
  active.set_waiting_for("a worker: none is attached");
  EXPECT_EQ(ProgressLine(active, 0, 0),
            "Active   50.0%  5/10  0.0/s  0 failed (waits for a worker: none is attached)");
  v1::Job completing = MakeJob(v1::COMPLETING, 10, 10, 0);
  completing.mutable_report_status()->set_state(v1::ReportStatus::WRITING);
  completing.mutable_report_status()->set_files(4);
  completing.mutable_report_status()->set_files_written(1);
  EXPECT_EQ(ProgressLine(completing, 0, 0), "Completing  100.0%  10/10  0 failed  report 1/4 files");
}

TEST(ProgressLineTest, EmptyJobIsNotDividedByZero) {
  EXPECT_EQ(ProgressLine(MakeJob(v1::COMPLETING, 0, 0, 0), 0, 0), "Completing  100.0%  0/0  0 failed");
}

TEST(ProgressViewTest, RewritesOneLineOnATerminal) {
  FakeClock clock;
  std::string out;
  ProgressView view(80, clock, [&](std::string_view text) { out += text; });
  view.Update(MakeJob(v1::ACTIVE, 100, 10, 0));
  clock.elapsed += absl::Seconds(1);
  view.Update(MakeJob(v1::ACTIVE, 100, 20, 0));
  EXPECT_THAT(out, Not(HasSubstr("\n")));
  EXPECT_THAT(out, EndsWith("20.0%  20/100  10/s  0 failed  8s left"));
  view.Note("connection\nlost");
  EXPECT_THAT(out, EndsWith("\r\x1b[Kconnection lost\n"));
  out.clear();
  view.Finish();
  EXPECT_EQ(out, "");
  view.Update(MakeJob(v1::ACTIVE, 100, 30, 0));
  view.Update(MakeJob(v1::COMPLETE, 100, 100, 0));
  view.Finish();
  EXPECT_THAT(out, EndsWith("\r\x1b[K"));
}

TEST(ProgressViewTest, WritesPlainLinesAtChangesAndNowAndThenElsewhere) {
  FakeClock clock;
  std::string out;
  ProgressView view(std::nullopt, clock, [&](std::string_view text) { out += text; });
  view.Update(MakeJob(v1::ACTIVE, 100, 0, 0));
  for (int i = 1; i <= 12; ++i) {
    clock.elapsed += absl::Seconds(1);
    view.Update(MakeJob(v1::ACTIVE, 100, i, 0));
  }
  view.Update(MakeJob(v1::PAUSED, 100, 12, 0));
  view.Update(MakeJob(v1::PAUSED, 100, 12, 0));
  view.Finish();
  EXPECT_EQ(out,
            "Active    0.0%  0/100  0.0/s  0 failed\n"
            "Active    5.0%  5/100  1.0/s  0 failed  1m35s left\n"
            "Active   10.0%  10/100  1.0/s  0 failed  1m30s left\n"
            "Paused   12.0%  12/100  0 failed\n");
}

}  // namespace
}  // namespace drover::cli
