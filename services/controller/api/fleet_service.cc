#include "services/controller/api/fleet_service.h"

#include <string>
#include <utility>
#include <vector>

#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/api/job_handlers.h"
#include "services/controller/api/page_token.h"
#include "services/controller/api/supported_fields.h"
#include "services/controller/api/unary_call.h"
#include "services/controller/api/validate.h"

namespace drover {

absl::StatusOr<v1::Worker> ViewWorker(const SessionInfo& session, const Stores& stores) {
  v1::Hello hello;
  if (!hello.ParseFromString(session.hello)) {
    return Error(absl::StatusCode::kInternal, "STORED_HELLO",
                 StrCat("the stored Hello of session ", session.session_id, " can't be read"));
  }
  v1::Worker worker;
  worker.set_session_id(session.session_id);
  worker.set_name(session.name);
  worker.set_version(session.version);
  worker.set_controller(session.controller);
  worker.set_attachment(session.attachment);
  SetTimestamp(session.expires, worker.mutable_expire_time());
  SetTimestamp(session.created, worker.mutable_create_time());
  for (const v1::OperationSupport& operation : hello.operations()) worker.add_operations(operation.name());
  for (const v1::StoreSupport& store : hello.stores()) {
    worker.add_stores(store.name());
    const StoreConfig* ours = stores.Find(store.name());
    if (ours != nullptr && ours->Fingerprint() != store.fingerprint())
      worker.add_mismatched_stores(store.name());
  }
  *worker.mutable_labels() = hello.labels();
  worker.set_draining(session.draining);
  worker.set_leases(session.leases);
  return worker;
}

absl::StatusOr<v1::ListWorkersResponse> ListWorkers(Storage& storage, const Stores& stores,
                                                    const AuthorizeFn& authorize, const Caller& caller,
                                                    const v1::ListWorkersRequest& request) {
  DROVER_RETURN_IF_ERROR(authorize(caller, Action::kListWorkers, ""));
  DROVER_RETURN_IF_ERROR(CheckNoUnknownFields(request));
  DROVER_ASSIGN_OR_RETURN(const int page_size, ValidatePageSize(request.page_size()));
  const PageQuery query = WorkersQuery();
  DROVER_ASSIGN_OR_RETURN(const std::string after, DecodePageToken(query, request.page_token()));
  // One more than shown tells whether there is another page.
  DROVER_ASSIGN_OR_RETURN(const std::vector<SessionInfo> sessions,
                          storage.ListSessions(after, page_size + 1));

  v1::ListWorkersResponse response;
  size_t bytes = 0;
  for (const SessionInfo& session : sessions) {
    DROVER_ASSIGN_OR_RETURN(v1::Worker worker, ViewWorker(session, stores));
    bytes += worker.ByteSizeLong();
    const bool full =
        response.workers_size() == page_size || (response.workers_size() > 0 && bytes > kMaxPageBytes);
    if (full) {
      const std::string& last = response.workers(response.workers_size() - 1).session_id();
      response.set_next_page_token(EncodePageToken(query, last));
      break;
    }
    *response.add_workers() = std::move(worker);
  }
  return response;
}

FleetService::FleetService(Storage& storage, const Stores& stores, AuthorizeFn authorize, CallPool& pool)
    : storage_(storage), stores_(stores), authorize_(std::move(authorize)), pool_(pool) {}

grpc::ServerUnaryReactor* FleetService::ListWorkers(grpc::CallbackServerContext* context,
                                                    const v1::ListWorkersRequest* request,
                                                    v1::ListWorkersResponse* response) {
  return RunUnary(pool_, context, response, [this, request](const Caller& caller) {
    return drover::ListWorkers(storage_, stores_, authorize_, caller, *request);
  });
}

}  // namespace drover
