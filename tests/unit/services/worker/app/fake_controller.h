// A controller that a test scripts: a real gRPC server on loopback, without a database.
#ifndef DROVER_TESTS_UNIT_SERVICES_WORKER_APP_FAKE_CONTROLLER_H_
#define DROVER_TESTS_UNIT_SERVICES_WORKER_APP_FAKE_CONTROLLER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "common/sync/mutex.h"
#include "drover/v1/worker_service.grpc.pb.h"
#include "drover/v1/worker_service.pb.h"

namespace drover {

class FakeController final : public v1::WorkerService::Service {
 public:
  // One stream, as its script sees it. Scripts run one at a time, on threads of the server.
  class Stream {
   public:
    explicit Stream(grpc::ServerReaderWriter<v1::WorkResponse, v1::WorkRequest>& io) : io_(io) {}
    void Send(const v1::WorkResponse& message) { io_.Write(message); }
    // The stream ends with this status after the script returns.
    void End(grpc::Status status) {
      ended_ = true;
      status_ = std::move(status);
    }

   private:
    friend class FakeController;
    grpc::ServerReaderWriter<v1::WorkResponse, v1::WorkRequest>& io_;
    bool ended_ = false;
    grpc::Status status_;
  };
  using Script = std::function<void(const v1::WorkRequest&, Stream&)>;

  explicit FakeController(Script script) : script_(std::move(script)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(8 << 20);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeController() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Everything received so far.
  std::vector<v1::WorkRequest> received() const {
    MutexLock lock(&mu_);
    return received_;
  }
  // Waits until `done` holds of what was received; false after `timeout`.
  bool WaitFor(const std::function<bool(const std::vector<v1::WorkRequest>&)>& done,
               absl::Duration timeout = absl::Seconds(20)) const {
    const absl::Time deadline = absl::Now() + timeout;
    MutexLock lock(&mu_);
    while (!done(received_)) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitWithTimeout(&mu_, left);
    }
    return true;
  }

 private:
  grpc::Status Work(grpc::ServerContext*,
                    grpc::ServerReaderWriter<v1::WorkResponse, v1::WorkRequest>* io) override {
    Stream stream(*io);
    v1::WorkRequest request;
    while (!stream.ended_ && io->Read(&request)) {
      {
        MutexLock lock(&mu_);
        received_.push_back(request);
        changed_.NotifyAll();
      }
      // A stream may begin before the one before it has ended.
      MutexLock lock(&script_mu_);
      script_(request, stream);
    }
    return stream.ended_ ? stream.status_ : grpc::Status::OK;
  }

  const Script script_;
  int port_ = 0;
  Mutex script_mu_;  // held while a script runs
  mutable Mutex mu_;
  mutable CondVar changed_;
  std::vector<v1::WorkRequest> received_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_WORKER_APP_FAKE_CONTROLLER_H_
