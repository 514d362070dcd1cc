// The controller's gRPC API for clients and operators: JobService and FleetService, with health and
// reflection.
//
//   Api api({storage, stores, clock, random, hooks, .call_threads = 4});
//   grpc::ServerBuilder builder;       // after the Api: reflection is a plug-in of builders made later
//   api.Register(builder);
//   auto server = builder.BuildAndStart();
//   api.Start(*server);
//   ...
//   api.Shutdown();                    // before the server's: it ends the watches
//   server->Shutdown(deadline);
//
// gRPC in, domain out: nothing here knows SQL. docs/api.md is its manual.
#ifndef DROVER_SERVICES_CONTROLLER_API_API_H_
#define DROVER_SERVICES_CONTROLLER_API_API_H_

#include <memory>

#include "common/clock/clock.h"
#include "common/objectstore/stores.h"
#include "services/controller/api/caller.h"
#include "services/controller/api/job_handlers.h"
#include "services/controller/api/job_watcher.h"
#include "services/controller/api/manifest_pin.h"
#include "services/controller/storage/storage.h"

namespace grpc {
class Server;
class ServerBuilder;
}  // namespace grpc

namespace drover {

// Largest message of the API and of the worker protocol, both ways. gRPC refuses a larger one with
// RESOURCE_EXHAUSTED.
inline constexpr int kMaxGrpcMessageBytes = 8 << 20;

// References outlive the Api.
struct ApiOptions {
  Storage& storage;
  const Stores& stores;
  const Clock& clock;
  Random& random;
  ApiHooks hooks = {};
  int call_threads = 4;           // calls that wait for the database at the same time, 1 to 64
  size_t max_queued_calls = 256;  // further calls that wait for a thread; more are RESOURCE_EXHAUSTED
  JobWatcherOptions watcher = {};
  HeadFn head;  // how a `file` manifest is looked at
  AuthorizeFn authorize = Authorize;
};

// Thread-safe; Register, Start and Shutdown are called in this order, each once (Shutdown may be called
// again).
class Api {
 public:
  explicit Api(ApiOptions options);
  // Shuts down.
  ~Api();
  Api(const Api&) = delete;
  Api& operator=(const Api&) = delete;

  // Adds the services, health, reflection and the limits of messages to the server that will be built. The
  // Api must live until the server is destroyed.
  void Register(grpc::ServerBuilder& builder);
  // Starts watching and health; `server` is the one that was built, and outlives Shutdown(). Until the
  // database answered once, health says NOT_SERVING.
  void Start(grpc::Server& server);
  // A job's state, priority or counts changed in this process: those who watch it see it at once, not only at
  // the next look. Cheap.
  void NotifyChanged(const JobId& job_id);
  // Health says NOT_SERVING from now on, so that nobody is sent here any more; everything else goes on.
  void StopServing();
  // StopServing(); watches end with UNAVAILABLE, calls that wait or run are finished, new ones are
  // refused. Returns when no call uses storage any more.
  void Shutdown();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_API_H_
