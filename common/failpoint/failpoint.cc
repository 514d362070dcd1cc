#include "common/failpoint/failpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/strings/strings.h"
#include "common/sync/mutex.h"

namespace drover::failpoint {
namespace internal {
std::atomic<bool> g_configured{false};
}  // namespace internal

namespace {

constexpr absl::Duration kLongestWait = absl::Minutes(10);
constexpr absl::Duration kPausePoll = absl::Milliseconds(10);

enum class Kind { kOff, kKill, kStop, kSleep, kPause, kError };

struct Point {
  Kind kind = Kind::kOff;
  std::string action;  // as written, for the marker
  int64_t argument = 0;
  int64_t skip = 0;
  int64_t times = std::numeric_limits<int64_t>::max();
  int64_t hits = 0;
  int64_t taken = 0;
  bool resumed = false;
};

struct Points {
  Mutex mu;
  CondVar resumed;
  std::string directory ABSL_GUARDED_BY(mu);
  // Shared, so that a thread inside a pause keeps its point when the points are replaced.
  std::map<std::string, std::shared_ptr<Point>, std::less<>> by_name ABSL_GUARDED_BY(mu);
};

Points& ThePoints() {
  static Points& points = *new Points;
  return points;
}

absl::Status Bad(std::string_view term, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("failpoint \"", term, "\": ", what));
}

bool IsName(std::string_view name) {
  return !name.empty() &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.-") == std::string_view::npos;
}

// Takes "word(number)" from the front of `text`; false if it is not there.
bool TakeCall(std::string_view& text, std::string_view word, int64_t& number) {
  std::string_view rest = text;
  if (!ConsumePrefix(&rest, word) || !ConsumePrefix(&rest, "(")) return false;
  const size_t end = rest.find(')');
  if (end == std::string_view::npos || !ParseInteger(rest.substr(0, end), &number) || number < 0)
    return false;
  text = rest.substr(end + 1);
  return true;
}

absl::Status ParseAction(std::string_view term, std::string_view& rest, Point& point) {
  const std::string_view before = rest;
  if (TakeCall(rest, "sleep", point.argument)) {
    point.kind = Kind::kSleep;
    if (absl::Milliseconds(point.argument) > kLongestWait) return Bad(term, "sleeps longer than 10 minutes");
  } else if (TakeCall(rest, "error", point.argument)) {
    point.kind = Kind::kError;
    if (point.argument < 1 || point.argument > 16) return Bad(term, "an error code is 1 to 16");
  } else if (ConsumePrefix(&rest, "error")) {
    point.kind = Kind::kError;
    point.argument = static_cast<int64_t>(absl::StatusCode::kUnavailable);
  } else if (ConsumePrefix(&rest, "kill")) {
    point.kind = Kind::kKill;
  } else if (ConsumePrefix(&rest, "stop")) {
    point.kind = Kind::kStop;
  } else if (ConsumePrefix(&rest, "pause")) {
    point.kind = Kind::kPause;
  } else if (ConsumePrefix(&rest, "off")) {
    point.kind = Kind::kOff;
  } else {
    return Bad(term, "the action is kill, stop, sleep(ms), pause, error, error(code) or off");
  }
  point.action = std::string(before.substr(0, before.size() - rest.size()));
  return absl::OkStatus();
}

absl::Status ParsePoint(std::string_view term, std::string& name, Point& point) {
  const size_t equals = term.find('=');
  if (equals == std::string_view::npos) return Bad(term, "no '=' after the name");
  name = std::string(StripWhitespace(term.substr(0, equals)));
  if (!IsName(name)) return Bad(term, "a name is made of a-z 0-9 _ . -");
  std::string_view rest = StripWhitespace(term.substr(equals + 1));
  bool counted = false;
  if (const size_t star = rest.find('*');
      star != std::string_view::npos && rest[0] >= '0' && rest[0] <= '9') {
    if (!ParseInteger(rest.substr(0, star), &point.times)) return Bad(term, "no number before '*'");
    counted = true;
    rest.remove_prefix(star + 1);
  }
  if (rest.substr(0, 5) == "skip(" && !TakeCall(rest, "skip", point.skip))
    return Bad(term, "skip(N) takes a number");
  if (absl::Status status = ParseAction(term, rest, point); !status.ok()) return status;
  if (!counted && ConsumePrefix(&rest, "*")) {
    if (!ParseInteger(rest, &point.times) || point.times < 1)
      return Bad(term, "no positive number after '*'");
    rest = {};
  }
  if (point.times < 1) return Bad(term, "the count must be positive");
  if (!rest.empty()) return Bad(term, StrCat("unexpected \"", rest, "\""));
  return absl::OkStatus();
}

// Only async-signal-safe calls matter little here; what matters is that the marker is on its way before the
// action.
void WriteMarker(const std::string& directory, std::string_view name, int64_t count,
                 std::string_view action) {
  if (directory.empty()) return;
  const std::string path = StrCat(directory, "/", name);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) {
    std::fprintf(stderr, "failpoint: cannot write %s (errno %d)\n", path.c_str(), errno);
    return;
  }
  const std::string line = StrCat(getpid(), " ", count, " ", action, "\n");
  if (write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    std::fprintf(stderr, "failpoint: short write to %s\n", path.c_str());
  }
  close(fd);
}

