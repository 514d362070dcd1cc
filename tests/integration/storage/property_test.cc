// Workers, a janitor and a person at two controllers do what they may do, at random and all at once, until
// the job is done. Then each task was recorded exactly once, nothing is left over, and nobody ever waited for
// anybody in a circle. A failing run prints its seed; DROVER_TEST_SEED=N replays the same decisions (not the
// same interleaving).
#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock/clock.h"
#include "common/failpoint/failpoint.h"
#include "tests/integration/storage/harness.h"

namespace drover::testing {
namespace {

using ::testing::IsEmpty;

using enum SegmentResult;
using lifecycle::Cause;
using lifecycle::State;

constexpr absl::Duration kDeadline = absl::Seconds(120);

// Decisions of one thread.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
  bool Once(uint32_t in) { return Below(in) == 0; }

 private:
  std::mt19937_64 engine_;
};

// What all threads share.
struct World {
  std::vector<Storage*> controllers;
  JobId job;
  std::atomic<bool> over{false};
  std::atomic<int64_t> recorded{0};  // tasks of segments that were said to be recorded for the first time
  std::atomic<int64_t> unknown_tasks{
      0};                       // tasks of segments whose first answer was COMMIT_UNKNOWN, then "already"
  std::atomic<int> refused{0};  // kUnavailable: a deadlock, or a timeout

  Storage& Any(Dice& dice) { return *controllers[dice.Below(static_cast<uint32_t>(controllers.size()))]; }
  // Whether to ask again; anything but the expected errors fails the test.
  bool Again(const absl::Status& status) {
    if (status.ok()) return false;
    if (status.code() == absl::StatusCode::kUnavailable &&
        std::string(status.message()).find("failpoint") == std::string::npos) {
      ++refused;
      ADD_FAILURE() << status;
    } else if (status.code() != absl::StatusCode::kUnavailable &&
               status.code() != absl::StatusCode::kUnknown) {
      ADD_FAILURE() << status;
      over = true;
      return false;
    }
    return !over;
  }
};

// A worker process, as the database sees it.
class Worker {
 public:
  Worker(World& world, uint64_t seed) : world_(world), dice_(seed) {}

  void Run() {
    Begin();
    while (!world_.over) {
      if (dice_.Once(20)) Die();
      if (dice_.Once(10)) Attach();
      Claim();
      for (auto& [id, lease] : std::map(held_)) Work(id);
      if (held_.empty()) {
        Reconcile();
        absl::SleepFor(absl::Milliseconds(1));
      }
    }
  }

 private:
  struct Held {
    BatchNo batch_no = 0;
    TaskSet left;
    int64_t next_sequence = 1;
    bool untouched = true;  // all of the batch, nothing sent yet
    int32_t batch_tasks = 0;
  };

  void Begin() {
    held_.clear();
    attachment_ = 1;
    session_.session_id = NewUuid7(SystemClock(), SystemRandom());
    session_.attachment = 1;
    while (world_.Again(world_.Any(dice_).CreateSession(session_, absl::Minutes(5)))) {
    }
  }

  // Killed: its session is ended sooner or later, its leases come back through the janitor.
  void Die() {
    while (world_.Again(world_.Any(dice_).EndSession(session_.session_id))) {
    }
    Begin();
  }

  void Attach() {
    Storage& controller = world_.Any(dice_);
    session_.attachment = ++attachment_;
    std::vector<std::pair<JobId, LeaseKey>> named;
    for (const auto& [id, lease] : held_) named.push_back({world_.job, {lease.batch_no, id}});
    absl::StatusOr<std::vector<HeldLeaseRow>> marked;
    do {
      marked = controller.MarkLeases(session_.session_id, attachment_, named);
    } while (world_.Again(marked.status()));
    if (!marked.ok()) return;
    absl::StatusOr<RaiseResult> raised;
    bool asked_again = false;
    while (true) {
      raised = controller.RaiseAttachment(session_, absl::Minutes(5));
      if (!world_.Again(raised.status())) break;
      asked_again = true;
    }
    if (!raised.ok()) return;
    EXPECT_TRUE(*raised == RaiseResult::kRaised || (asked_again && *raised == RaiseResult::kNotLower));
    while (world_.Again(controller.ReturnOlderLeases(session_.session_id, attachment_).status())) {
    }
    // Each that it named and the database still has is what it believes it to be.
    std::map<LeaseId, Held> still;
    for (const HeldLeaseRow& row : *marked) {
      TaskSet left = row.tasks.value_or(TaskSet::All(static_cast<size_t>(row.batch_tasks)));
      left.Subtract(row.recorded);
      EXPECT_EQ(left, held_[row.key.lease_id].left);
      EXPECT_EQ(row.last_sequence, held_[row.key.lease_id].next_sequence - 1);
      still[row.key.lease_id] = held_[row.key.lease_id];
    }
    held_ = std::move(still);
  }

