// The worker's side of the lease protocol (proto/drover/v1/worker_service.proto tells it) as a state machine:
// events in, messages out, time injected, no gRPC and no threads. It keeps the session, the fence, the leases
// and the outcomes that are not yet acknowledged, and decides when to attach and where.
//
//   LeaseClient client(identity, options, clock, random, transport, runner, metrics);
//   client.Start();
//   for (;;) { client.Tick(); wait until client.next_tick() or an event }
//
// What it holds fast, whatever the controllers do:
//   * a Hello names each lease until the lease's last segment is acknowledged;
//   * a segment's content is fixed once it is numbered; it is kept, and sent again in order after each
//   attach;
//   * counting from the sending of the last acknowledged Status, no task or request starts after 2/3 of the
//   TTL, and
//     those in flight are aborted at 5/6; only an acknowledged Status lifts this;
//   * what it keeps is bounded: max_unacked_bytes of outcomes, kMaxHeldLeases leases;
//   * it never gives up: every end of a stream is followed by another attach, after a jittered wait;
//   * a controller that acknowledges nothing for half a TTL is left for another one, early enough to keep the
//   session.
//
// A controller that breaks the protocol (a Grant without a JobContext, tasks out of range, …) has its stream
// closed and is not tried again before the wait; what the bad message named is not held, so its lease comes
// back. A controller that says twice within kBlamedWindow that this worker broke it (INVALID_ARGUMENT) makes
// it start over with a new session: its leases then come back when the old session ends, and nothing can be
// stuck on a segment that is never taken.
#ifndef DROVER_SERVICES_WORKER_LEASE_LEASE_CLIENT_H_
#define DROVER_SERVICES_WORKER_LEASE_LEASE_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/codec/outcomes.h"
#include "common/codec/task_set.h"
#include "services/worker/executor/lease_work.h"
#include "services/worker/metrics/worker_metrics.h"

namespace drover {

namespace v1 {
class Drain;
class Grant;
class Hello;
class JobContext;
class Revoke;
class SegmentAck;
class StatusAck;
class Welcome;
class WorkRequest;
class WorkResponse;
}  // namespace v1

// Segments are cut when a lease ends, and at any of these.
inline constexpr size_t kSegmentSpecialOutcomes = 512;  // outcomes other than the default success
inline constexpr size_t kSegmentOutcomes = 4096;        // outcomes at all
inline constexpr size_t kSegmentBytes = 256 * 1024;
inline constexpr absl::Duration kSegmentAge = absl::Seconds(5);  // of the first outcome in it, while attached
inline constexpr absl::Duration kSegmentAgeEarly = absl::Seconds(1);  // the same while JobContext.early

// A Hello can't name more leases than this; credit ends well before.
inline constexpr size_t kMaxHeldLeases = 65536;
inline constexpr size_t kFewerLeasesThan = 16384;  // with this many leases, it asks for no more

// Between two attaches. (Names of their own: object_store.h has a kMaxBackoff, and a program links both.)
inline constexpr absl::Duration kMinAttachBackoff = absl::Milliseconds(100);
inline constexpr absl::Duration kMaxAttachBackoff = absl::Seconds(3);
// A Hello that is not answered within this has failed: the first of a session. A session that is to be kept
// has less time, a quarter of its TTL, but not less than the second.
inline constexpr absl::Duration kWelcomeTimeout = absl::Seconds(10);
inline constexpr absl::Duration kMinWelcomeTimeout = absl::Seconds(2);
// An acknowledgment may come this much later than the heartbeat: the controller renews once a second.
inline constexpr absl::Duration kAckSlack = absl::Seconds(2);
// Shortest time between two Statuses: ordinarily, and when the controller is about to run out of credit for a
// worker that eats fast.
inline constexpr absl::Duration kStatusGap = absl::Milliseconds(50);
inline constexpr absl::Duration kHungryStatusGap = absl::Milliseconds(1);
inline constexpr absl::Duration kBlamedWindow = absl::Minutes(1);

// Carries messages; all of its calls are from and to the logic thread.
class LeaseTransport {
 public:
  virtual ~LeaseTransport() = default;
  // Opens a stream to a controller, by its index in the list. Messages may be sent at once. There is no
  // stream open.
  virtual void Open(size_t controller) = 0;
  // Writes a message, after those before it; a Status goes before Segments. Kept until written.
  virtual void Send(std::shared_ptr<const v1::WorkRequest> message) = 0;
  // Whether a Status is still waiting to be written.
  virtual bool status_waiting() const = 0;
  // Ends the stream, without a later OnStreamBroken. What was not written is dropped.
  virtual void Close() = 0;
};

class LeaseClient final : public LeaseReport {
 public:
  struct Options {
    size_t controllers = 1;  // how many there are to choose from, at least 1
  };

