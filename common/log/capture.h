// For tests: gathers this process's log lines instead of writing them.
//
//   LogCapture logs;
//   DoIt();
//   EXPECT_THAT(logs.lines(), Contains(HasSubstr("event=lease.lost")));
#ifndef DROVER_COMMON_LOG_CAPTURE_H_
#define DROVER_COMMON_LOG_CAPTURE_H_

#include <memory>
#include <string>
#include <vector>

#include "common/log/log.h"

namespace drover {

// Takes the lines of all threads while it lives; one at a time in a process. Thread-safe.
class LogCapture {
 public:
  // Until destroyed, lines from `level` on are kept, in `format`; InitLogging in between has no effect on
  // that.
  explicit LogCapture(LogLevel level = LogLevel::kDebug, LogFormat format = LogFormat::kText);
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  // The lines so far, without line feeds.
  std::vector<std::string> lines() const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace drover

#endif  // DROVER_COMMON_LOG_CAPTURE_H_
