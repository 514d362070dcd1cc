#include "cli/client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/cord.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/fleet_service.grpc.pb.h"
#include "drover/v1/job_service.grpc.pb.h"

namespace drover::cli {
namespace {

constexpr int32_t kPageSize = 200;
// A page of kPageSize jobs at their largest fits.
constexpr int kMaxMessageBytes = 16 << 20;
// A stream may be silent for hours (a paused job): pings find a peer that is gone without a word. The servers
// allow them.
constexpr absl::Duration kKeepalive = absl::Seconds(30);
constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(10);
// Of gRPC's own reconnecting within one channel; WatchJob waits by itself.
constexpr int kConnectBackoffMs = 100;
constexpr int kConnectBackoffMaxMs = 1000;
constexpr int kConnectTimeoutMs = 5000;
constexpr absl::Duration kFirstWait = absl::Milliseconds(200);
constexpr absl::Duration kLongestWait = absl::Seconds(5);

absl::Status FromGrpc(const grpc::Status& status, std::string_view server) {
  if (status.ok()) return absl::OkStatus();
  std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
      status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    message = StrCat(server, ": ", message);
  }
  absl::Status out(static_cast<absl::StatusCode>(status.error_code()), message);
  if (!status.error_details().empty()) out.SetPayload(kRpcStatusPayload, absl::Cord(status.error_details()));
  return out;
}

// Whether the same call may end otherwise when it is made again, maybe elsewhere.
bool MayPass(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition: return false;
    default: return true;
  }
}

}  // namespace

struct Client::Server {
  std::string address;
  std::unique_ptr<v1::JobService::Stub> jobs;
  std::unique_ptr<v1::FleetService::Stub> fleet;
};

Client::Client(std::vector<std::string> servers, absl::Duration timeout, const Clock& clock, Random& random)
    : timeout_(timeout), clock_(clock), random_(random) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(absl::ToInt64Milliseconds(kKeepalive)));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(kKeepaliveTimeout)));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kConnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kConnectBackoffMaxMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  for (std::string& address : servers) {
    const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    servers_.push_back(std::make_unique<Server>(
        Server{std::move(address), v1::JobService::NewStub(channel), v1::FleetService::NewStub(channel)}));
  }
}

Client::~Client() = default;

template <typename Request, typename Response, typename Call>
absl::Status Client::TryAll(const Request& request, Response& response, const Call& call) {
  const absl::Duration deadline = clock_.Elapsed() + timeout_;
  absl::Status status = absl::UnavailableError("no server is given");
  for (size_t tried = 0; tried < servers_.size(); ++tried) {
    const absl::Duration left = deadline - clock_.Elapsed();
    if (left <= absl::ZeroDuration()) break;
    Server& server = *servers_[current_];
    grpc::ClientContext context;
    // Each server that is left gets its share of the time: one that swallows packets must not use it all up.
    const absl::Duration share = left / static_cast<int64_t>(servers_.size() - tried);
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(share));
    response.Clear();
    status = FromGrpc(call(server, &context, request, &response), server.address);
    if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) return status;
    current_ = (current_ + 1) % servers_.size();
  }
  return status;
}