  // `identity` has what a Hello says about this worker; the session's fields are filled in here. The
  // references must outlive the client.
  LeaseClient(const v1::Hello& identity, const Options& options, const Clock& clock, Random& random,
              LeaseTransport& transport, LeaseRunner& runner, const LeaseMetrics& metrics);
  ~LeaseClient() override;
  LeaseClient(const LeaseClient&) = delete;
  LeaseClient& operator=(const LeaseClient&) = delete;

  // Attaches at once, to a random controller of the list.
  void Start();
  // Wants no more work, gives back what is unstarted, and is done() when the last segment is acknowledged.
  void StartDrain();
  bool draining() const { return draining_; }
  // Draining, and nothing is held.
  bool done() const { return draining_ && leases_.empty(); }
  // Ends the stream and attaches no more.
  void Stop();

  // Does what is due by now. To be called at next_tick() at the latest, and after anything that changes the
  // runner's appetite. Cheap when nothing is due.
  void Tick();
  // When something is due next, on the clock's Elapsed() scale; InfiniteDuration() if nothing is.
  absl::Duration next_tick() const;

  // A message from the controller of the open stream; dispatches to the events below.
  void OnMessage(const v1::WorkResponse& message);
  void OnWelcome(const v1::Welcome& welcome);
  void OnStatusAck(const v1::StatusAck& ack);
  void OnJobContext(const v1::JobContext& context);
  void OnGrant(const v1::Grant& grant);
  void OnSegmentAck(const v1::SegmentAck& ack);
  void OnRevoke(const v1::Revoke& revoke);
  void OnDrain(const v1::Drain& drain);
  // The stream has ended, for whatever reason, not by Close().
  void OnStreamBroken(const absl::Status& status);

  // LeaseReport.
  bool MayStart() override;
  bool MayRequest() override;
  void Succeeded(int64_t lease_id, uint32_t first, uint32_t end) override;
  void Finished(int64_t lease_id, Outcome outcome) override;
  void GaveBack(int64_t lease_id, const TaskSet& tasks) override;

  // For logs and tests.
  const std::string& session_id() const { return session_id_; }
  bool attached() const { return stream_ == Stream::kAttached; }
  size_t leases() const { return leases_.size(); }
  // Bytes of outcomes that are not acknowledged, those not yet in a segment included.
  int64_t unacked_bytes() const { return unacked_bytes_; }

 private:
  enum class Stream { kNone, kWaiting, kAttaching, kAttached };

  struct Lease {
    std::string job_id;
    int64_t batch_no = 0;
    TaskSet left;  // not yet reported
    size_t left_count = 0;
    // The outcomes that are not yet in a segment.
    TaskSet succeeded;
    std::vector<Outcome> outcomes;
    TaskSet returned;
    size_t open_tasks = 0;                          // in the three above
    int64_t open_bytes = 0;                         // about what they add to unacked_bytes_
    absl::Duration due = absl::InfiniteDuration();  // when they must be in one
    int64_t last_sequence = 0;
    // Numbered segments in order, with their bytes.
    std::map<int64_t, std::pair<std::shared_ptr<const v1::WorkRequest>, int64_t>> unacked;
  };
  struct Job {
    int64_t version = 0;
    bool early = false;
    size_t leases = 0;
  };
  struct SentStatus {
    int64_t number;
    absl::Duration sent;
  };
  using Leases = std::map<int64_t, Lease>;

