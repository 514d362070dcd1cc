#include "services/worker/lease/work_stream.h"

#include <deque>
#include <utility>

#include <grpcpp/grpcpp.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "common/sync/mutex.h"
#include "drover/v1/worker_service.grpc.pb.h"
#include "drover/v1/worker_service.pb.h"

namespace drover {
namespace {

constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
// gRPC's own backoff between connections would come on top of the lease client's.
constexpr int kMinReconnectMs = 100;
constexpr int kMaxReconnectMs = 2'000;

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// Counts calls that gRPC still holds, so that the end of the stream's owner can wait for them.
class Outstanding {
 public:
  void Add() {
    MutexLock lock(&mu_);
    ++count_;
  }
  void Done() {
    MutexLock lock(&mu_);
    if (--count_ == 0) none_.NotifyAll();
  }
  void WaitForNone() {
    MutexLock lock(&mu_);
    while (count_ > 0) none_.Wait(&mu_);
  }

 private:
  Mutex mu_;
  CondVar none_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace

class WorkStream::Channels {
 public:
  explicit Channels(std::vector<std::string> controllers) : controllers_(std::move(controllers)) {
    stubs_.resize(controllers_.size());
  }

  // Made when first used, and kept: gRPC connects again by itself.
  v1::WorkerService::Stub& stub(size_t controller) {
    std::unique_ptr<v1::WorkerService::Stub>& stub = stubs_[controller];
    if (stub == nullptr) {
      grpc::ChannelArguments arguments;
      arguments.SetMaxReceiveMessageSize(kMaxWorkMessageBytes);
      arguments.SetMaxSendMessageSize(kMaxWorkMessageBytes);
      arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
      arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
      arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
      arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kMinReconnectMs);
      arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
      arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
      // Several addresses behind one name: any of them will do.
      arguments.SetLoadBalancingPolicyName("round_robin");
      stub = v1::WorkerService::NewStub(
          grpc::CreateCustomChannel(controllers_[controller], grpc::InsecureChannelCredentials(), arguments));
    }
    return *stub;
  }

  Outstanding outstanding;

 private:
  const std::vector<std::string> controllers_;
  std::vector<std::unique_ptr<v1::WorkerService::Stub>> stubs_;
};

// One stream. gRPC's callbacks only post; they keep it alive until OnDone. The rest is the io thread's.
class WorkStream::Call final : public grpc::ClientBidiReactor<v1::WorkRequest, v1::WorkResponse>,
                               public std::enable_shared_from_this<Call> {
 public:
  explicit Call(WorkStream& stream)
      : io_(stream.io_), outstanding_(stream.channels_->outstanding), stream_(&stream) {}

  void Start(v1::WorkerService::Stub& stub) {
    self_ = shared_from_this();
    outstanding_.Add();
    stub.async()->Work(&context_, this);
    AddHold();  // the io thread starts reads and writes; released by Release()
    StartRead(&incoming_);
    StartCall();
  }

  void Send(std::shared_ptr<const v1::WorkRequest> message) {
    if (ended_ || broken_) return;
    (message->has_segment() ? segments_ : first_).push_back(std::move(message));
    Write();
  }

  bool status_waiting() const {
    for (const auto& message : first_) {
      if (message->has_status()) return true;
    }
    return writing_ != nullptr && writing_->has_status();
  }

  // Nothing is reported from here on.
  void Abandon() {
    stream_ = nullptr;
    if (!ended_) {
      ended_ = true;
      context_.TryCancel();
      Release();
    }
  }

 private:
  // gRPC's threads.
  void OnReadDone(bool ok) override {
    boost::asio::post(io_, [call = shared_from_this(), ok] { call->Read(ok); });
  }
  void OnWriteDone(bool ok) override {
    boost::asio::post(io_, [call = shared_from_this(), ok] { call->Written(ok); });
  }
  void OnDone(const grpc::Status& status) override {
    boost::asio::post(io_, [call = shared_from_this(), status] { call->Done(status); });
    // Nothing of gRPC's touches this object any more; the handler above may already be the last to hold it.
    Outstanding& outstanding = outstanding_;
    std::shared_ptr<Call> self = std::move(self_);
    self.reset();
    outstanding.Done();
  }

  // The io thread.
  void Read(bool ok) {
    if (!ok) return End();
    if (stream_ != nullptr) {
      v1::WorkResponse message;
      message.Swap(&incoming_);
      stream_->events_.on_message(message);
    }
    if (!ended_) StartRead(&incoming_);  // the message may have ended the stream
  }

  void Written(bool ok) {
    writing_ = nullptr;
    // A stream that can't be written to is read to its end: acknowledgments may still be in it, then comes
    // the status.
    if (!ok) broken_ = true;
    Write();
  }

  void Write() {
    if (writing_ != nullptr || ended_ || broken_) return;
    auto& queue = first_.empty() ? segments_ : first_;
    if (queue.empty()) return;
    writing_ = std::move(queue.front());
    queue.pop_front();
    StartWrite(writing_.get());
  }

  // No more reads or writes will be started. OnDone follows.
  void End() {
    if (ended_) return;
    ended_ = true;
    Release();
  }

  void Release() {
    first_.clear();
    segments_.clear();
    RemoveHold();
  }

  void Done(const grpc::Status& status) {
    if (!ended_) End();
    if (stream_ == nullptr) return;
    WorkStream* stream = std::exchange(stream_, nullptr);
    stream->call_.reset();
    stream->events_.on_broken(status.ok() ? absl::UnavailableError("the controller ended the stream")
                                          : FromGrpc(status));
  }

  boost::asio::io_context& io_;
  Outstanding& outstanding_;
  grpc::ClientContext context_;
  v1::WorkResponse incoming_;
  std::shared_ptr<Call> self_;                                // while gRPC holds this object
  WorkStream* stream_;                                        // null: abandoned
  bool ended_ = false;                                        // starts nothing more
  bool broken_ = false;                                       // can't be written to
  std::deque<std::shared_ptr<const v1::WorkRequest>> first_;  // Hello and Status
  std::deque<std::shared_ptr<const v1::WorkRequest>> segments_;
  std::shared_ptr<const v1::WorkRequest> writing_;
};

WorkStream::WorkStream(boost::asio::io_context& io, std::vector<std::string> controllers, Events events)
    : io_(io), events_(std::move(events)), channels_(std::make_unique<Channels>(std::move(controllers))) {}

WorkStream::~WorkStream() {
  Close();
  channels_->outstanding.WaitForNone();
}

void WorkStream::Open(size_t controller) {
  Close();
  call_ = std::make_shared<Call>(*this);
  call_->Start(channels_->stub(controller));
}

void WorkStream::Send(std::shared_ptr<const v1::WorkRequest> message) {
  if (call_ != nullptr) call_->Send(std::move(message));
}

bool WorkStream::status_waiting() const { return call_ != nullptr && call_->status_waiting(); }

void WorkStream::Close() {
  if (call_ == nullptr) return;
  call_->Abandon();
  call_.reset();
}

}  // namespace drover
