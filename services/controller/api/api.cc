#include "services/controller/api/api.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <optional>
#include <utility>

#include "grpc/health/v1/health.pb.h"
#include "services/controller/api/call_pool.h"
#include "services/controller/api/fleet_service.h"
#include "services/controller/api/health.h"
#include "services/controller/api/job_service.h"

namespace drover {
namespace {

// "" stands for the whole server: told last, so that whoever watches it finds the others told.
constexpr const char* kHealthNames[] = {"drover.v1.JobService", "drover.v1.FleetService",
                                        "drover.v1.WorkerService", ""};

// A change made here wakes those who watch the job in this process, and then whoever the hook wakes.
ApiHooks WithWatcher(ApiHooks hooks, JobWatcher& watcher) {
  ApiHooks both = hooks;
  both.job_changed = [&watcher, next = std::move(hooks.job_changed)](const JobId& job_id) {
    watcher.NotifyChanged(job_id);
    if (next) next(job_id);
  };
  return both;
}

}  // namespace

struct Api::Impl {
  explicit Impl(ApiOptions o)
      : options(std::move(o)),
        pins(options.stores, options.head),
        workers(options.storage, options.clock),
        watcher(options.storage, workers, options.clock, options.watcher),
        handlers({options.storage, workers, options.stores, pins, options.clock, options.random,
                  WithWatcher(options.hooks, watcher), options.authorize}),
        pool("api-calls", {.threads = options.call_threads, .max_queued = options.max_queued_calls}),
        job_service(handlers, watcher, pool),
        fleet_service(options.storage, options.stores, options.authorize, pool) {}

  ApiOptions options;
  ManifestPins pins;
  AttachedWorkers workers;
  JobWatcher watcher;
  JobHandlers handlers;
  CallPool pool;
  JobService job_service;
  FleetService fleet_service;
  std::optional<HealthPoller> health;
};

Api::Api(ApiOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {
  // For reflection: gRPC answers Health itself, without the descriptor that this links in.
  google::protobuf::LinkMessageReflection<grpc::health::v1::HealthCheckRequest>();
  // Both are switches of gRPC for the servers of this process that are built from now on.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
}

Api::~Api() { Shutdown(); }

void Api::Register(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxGrpcMessageBytes);
  builder.SetMaxSendMessageSize(kMaxGrpcMessageBytes);
  builder.RegisterService(&impl_->job_service);
  builder.RegisterService(&impl_->fleet_service);
}

void Api::Start(grpc::Server& server) {
  grpc::HealthCheckServiceInterface* const service = server.GetHealthCheckService();
  impl_->health.emplace([this] { return impl_->options.storage.Ping(); },
                        [service](bool serving) {
                          for (const char* name : kHealthNames) service->SetServingStatus(name, serving);
                        },
                        impl_->options.clock);
  impl_->health->Start();
  impl_->watcher.Start();
}

void Api::NotifyChanged(const JobId& job_id) { impl_->watcher.NotifyChanged(job_id); }

void Api::StopServing() {
  if (impl_->health.has_value()) impl_->health->StopServing();
}

void Api::Shutdown() {
  if (impl_->health.has_value()) impl_->health->Stop();
  impl_->watcher.Shutdown();
  impl_->pool.Shutdown();
}

}  // namespace drover
