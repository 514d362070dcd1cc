// One LeaseClient against a model of the database and its controllers, over thousands of random histories:
// streams break with messages in them, attaches are aborted, acknowledgments get lost, sessions end, leases
// are revoked, workers stand still. Each run is a function of its seed, which a failure prints.
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>
#include <string>

#include "common/log/capture.h"
#include "services/worker/lease/lease_client.h"
#include "tests/unit/services/worker/testing.h"

namespace drover {
namespace {

constexpr int kBatches = 6;
constexpr int kTasks = 12;
constexpr int64_t kSessionTtlSeconds = 15;

// The database: what is recorded, who owns what. Every rule that a worker could break is an expectation.
class Model {
 public:
  struct Lease {
    int batch = 0;
    std::set<int> left;
    std::string session;
    int64_t attachment = 0;
    int64_t last_sequence = 0;
  };

  Model() {
    for (int batch = 0; batch < kBatches; ++batch) {
      for (int task = 0; task < kTasks; ++task) unclaimed_[batch].insert(task);
    }
  }

  bool complete() const { return recorded_.size() == static_cast<size_t>(kBatches * kTasks); }

  // The three steps of an attach. False: the number is not above the session's.
  bool Attach(const v1::Hello& hello, absl::Duration now, v1::Welcome& welcome) {
    std::string session = hello.session_id();
    if (session.empty() || !sessions_.contains(session)) {
      EXPECT_TRUE(!session.empty() || hello.held_leases().empty()) << "leases without a session";
      session = "session-" + std::to_string(++last_session_);
      sessions_[session] = {hello.attachment(), now};
      welcome.set_session_id(session);
      return true;
    }
    std::set<int64_t> held;
    for (const v1::HeldLease& lease : hello.held_leases()) held.insert(lease.lease_id());
    for (auto& [id, lease] : leases_) {
      if (lease.session == session && held.contains(id))
        lease.attachment = std::max(lease.attachment, hello.attachment());
    }
    if (sessions_[session].attachment >= hello.attachment()) return false;
    sessions_[session] = {hello.attachment(), now};
    for (auto it = leases_.begin(); it != leases_.end();) {
      const auto lease = it++;
      if (lease->second.session == session && lease->second.attachment < hello.attachment()) Return(lease);
    }
    for (const int64_t id : held) {
      if (!leases_.contains(id) || leases_[id].session != session) welcome.add_lost_leases(id);
    }
    welcome.set_session_id(session);
    return true;
  }

  bool Renew(const std::string& session, int64_t attachment, absl::Duration now) {
    const auto it = sessions_.find(session);
    if (it == sessions_.end() || it->second.attachment != attachment) return false;
    it->second.renewed = now;
    return true;
  }

  // Ends sessions that have expired, and returns leases whose session is gone or has gone on without them.
  // `spared` is not ended.
  void Janitor(absl::Duration now, const std::string& spared) {
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      if (it->first == spared || now - it->second.renewed < absl::Seconds(kSessionTtlSeconds)) {
        ++it;
        continue;
      }
      it = sessions_.erase(it);
    }
    for (auto it = leases_.begin(); it != leases_.end();) {
      const auto lease = it++;
      const auto session = sessions_.find(lease->second.session);
      if (session == sessions_.end() || lease->second.attachment < session->second.attachment) Return(lease);
    }
  }

  // A claim; 0 if nothing is left.
  int64_t Claim(const std::string& session, int64_t attachment) {
    for (auto& [batch, tasks] : unclaimed_) {
      if (tasks.empty()) continue;
      const int64_t id = ++last_lease_;
      leases_[id] = {batch, std::exchange(tasks, {}), session, attachment, 0};
      return id;
    }
    return 0;
  }

