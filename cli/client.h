// The calls of `drover`, over gRPC, to whichever of several controllers answers.
#ifndef DROVER_CLI_CLIENT_H_
#define DROVER_CLI_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "drover/v1/fleet_service.pb.h"
#include "drover/v1/job_service.pb.h"

namespace drover::cli {

// Every call tries the servers in turn, beginning with the one that answered last, and goes on to the next at
// UNAVAILABLE; so each call is one that may be made twice (a job is created with a request id). Errors carry
// the server's google.rpc.Status under kRpcStatusPayload. Not thread-safe.
class Client {
 public:
  // `servers` are host:port, at least one; `timeout` is the deadline of a whole call, over all servers.
  Client(std::vector<std::string> servers, absl::Duration timeout, const Clock& clock = SystemClock(),
         Random& random = SystemRandom());
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  absl::StatusOr<v1::Job> CreateJob(const v1::CreateJobRequest& request);
  absl::StatusOr<v1::Job> GetJob(const std::string& job_id);
  // All pages, until there are `limit` jobs (0: no limit).
  absl::StatusOr<std::vector<v1::Job>> ListJobs(const std::vector<v1::JobState>& states, int64_t limit);
  absl::StatusOr<v1::Job> CancelJob(const std::string& job_id, const std::string& reason);
  absl::StatusOr<v1::Job> PauseJob(const std::string& job_id, const std::string& reason);
  absl::StatusOr<v1::Job> ResumeJob(const std::string& job_id, const std::string& reason);
  absl::StatusOr<v1::Job> ConfirmJob(const std::string& job_id, const std::string& reason);
  absl::StatusOr<v1::Job> UpdateJobPriority(const std::string& job_id, int32_t priority);
  // All pages.
  absl::StatusOr<std::vector<v1::Worker>> ListWorkers();
  // How a listing of outcomes ended.
  struct OutcomeListing {
    bool more = false;  // there are more than the limit
    bool open = false;  // the job may still record outcomes, before those given too
  };
  // Gives each outcome to `show` as its page arrives, until there are `limit` of them (0: no limit).
  // `request`'s page is set here.
  absl::StatusOr<OutcomeListing> ListTaskOutcomes(
      v1::ListTaskOutcomesRequest request, int64_t limit,
      const std::function<void(const v1::RecordedOutcome&)>& show);

  struct WatchOptions {
    absl::Duration patience = absl::Minutes(2);  // without any update from any server until it gives up
    std::function<void(const v1::Job&)> on_job;  // each state, the terminal one included
    std::function<void(const absl::Status&)> on_break = [](const absl::Status&) {
    };  // the stream broke; it tries again
  };
  // Follows a job until its terminal state, over as many streams as it takes: a stream that breaks, or ends
  // early, is opened again at the next server after a jittered wait. Returns the last state; UNAVAILABLE when
  // patience is over; an error that trying again can't change (NOT_FOUND, INVALID_ARGUMENT, …) at once.
  absl::StatusOr<v1::Job> WatchJob(const std::string& job_id, const WatchOptions& options);

 private:
  struct Server;
  template <typename Request, typename Response, typename Call>
  absl::Status TryAll(const Request& request, Response& response, const Call& call);

  const absl::Duration timeout_;
  const Clock& clock_;
  Random& random_;
  std::vector<std::unique_ptr<Server>> servers_;
  size_t current_ = 0;
};

}  // namespace drover::cli

#endif  // DROVER_CLI_CLIENT_H_
