// The live view of a job: a bar on a terminal, plain lines elsewhere.
#ifndef DROVER_CLI_PROGRESS_H_
#define DROVER_CLI_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "drover/v1/job.pb.h"

namespace drover::cli {

// Tasks per second over the last kRateWindow.
class RateMeter {
 public:
  static constexpr absl::Duration kRateWindow = absl::Seconds(10);

  // `executed` tasks had been executed at `now` (of Clock::Elapsed); neither goes back.
  void Add(absl::Duration now, int64_t executed);
  // 0 until there are two samples some time apart.
  double per_second() const;

 private:
  std::deque<std::pair<absl::Duration, int64_t>> samples_;
};

// "[=====>    ]" with `filled` of it done, `width` characters between the brackets.
std::string Bar(double filled, size_t width);

// One line about a job that has not ended, at most `columns` wide (0: any width, and no bar): state, share,
// counts, rate, failures, time left.
std::string ProgressLine(const v1::Job& job, double per_second, size_t columns);

// Draws updates. On a terminal one line is rewritten; elsewhere a line is written at a change of state or
// reason, and every kPlainInterval while the counts change. Not thread-safe.
class ProgressView {
 public:
  static constexpr absl::Duration kPlainInterval = absl::Seconds(5);

  // `columns` is the terminal's width; absent: no terminal. `write` gets the bytes to print.
  ProgressView(std::optional<size_t> columns, const Clock& clock, std::function<void(std::string_view)> write)
      : columns_(columns), clock_(clock), write_(std::move(write)) {}

  void Update(const v1::Job& job);
  // A message of its own line, e.g. that the connection is lost.
  void Note(std::string_view text);
  // Takes the bar away; what is printed next stands at the start of a line.
  void Finish();

 private:
  const std::optional<size_t> columns_;
  const Clock& clock_;
  const std::function<void(std::string_view)> write_;
  RateMeter rate_;
  bool drawn_ = false;
  std::string last_kind_;  // state and reason of the last plain line
  std::string last_line_;
  absl::Duration last_time_;
};

}  // namespace drover::cli

#endif  // DROVER_CLI_PROGRESS_H_
