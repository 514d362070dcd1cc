// Answers a Hello: checks it, and attaches the stream to a session in the order that the protocol demands.
//
//   (a) the leases named get the Hello's number, where they are the session's and their number is lower;
//   (b) the session's number is raised to it, in a transaction of its own, if it is lower; otherwise the
//   attach is over; (c) the session's leases with a lower number are returned: they were claimed and never
//   arrived.
//
// Never the other way round, never by reading the number first (docs/internals/protocol.md has the
// counterexamples).
#ifndef DROVER_SERVICES_CONTROLLER_DISPATCH_ATTACHER_H_
#define DROVER_SERVICES_CONTROLLER_DISPATCH_ATTACHER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "drover/v1/worker_service.pb.h"
#include "services/controller/dispatch/fleet.h"
#include "services/controller/storage/storage.h"

namespace drover {

struct SessionOptions {
  absl::Duration ttl = absl::Seconds(15);
  absl::Duration heartbeat = absl::Seconds(3);
};

// What is wrong with a Hello: INVALID_ARGUMENT with the field's path, or FAILED_PRECONDITION
// (PROTOCOL_VERSION, BATCH_CODEC) when the two have no version in common.
absl::Status CheckHello(const v1::Hello& hello);

// Runs the attach against `storage`. UNAVAILABLE when the database is away, ABORTED when the attach is over
// (a newer one won), PERMISSION_DENIED for a wrong resume token. A session that has ended is replaced by a
// new one, and all leases that the Hello names are lost.
absl::StatusOr<AttachedStream> Attach(const v1::Hello& hello, const SessionOptions& session,
                                      const FleetLimits& limits, const std::string& controller,
                                      Storage& storage, Clock& clock, Random& random);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DISPATCH_ATTACHER_H_
