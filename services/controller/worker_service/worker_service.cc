#include "services/controller/worker_service/worker_service.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <optional>
#include <utility>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/sync/mutex.h"
#include "drover/v1/worker_service.grpc.pb.h"
#include "services/controller/api/errors.h"

namespace drover {
namespace {

class WorkReactor;

// What Fleet holds of a stream: forwards to the reactor for as long as that lives. gRPC may finish a call at
// any time, so the reactor cuts itself off here before it is deleted.
class ReactorSink final : public StreamSink {
 public:
  explicit ReactorSink(WorkReactor* reactor) : reactor_(reactor) {}
  void WriteReady() override;
  void Close(const absl::Status& status) override;
  void CutOff() {
    MutexLock lock(&mu_);
    reactor_ = nullptr;
  }

 private:
  Mutex mu_;
  WorkReactor* reactor_ ABSL_GUARDED_BY(mu_);
};

class WorkReactor final : public grpc::ServerBidiReactor<v1::WorkRequest, v1::WorkResponse> {
 public:
  WorkReactor(Fleet& fleet, Dispatcher& dispatcher, std::atomic<int>& streams)
      : fleet_(fleet),
        dispatcher_(dispatcher),
        streams_(streams),
        sink_(std::make_shared<ReactorSink>(this)) {
    stream_ = fleet_.Open(sink_);
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // The worker half-closed, its message could not be parsed, or the stream broke; gRPC doesn't say which,
      // and only a worker that has drained should end its side.
      Over(greeted_ && fleet_.MayGo(stream_)
               ? absl::OkStatus()
               : Error(absl::StatusCode::kInvalidArgument, "STREAM_ENDED",
                       "a message could not be read, or the worker ended its side before it had drained"));
      return;
    }
    switch (request_.message_case()) {
      case v1::WorkRequest::kHello:
        if (greeted_) {
          Over(Error(absl::StatusCode::kInvalidArgument, "HELLO_TWICE", "a stream has one Hello"));
        } else {
          greeted_ = true;
          dispatcher_.OnHello(stream_, std::move(*request_.mutable_hello()));
        }
        break;
      case v1::WorkRequest::kStatus:
        fleet_.OnStatus(stream_, request_.status());
        if (request_.status().credit() + request_.status().urgent_credit() > 0) dispatcher_.Wake();
        break;
      case v1::WorkRequest::kSegment: fleet_.OnSegment(stream_, request_.segment()); break;
      case v1::WorkRequest::MESSAGE_NOT_SET:
        Over(Error(absl::StatusCode::kInvalidArgument, "MESSAGE_UNKNOWN",
                   "a message of a kind unknown here, or empty"));
        break;
    }
    request_.Clear();
    StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mu_);
      writing_ = false;
    }
    if (ok) WriteNext();
  }

  void OnCancel() override { Over(absl::CancelledError("cancelled")); }

  void OnDone() override {
    sink_->CutOff();
    dispatcher_.OnClosed(stream_);
    streams_.fetch_sub(1);
    delete this;
  }

  void WriteNext() {
    MutexLock lock(&mu_);
    if (writing_ || finished_) return;
    auto next = fleet_.NextMessage(stream_);
    if (!next) return;
    response_ = *std::move(next);
    if (response_.has_grant() && failpoint::Hit("grant.drop") == failpoint::Action::kError) {
      finished_ = true;
      Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "failpoint grant.drop"));
      return;
    }
    writing_ = true;
    StartWrite(&response_);
  }

  void Over(const absl::Status& status) {
    MutexLock lock(&mu_);
    if (finished_) return;
    finished_ = true;
    Finish(ToGrpcStatus(status));
  }

 private:
  Fleet& fleet_;
  Dispatcher& dispatcher_;
  std::atomic<int>& streams_;
  const std::shared_ptr<ReactorSink> sink_;
  StreamId stream_ = 0;
  v1::WorkRequest request_;  // of the read under way
  bool greeted_ = false;     // used by OnReadDone only
  Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  v1::WorkResponse response_ ABSL_GUARDED_BY(mu_);  // of the write under way
};

void ReactorSink::WriteReady() {
  MutexLock lock(&mu_);
  if (reactor_ != nullptr) reactor_->WriteNext();
}

void ReactorSink::Close(const absl::Status& status) {
  MutexLock lock(&mu_);
  if (reactor_ != nullptr) reactor_->Over(status);
}

// A stream that is refused at once.
class RefusedReactor final : public grpc::ServerBidiReactor<v1::WorkRequest, v1::WorkResponse> {
 public:
  RefusedReactor() {
    Finish(ToGrpcStatus(Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_STREAMS",
                              "this controller has as many workers as it takes: attach to another one")));
  }
  void OnDone() override { delete this; }
};

class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  WorkerServiceImpl(Fleet& fleet, Dispatcher& dispatcher, int max_streams)
      : fleet_(fleet), dispatcher_(dispatcher), max_streams_(max_streams) {}

  grpc::ServerBidiReactor<v1::WorkRequest, v1::WorkResponse>* Work(grpc::CallbackServerContext*) override {
    if (streams_.fetch_add(1) >= max_streams_) {
      streams_.fetch_sub(1);
      return new RefusedReactor();
    }
    return new WorkReactor(fleet_, dispatcher_, streams_);
  }

 private:
  Fleet& fleet_;
  Dispatcher& dispatcher_;
  const int max_streams_;
  std::atomic<int> streams_{0};
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkerService(Fleet& fleet, Dispatcher& dispatcher, int max_streams) {
  return std::make_unique<WorkerServiceImpl>(fleet, dispatcher, max_streams);
}

}  // namespace drover
