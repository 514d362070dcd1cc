#include "services/worker/worker.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/codec/task_batch.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/worker_service.pb.h"
#include "services/worker/executor/executor.h"
#include "services/worker/executor/timers.h"
#include "services/worker/lease/lease_client.h"
#include "services/worker/lease/work_stream.h"
#include "services/worker/metrics/worker_metrics.h"
#include "services/worker/operations/registry.h"
#include "services/worker/operations/store_clients.h"

namespace drover {
namespace {

// What changed is looked at together, after this: a Status need not follow each task.
constexpr absl::Duration kLookGap = absl::Milliseconds(1);
// The machine may have been suspended, which Asio's clock does not count: look at least so often.
constexpr absl::Duration kLongestWait = absl::Milliseconds(200);
// Left for the last acknowledgments at the end of a drain.
constexpr absl::Duration kDrainTail = absl::Seconds(3);
constexpr absl::Duration kHangGrace = absl::Seconds(5);

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 && name[0] != '\0' ? name : "worker";
}

v1::Hello Identity(const WorkerConfig& config, const std::map<std::string, std::string>& labels,
                   const std::string& version, const Stores& stores) {
  v1::Hello hello;
  hello.add_codecs(kTaskBatchCodec);
  hello.set_name(config.name.empty() ? HostName() : config.name);
  hello.set_version(version);
  for (const auto& [key, value] : labels) (*hello.mutable_labels())[key] = value;
  for (const OperationType& type : OperationTypes()) {
    v1::OperationSupport& operation = *hello.add_operations();
    operation.set_name(std::string(type.name));
    operation.set_revision(type.revision);
  }
  for (const StoreConfig& store : stores.list()) {
    v1::StoreSupport& support = *hello.add_stores();
    support.set_name(store.name);
    support.set_fingerprint(store.Fingerprint());
  }
  return hello;
}

}  // namespace

class Worker::Impl {
 public:
  Impl(const WorkerConfig& config, const std::string& version, const Clock& clock, Random& random,
       const Metrics* metrics)
      : config_(config),
        clock_(clock),
        io_(1),
        wake_(io_),
        signals_(io_),
        executor_(
            io_, {.concurrency = config.concurrency, .version = version}, clock, random, timers_,
            [this](const v1::Operation& operation) { return MakeOperation(operation); }, metrics),
        stream_(io_, config.controllers,
                {.on_message =
                     [this](const v1::WorkResponse& message) {
                       client_->OnMessage(message);
                       Note();
                     },
                 .on_broken =
                     [this](const absl::Status& status) {
                       client_->OnStreamBroken(status);
                       Note();
                     }}) {}

  absl::Status Init(const std::string& version, const Stores& stores, const Metrics* metrics,
                    Random& random) {
    DROVER_ASSIGN_OR_RETURN(stores_, StoreClients::Create(io_, clock_, stores));
    for (const StoreConfig& store : stores.list()) {
      if (store.kind == StoreKind::kS3 && store.max_connections < config_.concurrency) {
        LogWarning("store.few_connections", {{"store", store.name},
                                             {"max_connections", store.max_connections},
                                             {"concurrency", config_.concurrency}});
      }
    }
    DROVER_ASSIGN_OR_RETURN(auto labels, ParseLabels(config_.labels));
    client_ = std::make_unique<LeaseClient>(Identity(config_, labels, version, stores),
                                            LeaseClient::Options{.controllers = config_.controllers.size()},
                                            clock_, random, stream_, executor_,
                                            metrics == nullptr ? LeaseMetrics() : LeaseMetrics(*metrics));
    executor_.Connect(*client_, [this] { Note(); });
    timers_.OnEarlier([this] { Note(); });
    return absl::OkStatus();
  }

  void Run() {
    signals_.add(SIGTERM);
    signals_.add(SIGINT);
    WaitForSignal();
    client_->Start();
    Arm();
    io_.run();
    // What is still under way must not find its executor gone.
    stores_->Shutdown();
  }

