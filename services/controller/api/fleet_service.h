// drover.v1.FleetService: the workers with a session.
#ifndef DROVER_SERVICES_CONTROLLER_API_FLEET_SERVICE_H_
#define DROVER_SERVICES_CONTROLLER_API_FLEET_SERVICE_H_

#include "absl/status/statusor.h"
#include "common/objectstore/stores.h"
#include "drover/v1/fleet_service.grpc.pb.h"
#include "services/controller/api/call_pool.h"
#include "services/controller/api/caller.h"
#include "services/controller/storage/storage.h"

namespace drover {

// Thread-safe; blocks on storage. `stores` are this controller's.
absl::StatusOr<v1::ListWorkersResponse> ListWorkers(Storage& storage, const Stores& stores,
                                                    const AuthorizeFn& authorize, const Caller& caller,
                                                    const v1::ListWorkersRequest& request);

// A session as clients see it; what its Hello said of stores is compared with `stores`. INTERNAL if the
// stored Hello can't be read.
absl::StatusOr<v1::Worker> ViewWorker(const SessionInfo& session, const Stores& stores);

// ListWorkers on gRPC's callback API.
class FleetService final : public v1::FleetService::CallbackService {
 public:
  // All of them outlive the service and every call to it.
  FleetService(Storage& storage, const Stores& stores, AuthorizeFn authorize, CallPool& pool);

  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;

 private:
  Storage& storage_;
  const Stores& stores_;
  const AuthorizeFn authorize_;
  CallPool& pool_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_FLEET_SERVICE_H_