  void Claim() {
    const ClaimSlot slot{session_.session_id, attachment_, 1 + dice_.Below(60)};
    const auto claimed = world_.Any(dice_).Claim(world_.job, {slot}, 1 + static_cast<int>(dice_.Below(4)),
                                                 [] { return NewLeaseId(SystemRandom()); });
    if (!claimed.ok()) {
      world_.Again(claimed.status());  // in doubt: it does not know of those leases; Reconcile returns them
      return;
    }
    for (const ClaimedLease& lease : claimed->leases) {
      if (dice_.Once(15)) continue;  // a grant that never arrives
      Held held;
      held.batch_no = lease.batch_no;
      held.batch_tasks = lease.batch_tasks;
      held.left = lease.tasks.value_or(TaskSet::All(static_cast<size_t>(lease.batch_tasks)));
      held.untouched = held.left.count() == static_cast<size_t>(lease.batch_tasks);
      EXPECT_FALSE(held.left.empty());
      held_[lease.lease_id] = held;
    }
  }

  // Sends a segment or two of a lease.
  void Work(LeaseId id) {
    std::vector<SegmentWrite> group;
    Held held = held_[id];
    for (uint32_t n = 1 + dice_.Below(2); n > 0 && !held.left.empty(); --n) group.push_back(Cut(id, held));
    if (dice_.Once(6)) group.push_back(group.front());
    Storage* controller = &world_.Any(dice_);
    absl::StatusOr<RecordResult> result;
    bool asked_again = false;
    while (true) {
      result = controller->Record(world_.job, group, {});
      if (!world_.Again(result.status())) break;
      asked_again = true;
      controller = &world_.Any(dice_);
    }
    if (!result.ok()) return;
    bool lost = false;
    for (size_t i = 0; i < group.size(); ++i) {
      const int64_t tasks = group[i].succeeded + group[i].failed;
      const bool resent = i > 0 && group[i].sequence == group[0].sequence;
      switch (result->results[i]) {
        case kRecorded:
          EXPECT_FALSE(lost) << "recorded after one that was lost";
          world_.recorded += tasks;
          break;
        case kAlready:
          EXPECT_TRUE(resent || asked_again);
          if (!resent) world_.unknown_tasks += tasks;
          break;
        case kLost: lost = true;
      }
    }
    if (lost || held.left.empty()) {
      held_.erase(id);
    } else {
      held_[id] = held;
    }
  }

  SegmentWrite Cut(LeaseId id, Held& held) {
    SegmentWrite segment;
    segment.lease = {held.batch_no, id};
    segment.sequence = held.next_sequence++;
    segment.session = session_.session_id;
    TaskSet executed;
    if (held.untouched && dice_.Once(3)) {
      segment.succeeded = held.batch_tasks;
      held.left.Clear();
      return segment;
    }
    held.untouched = false;
    const bool give_back = dice_.Once(8);
    held.left.ForEach([&](uint32_t task) {
      if (dice_.Once(2)) {
        executed.Add(task);
      } else if (give_back && dice_.Once(2)) {
        segment.returned.Add(task);
      }
    });
    held.left.Subtract(executed);
    held.left.Subtract(segment.returned);
    segment.failed = static_cast<int32_t>(dice_.Below(static_cast<uint32_t>(executed.count()) + 1) / 4);
    segment.succeeded = static_cast<int32_t>(executed.count()) - segment.failed;
    segment.executed = std::move(executed);
    if (!segment.returned.empty()) segment.returned_lease_id = NewLeaseId(SystemRandom());
    if (dice_.Once(5)) segment.notes = absl::StrCat("note ", segment.sequence);
    return segment;
  }

