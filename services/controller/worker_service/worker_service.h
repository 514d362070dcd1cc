// WorkerService on gRPC's callback API: one thin reactor for each stream, which hands messages to Fleet and
// Dispatcher and writes what Fleet queues. It always reads: back pressure is credit and max_unacked_bytes,
// never an unread stream.
#ifndef DROVER_SERVICES_CONTROLLER_WORKER_SERVICE_WORKER_SERVICE_H_
#define DROVER_SERVICES_CONTROLLER_WORKER_SERVICE_WORKER_SERVICE_H_

#include <memory>

#include "absl/time/time.h"
#include "services/controller/dispatch/dispatcher.h"
#include "services/controller/dispatch/fleet.h"

namespace grpc {
class Service;
}

namespace drover {

// The service, to be registered with a server that is shut down before it is destroyed. `fleet` and
// `dispatcher` outlive it. Streams beyond `max_streams` are refused with RESOURCE_EXHAUSTED.
std::unique_ptr<grpc::Service> MakeWorkerService(Fleet& fleet, Dispatcher& dispatcher,
                                                 int max_streams = 4096);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_WORKER_SERVICE_WORKER_SERVICE_H_