void Pause(Points& points, const std::string& go_file, const std::shared_ptr<Point>& point) {
  const absl::Time deadline = absl::Now() + kLongestWait;
  MutexLock lock(&points.mu);
  while (!point->resumed && absl::Now() < deadline) {
    if (!go_file.empty() && access(go_file.c_str(), F_OK) == 0) return;
    points.resumed.WaitWithTimeout(&points.mu, kPausePoll);
  }
}

}  // namespace

absl::Status internal::HitConfigured(std::string_view name) {
  Points& points = ThePoints();
  std::shared_ptr<Point> point;
  std::string directory;
  Kind kind;
  int64_t argument;
  {
    MutexLock lock(&points.mu);
    const auto it = points.by_name.find(name);
    if (it == points.by_name.end()) return absl::OkStatus();
    point = it->second;
    ++point->hits;
    if (point->hits <= point->skip || point->taken >= point->times || point->resumed) return absl::OkStatus();
    ++point->taken;
    directory = points.directory;
    kind = point->kind;
    argument = point->argument;
    WriteMarker(directory, name, point->taken, point->action);
  }
  switch (kind) {
    case Kind::kOff: break;
    case Kind::kKill:
      kill(getpid(), SIGKILL);
      while (true) ::pause();  // the signal may reach another thread first
    case Kind::kStop: kill(getpid(), SIGSTOP); break;
    case Kind::kSleep: absl::SleepFor(absl::Milliseconds(argument)); break;
    case Kind::kPause:
      Pause(points, directory.empty() ? "" : StrCat(directory, "/", name, ".go"), point);
      break;
    case Kind::kError:
      return absl::Status(static_cast<absl::StatusCode>(argument), StrCat("failpoint ", name));
  }
  return absl::OkStatus();
}

absl::Status Configure(std::string_view spec, std::string_view directory) {
  std::map<std::string, std::shared_ptr<Point>, std::less<>> by_name;
  for (std::string_view term : Split(spec, ';')) {
    term = StripWhitespace(term);
    if (term.empty()) continue;
    std::string name;
    Point point;
    if (absl::Status status = ParsePoint(term, name, point); !status.ok()) return status;
    if (!by_name.emplace(name, std::make_shared<Point>(point)).second) return Bad(term, "named twice");
  }
#if !DROVER_FAILPOINTS
  if (!by_name.empty()) return absl::FailedPreconditionError("failpoints are not compiled into this program");
#endif
  Points& points = ThePoints();
  MutexLock lock(&points.mu);
  for (auto& [name, point] : points.by_name) point->resumed = true;
  points.resumed.NotifyAll();
  points.by_name = std::move(by_name);
  points.directory = std::string(directory);
  internal::g_configured.store(!points.by_name.empty(), std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status ConfigureFromEnvironment(bool* configured) {
  const char* spec = std::getenv("DROVER_FAILPOINTS");
  const char* directory = std::getenv("DROVER_FAILPOINT_DIR");
  const absl::Status status = Configure(spec == nullptr ? "" : spec, directory == nullptr ? "" : directory);
  *configured = status.ok() && internal::g_configured.load(std::memory_order_relaxed);
  return status;
}

int64_t Hits(std::string_view name) {
  Points& points = ThePoints();
  MutexLock lock(&points.mu);
  const auto it = points.by_name.find(name);
  return it == points.by_name.end() ? 0 : it->second->hits;
}

void Resume(std::string_view name) {
  Points& points = ThePoints();
  MutexLock lock(&points.mu);
  const auto it = points.by_name.find(name);
  if (it == points.by_name.end()) return;
  it->second->resumed = true;
  points.resumed.NotifyAll();
}

Scoped::Scoped(std::string_view spec, std::string_view directory) {
  if (absl::Status status = Configure(spec, directory); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::abort();
  }
}

Scoped::~Scoped() { Configure("").IgnoreError(); }

}  // namespace drover::failpoint
