// A wish that something in flight should stop.
//
//   CancelToken cancel;
//   co_spawn(io, client.Send(request, &cancel), ...);
//   ...
//   cancel.Cancel();   // Send ends soon with CANCELLED
#ifndef DROVER_COMMON_HTTP_CANCEL_H_
#define DROVER_COMMON_HTTP_CANCEL_H_

#include <functional>
#include <utility>

namespace drover {

// Belongs to one thread: the one that runs the io_context of whatever listens to it. Costs three words while
// nobody listens. It must outlive every Hook on it. Once cancelled it stays so.
class CancelToken {
 public:
  CancelToken() = default;
  CancelToken(const CancelToken&) = delete;
  CancelToken& operator=(const CancelToken&) = delete;
  ~CancelToken();

  bool cancelled() const { return cancelled_; }

  // Runs every hook once, in the order in which they were made. A hook may destroy itself or other hooks. A
  // second call does nothing.
  void Cancel();

  // Runs `action` when the token is cancelled during the hook's life; never if it was cancelled before (ask
  // cancelled() first). A null token is allowed and never fires.
  class Hook {
   public:
    Hook(const CancelToken* token, std::function<void()> action);
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;
    ~Hook() { Unlink(); }

   private:
    friend class CancelToken;
    void Unlink();

    const CancelToken* token_ = nullptr;  // null: not in a list
    Hook* previous_ = nullptr;
    Hook* next_ = nullptr;
    std::function<void()> action_;
  };

 private:
  // Listening changes nothing that a holder of a const token could see.
  mutable Hook* first_ = nullptr;
  mutable Hook* last_ = nullptr;
  bool cancelled_ = false;
};

}  // namespace drover

#endif  // DROVER_COMMON_HTTP_CANCEL_H_
