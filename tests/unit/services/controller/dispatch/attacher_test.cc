#include "services/controller/dispatch/attacher.h"

#include <gtest/gtest.h>

#include "common/status/status.h"
#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/dispatch/dispatch_fakes.h"

namespace drover {
namespace {

constexpr char kSession[] = "01940000-0000-7000-8000-00000000000a";

// Says in which order the attach asked it for what.
class SessionStorage final : public FakeStorage {
 public:
  absl::Status CreateSession(const SessionInfo& info, absl::Duration) override {
    calls.push_back("create");
    created = info;
    return absl::OkStatus();
  }
  absl::Status CheckSession(const SessionId&, const std::string& hash) override {
    calls.push_back("check");
    hashes.push_back(hash);
    return check;
  }
  absl::StatusOr<std::vector<HeldLeaseRow>> MarkLeases(
      const SessionId&, int64_t number, const std::vector<std::pair<JobId, LeaseKey>>&) override {
    calls.push_back("mark " + std::to_string(number));
    return held;
  }
  absl::StatusOr<RaiseResult> RaiseAttachment(const SessionInfo& info, absl::Duration) override {
    calls.push_back("raise " + std::to_string(info.attachment));
    return raise;
  }
  absl::StatusOr<int64_t> ReturnOlderLeases(const SessionId&, int64_t number) override {
    calls.push_back("return " + std::to_string(number));
    return 0;
  }

  std::vector<std::string> calls;
  std::vector<std::string> hashes;
  absl::Status check;
  RaiseResult raise = RaiseResult::kRaised;
  std::vector<HeldLeaseRow> held;
  SessionInfo created;
};

v1::Hello HelloOf() {
  v1::Hello hello;
  hello.set_min_protocol(1);
  hello.set_max_protocol(1);
  hello.add_codecs(1);
  hello.set_name("worker");
  hello.set_attachment(1);
  return hello;
}

v1::Hello ComingBack() {
  v1::Hello hello = HelloOf();
  hello.set_session_id(kSession);
  hello.set_resume_token("token");
  hello.set_attachment(4);
  for (int i = 1; i <= 2; ++i) {
    v1::HeldLease* lease = hello.add_held_leases();
    lease->set_job_id(kJob);
    lease->set_batch_no(i);
    lease->set_lease_id(i);
  }
  return hello;
}

absl::StatusOr<AttachedStream> AttachWith(const v1::Hello& hello, SessionStorage& storage) {
  return Attach(hello, SessionOptions{}, FleetLimits{}, "controller", storage, SystemClock(), SystemRandom());
}

using Calls = std::vector<std::string>;

TEST(Attach, MarksThenRaisesThenReturnsByTheWorkersOwnNumber) {
  SessionStorage storage;
  storage.held.push_back({kJob, {1, 1}, 10, std::nullopt, {}, 0});
  const auto attached = AttachWith(ComingBack(), storage);
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_EQ(storage.calls, (Calls{"check", "mark 4", "raise 4", "return 4"}));
  const v1::Welcome& welcome = attached->welcome.welcome();
  EXPECT_EQ(welcome.session_id(), kSession);
  ASSERT_EQ(welcome.lost_leases_size(), 1);
  EXPECT_EQ(welcome.lost_leases(0), 2) << "its row is not the session's any more";
  EXPECT_EQ(attached->leases.size(), 1u);
}

TEST(Attach, IsOverWhenALaterHelloWon) {
  SessionStorage storage;
  storage.raise = RaiseResult::kNotLower;
  const auto attached = AttachWith(ComingBack(), storage);
  EXPECT_TRUE(absl::IsAborted(attached.status()));
  EXPECT_EQ(storage.calls, (Calls{"check", "mark 4", "raise 4"})) << "nothing is returned by the loser";
}

TEST(Attach, IssuesANewSessionWhenTheOldOneHasEndedAndSaysThatAllLeasesAreLost) {
  for (const bool ends_later : {false, true}) {
    SessionStorage storage;
    if (ends_later) {
      storage.raise = RaiseResult::kGone;
      storage.held.push_back({kJob, {1, 1}, 10, std::nullopt, {}, 0});
    } else {
      storage.check = Error(absl::StatusCode::kNotFound, "SESSION_GONE", "gone");
    }
    const auto attached = AttachWith(ComingBack(), storage);
    ASSERT_TRUE(attached.ok()) << attached.status();
    EXPECT_NE(attached->session, kSession);
    EXPECT_EQ(attached->welcome.welcome().lost_leases_size(), 2);
    EXPECT_TRUE(attached->leases.empty());
    EXPECT_EQ(storage.created.attachment, 4);
    EXPECT_NE(attached->welcome.welcome().resume_token(), "token");
  }
}

TEST(Attach, KeepsNoTokenInTheDatabase) {
  SessionStorage storage;
  const auto attached = AttachWith(HelloOf(), storage);
  ASSERT_TRUE(attached.ok());
  const std::string token = attached->welcome.welcome().resume_token();
  EXPECT_EQ(token.size(), 32u);
  EXPECT_NE(storage.created.token_hash, token);
  EXPECT_EQ(storage.created.hello.find(token), std::string::npos);
  // Coming back with it is checked by the same hash.
  v1::Hello back = HelloOf();
  back.set_session_id(attached->session);
  back.set_resume_token(token);
  ASSERT_TRUE(AttachWith(back, storage).ok());
  EXPECT_EQ(storage.hashes.back(), storage.created.token_hash);
}

TEST(Attach, RefusesAWrongTokenBeforeItTouchesAnything) {
  SessionStorage storage;
  storage.check = Error(absl::StatusCode::kPermissionDenied, "RESUME_TOKEN", "wrong");
  EXPECT_TRUE(absl::IsPermissionDenied(AttachWith(ComingBack(), storage).status()));
  EXPECT_EQ(storage.calls, (Calls{"check"}));
}

TEST(CheckHello, RefusesWhatIsNoHelloWithTheFieldsPath) {
  EXPECT_TRUE(CheckHello(HelloOf()).ok());
  v1::Hello hello = HelloOf();
  hello.set_min_protocol(2);
  hello.set_max_protocol(3);
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckHello(hello)));
  hello = HelloOf();
  hello.clear_codecs();
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckHello(hello)));
  hello = HelloOf();
  hello.set_name("");
  hello.set_attachment(0);
  const auto details = GetErrorDetails(CheckHello(hello));
  ASSERT_TRUE(details && details->fields.size() == 2);
  EXPECT_EQ(details->fields[0].first, "hello.name");
  EXPECT_EQ(details->fields[1].first, "hello.attachment");
  hello = ComingBack();
  hello.set_session_id("'; DROP TABLE sessions; --");
  EXPECT_TRUE(absl::IsInvalidArgument(CheckHello(hello)));
  hello = ComingBack();
  hello.mutable_held_leases(0)->set_batch_no(int64_t{1} << 40);
  EXPECT_TRUE(absl::IsInvalidArgument(CheckHello(hello)));
}

}  // namespace
}  // namespace drover
