#include "services/controller/api/call_pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "common/status/status.h"

namespace drover {

CallPool::CallPool(std::string name, CallPoolOptions options)
    : max_queued_(std::min<size_t>(options.max_queued, 65536)) {
  const int count = std::clamp(options.threads, 1, 64);
  name.resize(std::min<size_t>(name.size(), 15));
  for (int i = 0; i < count; ++i) {
    threads_.emplace_back([this] { Run(); });
    pthread_setname_np(threads_.back().native_handle(), name.c_str());
  }
}

CallPool::~CallPool() { Shutdown(); }

absl::Status CallPool::Submit(std::function<void()> call) {
  MutexLock lock(&mu_);
  if (stopping_) {
    return Error(absl::StatusCode::kUnavailable, "CONTROLLER_SHUTDOWN",
                 "this controller is going away; call again");
  }
  // A call that an idle thread is about to take does not wait: with max_queued 0 the pool still works.
  if (queue_.size() >= max_queued_ + idle_) {
    return Error(absl::StatusCode::kResourceExhausted, "OVERLOADED",
                 "too many calls wait already; try again later");
  }
  queue_.push_back(std::move(call));
  changed_.NotifyOne();
  return absl::OkStatus();
}

void CallPool::Shutdown() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    threads.swap(threads_);
    changed_.NotifyAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void CallPool::Run() {
  while (true) {
    std::function<void()> call;
    {
      MutexLock lock(&mu_);
      ++idle_;
      while (queue_.empty() && !stopping_) changed_.Wait(&mu_);
      --idle_;
      if (queue_.empty()) return;
      call = std::move(queue_.front());
      queue_.pop_front();
    }
    call();
  }
}

}  // namespace drover