  // Records a segment; false: lost.
  bool Record(const std::string& session, const v1::Segment& segment) {
    const std::pair<int64_t, int64_t> key{segment.lease_id(), segment.sequence()};
    if (const auto it = segments_.find(key); it != segments_.end()) {
      EXPECT_EQ(it->second, segment.SerializeAsString()) << "a numbered segment has changed";
      return true;
    }
    const auto lease = leases_.find(segment.lease_id());
    if (lease == leases_.end() || lease->second.session != session) return false;
    EXPECT_EQ(segment.sequence(), lease->second.last_sequence + 1) << "a segment out of order";
    lease->second.last_sequence = segment.sequence();
    segments_[key] = segment.SerializeAsString();
    std::set<int> named;
    const auto name = [&](int task) {
      EXPECT_TRUE(lease->second.left.contains(task)) << "a task outside of its lease, or twice";
      EXPECT_TRUE(named.insert(task).second);
      lease->second.left.erase(task);
    };
    const auto record = [&](int task) {
      name(task);
      EXPECT_TRUE(recorded_.insert({lease->second.batch, task}).second) << "recorded twice";
    };
    for (const v1::TaskRange& range : segment.succeeded()) {
      for (int task = range.first(); task < range.end(); ++task) record(task);
    }
    for (const v1::TaskOutcome& outcome : segment.outcomes()) record(outcome.task());
    for (const v1::TaskRange& range : segment.returned()) {
      for (int task = range.first(); task < range.end(); ++task) {
        name(task);
        unclaimed_[lease->second.batch].insert(task);
      }
    }
    if (lease->second.left.empty()) leases_.erase(lease);
    return true;
  }

  const std::map<int64_t, Lease>& leases() const { return leases_; }

 private:
  struct Session {
    int64_t attachment;
    absl::Duration renewed;
  };

  void Return(std::map<int64_t, Lease>::iterator lease) {
    unclaimed_[lease->second.batch].insert(lease->second.left.begin(), lease->second.left.end());
    leases_.erase(lease);
  }

  std::map<int, std::set<int>> unclaimed_;
  std::map<int64_t, Lease> leases_;
  std::map<std::string, Session> sessions_;
  std::map<std::pair<int64_t, int64_t>, std::string> segments_;
  std::set<std::pair<int, int>> recorded_;
  int64_t last_lease_ = 100;
  int last_session_ = 0;
};

// Runs tasks at random and keeps to what LeaseRunner promises.
class RandomRunner final : public LeaseRunner {
 public:
  RandomRunner(Random& random, const ManualClock& clock) : random_(random), clock_(clock) {}

  absl::Status SetJob(const v1::JobContext&) override {
    known_ = true;
    return absl::OkStatus();
  }
  void ForgetJob(const std::string&) override {
    EXPECT_TRUE(leases_.empty());
    known_ = false;
  }
  void Start(LeaseWork work) override {
    EXPECT_TRUE(known_);
    Lease& lease = leases_[work.lease_id];
    lease.batch = work.batch_no;
    work.tasks.ForEach([&](uint32_t index) { lease.todo.insert(index); });
  }
  void Revoke(int64_t lease_id, bool, absl::Duration) override { GiveBack(lease_id); }
  void Drop(int64_t lease_id) override { leases_.erase(lease_id); }
  void AbortInFlight() override {
    for (auto& [id, lease] : leases_) {
      for (const uint32_t task : lease.running) --runs_[{lease.batch, task}];  // did not run to its end
      lease.todo.merge(lease.running);
    }
  }
  void Wake() override {}
  void StartDrain() override {}
  Appetite appetite() const override { return {.credit = 100, .target = 100}; }

  void Step(LeaseReport& report, absl::Duration session_renewed) {
    if (leases_.empty()) return;
    auto it = leases_.begin();
    std::advance(it, random_.Next() % leases_.size());
    const int64_t id = it->first;
    Lease& lease = it->second;
    switch (random_.Next() % 8) {
      case 0:
      case 1:
      case 2:
        if (!lease.todo.empty() && report.MayStart()) {
          // The fence against the model's own book-keeping: the session lives at least until then.
          EXPECT_LT(clock_.Elapsed() - session_renewed, absl::Seconds(kSessionTtlSeconds));
          most_runs_ = std::max(most_runs_, ++runs_[{lease.batch, *lease.todo.begin()}]);
          lease.running.insert(lease.todo.extract(lease.todo.begin()));
        }
        break;
      case 7:
        if (random_.Next() % 8 == 0) GiveBack(id);
        break;
      default:
        if (lease.running.empty()) break;
        const uint32_t task = *lease.running.begin();
        lease.running.erase(lease.running.begin());
        const bool over = lease.todo.empty() && lease.running.empty();
        if (over) leases_.erase(it);
        if (random_.Next() % 2 == 0) {
          report.Succeeded(id, task, task + 1);
        } else {
          report.Finished(id, MakeFailure(task));
        }
    }
  }

