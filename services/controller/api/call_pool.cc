#include "services/controller/api/call_pool.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "common/status/status.h"

namespace drover {
namespace {

size_t ThreadCount(const CallPoolOptions& options) {
  return static_cast<size_t>(std::clamp(options.threads, 1, 64));
}

}  // namespace

CallPool::CallPool(std::string name, CallPoolOptions options)
    : max_calls_(ThreadCount(options) + std::min<size_t>(options.max_queued, 65536)) {
  name.resize(std::min<size_t>(name.size(), 15));
  for (size_t i = 0; i < ThreadCount(options); ++i) {
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
  if (running_ + queue_.size() >= max_calls_) {
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
      while (queue_.empty() && !stopping_) changed_.Wait(&mu_);
      if (queue_.empty()) return;
      call = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
    }
    call();
    call = nullptr;  // what it holds is let go of before the next may come
    MutexLock lock(&mu_);
    --running_;
  }
}

}  // namespace drover
