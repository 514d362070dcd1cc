// Whole objects, read and written by blocking calls: manifests and reports, in S3 and in files.
//
//   DROVER_ASSIGN_OR_RETURN(auto store, OpenObjectStore(*stores.Find("archive")));
//   DROVER_ASSIGN_OR_RETURN(auto reader, store->Open({"bucket", "manifest.csv", ""}, 0, etag));
//   while (true) {
//     DROVER_ASSIGN_OR_RETURN(size_t n, reader->Read(buffer, sizeof(buffer)));
//     if (n == 0) break;
//     ...
//   }
//
// Errors carry a reason (GetErrorDetails), the store's name, and for S3 "http_status" and "error_code":
//   OBJECT_NOT_FOUND     NOT_FOUND            no such bucket, key or version
//   OBJECT_CHANGED       FAILED_PRECONDITION  not the object that was expected, or changed while being read
//   OBJECT_DENIED        PERMISSION_DENIED    credentials, rights
//   OBJECT_NAME_INVALID  INVALID_ARGUMENT     a bucket or key that this kind of store can't hold
//   STORE_UNAVAILABLE    UNAVAILABLE          it can't be reached or is overloaded, also after the retries
//   STORE_REFUSED        FAILED_PRECONDITION  any other answer that will not change
//                        INVALID_ARGUMENT     ... or a call that makes no sense: too long for Put()
//                        OUT_OF_RANGE         ... an offset beyond the end, an object too long to write
//   STORE_IO             INTERNAL             an error of the file system
//   STORE_CLOSED         CANCELLED            the store was shut down during the call
#ifndef DROVER_COMMON_OBJECTSTORE_OBJECT_STORE_H_
#define DROVER_COMMON_OBJECTSTORE_OBJECT_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/objectstore/stores.h"

namespace drover {

// In a `file` store bucket and key are a path beneath the root: parts of at most 255 bytes, none of them
// empty, "." or "..", no NUL (so "/a", "a//b" and "a/" can't be held, as they can in S3). Symbolic links are
// followed as long as they stay beneath the root.
struct ObjectRef {
  std::string bucket;
  std::string key;
  std::string version_id;  // "": the current one. Files have no versions: must be ""
};

struct ObjectInfo {
  int64_t size = 0;
  // S3: the ETag without its quotes. Files: "<size>-<modification time in ns since 1970>", which changes
  // whenever the file is written, but is no checksum.
  std::string etag;
  std::string version_id;  // "" where the bucket has no versions
  absl::Time modified = absl::UnixEpoch();
};

// One thread at a time. Memory is bounded whatever the object's size.
class ObjectReader {
 public:
  virtual ~ObjectReader() = default;
  // Up to `size` bytes, at least one unless the end is reached: then 0. After an error every call gives that
  // error. A broken connection is made good by reading on where it broke; the object is then still the same
  // one, or it is OBJECT_CHANGED.
  virtual absl::StatusOr<size_t> Read(char* buffer, size_t size) = 0;
  virtual const ObjectInfo& info() const = 0;
};

// One thread at a time. Nothing is visible under the key before Commit() succeeds. Destroyed without Commit()
// or Abort(), it leaves the upload behind: whoever knows upload_id() can abort it (so a crash and a
// destruction are the same).
class ObjectWriter {
 public:
  virtual ~ObjectWriter() = default;
  // Appends. After an error every call gives that error; call Abort().
  virtual absl::Status Write(std::string_view data) = 0;
  // Makes the object appear, durably. `size` and `etag` of what is returned are set.
  // UNAVAILABLE may also mean that it appeared and the answer was lost.
  virtual absl::StatusOr<ObjectInfo> Commit() = 0;
  // Gives up and removes what was stored, as far as that can be done at once.
  virtual void Abort() = 0;
  // Known from the start, to be stored before the first Write(): for ObjectStore::AbortUpload().
  virtual const std::string& upload_id() const = 0;
};

// Thread-safe; calls block. Must outlive its readers and writers.
class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  virtual absl::StatusOr<ObjectInfo> Head(const ObjectRef& ref) = 0;
  // Reads from byte `offset` on (at most the size). `expected_etag`: as in ObjectInfo, quotes allowed; "":
  // whatever is there when it is opened.
  virtual absl::StatusOr<std::unique_ptr<ObjectReader>> Open(const ObjectRef& ref, int64_t offset,
                                                             std::string_view expected_etag) = 0;
  // Writes a small object in one piece (at most kMaxPutBytes); replaces what is there.
  virtual absl::StatusOr<ObjectInfo> Put(const ObjectRef& ref, std::string_view data,
                                         std::string_view content_type) = 0;
  // Begins an object of unknown size.
  virtual absl::StatusOr<std::unique_ptr<ObjectWriter>> Create(const ObjectRef& ref,
                                                               std::string_view content_type) = 0;
  // Removes what a writer left behind. OK if there is no such upload (any more).
  virtual absl::Status AbortUpload(const ObjectRef& ref, std::string_view upload_id) = 0;
  // Removes what any writer of exactly this key left behind, whoever knows its id: after a crash between
  // Create() and the storing of the id. Only for a key that has one writer at a time. At most
  // kMaxUploadsAborted; an error if the store can't list them.
  virtual absl::Status AbortUploads(const ObjectRef& ref) = 0;
  // OK if there is no such object.
  virtual absl::Status Delete(const ObjectRef& ref) = 0;

  // Ends calls in progress, and later ones, with STORE_CLOSED. For a quick end of the process.
  virtual void Shutdown() = 0;

  virtual const StoreConfig& config() const = 0;
};

inline constexpr int64_t kMaxPutBytes = 64 << 20;
// Parts of an ObjectWriter's upload: kPartBytes each, twice that after the first kSmallParts; at most
// kMaxParts, which makes 140 GiB the longest object. A writer keeps one part in memory.
inline constexpr size_t kPartBytes = 8 << 20;
inline constexpr int kSmallParts = 2000;
inline constexpr int kMaxParts = 10000;
// What one AbortUploads() removes at most; more than a few are not left by anybody.
inline constexpr size_t kMaxUploadsAborted = 100;
// What an ObjectReader of an S3 store reads ahead at most.
inline constexpr size_t kReadAheadBytes = 4 << 20;

struct ObjectStoreOptions {
  // How often a request is tried whose answer is transient (transient.h) before it is STORE_UNAVAILABLE.
  int max_attempts = 6;
  // For how long it is tried again, however often, while the store is down or asks to slow down.
  absl::Duration max_retry_time = absl::Seconds(60);
  // The longest first wait; doubled each time up to kMaxBackoff, with full jitter.
  absl::Duration first_backoff = absl::Milliseconds(200);
  std::string user_agent;  // "": kDefaultUserAgent
  // Told of each request to an S3 store after its answer: "HEAD", "GET", "PUT", "POST" or "DELETE", its
  // status (0: no answer), how long it took, and whether it was a repetition. Called on the calling thread;
  // may be empty.
  std::function<void(std::string_view method, int status, absl::Duration took, bool retry)> on_request;
};
inline constexpr absl::Duration kMaxBackoff = absl::Seconds(10);
// A longer Retry-After is cut to this.
inline constexpr absl::Duration kMaxRetryAfter = absl::Seconds(60);

// A store of either kind; an S3 one runs a thread of its own. `clock` and `random` must outlive it.
absl::StatusOr<std::unique_ptr<ObjectStore>> OpenObjectStore(const StoreConfig& config,
                                                             ObjectStoreOptions options = {},
                                                             const Clock& clock = SystemClock(),
                                                             Random& random = SystemRandom());

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_OBJECT_STORE_H_
