#include "tests/simulation/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define DROVER_FIBER_ASAN 1
#else
#define DROVER_FIBER_ASAN 0
#endif

namespace drover::simulation {
namespace {

constexpr size_t kStackBytes = 512 * 1024;
constexpr size_t kGuardBytes = 4096;

// Stacks are used again: a run has some dozens of fibers, and there are thousands of runs.
class Stacks {
 public:
  char* Take() {
    if (!free_.empty()) {
      char* stack = free_.back();
      free_.pop_back();
      return stack;
    }
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) std::abort();
    mprotect(stack, kGuardBytes, PROT_NONE);
    return static_cast<char*>(stack);
  }
  void Give(char* stack) { free_.push_back(stack); }

 private:
  std::vector<char*> free_;
};

Stacks& TheStacks() {
  static thread_local Stacks stacks;
  return stacks;
}

thread_local Fiber* g_current = nullptr;

}  // namespace

struct Fiber::Context {
  ucontext_t inside;
  ucontext_t outside;
  char* stack = nullptr;
#if DROVER_FIBER_ASAN
  const void* outer_stack = nullptr;
  size_t outer_bytes = 0;
  void* fake_stack = nullptr;
#endif
};

Fiber::Fiber(std::function<void()> body) : body_(std::move(body)), context_(std::make_unique<Context>()) {
  context_->stack = TheStacks().Take();
  getcontext(&context_->inside);
  context_->inside.uc_stack.ss_sp = context_->stack + kGuardBytes;
  context_->inside.uc_stack.ss_size = kStackBytes - kGuardBytes;
  context_->inside.uc_link = nullptr;
  makecontext(&context_->inside, &Fiber::Enter, 0);
}

Fiber::~Fiber() {
  Kill();
  TheStacks().Give(context_->stack);
}

Fiber* Fiber::Current() { return g_current; }

void Fiber::Switch(bool into) {
  Context& context = *context_;
  g_current = into ? this : nullptr;
#if DROVER_FIBER_ASAN
  void* fake_stack = nullptr;
  if (into) {
    __sanitizer_start_switch_fiber(&fake_stack, context.stack + kGuardBytes, kStackBytes - kGuardBytes);
    swapcontext(&context.outside, &context.inside);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
  } else {
    __sanitizer_start_switch_fiber(done_ ? nullptr : &context.fake_stack, context.outer_stack,
                                   context.outer_bytes);
    swapcontext(&context.inside, &context.outside);
    __sanitizer_finish_switch_fiber(context.fake_stack, &context.outer_stack, &context.outer_bytes);
  }
#else
  into ? swapcontext(&context.outside, &context.inside) : swapcontext(&context.inside, &context.outside);
#endif
}

void Fiber::Enter() {
  Fiber* self = g_current;
#if DROVER_FIBER_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &self->context_->outer_stack, &self->context_->outer_bytes);
#endif
  self->Run();
  self->done_ = true;
  self->Switch(false);
  std::abort();  // a fiber that has ended is not entered
}

void Fiber::Run() {
  if (killed_) return;
  try {
    body_();
  } catch (const Killed&) {
  }
}

void Fiber::Resume() {
  if (g_current != nullptr || done_) std::abort();
  Switch(true);
}

void Fiber::Kill() {
  if (done_) return;
  killed_ = true;
  while (!done_) Resume();
}

void Fiber::Suspend() {
  Fiber* self = g_current;
  if (self == nullptr) std::abort();
  if (self->killed_) throw Killed();
  self->Switch(false);
  if (self->killed_) throw Killed();
}

}  // namespace drover::simulation
