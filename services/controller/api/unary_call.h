// Puts a blocking handler on gRPC's callback API: it runs on the call pool, never on gRPC's own threads.
#ifndef DROVER_SERVICES_CONTROLLER_API_UNARY_CALL_H_
#define DROVER_SERVICES_CONTROLLER_API_UNARY_CALL_H_

#include <grpcpp/support/server_callback.h>

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/controller/api/call_pool.h"
#include "services/controller/api/caller.h"
#include "services/controller/api/errors.h"

namespace drover {

// Runs `handler(caller)`, which returns absl::StatusOr<Response>, on `pool` and ends the call with its
// result. A call whose client has gone, or whose deadline has passed, while it waited for a thread is not
// begun. Errors of the pool (overload, shutdown) end the call.
template <typename Response, typename Handler>
grpc::ServerUnaryReactor* RunUnary(CallPool& pool, grpc::CallbackServerContext* context, Response* response,
                                   Handler handler) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const absl::Status submitted = pool.Submit([context, response, reactor, handler = std::move(handler)] {
    if (context->IsCancelled() || std::chrono::system_clock::now() > context->deadline()) {
      reactor->Finish(ToGrpcStatus(absl::CancelledError()));
      return;
    }
    absl::StatusOr<Response> result = handler(CallerOf(*context));
    const grpc::Status status = ToGrpcStatus(result.status());
    if (result.ok()) *response = *std::move(result);
    reactor->Finish(status);
  });
  if (!submitted.ok()) reactor->Finish(ToGrpcStatus(submitted));
  return reactor;
}

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_UNARY_CALL_H_
