// A function with a stack of its own that can be left and entered again: so code that blocks, as all callers
// of Storage do, runs in virtual time, many at once on one thread, and always in the same order.
//
//   Fiber fiber([&] { storage.Claim(…); });   // which calls Fiber::Suspend() while the database "works"
//   fiber.Resume();                           // runs until it suspends itself or ends
//   fiber.Kill();                             // a crash: Suspend() throws Killed, the stack is unwound
#ifndef DROVER_TESTS_SIMULATION_FIBER_H_
#define DROVER_TESTS_SIMULATION_FIBER_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace drover::simulation {

// All fibers belong to the thread that made them.
class Fiber {
 public:
  // Thrown by Suspend() in a fiber that is being killed. Not a std::exception: nobody catches it by mistake.
  struct Killed {};

  explicit Fiber(std::function<void()> body);
  // Kills it, if it has not ended. Not from within.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Enters it. Not from within a fiber.
  void Resume();
  void Kill();
  bool done() const { return done_; }

  // The running fiber; null outside of all.
  static Fiber* Current();
  // Leaves the running fiber until it is resumed.
  static void Suspend();

  // Counts the waits: whoever wants to end a wait remembers its number, and lets a fiber be that waits for
  // something else by then.
  uint64_t wait = 0;

 private:
  struct Context;
  void Switch(bool into);
  static void Enter();
  void Run();

  std::function<void()> body_;
  std::unique_ptr<Context> context_;
  bool done_ = false;
  bool killed_ = false;
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_FIBER_H_
