#include "common/log/log.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/log/capture.h"
#include "common/strings/strings.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace drover {

struct LogCapture::State {
  LogLevel level;
  LogFormat format;
  Mutex mu;
  std::vector<std::string> lines ABSL_GUARDED_BY(mu);
};

namespace {

constexpr std::string_view kLevelNames[] = {"debug", "info", "warning", "error"};
constexpr std::string_view kFormatNames[] = {"text", "json"};

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

// One logger for the life of the process: never destroyed, so that threads may log while the process exits.
struct Logger {
  std::atomic<LogLevel> level{LogLevel::kInfo};
  Mutex mu;
  LogFormat format ABSL_GUARDED_BY(mu) = LogFormat::kText;
  std::shared_ptr<spdlog::logger> out ABSL_GUARDED_BY(mu);
  std::shared_ptr<LogCapture::State> capture ABSL_GUARDED_BY(mu);
  LogLevel configured_level ABSL_GUARDED_BY(mu) = LogLevel::kInfo;
};

void AppendJsonString(std::string& out, std::string_view value);

std::shared_ptr<spdlog::logger> MakeLogger(const LogOptions& options) {
  auto logger = std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  std::string service;
  if (!options.service.empty() && options.format == LogFormat::kText) {
    service = StrCat(" service=", options.service);
  } else if (!options.service.empty()) {
    AppendJsonString(service, options.service);
    service = StrCat(",\"service\":", service);
  }
  // The service's name goes through spdlog's pattern, in which % is special.
  for (size_t i = service.find('%'); i != std::string::npos; i = service.find('%', i + 2))
    service.insert(i, "%");
  const std::string pattern =
      options.format == LogFormat::kText
          ? StrCat("time=%Y-%m-%dT%H:%M:%S.%eZ level=%l", service, " %v")
          : StrCat("{\"time\":\"%Y-%m-%dT%H:%M:%S.%eZ\",\"level\":\"%l\"", service, ",%v}");
  logger->set_pattern(pattern, spdlog::pattern_time_type::utc);
  logger->set_level(spdlog::level::debug);
  logger->flush_on(spdlog::level::debug);
  logger->set_error_handler([](const std::string&) {});  // a closed stderr must not end or flood anything
  return logger;
}

Logger& TheLogger() {
  static Logger& logger = *new Logger;
  return logger;
}

// The length of the valid UTF-8 sequence at the start of `text`, 0 if there is none; its code point goes to
// `point`.
size_t Utf8Length(std::string_view text, uint32_t& point) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xc2 ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
  if (length == 0 || text.size() < length) return 0;
  point = length == 1 ? lead : lead & (0xff >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    point = point << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  if (overlong || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return 0;
  return length;
}

// Code points that end a line, act on a terminal or turn the direction of the text around.
bool IsUnsafe(uint32_t point) {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x2028 || point == 0x2029 ||
         (point >= 0x200e && point <= 0x200f) || (point >= 0x202a && point <= 0x202e) ||
         (point >= 0x2066 && point <= 0x2069);
}

// Appends `value` between quotation marks; what is unsafe becomes an escape of JSON, an invalid byte \xNN in
// text and U+FFFD in JSON, which knows no bytes.
void AppendQuoted(std::string& out, std::string_view value, LogFormat format) {
  out += '"';
  while (!value.empty()) {
    uint32_t point = 0;
    const size_t length = Utf8Length(value, point);
    if (length == 0) {
      if (format == LogFormat::kText) {
        absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(value[0]));
      } else {
        out += "\\ufffd";
      }
      value.remove_prefix(1);
      continue;
    }
    if (point == '"' || point == '\\') {
      out += '\\';
      out += static_cast<char>(point);
    } else if (point == '\n') {
      out += "\\n";
    } else if (point == '\r') {
      out += "\\r";
    } else if (point == '\t') {
      out += "\\t";
    } else if (IsUnsafe(point)) {
      absl::StrAppendFormat(&out, "\\u%04x", point);
    } else {
      out += value.substr(0, length);
    }
    value.remove_prefix(length);
  }
  out += '"';
}

void AppendJsonString(std::string& out, std::string_view value) {
  AppendQuoted(out, value, LogFormat::kJson);
}

bool IsBare(std::string_view value) {
  if (value.empty()) return false;
  for (const char c : value) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!word && std::string_view("-_.:/+@,%").find(c) == std::string_view::npos) return false;
  }
  return true;
}

void AppendString(std::string& out, std::string_view value, LogFormat format) {
  std::string cut;
  if (value.size() > kMaxLogValueBytes) {
    size_t end = kMaxLogValueBytes;
    while (end > kMaxLogValueBytes - 4 && (static_cast<unsigned char>(value[end]) & 0xc0) == 0x80) --end;
    cut = StrCat(value.substr(0, end), "...(", value.size(), " bytes)");
    value = cut;
  }
  if (format == LogFormat::kText && IsBare(value)) {
    out += value;
  } else {
    AppendQuoted(out, value, format);
  }
}

struct ValueAppender {
  std::string& out;
  LogFormat format;

