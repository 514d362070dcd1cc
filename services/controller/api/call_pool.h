// Runs blocking calls (storage) away from gRPC's own threads: a fixed number of threads, a bounded queue.
//
//   CallPool pool("api", {.threads = 4, .max_queued = 256});
//   const absl::Status status = pool.Submit([=] { reactor->Finish(Handle()); });
//   if (!status.ok()) reactor->Finish(ToGrpcStatus(status));
//   pool.Shutdown();                    // what is queued still runs
#ifndef DROVER_SERVICES_CONTROLLER_API_CALL_POOL_H_
#define DROVER_SERVICES_CONTROLLER_API_CALL_POOL_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "common/sync/mutex.h"

namespace drover {

struct CallPoolOptions {
  int threads = 4;          // 1 to 64
  size_t max_queued = 256;  // calls that wait for a thread, 0 to 65,536
};

// Thread-safe.
class CallPool {
 public:
  // Starts the threads, named `name` for debuggers (cut to 15 characters). Options out of range are moved
  // into it.
  CallPool(std::string name, CallPoolOptions options);
  // Shuts down.
  ~CallPool();
  CallPool(const CallPool&) = delete;
  CallPool& operator=(const CallPool&) = delete;

  // Runs `call` on one of the threads, in the order of the submissions. RESOURCE_EXHAUSTED (OVERLOADED) when
  // the queue is full, UNAVAILABLE (CONTROLLER_SHUTDOWN) when the pool shuts down; `call` is never run then.
  // It must not throw.
  absl::Status Submit(std::function<void()> call);

  // Takes no more calls, runs those that are queued and returns when the last has ended. May be called twice.
  void Shutdown();

 private:
  void Run();

  const size_t max_calls_;  // running and queued
  Mutex mu_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // joined by the first Shutdown()
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_CALL_POOL_H_
