// A thread with a name.
#ifndef DROVER_COMMON_SYNC_NAMED_THREAD_H_
#define DROVER_COMMON_SYNC_NAMED_THREAD_H_

#include <pthread.h>

#include <cstddef>
#include <string>
#include <thread>
#include <utility>

namespace drover {

// The most characters of a thread's name (the kernel's limit).
inline constexpr size_t kMaxThreadName = 15;

// A thread with a name for debuggers and `top`, joined when it is destroyed. What it uses must end it before.
class NamedThread {
 public:
  template <typename Body>
  NamedThread(const std::string& name, Body body)
      : thread_([name = name.substr(0, kMaxThreadName), body = std::move(body)]() mutable {
          pthread_setname_np(pthread_self(), name.c_str());
          body();
        }) {}
  NamedThread(NamedThread&&) = default;
  NamedThread& operator=(NamedThread&&) = delete;
  ~NamedThread() { Join(); }

  void Join() {
    if (thread_.joinable()) thread_.join();
  }
  // From here on nobody joins it.
  void Detach() { thread_.detach(); }

 private:
  std::thread thread_;
};

}  // namespace drover

#endif  // DROVER_COMMON_SYNC_NAMED_THREAD_H_