  // Returns what the database shows under this session and number, and it does not know of.
  void Reconcile() {
    Storage& controller = world_.Any(dice_);
    const auto owned = controller.ListOwnedLeases({{session_.session_id, attachment_}});
    if (!owned.ok()) return;
    std::vector<Storage::OwnedLease> unknown;
    for (const Storage::OwnedLease& lease : *owned) {
      if (!held_.contains(lease.key.lease_id)) unknown.push_back(lease);
    }
    world_.Again(controller.ReturnLeases(world_.job, unknown, CameBack::kGivenBack).status());
  }

  World& world_;
  Dice dice_;
  SessionInfo session_;
  int64_t attachment_ = 1;
  std::map<LeaseId, Held> held_;
};

void RunJanitor(World& world, uint64_t seed) {
  Dice dice(seed);
  while (!world.over) {
    Storage& controller = world.Any(dice);
    const auto stranded = controller.ListStrandedLeases(1 + static_cast<int>(dice.Below(10)));
    if (stranded.ok()) {
      std::vector<Storage::OwnedLease> leases;
      for (const Storage::StrandedLease& lease : *stranded) leases.push_back(lease.owned);
      std::shuffle(leases.begin(), leases.end(), std::mt19937_64(seed));
      world.Again(controller.ReturnLeases(world.job, leases, CameBack::kLost).status());
    }
    absl::SleepFor(absl::Milliseconds(2));
  }
}

void RunPerson(World& world, uint64_t seed) {
  Dice dice(seed);
  while (!world.over) {
    Storage& controller = world.Any(dice);
    constexpr Cause kCauses[] = {Cause::kPause, Cause::kResume, Cause::kResume, Cause::kSettle,
                                 Cause::kPreempted};
    const Cause cause = kCauses[dice.Below(5)];
    const auto changed = controller.ChangeJob(
        world.job,
        [&](const lifecycle::Snapshot& snapshot) -> absl::StatusOr<std::optional<lifecycle::Change>> {
          if (lifecycle::IsFinishing(snapshot.state)) return std::optional<lifecycle::Change>();
          auto change = lifecycle::Decide(snapshot, {cause, "", "ann", {}});
          return change.ok() ? change : std::optional<lifecycle::Change>();
        },
        true);
    world.Again(changed.status());
    world.Again(controller.SetPriority(world.job, static_cast<int32_t>(dice.Below(100)), "ann").status());
    const auto job = controller.GetJob(world.job);
    if (job.ok()) {
      const lifecycle::Snapshot& snapshot = job->snapshot;
      EXPECT_LE(snapshot.succeeded + snapshot.failed, snapshot.tasks);
      if (snapshot.state == State::kCompleting) world.over = true;
    }
    absl::SleepFor(absl::Milliseconds(3));
  }
}

class PropertyTest : public StorageTest {
 protected:
  static uint64_t Seed() {
    const char* const given = std::getenv("DROVER_TEST_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : SystemRandom().Next();
  }

  void RunToTheEnd(uint64_t seed) {
    SCOPED_TRACE(absl::StrCat("DROVER_TEST_SEED=", seed));
    Dice dice(seed);
    std::vector<int32_t> sizes;
    int64_t tasks = 0;
    for (int i = 0; i < 60; ++i) {
      sizes.push_back(1 + static_cast<int32_t>(dice.Below(80)));
      tasks += sizes.back();
    }
    const std::unique_ptr<Storage> other = AnotherController();
    World world;
    world.controllers = {&storage(), other.get()};
    world.job = ReadyJob(sizes);
    std::vector<Worker> workers;
    for (uint64_t i = 0; i < 6; ++i) workers.emplace_back(world, seed + 1 + i);
    std::vector<std::thread> threads;
    for (Worker& worker : workers) threads.emplace_back([&] { worker.Run(); });
    threads.emplace_back(RunJanitor, std::ref(world), seed + 100);
    threads.emplace_back(RunPerson, std::ref(world), seed + 101);
    const absl::Time deadline = absl::Now() + kDeadline;
    while (!world.over && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_TRUE(world.over) << "not done in time";
    world.over = true;
    for (std::thread& thread : threads) thread.join();

    const JobRecord job = Get(world.job);
    EXPECT_EQ(job.snapshot.state, State::kCompleting);
    EXPECT_EQ(job.snapshot.succeeded + job.snapshot.failed, tasks);
    EXPECT_EQ(job.leased_tasks, 0);
    EXPECT_EQ(world.refused, 0) << "somebody waited in a circle";
    // The counters are not the oracle: the stored sets are.
    for (size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(RecordedOf(world.job, static_cast<BatchNo>(i), sizes[i]),
                TaskSet::All(static_cast<size_t>(sizes[i])));
    }
    EXPECT_LE(world.recorded, tasks);
    EXPECT_GE(world.recorded + world.unknown_tasks, tasks)
        << "something was recorded that nobody was told of";
    EXPECT_THAT(Value(storage().ListStrandedLeases(10)), IsEmpty());
    EXPECT_THAT(Claim(world.job, CreateSession()), IsEmpty());
    std::vector<JobEvent> events = Value(storage().ListEvents(world.job));
    for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].version, static_cast<int64_t>(i) + 1);
  }
};
DROVER_STORAGE_CONTRACT(PropertyTest);

TEST_P(PropertyTest, EachTaskIsRecordedOnceWhateverHappensAtOnce) {
  for (int round = 0; round < 3; ++round) RunToTheEnd(Seed());
}

TEST_P(PropertyTest, TransactionsOnTheSameLeasesNeverWaitInACircle) {
  // Two controllers record the same groups of many leases, in different orders, while others mark and return
  // some.
  const uint64_t seed = Seed();
  SCOPED_TRACE(absl::StrCat("DROVER_TEST_SEED=", seed));
  constexpr int kLeases = 40;
  constexpr int64_t kRounds = 30;
  const JobId job = ReadyJob(std::vector<int32_t>(kLeases, 50));
  const SessionId session = CreateSession();
  const SessionId victim = CreateSession();
  std::vector<ClaimedLease> leases = Claim(job, session, 1, kLeases / 2);
  const std::vector<ClaimedLease> others = Claim(job, victim, 1, kLeases);
  leases.insert(leases.end(), others.begin(), others.end());
  const std::unique_ptr<Storage> other = AnotherController();
  std::atomic<bool> over{false};
  const auto record = [&](Storage& controller, uint64_t order) {
    std::mt19937_64 engine(order);
    for (int64_t sequence = 1; sequence <= kRounds; ++sequence) {
      std::vector<SegmentWrite> group;
      for (const ClaimedLease& lease : leases) {
        const uint32_t task = static_cast<uint32_t>(sequence) - 1;
        group.push_back(
            Segment(lease, lease.batch_no < kLeases / 2 ? session : victim, sequence, Range(task, task + 1)));
      }
      std::shuffle(group.begin(), group.end(), engine);
      EXPECT_THAT(controller.Record(job, group, {}).status(), IsOk());
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back([&] { record(storage(), seed); });
  threads.emplace_back([&] { record(*other, seed + 1); });
  threads.emplace_back([&] {
    for (int64_t number = 2; !over; ++number) {
      std::vector<std::pair<JobId, LeaseKey>> named;
      for (const ClaimedLease& lease : leases) named.emplace_back(job, KeyOf(lease));
      EXPECT_THAT(other->MarkLeases(session, number, named).status(), IsOk());
    }
  });
  threads.emplace_back([&] {
    // The victim's leases come back one after the other.
    for (const ClaimedLease& lease : others) {
      std::vector<Storage::OwnedLease> owned;
      for (const ClaimedLease& each : others)
        owned.push_back(Owned(job, each, each.batch_no == lease.batch_no ? victim : session));
      EXPECT_EQ(Value(storage().ReturnLeases(job, owned, CameBack::kLost)), 1);
      Claim(job, victim, 2, 1);
    }
  });
  threads[0].join();
  threads[1].join();
  over = true;
  threads[2].join();
  threads[3].join();

  for (int i = 0; i < kLeases / 2; ++i) EXPECT_EQ(RecordedOf(job, i, 50), Range(0, kRounds)) << "batch " << i;
  int64_t recorded = 0;
  for (int i = 0; i < kLeases; ++i) recorded += static_cast<int64_t>(RecordedOf(job, i, 50).count());
  EXPECT_EQ(Get(job).snapshot.succeeded, recorded);
}

TEST_P(PropertyTest, EachTaskIsRecordedOnceThoughCommitsAreInDoubt) {
  const failpoint::Scoped points(
      "storage.record.after_commit=skip(7)error*9;storage.record.before_commit=skip(12)error*5;"
      "storage.claim.after_commit=skip(4)error*6;storage.return_leases.after_commit=skip(3)error*3;"
      "storage.raise_attachment.after_commit=skip(2)error*3;storage.mark_leases.after_commit=skip(1)error*3");
  RunToTheEnd(Seed());
}

}  // namespace
}  // namespace drover::testing
