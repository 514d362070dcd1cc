// What is done to objects: the interface of the operations, one file each in this folder.
//
// An operation is made for one job, from the job's parameters. The executor cuts a lease's tasks into groups
// of at most limits().max_tasks and calls Run for each, many at a time. Run makes its requests through the
// context, which asks the fence and the limiter before each of them, and says for each task of the group how
// the attempt went. What is transient is tried again by the executor, alone or in another group.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_OPERATION_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_OPERATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/codec/outcomes.h"
#include "common/codec/task.h"
#include "common/codec/task_batch.h"
#include "common/http/cancel.h"
#include "common/objectstore/s3_client.h"
#include "common/objectstore/transient.h"

namespace drover {

// The tasks of one call. Borrowed: valid until Run has completed.
class TaskGroup {
 public:
  TaskGroup(const DecodedBatch& batch, int64_t first_task, absl::Span<const uint32_t> indexes)
      : batch_(&batch), first_task_(first_task), indexes_(indexes) {}

  size_t size() const { return indexes_.size(); }
  // Task number `i` of the group, from 0.
  Task operator[](size_t i) const { return (*batch_)[indexes_[i]]; }
  // Its index in the batch.
  uint32_t index(size_t i) const { return indexes_[i]; }
  // Its position in the manifest: with the job's id a stable id of the task.
  int64_t position(size_t i) const { return first_task_ + indexes_[i]; }

 private:
  const DecodedBatch* batch_;
  int64_t first_task_;
  absl::Span<const uint32_t> indexes_;
};

// How one attempt at one task went.
struct Attempt {
  enum class End {
    kDone,       // `outcome` is final: it succeeded, or failed in a way that would only repeat
    kTransient,  // `outcome` is a failure that may pass: what is reported if no more attempts are left
    kCancelled,  // the context or the cancel token ended it; nothing is known
  };
  End end = End::kDone;
  // Its index and attempts are filled in by the executor.
  Outcome outcome;
  Transience transience = Transience::kPermanent;
  std::optional<absl::Duration> retry_after;  // the store's wish
};

// The attempts at a group. Tasks of which nothing is said succeeded in the default way.
class GroupResult {
 public:
  // Task `i` of the group, from 0; once at most.
  void Set(size_t i, Attempt attempt) { attempts_.emplace_back(i, std::move(attempt)); }
  // In the order in which they were set.
  std::vector<std::pair<size_t, Attempt>>& attempts() { return attempts_; }
  void Clear() { attempts_.clear(); }

 private:
  std::vector<std::pair<size_t, Attempt>> attempts_;
};

// What an operation may use while it runs a group. Belongs to the logic thread and to one call of Run.
class OperationContext {
 public:
  virtual ~OperationContext() = default;

  // Sends one request with the job's User-Agent, once fence and limiter allow it, and counts it. CANCELLED if
  // the fence is down or the group is cancelled: the operation then returns at once, with kCancelled for what
  // it has not finished.
  virtual boost::asio::awaitable<absl::StatusOr<S3Response>> Send(S3Client& store, S3Request request) = 0;
  // Waits without holding a thread; false if it was cancelled before the end.
  virtual boost::asio::awaitable<bool> Sleep(absl::Duration duration) = 0;
  // For what no Send can be given.
  virtual const CancelToken& cancel() const = 0;
};

class Operation {
 public:
  struct Limits {
    size_t max_tasks = 1;     // of a group
    bool same_bucket = true;  // all tasks of a group must be in one bucket
  };

  virtual ~Operation() = default;
  // Of the next group: they may change with what the operation learns of its store.
  virtual Limits limits() const = 0;
  // The store it sends requests to: a label of metrics; "" if none.
  virtual std::string_view store() const { return {}; }
  // A second store that it sends requests to; "" if none.
  virtual std::string_view target_store() const { return {}; }
  // Runs a group of 1 to limits().max_tasks tasks. `result` comes in empty. Everything borrowed stays valid
  // until it completes. Exceptions count as a failure of each task.
  virtual boost::asio::awaitable<void> Run(const TaskGroup& group, OperationContext& context,
                                           GroupResult& result) = 0;
};

// An attempt that failed for good by Drover's own judgement, without an answer of the store.
Attempt FailedAttempt(std::string_view code, std::string_view message);
// An attempt of which nothing is known because it was cancelled.
Attempt CancelledAttempt();
// An attempt that got an answer of status 2xx which is not what S3 answers: transient, with the code
// "MalformedResponse". Whether the request took effect is not known.
Attempt UnreadableAttempt(const S3Response& answer, std::string_view why);
// What a plain request that answers 2xx on success came to; nothing for the default success (200).
std::optional<Attempt> AttemptOf(const absl::StatusOr<S3Response>& answer, absl::Time now);

// A request about the task's object, in the version that it names.
S3Request ObjectRequest(std::string_view method, const Task& task);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_OPERATION_H_
