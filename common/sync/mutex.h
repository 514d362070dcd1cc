// A mutex and a condition variable that clang's thread safety analysis and ThreadSanitizer both understand.
//
// They are std::mutex and std::condition_variable underneath: Debian's Abseil is not instrumented, so a
// program whose only lock is an absl::Mutex is reported as racy by tsan. Abseil's annotations stay usable:
//
//   Mutex mu_;
//   int value_ ABSL_GUARDED_BY(mu_);
//   MutexLock lock(&mu_);
//   while (value_ == 0) changed_.Wait(&mu_);
#ifndef DROVER_COMMON_SYNC_MUTEX_H_
#define DROVER_COMMON_SYNC_MUTEX_H_

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace drover {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mu_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mu_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mu_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(mu) { mu_->Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mu_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* mu_;
};

class CondVar {
 public:
  // Waits until notified or spuriously; `mu` is held before and after.
  void Wait(Mutex* mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    std::unique_lock<std::mutex> lock(mu->mu_, std::adopt_lock);
    cv_.wait(lock);
    lock.release();
  }
  // The same, at most for `timeout`; true if it timed out.
  bool WaitWithTimeout(Mutex* mu, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    std::unique_lock<std::mutex> lock(mu->mu_, std::adopt_lock);
    // A deadline on the system clock keeps pthread_cond_timedwait, which tsan intercepts.
    const auto status =
        cv_.wait_until(lock, std::chrono::system_clock::now() + absl::ToChronoMicroseconds(timeout));
    lock.release();
    return status == std::cv_status::timeout;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace drover

#endif  // DROVER_COMMON_SYNC_MUTEX_H_