  void Attach();
  void WaitToAttach(absl::Duration wait, bool elsewhere);
  // The stream is over: another attach after a backoff.
  void Retry(std::string_view why, const absl::Status& status);
  // The controller broke the protocol.
  void Violation(std::string_view what);
  void BeginSession(const v1::Welcome& welcome);
  void DropLease(Leases::iterator lease, std::string_view why);
  void DropAll(std::string_view why);
  // Takes a lease out of the tables, and its job if it was the last one.
  void EraseLease(Leases::iterator lease);
  // Forgets jobs whose context came without a Grant after it; one of them, or with "" all.
  void ForgetUnusedJobs(const std::string& only);
  void ResendSegments();
  void UpdateFence();
  void SetFenced(bool fenced);
  absl::Duration WelcomeTimeout() const;
  absl::Duration SilenceLimit() const;

  // The lease if `tasks` of it are still to be reported; null (and a log line) otherwise.
  Lease* Reporting(int64_t lease_id);
  void NoteOpen(int64_t lease_id, Lease& lease, int64_t bytes);
  void CutIfDue(int64_t lease_id, Lease& lease);
  void Cut(int64_t lease_id, Lease& lease);
  void CutAged();
  void Unaccount(int64_t bytes);

  // The runner's, or none at all while nothing may be started or too much is held.
  Appetite CurrentAppetite();
  void MaybeSendStatus();
  void SendStatus(const Appetite& appetite);

  const std::unique_ptr<v1::Hello> identity_;
  const Options options_;
  const Clock& clock_;
  Random& random_;
  LeaseTransport& transport_;
  LeaseRunner& runner_;
  const LeaseMetrics metrics_;

  // The session.
  std::string session_id_;
  std::string resume_token_;
  int64_t attachment_ = 0;
  absl::Duration ttl_ = absl::Seconds(15);
  absl::Duration heartbeat_ = absl::Seconds(3);
  int64_t max_unacked_bytes_ = 8 << 20;
  int64_t max_message_bytes_ = 8 << 20;

  // The fence.
  absl::Duration renewed_ =
      absl::ZeroDuration();  // sending of the last acknowledged Status or accepted Hello
  bool fenced_ = false;
  bool aborted_ = false;  // this fence has aborted what was in flight
  absl::Duration fenced_since_ = absl::ZeroDuration();

  // The stream.
  Stream stream_ = Stream::kNone;
  size_t controller_ = 0;
  absl::Duration next_attach_ = absl::ZeroDuration();
  absl::Duration hello_sent_ = absl::ZeroDuration();
  absl::Duration heard_ = absl::ZeroDuration();  // last StatusAck on this stream, or its Welcome
  absl::Duration backoff_ = kMinAttachBackoff;
  std::optional<absl::Duration> blamed_;  // last end with INVALID_ARGUMENT
  int64_t status_number_ = 0;
  int64_t grants_received_ = 0;
  std::deque<SentStatus> statuses_;  // not acknowledged
  absl::Duration status_sent_ = absl::ZeroDuration();
  absl::Duration status_due_ = absl::ZeroDuration();
  Appetite said_;  // in the last Status
  bool said_draining_ = false;
  int64_t granted_since_ = 0;  // tasks granted since the last Status

  // The work.
  Leases leases_;
  absl::flat_hash_map<std::string, Job> jobs_;
  std::set<std::pair<absl::Duration, int64_t>> aging_;  // leases by Lease::due
  int64_t unacked_bytes_ = 0;
  bool full_ = false;  // unacked_bytes_ has reached the limit; something waits for MayStart()
  bool draining_ = false;
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_LEASE_LEASE_CLIENT_H_
