// A copy from one store to another: the object passes through the worker, which never holds more of it than a
// piece.
//
// Requests      HEAD of the source (size, ETag, metadata, times); GET ?tagging of it if it has tags; GET with
//               If-Match; PUT to the target. Then those of CheckCopy(), as far as they are asked for.
// Small         objects of up to kWholeObjectBytes are read whole and then written; larger ones are written
//               while they are read, each side held back by the other, the PUT with Expect: 100-continue.
// Checked       what is read, against the source's ETag where that is an MD5, before its last piece is
//               written; what is written, by Content-MD5 where the MD5 is known before (any small object; any
//               whose ETag is an MD5), and against the target's ETag where that is an MD5.
// Transient     by common/objectstore/transient.h; of its own: SourceChanged, SourceChecksumMismatch,
//               TargetChecksumMismatch, IncompleteBody, and a source that ends early (ConnectionLost).
// Permanent     EntityTooLarge (over kMaxStreamedBytes), MetadataNotReadable.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_COPY_ACROSS_STORES_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_COPY_ACROSS_STORES_H_

#include <cstdint>
#include <optional>

#include <boost/asio/awaitable.hpp>

#include "absl/time/time.h"
#include "services/worker/operations/copy_checks.h"

namespace drover {

// What one PUT may carry, in S3.
inline constexpr int64_t kMaxStreamedBytes = int64_t{5} << 30;
inline constexpr int64_t kWholeObjectBytes = 256 << 10;
// A streamed copy may take the store's request timeout, and so much longer as its size takes at this rate.
inline constexpr int64_t kMinTransferBytesPerSecond = 256 << 10;
// A wait for a connection to the target, while the source's is held. Workers have as many connections as
// slots, so this ends copies only where they don't, and two jobs hold what the other one waits for.
inline constexpr absl::Duration kTargetConnectionWait = absl::Seconds(30);

// Copies; what it says about the attempt: nothing for the default success.
boost::asio::awaitable<std::optional<Attempt>> CopyAcrossStores(const CopyTask& task);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_COPY_ACROSS_STORES_H_