  void operator()(std::string_view value) const { AppendString(out, value, format); }
  void operator()(const std::string& value) const { AppendString(out, value, format); }
  void operator()(bool value) const { out += value ? "true" : "false"; }
  void operator()(int64_t value) const { StrAppend(&out, value); }
  void operator()(uint64_t value) const { StrAppend(&out, value); }
  void operator()(double value) const {
    // JSON has no infinity and no NaN.
    if (std::isfinite(value)) {
      StrAppend(&out, value);
    } else {
      AppendString(out, std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf", format);
    }
  }
  void operator()(absl::Duration value) const { AppendString(out, absl::FormatDuration(value), format); }
  void operator()(absl::Time value) const {
    AppendString(out, absl::FormatTime(absl::RFC3339_full, value, absl::UTCTimeZone()), format);
  }
};

std::string FormatFields(LogFormat format, std::string_view event, LogFields fields, int64_t suppressed) {
  std::string line;
  line.reserve(128);
  const auto append_key = [&](std::string_view key) {
    if (format == LogFormat::kText) {
      if (!line.empty()) line += ' ';
      line += key;
      line += '=';
    } else {
      if (!line.empty()) line += ',';
      AppendJsonString(line, key);
      line += ':';
    }
  };
  append_key("event");
  AppendString(line, event, format);
  for (const LogField& field : fields) {
    append_key(field.key());
    std::visit(ValueAppender{line, format}, field.value());
  }
  if (suppressed > 0) {
    append_key("suppressed");
    StrAppend(&line, suppressed);
  }
  return line;
}

void Write(LogLevel level, std::string_view event, LogFields fields, int64_t suppressed) {
  if (!LogEnabled(level)) return;
  Logger& logger = TheLogger();
  std::shared_ptr<LogCapture::State> capture;
  std::shared_ptr<spdlog::logger> out;
  LogFormat format;
  {
    MutexLock lock(&logger.mu);
    capture = logger.capture;
    if (logger.out == nullptr) logger.out = MakeLogger({});
    out = logger.out;
    format = logger.format;
  }
  if (capture != nullptr) {
    std::string line = FormatFields(capture->format, event, fields, suppressed);
    if (capture->format == LogFormat::kText) {
      line = StrCat("level=", kLevelNames[static_cast<int>(level)], " ", line);
    } else {
      line = StrCat("{\"level\":\"", kLevelNames[static_cast<int>(level)], "\",", line, "}");
    }
    MutexLock lock(&capture->mu);
    capture->lines.push_back(std::move(line));
    return;
  }
  out->log(SpdlogLevel(level), spdlog::string_view_t("{}"), FormatFields(format, event, fields, suppressed));
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name) {
  for (size_t i = 0; i < std::size(kLevelNames); ++i) {
    if (name == kLevelNames[i]) return static_cast<LogLevel>(i);
  }
  return absl::InvalidArgumentError("a log level is one of debug, info, warning, error");
}

absl::StatusOr<LogFormat> ParseLogFormat(std::string_view name) {
  for (size_t i = 0; i < std::size(kFormatNames); ++i) {
    if (name == kFormatNames[i]) return static_cast<LogFormat>(i);
  }
  return absl::InvalidArgumentError("a log format is one of text, json");
}

void InitLogging(const LogOptions& options) {
  auto out = MakeLogger(options);
  Logger& logger = TheLogger();
  MutexLock lock(&logger.mu);
  logger.out = std::move(out);
  logger.format = options.format;
  logger.configured_level = options.level;
  if (logger.capture == nullptr) logger.level.store(options.level, std::memory_order_relaxed);
}

bool LogEnabled(LogLevel level) { return level >= TheLogger().level.load(std::memory_order_relaxed); }

void Log(LogLevel level, std::string_view event, LogFields fields) { Write(level, event, fields, 0); }

bool LogRateLimit::Allow(int64_t* suppressed) {
  const absl::Duration now = clock_.Elapsed();
  MutexLock lock(&mu_);
  if (any_ && now - last_ < interval_) {
    ++suppressed_;
    return false;
  }
  any_ = true;
  last_ = now;
  *suppressed = std::exchange(suppressed_, 0);
  return true;
}

void LogEvery(LogRateLimit& limit, LogLevel level, std::string_view event, LogFields fields) {
  int64_t suppressed = 0;
  if (!LogEnabled(level) || !limit.Allow(&suppressed)) return;
  Write(level, event, fields, suppressed);
}

std::string FormatLogLine(LogFormat format, std::string_view event, LogFields fields) {
  return FormatFields(format, event, fields, 0);
}

LogCapture::LogCapture(LogLevel level, LogFormat format) : state_(std::make_shared<State>()) {
  state_->level = level;
  state_->format = format;
  Logger& logger = TheLogger();
  MutexLock lock(&logger.mu);
  logger.capture = state_;
  logger.level.store(level, std::memory_order_relaxed);
}

LogCapture::~LogCapture() {
  Logger& logger = TheLogger();
  MutexLock lock(&logger.mu);
  logger.capture = nullptr;
  logger.level.store(logger.configured_level, std::memory_order_relaxed);
}

std::vector<std::string> LogCapture::lines() const {
  MutexLock lock(&state_->mu);
  return state_->lines;
}

}  // namespace drover
