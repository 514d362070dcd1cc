#include "services/controller/dispatch/segment_check.h"

#include <gtest/gtest.h>

#include "common/codec/outcomes.h"

namespace drover {
namespace {

v1::TaskRange Range(int first, int end) {
  v1::TaskRange range;
  range.set_first(first);
  range.set_end(end);
  return range;
}

v1::Segment SegmentOf(std::vector<v1::TaskRange> succeeded) {
  v1::Segment segment;
  segment.set_lease_id(7);
  segment.set_sequence(1);
  segment.set_batch_no(3);
  for (auto& range : succeeded) *segment.add_succeeded() = range;
  return segment;
}

TaskSet Tasks(uint32_t first, uint32_t end) {
  TaskSet set;
  set.AddRange(first, end);
  return set;
}

bool Refused(const v1::Segment& segment, const TaskSet& open, int32_t tasks) {
  return absl::IsInvalidArgument(CheckSegment(segment, open, tasks).status());
}

TEST(CheckSegment, TakesAllTasksOfABatchWithoutASet) {
  const auto write = CheckSegment(SegmentOf({Range(0, 100)}), TaskSet::All(100), 100);
  ASSERT_TRUE(write.ok()) << write.status();
  EXPECT_FALSE(write->executed.has_value());
  EXPECT_EQ(write->succeeded, 100);
  EXPECT_TRUE(write->payload.empty());
}

TEST(CheckSegment, CountsAndEncodesWhatIsNotADefaultSuccess) {
  v1::Segment segment = SegmentOf({Range(0, 3)});
  v1::TaskOutcome* failed = segment.add_outcomes();
  failed->set_task(5);
  failed->set_http_status(404);
  failed->set_code("NoSuchKey");
  failed->set_message(std::string("gone\0\xff", 6));
  failed->set_attempts(2);
  *segment.add_returned() = Range(7, 9);
  const auto write = CheckSegment(segment, TaskSet::All(10), 10);
  ASSERT_TRUE(write.ok()) << write.status();
  EXPECT_EQ(write->succeeded, 3);
  EXPECT_EQ(write->failed, 1);
  EXPECT_EQ(write->executed->count(), 4u);
  EXPECT_EQ(write->returned, Tasks(7, 9));
  const auto outcomes = DecodeOutcomes(write->payload);
  ASSERT_TRUE(outcomes.ok());
  ASSERT_EQ(outcomes->size(), 1u);
  EXPECT_EQ((*outcomes)[0].code, "NoSuchKey");
  EXPECT_EQ((*outcomes)[0].attempts, 2u);
  EXPECT_EQ((*outcomes)[0].message.find('\0'), std::string::npos) << "a NUL would not get into a report";
}

TEST(CheckSegment, RefusesTasksOutsideTheLease) {
  EXPECT_TRUE(Refused(SegmentOf({Range(0, 11)}), TaskSet::All(10), 10));
  EXPECT_TRUE(Refused(SegmentOf({Range(-1, 1)}), TaskSet::All(10), 10));
  EXPECT_TRUE(Refused(SegmentOf({Range(5, 5)}), TaskSet::All(10), 10));
  EXPECT_TRUE(Refused(SegmentOf({Range(9, 5)}), TaskSet::All(10), 10));
  EXPECT_TRUE(Refused(SegmentOf({Range(0, 5)}), Tasks(4, 10), 10));
  EXPECT_TRUE(Refused(SegmentOf({Range(0, INT32_MAX)}), TaskSet::All(10), 10));
}

TEST(CheckSegment, RefusesATaskThatIsNamedTwice) {
  EXPECT_TRUE(Refused(SegmentOf({Range(0, 5), Range(4, 6)}), TaskSet::All(10), 10));
  v1::Segment segment = SegmentOf({Range(0, 5)});
  *segment.add_returned() = Range(4, 6);
  EXPECT_TRUE(Refused(segment, TaskSet::All(10), 10));
  v1::Segment outcome = SegmentOf({Range(0, 5)});
  outcome.add_outcomes()->set_task(2);
  outcome.mutable_outcomes(0)->set_attempts(1);
  EXPECT_TRUE(Refused(outcome, TaskSet::All(10), 10));
}

TEST(CheckSegment, RefusesNonsense) {
  EXPECT_TRUE(Refused(SegmentOf({}), TaskSet::All(10), 10)) << "empty";
  v1::Segment segment = SegmentOf({});
  v1::TaskOutcome* outcome = segment.add_outcomes();
  outcome->set_task(0);
  EXPECT_TRUE(Refused(segment, TaskSet::All(10), 10)) << "no attempt";
  outcome->set_attempts(1);
  outcome->set_http_status(1000);
  EXPECT_TRUE(Refused(segment, TaskSet::All(10), 10)) << "no HTTP status";
  outcome->set_http_status(200);
  outcome->set_bytes(-1);
  EXPECT_TRUE(Refused(segment, TaskSet::All(10), 10)) << "negative bytes";
  outcome->set_bytes(0);
  segment.add_notes()->set_note(std::string(1025, 'x'));
  EXPECT_TRUE(Refused(segment, TaskSet::All(10), 10)) << "a long note";
}

}  // namespace
}  // namespace drover
