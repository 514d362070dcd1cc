// What copy_object looks at for itself, since stores are known to ignore parts of a copy without a word: time
// conditions and tags (Ceph's gateway), access control lists (MinIO), checksums, encryption, storage classes.
// Only what a job asks for is looked at.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_COPY_CHECKS_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_COPY_CHECKS_H_

#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "common/clock/clock.h"
#include "common/objectstore/s3_client.h"
#include "services/worker/operations/copy_settings.h"
#include "services/worker/operations/operation.h"

namespace drover {

// An object, and where it is. Borrows all of it.
struct ObjectPlace {
  S3Client& store;
  std::string_view bucket;
  std::string_view key;
  std::string_view version_id;  // "": the current one
};

// Where a copy comes from and goes to. Whatever ends before its time is told as an Attempt, here and below;
// nothing means that all is well so far.
struct CopyTask {
  ObjectPlace source;
  ObjectPlace target;  // without a version
  const CopySettings& settings;
  OperationContext& context;
  const Clock& clock;
};

// A failure of Drover's own finding that may pass: as common/objectstore/transient.h has its code.
Attempt TransientAttempt(std::string_view code, std::string_view message);

// A request about `place` without a body; with its version, if it has one, and the payer.
S3Request RequestFor(std::string_view method, const ObjectPlace& place, const HttpHeaders& headers);

// Asks for the source's headers by HEAD, into `answer`, and checks the job's time conditions against its
// Last-Modified: a failure PreconditionFailed if they don't hold.
boost::asio::awaitable<std::optional<Attempt>> CheckSource(const CopyTask& task, S3Response& answer);

// Reads the tags of an object.
boost::asio::awaitable<std::optional<Attempt>> ReadTags(const CopyTask& task, const ObjectPlace& place,
                                                        ObjectTags& tags);

// Looks whether a copy that the store has just made (`written`: its answer) is what was asked for. Tags that
// are not `tags` (nothing: whatever they are) are put right by a further request. Failures that stay:
// EncryptionNotApplied, StorageClassNotApplied, AclNotApplied, ChecksumNotComputed.
boost::asio::awaitable<std::optional<Attempt>> CheckCopy(const CopyTask& task, const S3Response& written,
                                                         const std::optional<ObjectTags>& tags);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_COPY_CHECKS_H_
