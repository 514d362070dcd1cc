// A bounded queue between two threads of a pipeline.
//
//   BoundedQueue<Block> blocks(4);
//   NamedThread reader("manifest-read", [&] { while (…) if (!blocks.Push(Read())) return; blocks.Close(); });
//   while (std::optional<Block> block = blocks.Pop()) …
#ifndef DROVER_SERVICES_CONTROLLER_DUTIES_PIPELINE_H_
#define DROVER_SERVICES_CONTROLLER_DUTIES_PIPELINE_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include "common/sync/mutex.h"
#include "common/sync/named_thread.h"

namespace drover {

// First in, first out, with at most `limit` items waiting. Thread-safe.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t limit) : limit_(limit) {}
  BoundedQueue(const BoundedQueue&) = delete;
  BoundedQueue& operator=(const BoundedQueue&) = delete;

  // Waits for room. False, and the item is dropped, once the queue is closed.
  bool Push(T item) {
    MutexLock lock(&mu_);
    while (!closed_ && items_.size() >= limit_) changed_.Wait(&mu_);
    if (closed_) return false;
    items_.push_back(std::move(item));
    changed_.NotifyAll();
    return true;
  }

  // The next item, waiting for it; nothing once the queue is closed and empty.
  std::optional<T> Pop() {
    MutexLock lock(&mu_);
    while (!closed_ && items_.empty()) changed_.Wait(&mu_);
    return TakeFront();
  }

  // The same, waiting no longer than `timeout`; `timed_out` tells nothing yet from nothing any more.
  std::optional<T> Pop(absl::Duration timeout, bool& timed_out) {
    MutexLock lock(&mu_);
    timed_out = false;
    while (!closed_ && items_.empty()) {
      if (changed_.WaitWithTimeout(&mu_, timeout) && !closed_ && items_.empty()) {
        timed_out = true;
        return std::nullopt;
      }
    }
    return TakeFront();
  }

  // Nothing is taken any more; what waits can still be popped.
  void Close() {
    MutexLock lock(&mu_);
    closed_ = true;
    changed_.NotifyAll();
  }
  // The same, and what waits is dropped.
  void Abandon() {
    MutexLock lock(&mu_);
    closed_ = true;
    items_.clear();
    changed_.NotifyAll();
  }

 private:
  std::optional<T> TakeFront() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item = std::move(items_.front());
    items_.pop_front();
    changed_.NotifyAll();
    return item;
  }

  const size_t limit_;
  Mutex mu_;
  CondVar changed_;
  std::deque<T> items_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DUTIES_PIPELINE_H_