absl::StatusOr<v1::Job> Client::CreateJob(const v1::CreateJobRequest& request) {
  v1::CreateJobResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->CreateJob(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& job_id) {
  v1::GetJobRequest request;
  request.set_job_id(job_id);
  v1::GetJobResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->GetJob(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<std::vector<v1::Job>> Client::ListJobs(const std::vector<v1::JobState>& states,
                                                      int64_t limit) {
  std::vector<v1::Job> jobs;
  v1::ListJobsRequest request;
  for (const v1::JobState state : states) request.add_states(state);
  do {
    const int64_t wanted =
        limit == 0 ? kPageSize : std::min<int64_t>(kPageSize, limit - static_cast<int64_t>(jobs.size()));
    request.set_page_size(static_cast<int32_t>(wanted));
    v1::ListJobsResponse response;
    DROVER_RETURN_IF_ERROR(
        TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
          return server.jobs->ListJobs(context, in, out);
        }));
    for (v1::Job& job : *response.mutable_jobs()) jobs.push_back(std::move(job));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty() && (limit == 0 || static_cast<int64_t>(jobs.size()) < limit));
  return jobs;
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& job_id, const std::string& reason) {
  v1::CancelJobRequest request;
  request.set_job_id(job_id);
  request.set_reason(reason);
  v1::CancelJobResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->CancelJob(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<v1::Job> Client::PauseJob(const std::string& job_id, const std::string& reason) {
  v1::PauseJobRequest request;
  request.set_job_id(job_id);
  request.set_reason(reason);
  v1::PauseJobResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->PauseJob(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<v1::Job> Client::ResumeJob(const std::string& job_id, const std::string& reason) {
  v1::ResumeJobRequest request;
  request.set_job_id(job_id);
  request.set_reason(reason);
  v1::ResumeJobResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->ResumeJob(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<v1::Job> Client::ConfirmJob(const std::string& job_id, const std::string& reason) {
  v1::ConfirmJobRequest request;
  request.set_job_id(job_id);
  request.set_reason(reason);
  v1::ConfirmJobResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->ConfirmJob(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<v1::Job> Client::UpdateJobPriority(const std::string& job_id, int32_t priority) {
  v1::UpdateJobPriorityRequest request;
  request.set_job_id(job_id);
  request.set_priority(priority);
  v1::UpdateJobPriorityResponse response;
  DROVER_RETURN_IF_ERROR(
      TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
        return server.jobs->UpdateJobPriority(context, in, out);
      }));
  return response.job();
}

absl::StatusOr<std::vector<v1::Worker>> Client::ListWorkers() {
  std::vector<v1::Worker> workers;
  v1::ListWorkersRequest request;
  request.set_page_size(kPageSize);
  do {
    v1::ListWorkersResponse response;
    DROVER_RETURN_IF_ERROR(
        TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
          return server.fleet->ListWorkers(context, in, out);
        }));
    for (v1::Worker& worker : *response.mutable_workers()) workers.push_back(std::move(worker));
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return workers;
}

absl::StatusOr<Client::OutcomeListing> Client::ListTaskOutcomes(
    v1::ListTaskOutcomesRequest request, int64_t limit,
    const std::function<void(const v1::RecordedOutcome&)>& show) {
  OutcomeListing listing;
  int64_t shown = 0;
  do {
    // Never 0, which would ask for the server's own size; one more than wanted tells whether there is more.
    const int64_t wanted = limit == 0 ? kPageSize : std::min<int64_t>(kPageSize, limit - shown + 1);
    request.set_page_size(static_cast<int32_t>(wanted));
    v1::ListTaskOutcomesResponse response;
    DROVER_RETURN_IF_ERROR(
        TryAll(request, response, [](Server& server, auto* context, const auto& in, auto* out) {
          return server.jobs->ListTaskOutcomes(context, in, out);
        }));
    // What the first page says holds for the whole listing.
    if (request.page_token().empty()) listing.open = response.earlier_batches_open();
    for (const v1::RecordedOutcome& outcome : response.outcomes()) {
      if (limit != 0 && shown == limit) {
        listing.more = true;
        return listing;
      }
      show(outcome);
      ++shown;
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return listing;
}

absl::StatusOr<v1::Job> Client::WatchJob(const std::string& job_id, const WatchOptions& options) {
  v1::WatchJobRequest request;
  request.set_job_id(job_id);
  v1::Job last;
  absl::Duration last_update = clock_.Elapsed();
  absl::Duration wait = kFirstWait;
  while (true) {
    Server& server = *servers_[current_];
    grpc::ClientContext context;
    const auto reader = server.jobs->WatchJob(&context, request);
    for (v1::WatchJobResponse response; reader->Read(&response);) {
      // A controller that lags behind the one before must not take the view back.
      if (response.job().version() < last.version()) continue;
      last = response.job();
      last_update = clock_.Elapsed();
      wait = kFirstWait;
      options.on_job(last);
    }
    absl::Status status = FromGrpc(reader->Finish(), server.address);
    if (status.ok() && IsTerminal(last.state())) return last;
    if (status.ok()) status = absl::UnavailableError(StrCat(server.address, ": the stream ended early"));
    if (!MayPass(status)) return status;
    if (IsTerminal(last.state())) return last;
    if (clock_.Elapsed() - last_update >= options.patience) {
      return absl::UnavailableError(status.message());
    }
    options.on_break(status);
    current_ = (current_ + 1) % servers_.size();
    // Half of it fixed, so that a server that refuses at once is not asked in a tight loop.
    std::this_thread::sleep_for(absl::ToChronoMicroseconds(wait * (0.5 + 0.5 * random_.NextUnit())));
    wait = std::min(wait * 2, kLongestWait);
  }
}

}  // namespace drover::cli