  void set_report(LeaseReport* report) { report_ = report; }
  // How often the task that ran most often was started and not aborted.
  int most_runs() const { return most_runs_; }

 private:
  struct Lease {
    int64_t batch = 0;
    std::set<uint32_t> todo;
    std::set<uint32_t> running;
  };

  void GiveBack(int64_t lease_id) {
    const auto it = leases_.find(lease_id);
    if (it == leases_.end()) return;
    TaskSet tasks;
    for (const uint32_t index : it->second.todo) tasks.Add(index);
    it->second.todo.clear();
    if (it->second.running.empty()) leases_.erase(it);
    report_->GaveBack(lease_id, tasks);
  }

  Random& random_;
  const ManualClock& clock_;
  LeaseReport* report_ = nullptr;
  std::map<int64_t, Lease> leases_;
  bool known_ = false;
  std::map<std::pair<int64_t, uint32_t>, int> runs_;
  int most_runs_ = 0;
};

// A stream: messages both ways in order, which die with it.
class SimulatedTransport final : public LeaseTransport {
 public:
  void Open(size_t) override {
    open = true;
    welcomed = false;
    to_controller.clear();
    to_worker.clear();
  }
  void Send(std::shared_ptr<const v1::WorkRequest> message) override {
    ASSERT_TRUE(open);
    to_controller.push_back(*message);
  }
  bool status_waiting() const override { return false; }
  void Close() override { open = false; }

  bool open = false;
  bool welcomed = false;
  bool context_sent = false;
  std::string session;
  int64_t attachment = 0;
  std::set<int64_t> granted;  // leases of this stream
  std::deque<v1::WorkRequest> to_controller;
  std::deque<v1::WorkResponse> to_worker;
};

// With `sessions_end` false, streams break but the worker's session doesn't end: then no task may run again.
void Simulate(uint64_t seed, bool sessions_end) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  SeededRandom random(seed);
  ManualClock clock;
  Model model;
  SimulatedTransport stream;
  RandomRunner runner(random, clock);
  LeaseClient client(v1::Hello(), {.controllers = 2}, clock, random, stream, runner, LeaseMetrics());
  runner.set_report(&client);
  absl::Duration renewed = clock.Elapsed();  // the last renewal of the worker's session in the database
  client.Start();
  const int faults = 60;
  int fault = 0;

