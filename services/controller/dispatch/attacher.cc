#include "services/controller/dispatch/attacher.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/failpoint/failpoint.h"
#include "common/hash/sha256.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr int kProtocol = 1;
constexpr int kBatchCodec = 1;
constexpr int kMaxHeldLeases = 65536;

v1::WorkResponse MakeWelcome(const SessionInfo& info, const std::string& token, const SessionOptions& session,
                             const FleetLimits& limits) {
  v1::WorkResponse message;
  v1::Welcome* welcome = message.mutable_welcome();
  welcome->set_protocol(kProtocol);
  welcome->set_session_id(info.session_id);
  welcome->set_resume_token(token);
  SetDuration(session.ttl, welcome->mutable_ttl());
  SetDuration(session.heartbeat, welcome->mutable_heartbeat_interval());
  welcome->set_max_message_bytes(limits.max_message_bytes);
  welcome->set_max_unacked_bytes(limits.max_unacked_bytes);
  welcome->set_controller(info.controller);
  return message;
}

}  // namespace

absl::Status CheckHello(const v1::Hello& hello) {
  if (hello.min_protocol() > kProtocol || hello.max_protocol() < kProtocol) {
    return Error(absl::StatusCode::kFailedPrecondition, "PROTOCOL_VERSION",
                 StrCat("this controller speaks protocol ", kProtocol, ", the worker ", hello.min_protocol(),
                        " to ", hello.max_protocol()));
  }
  bool codec = false;
  for (const int32_t known : hello.codecs()) codec |= known == kBatchCodec;
  if (!codec) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "BATCH_CODEC",
        StrCat("this controller sends batches in codec ", kBatchCodec, ", which the worker can't decode"));
  }
  FieldErrors errors;
  if (hello.name().empty() || hello.name().size() > 128) errors.Add("hello.name", "must have 1 to 128 bytes");
  if (hello.version().size() > 64) errors.Add("hello.version", "must have at most 64 bytes");
  if (hello.labels_size() > 32) errors.Add("hello.labels", "at most 32 labels");
  for (const auto& [key, value] : hello.labels()) {
    if (key.empty() || key.size() > 128 || value.size() > 128)
      errors.Add("hello.labels", "keys have 1 to 128 bytes, values at most 128");
  }
  if (hello.operations_size() > 256) errors.Add("hello.operations", "at most 256");
  for (const auto& operation : hello.operations()) {
    if (operation.name().empty() || operation.name().size() > 128)
      errors.Add("hello.operations.name", "must have 1 to 128 bytes");
  }
  if (hello.stores_size() > 256) errors.Add("hello.stores", "at most 256");
  for (const auto& store : hello.stores()) {
    if (store.name().empty() || store.name().size() > 128 || store.fingerprint().size() > 128) {
      errors.Add("hello.stores", "names have 1 to 128 bytes, fingerprints at most 128");
    }
  }
  if (hello.attachment() < 1) errors.Add("hello.attachment", "Hellos of a session are numbered from 1");
  if (!hello.session_id().empty() && !IsUuid(hello.session_id()))
    errors.Add("hello.session_id", "is no session id");
  if (hello.held_leases_size() > kMaxHeldLeases)
    errors.Add("hello.held_leases", StrCat("at most ", kMaxHeldLeases));
  for (const auto& lease : hello.held_leases()) {
    if (!IsUuid(lease.job_id()) || lease.batch_no() < 0 || lease.batch_no() > INT32_MAX ||
        lease.lease_id() <= 0) {
      errors.Add("hello.held_leases", "names a job, a batch and a lease");
      break;
    }
  }
  return errors.empty() ? absl::OkStatus() : errors.ToStatus();
}

absl::StatusOr<AttachedStream> Attach(const v1::Hello& hello, const SessionOptions& session,
                                      const FleetLimits& limits, const std::string& controller,
                                      Storage& storage, Clock& clock, Random& random) {
  DROVER_RETURN_IF_ERROR(CheckHello(hello));
  AttachedStream attached;
  attached.hello = hello;
  attached.attachment = hello.attachment();

  SessionInfo info;
  info.name = hello.name();
  info.version = hello.version();
  info.controller = controller;
  info.attachment = hello.attachment();
  {
    v1::Hello kept = hello;
    kept.clear_resume_token();
    kept.clear_held_leases();
    info.hello = kept.SerializeAsString();
  }

  std::string token = hello.resume_token();
  bool resumed = false;
  if (!hello.session_id().empty()) {
    info.session_id = hello.session_id();
    info.token_hash = Sha256Hex(token);
    const absl::Status known = storage.CheckSession(info.session_id, info.token_hash);
    if (known.ok()) {
      std::vector<std::pair<JobId, LeaseKey>> held;
      for (const v1::HeldLease& lease : hello.held_leases()) {
        held.emplace_back(lease.job_id(), LeaseKey{static_cast<BatchNo>(lease.batch_no()), lease.lease_id()});
      }
      DROVER_ASSIGN_OR_RETURN(attached.leases, storage.MarkLeases(info.session_id, info.attachment, held));
      DROVER_RETURN_IF_ERROR(failpoint::HitStatus("attach.marked"));
      DROVER_ASSIGN_OR_RETURN(const RaiseResult raised, storage.RaiseAttachment(info, session.ttl));
      if (raised == RaiseResult::kNotLower) {
        return Error(absl::StatusCode::kAborted, "ATTACH_SUPERSEDED",
                     "a later Hello of this session has arrived already");
      }
      if (raised == RaiseResult::kRaised) {
        DROVER_RETURN_IF_ERROR(storage.ReturnOlderLeases(info.session_id, info.attachment).status());
        resumed = true;
      }
    } else if (!absl::IsNotFound(known)) {
      return known;
    }
  }
  if (!resumed) {
    attached.leases.clear();
    token = absl::StrFormat("%016x%016x", random.Next(), random.Next());
    info.session_id = NewUuid7(clock, random);
    info.token_hash = Sha256Hex(token);
    DROVER_RETURN_IF_ERROR(storage.CreateSession(info, session.ttl));
  }

  attached.session = info.session_id;
  attached.welcome = MakeWelcome(info, token, session, limits);
  std::set<LeaseId> kept;
  for (const HeldLeaseRow& row : attached.leases) kept.insert(row.key.lease_id);
  for (const v1::HeldLease& lease : hello.held_leases()) {
    if (!kept.contains(lease.lease_id()))
      attached.welcome.mutable_welcome()->add_lost_leases(lease.lease_id());
  }
  return attached;
}

}  // namespace drover
