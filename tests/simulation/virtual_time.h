// Virtual time: an agenda of what happens when, and processes that live in it.
#ifndef DROVER_TESTS_SIMULATION_VIRTUAL_TIME_H_
#define DROVER_TESTS_SIMULATION_VIRTUAL_TIME_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "tests/simulation/fiber.h"

namespace drover::simulation {

// What happens at the same time happens in the order in which it was entered. Belongs to one thread.
class Agenda {
 public:
  absl::Duration now() const { return now_; }
  void At(absl::Duration when, std::function<void()> action) {
    entries_.push({std::max(when, now_), ++last_, std::move(action)});
  }
  void After(absl::Duration delay, std::function<void()> action) { At(now_ + delay, std::move(action)); }

  // Does what is next; false if nothing is.
  bool Step() {
    if (entries_.empty()) return false;
    // Moved out before it runs: it may add others.
    Entry entry = std::move(const_cast<Entry&>(entries_.top()));
    entries_.pop();
    now_ = entry.when;
    ++steps_;
    entry.action();
    return true;
  }
  int64_t steps() const { return steps_; }

 private:
  struct Entry {
    absl::Duration when;
    uint64_t number;
    std::function<void()> action;
    bool operator<(const Entry& other) const {
      return when != other.when ? when > other.when : number > other.number;
    }
  };
  absl::Duration now_ = absl::ZeroDuration();
  uint64_t last_ = 0;
  int64_t steps_ = 0;
  std::priority_queue<Entry> entries_;
};

// A process's clock: the agenda's, set wrong. Elapsed() never goes back.
class SimulatedClock final : public Clock {
 public:
  explicit SimulatedClock(const Agenda& agenda) : agenda_(agenda) {}
  absl::Time Now() const override {
    return absl::FromUnixSeconds(1'700'000'000) + agenda_.now() + wall_offset;
  }
  absl::Duration Elapsed() const override { return absl::Hours(1) + agenda_.now() + elapsed_offset; }

  absl::Duration wall_offset;
  absl::Duration elapsed_offset;

 private:
  const Agenda& agenda_;
};

// Decisions of a run: a function of its seed alone.
class Dice final : public Random {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint64_t Next() override { return engine_(); }
  // 0 to n - 1; n > 0.
  int Below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  int Between(int low, int high) { return low + Below(high - low + 1); }
  bool Chance(double p) { return p > 0 && NextUnit() < p; }
  absl::Duration Between(absl::Duration low, absl::Duration high) { return low + NextUnit() * (high - low); }

 private:
  std::mt19937_64 engine_;
};

// Wakes a fiber that waits for it.
class Signal {
 public:
  // Remembered until somebody waits.
  void Give() {
    given_ = true;
    if (wake_) std::exchange(wake_, nullptr)();
  }

 private:
  friend class Process;
  bool given_ = false;
  std::function<void()> wake_;
};

// A process with threads, which are fibers here. Dying, it takes them along, wherever they are.
class Process {
 public:
  explicit Process(Agenda& agenda) : agenda_(agenda) {}
  virtual ~Process() { KillThreads(); }

  // A thread that begins at once.
  void Spawn(std::function<void()> body) {
    std::erase_if(threads_, [](const auto& thread) { return thread->done(); });
    threads_.push_back(std::make_shared<Fiber>(std::move(body)));
    Wake(threads_.back(), absl::ZeroDuration());
  }
  void KillThreads() {
    const auto threads = std::exchange(threads_, {});
    for (const auto& thread : threads) thread->Kill();
  }

  // In a thread: waits.
  void Sleep(absl::Duration duration) {
    Wake(Self(), duration);
    Fiber::Suspend();
  }
  // The same, or until the signal is given; only one thread waits for a signal.
  void Wait(Signal& signal, absl::Duration duration) {
    if (!std::exchange(signal.given_, false)) {
      const std::shared_ptr<Fiber> self = Self();
      const uint64_t wait = Wake(self, duration);
      signal.wake_ = [this, weak = std::weak_ptr<Fiber>(self), wait] { WakeNow(weak, wait); };
      Fiber::Suspend();
      signal.wake_ = nullptr;
      signal.given_ = false;
    }
  }

 private:
  std::shared_ptr<Fiber> Self() const {
    for (const auto& thread : threads_) {
      if (thread.get() == Fiber::Current()) return thread;
    }
    throw Fiber::Killed();  // the process is dying
  }
  uint64_t Wake(const std::shared_ptr<Fiber>& thread, absl::Duration delay) {
    const uint64_t wait = ++thread->wait;
    agenda_.After(delay, [weak = std::weak_ptr<Fiber>(thread), wait] { Enter(weak, wait); });
    return wait;
  }
  void WakeNow(const std::weak_ptr<Fiber>& thread, uint64_t wait) {
    agenda_.After(absl::ZeroDuration(), [thread, wait] { Enter(thread, wait); });
  }
  static void Enter(const std::weak_ptr<Fiber>& thread, uint64_t wait) {
    const std::shared_ptr<Fiber> alive = thread.lock();
    if (alive != nullptr && !alive->done() && alive->wait == wait) {
      ++alive->wait;
      alive->Resume();
    }
  }

  Agenda& agenda_;
  std::vector<std::shared_ptr<Fiber>> threads_;
};

}  // namespace drover::simulation

#endif  // DROVER_TESTS_SIMULATION_VIRTUAL_TIME_H_
