// A scripted JobService behind a real gRPC server on loopback.
#ifndef DROVER_TESTS_UNIT_CLI_FAKE_SERVER_H_
#define DROVER_TESTS_UNIT_CLI_FAKE_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/strings/strings.h"
#include "common/sync/mutex.h"
#include "drover/v1/job_service.grpc.pb.h"

namespace drover::cli {

// One stream of WatchJob: states to send, and how it ends.
struct Stream {
  std::vector<std::pair<v1::JobState, int64_t>> states;  // state, version
  grpc::Status end;
};

// Thread-safe.
class FakeJobs : public v1::JobService::Service {
 public:
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                      v1::GetJobResponse* response) override {
    MutexLock lock(&mu_);
    ++calls_;
    if (!get_status_.ok()) return get_status_;
    response->mutable_job()->set_job_id(request->job_id());
    return grpc::Status::OK;
  }

  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest* request,
                         v1::CreateJobResponse* response) override {
    MutexLock lock(&mu_);
    ++calls_;
    create_request_ = *request;
    create_requests_.push_back(*request);
    if (request->job().description() == refused_description_ && !refused_description_.empty())
      return refusal_;
    *response->mutable_job() = created_;
    if (request->validate_only()) *response->mutable_job() = request->job();
    return grpc::Status::OK;
  }

  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* request,
                         v1::CancelJobResponse* response) override {
    response->mutable_job()->set_job_id(request->job_id());
    response->mutable_job()->set_description(request->reason());
    response->mutable_job()->set_state(v1::CANCELLING);
    return grpc::Status::OK;
  }

  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    MutexLock lock(&mu_);
    ++calls_;
    const int first = request->page_token().empty() ? 0 : std::stoi(request->page_token());
    const int last = std::min(first + request->page_size(), jobs_);
    for (int i = first; i < last; ++i) response->add_jobs()->set_job_id(std::to_string(i));
    if (last < jobs_) response->set_next_page_token(std::to_string(last));
    return grpc::Status::OK;
  }

  // Pages of at most three outcomes, every other one empty but for its token.
  grpc::Status ListTaskOutcomes(grpc::ServerContext*, const v1::ListTaskOutcomesRequest* request,
                                v1::ListTaskOutcomesResponse* response) override {
    MutexLock lock(&mu_);
    ++calls_;
    outcome_requests_.push_back(*request);
    const int place = request->page_token().empty() ? 0 : std::stoi(request->page_token());
    const int first = place / 2;
    const int last = place % 2 == 1 ? first : std::min(first + std::min(request->page_size(), 3), outcomes_);
    for (int i = first; i < last; ++i) response->add_outcomes()->mutable_task()->set_position(i);
    response->set_earlier_batches_open(place == 0);
    if (place % 2 == 0 && last < outcomes_) response->set_next_page_token(std::to_string(last * 2 + 1));
    if (place % 2 == 1) response->set_next_page_token(std::to_string(first * 2));
    return grpc::Status::OK;
  }

  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    Stream stream;
    {
      MutexLock lock(&mu_);
      ++calls_;
      if (streams_.empty()) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "no more");
      stream = streams_.front();
      streams_.erase(streams_.begin());
    }
    for (const auto& [state, version] : stream.states) {
      v1::WatchJobResponse response;
      response.mutable_job()->set_state(state);
      response.mutable_job()->set_version(version);
      writer->Write(response);
    }
    return stream.end;
  }

  void SetGetStatus(grpc::Status status) {
    MutexLock lock(&mu_);
    get_status_ = std::move(status);
  }
  void SetJobs(int jobs) {
    MutexLock lock(&mu_);
    jobs_ = jobs;
  }
  void SetOutcomes(int outcomes) {
    MutexLock lock(&mu_);
    outcomes_ = outcomes;
  }
  // All calls of ListTaskOutcomes.
  std::vector<v1::ListTaskOutcomesRequest> outcome_requests() {
    MutexLock lock(&mu_);
    return outcome_requests_;
  }
  void SetCreated(v1::Job job) {
    MutexLock lock(&mu_);
    created_ = std::move(job);
  }
  // Refuses the jobs of this description.
  void RefuseJob(std::string description, grpc::Status status) {
    MutexLock lock(&mu_);
    refused_description_ = std::move(description);
    refusal_ = std::move(status);
  }
  v1::CreateJobRequest created() {
    MutexLock lock(&mu_);
    return create_request_;
  }
  // All calls of CreateJob, those that only validate too.
  std::vector<v1::CreateJobRequest> create_requests() {
    MutexLock lock(&mu_);
    return create_requests_;
  }
  void AddStream(Stream stream) {
    MutexLock lock(&mu_);
    streams_.push_back(std::move(stream));
  }
  int calls() {
    MutexLock lock(&mu_);
    return calls_;
  }

 private:
  Mutex mu_;
  v1::Job created_ ABSL_GUARDED_BY(mu_);
  v1::CreateJobRequest create_request_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::CreateJobRequest> create_requests_ ABSL_GUARDED_BY(mu_);
  std::string refused_description_ ABSL_GUARDED_BY(mu_);
  grpc::Status refusal_ ABSL_GUARDED_BY(mu_);
  grpc::Status get_status_ ABSL_GUARDED_BY(mu_);
  std::vector<Stream> streams_ ABSL_GUARDED_BY(mu_);
  std::vector<v1::ListTaskOutcomesRequest> outcome_requests_ ABSL_GUARDED_BY(mu_);
  int jobs_ ABSL_GUARDED_BY(mu_) = 0;
  int outcomes_ ABSL_GUARDED_BY(mu_) = 0;
  int calls_ ABSL_GUARDED_BY(mu_) = 0;
};

// A server on a port of its own.
struct FakeServer {
  FakeServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&jobs);
    server = builder.BuildAndStart();
    address = StrCat("127.0.0.1:", port);
  }
  FakeJobs jobs;
  std::unique_ptr<grpc::Server> server;
  std::string address;
};

}  // namespace drover::cli

#endif  // DROVER_TESTS_UNIT_CLI_FAKE_SERVER_H_