  void Drain() {
    boost::asio::post(io_, [this] { StartDrain(); });
  }

 private:
  absl::StatusOr<Executor::NamedOperation> MakeOperation(const v1::Operation& operation) {
    const OperationType* type = FindOperationType(operation);
    if (type == nullptr) {
      return Error(absl::StatusCode::kUnimplemented, "OPERATION_UNKNOWN",
                   "this worker does not know the operation");
    }
    DROVER_ASSIGN_OR_RETURN(auto made, type->make(operation, {*stores_, clock_}));
    return Executor::NamedOperation{std::string(type->name), std::move(made)};
  }

  // Something may be due earlier than the armed timer says.
  void Note() {
    const absl::Duration soon = clock_.Elapsed() + kLookGap;
    if (stopped_ || armed_ <= soon) return;
    ArmAt(soon);
  }

  void Arm() {
    const absl::Duration now = clock_.Elapsed();
    ArmAt(std::max(now, std::min({client_->next_tick(), timers_.next(), now + kLongestWait})));
  }

  void ArmAt(absl::Duration when) {
    armed_ = when;
    wake_.expires_after(absl::ToChronoNanoseconds(std::max(when - clock_.Elapsed(), absl::ZeroDuration())));
    wake_.async_wait([this](const boost::system::error_code& error) {
      if (!error) Look();
    });
  }

  void Look() {
    armed_ = absl::InfiniteDuration();
    timers_.RunDue(clock_.Elapsed());
    if (stopped_) return;
    client_->Tick();
    if (client_->done()) return Stop("drained");
    Arm();
  }

  void WaitForSignal() {
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (error) return;
      StartDrain();
      WaitForSignal();
    });
  }

  void StartDrain() {
    if (stopped_) return;
    if (client_->draining()) {
      executor_.AbortDrain();
      return;
    }
    LogInfo("worker.draining", {{"leases", client_->leases()}, {"in_flight", executor_.in_flight()}});
    const absl::Duration now = clock_.Elapsed();
    const absl::Duration limit = config_.drain_timeout;
    alarm(static_cast<unsigned>(absl::ToInt64Seconds(limit + kHangGrace)) + 1);
    timers_.At(now + std::max(limit * 2 / 3, limit - kDrainTail), [this] { executor_.AbortDrain(); });
    timers_.At(now + limit, [this] { Stop("drain timed out"); });
    client_->StartDrain();
    Note();
  }

  void Stop(std::string_view why) {
    if (stopped_) return;
    stopped_ = true;
    LogInfo("worker.stopped", {{"why", why}, {"leases", client_->leases()}});
    client_->Stop();
    wake_.cancel();
    signals_.cancel();
    io_.stop();
  }

  const WorkerConfig config_;
  const Clock& clock_;
  // Destroyed in reverse order: what the io_context still holds may refer to the timers, nothing to the rest.
  Timers timers_;
  boost::asio::io_context io_;
  boost::asio::steady_timer wake_;
  boost::asio::signal_set signals_;
  std::unique_ptr<StoreClients> stores_;
  Executor executor_;
  std::unique_ptr<LeaseClient> client_;
  WorkStream stream_;
  absl::Duration armed_ = absl::InfiniteDuration();
  bool stopped_ = false;
};

Worker::Worker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Worker::~Worker() = default;

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(const WorkerConfig& config, const std::string& version,
                                                       const Stores& stores, const Metrics* metrics,
                                                       const Clock& clock, Random& random) {
  auto impl = std::make_unique<Impl>(config, version, clock, random, metrics);
  DROVER_RETURN_IF_ERROR(impl->Init(version, stores, metrics, random));
  return std::unique_ptr<Worker>(new Worker(std::move(impl)));
}

void Worker::Run() { impl_->Run(); }
void Worker::Drain() { impl_->Drain(); }

}  // namespace drover