  const auto controller_step = [&] {
    if (!stream.open || stream.to_controller.empty()) return;
    const v1::WorkRequest message = std::move(stream.to_controller.front());
    stream.to_controller.pop_front();
    if (message.has_hello()) {
      v1::WorkResponse response = MakeWelcome("");
      if (!model.Attach(message.hello(), clock.Elapsed(), *response.mutable_welcome())) {
        stream.open = false;
        client.OnStreamBroken(absl::AbortedError("a higher number"));
        return;
      }
      renewed = clock.Elapsed();
      stream.session = response.welcome().session_id();
      stream.attachment = message.hello().attachment();
      stream.welcomed = true;
      stream.granted.clear();
      for (const v1::HeldLease& lease : message.hello().held_leases())
        stream.granted.insert(lease.lease_id());
      for (const int64_t id : response.welcome().lost_leases()) stream.granted.erase(id);
      // As if the job's context were forgotten with each stream.
      stream.context_sent = false;
      stream.to_worker.push_back(response);
    } else if (message.has_status()) {
      if (!model.Renew(stream.session, stream.attachment, clock.Elapsed())) {
        stream.open = false;
        client.OnStreamBroken(absl::AbortedError("the session has ended"));
        return;
      }
      renewed = clock.Elapsed();
      stream.to_worker.push_back(MakeStatusAck(message.status().number()));
    } else {
      const bool recorded = model.Record(stream.session, message.segment());
      stream.to_worker.push_back(MakeSegmentAck(message.segment().lease_id(), message.segment().sequence(),
                                                recorded ? v1::SegmentAck::RECORDED : v1::SegmentAck::LOST));
      if (!model.leases().contains(message.segment().lease_id())) {
        stream.granted.erase(message.segment().lease_id());
        if (stream.granted.empty()) stream.context_sent = false;
      }
    }
  };
  const auto grant = [&] {
    if (!stream.open || !stream.welcomed || stream.granted.size() >= 3) return;
    const int64_t id = model.Claim(stream.session, stream.attachment);
    if (id == 0) return;
    if (!stream.context_sent) stream.to_worker.push_back(MakeContext("j"));
    stream.context_sent = true;
    stream.granted.insert(id);
    const Model::Lease& lease = model.leases().at(id);
    std::vector<std::pair<int, int>> ranges;
    for (const int task : lease.left) ranges.emplace_back(task, task + 1);
    v1::WorkResponse response = MakeGrant(id, "j", kTasks, ranges);
    response.mutable_grant()->set_batch_no(lease.batch);
    stream.to_worker.push_back(response);
  };

  for (int step = 0; step < 200'000 && !model.complete(); ++step) {
    switch (random.Next() % 16) {
      case 0:
      case 1:
      case 2: controller_step(); break;
      case 3:
      case 4:
      case 5:
        if (stream.open && !stream.to_worker.empty()) {
          const v1::WorkResponse message = std::move(stream.to_worker.front());
          stream.to_worker.pop_front();
          client.OnMessage(message);
        }
        break;
      case 6: grant(); break;
      case 7:
        clock.Advance(absl::Milliseconds(random.Next() % 400));
        client.Tick();
        break;
      case 8:
        if (random.Next() % 6 != 0 || ++fault > faults) break;
        switch (random.Next() % 3) {
          case 0:  // the stream breaks with all that is in it
            if (!stream.open) break;
            stream.open = false;
            client.OnStreamBroken(absl::UnavailableError("broken"));
            break;
          case 1:  // the worker stands still
            if (!sessions_end) break;
            clock.Advance(absl::Seconds(random.Next() % 30));
            break;
          case 2: {
            v1::WorkResponse revoke;
            revoke.mutable_revoke()->set_job_id("j");
            if (stream.open && stream.welcomed) stream.to_worker.push_back(revoke);
            break;
          }
        }
        break;
      default: runner.Step(client, renewed); break;
    }
    if (step % 64 == 0) model.Janitor(clock.Elapsed(), sessions_end ? "" : client.session_id());
    if (::testing::Test::HasFailure()) return;
  }
  if (!sessions_end) {
    EXPECT_LE(runner.most_runs(), 1);
  }
  EXPECT_TRUE(model.complete()) << "stuck: " << model.leases().size() << " leases in the database, "
                                << client.leases() << " at the worker, " << stream.granted.size()
                                << " granted on its stream, open " << stream.open << ", attached "
                                << client.attached() << ", may start " << client.MayStart()
                                << ", in the streams " << stream.to_controller.size() << " and "
                                << stream.to_worker.size();
}

TEST(LeaseSimulation, NoTaskRunsAgainWhenOnlyStreamsBreak) {
  LogCapture quiet(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    Simulate(seed, false);
    if (HasFailure()) return;
  }
}

TEST(LeaseSimulation, EachTaskIsRecordedOnceWhateverHappensToStreamsAndSessions) {
  LogCapture quiet(LogLevel::kError);
  for (uint64_t seed = 1; seed <= 1500; ++seed) {
    Simulate(seed, true);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace drover
