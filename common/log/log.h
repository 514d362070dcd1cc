// One-line structured logs on standard error.
//
//   LogInfo("lease.lost", {{"job", job_id}, {"lease", lease_id}, {"age", absl::Seconds(3)}});
//
//   time=2026-02-03T04:05:06.789Z level=info service=drover-worker event=lease.lost job=0194… lease=17 age=3s
//
// Events are stable dotted names (`noun.verb`), keys are lower_snake_case words; both are literals. Values
// may come from anywhere, hostile ones included: whatever a value holds, the line stays one line, and no
// value can pass for another key (text format: quoted and escaped; JSON: a string). Values longer than
// kMaxLogValueBytes are cut. Secrets are not logged: no secret type converts to a LogField.
//
// Everything here is thread-safe. The logger is the one global of the process: a log line must be possible
// anywhere.
#ifndef DROVER_COMMON_LOG_LOG_H_
#define DROVER_COMMON_LOG_LOG_H_

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/sync/mutex.h"

namespace drover {

// The most bytes of one value that reach the log, before escaping.
inline constexpr size_t kMaxLogValueBytes = 2048;

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// "debug", "info", "warning" or "error"; anything else is INVALID_ARGUMENT.
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name);
// "text" or "json"; anything else is INVALID_ARGUMENT.
absl::StatusOr<LogFormat> ParseLogFormat(std::string_view name);

struct LogOptions {
  LogLevel level = LogLevel::kInfo;  // lines below it are dropped before their values are formatted
  LogFormat format = LogFormat::kText;
  std::string service;  // `service=` of every line; empty: no such field
};

// Sets how this process logs from here on. Without a call the defaults above hold.
void InitLogging(const LogOptions& options);

// One key and its value. Borrows strings: it lives as long as the full expression that logs it.
class LogField {
 public:
  LogField(std::string_view key, std::string_view value) : key_(key), value_(value) {}
  LogField(std::string_view key, const char* value) : key_(key), value_(std::string_view(value)) {}
  LogField(std::string_view key, const std::string& value) : key_(key), value_(std::string_view(value)) {}
  LogField(std::string_view key, double value) : key_(key), value_(value) {}
  LogField(std::string_view key, absl::Duration value) : key_(key), value_(value) {}
  LogField(std::string_view key, absl::Time value) : key_(key), value_(value) {}
  LogField(std::string_view key, const absl::Status& value)
      : key_(key), value_(value.ToString(absl::StatusToStringMode::kWithNoExtraData)) {}
  template <std::same_as<bool> T>
  LogField(std::string_view key, T value) : key_(key), value_(value) {}
  template <std::signed_integral T>
  LogField(std::string_view key, T value) : key_(key), value_(static_cast<int64_t>(value)) {}
  template <std::unsigned_integral T>
    requires(!std::same_as<T, bool>)
  LogField(std::string_view key, T value) : key_(key), value_(static_cast<uint64_t>(value)) {}
  // Strong id types: anything with ToString().
  template <typename T>
    requires requires(const T& value) {
      { value.ToString() } -> std::convertible_to<std::string>;
    }
  LogField(std::string_view key, const T& value) : key_(key), value_(std::string(value.ToString())) {}

  using Value = std::variant<std::string_view, std::string, bool, int64_t, uint64_t, double, absl::Duration,
                             absl::Time>;
  std::string_view key() const { return key_; }
  const Value& value() const { return value_; }

 private:
  std::string_view key_;
  Value value_;
};

using LogFields = std::initializer_list<LogField>;

// Writes one line, if `level` is enabled. Never throws; a line that can't be written is dropped.
void Log(LogLevel level, std::string_view event, LogFields fields = {});
inline void LogDebug(std::string_view event, LogFields fields = {}) { Log(LogLevel::kDebug, event, fields); }
inline void LogInfo(std::string_view event, LogFields fields = {}) { Log(LogLevel::kInfo, event, fields); }
inline void LogWarning(std::string_view event, LogFields fields = {}) {
  Log(LogLevel::kWarning, event, fields);
}
inline void LogError(std::string_view event, LogFields fields = {}) { Log(LogLevel::kError, event, fields); }

// Whether a line of this level would be written: for values that are costly to make.
bool LogEnabled(LogLevel level);

// Lets one line through per interval and counts those that it holds back. Keep one as a member beside what it
// is about, and log through LogEvery.
//
//   LogRateLimit slow_store_log_{absl::Seconds(10)};
//   LogEvery(slow_store_log_, LogLevel::kWarning, "store.slow", {{"store", name}});
class LogRateLimit {
 public:
  explicit LogRateLimit(absl::Duration interval, const Clock& clock = SystemClock())
      : interval_(interval), clock_(clock) {}
  LogRateLimit(const LogRateLimit&) = delete;
  LogRateLimit& operator=(const LogRateLimit&) = delete;

  // True if a line may be written now; `suppressed` is then how many were held back since the last one.
  bool Allow(int64_t* suppressed);

 private:
  const absl::Duration interval_;
  const Clock& clock_;
  Mutex mu_;
  bool any_ ABSL_GUARDED_BY(mu_) = false;
  absl::Duration last_ ABSL_GUARDED_BY(mu_);
  int64_t suppressed_ ABSL_GUARDED_BY(mu_) = 0;
};

// Log, but at most one line per the limit's interval; a line after held back ones carries `suppressed=N`.
void LogEvery(LogRateLimit& limit, LogLevel level, std::string_view event, LogFields fields = {});

// What Log writes after time and level, without the line feed; text is "event=… key=value", JSON is the
// members without the braces. For tests and for tools that keep the format.
std::string FormatLogLine(LogFormat format, std::string_view event, LogFields fields);

}  // namespace drover

#endif  // DROVER_COMMON_LOG_LOG_H_
