#include "services/controller/storage/postgres/pool.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <exception>
#include <string_view>
#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::postgres {
namespace {

// A dead server is noticed within keepalives_idle + keepalives_interval * keepalives_count, unsent data
// within tcp_user_timeout; without them a query to a machine that has gone would block its thread for many
// minutes.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kConnectDefaults = {{
    {"connect_timeout", "5"},
    {"keepalives_idle", "5"},
    {"keepalives_interval", "3"},
    {"keepalives_count", "3"},
    {"tcp_user_timeout", "15000"},
    {"client_encoding", "UTF8"},
    {"application_name", "drover-controller"},
}};

// From this size on, a pool keeps one connection for what is vital.
constexpr int kLeastSizeToReserve = 4;

absl::Status Unavailable(std::string_view message) {
  return Error(absl::StatusCode::kUnavailable, "DATABASE_UNAVAILABLE", message);
}

}  // namespace

std::string ConnInfo(const std::string& url) {
  const bool is_uri = StartsWith(url, "postgresql://") || StartsWith(url, "postgres://");
  std::string conninfo = url;
  bool has_query = url.find('?') != std::string::npos;
  for (const auto& [name, value] : kConnectDefaults) {
    if (url.find(StrCat(name, "=")) != std::string::npos) continue;
    if (is_uri) {
      StrAppend(&conninfo, has_query ? "&" : "?", name, "=", value);
      has_query = true;
    } else {
      StrAppend(&conninfo, " ", name, "=", value);
    }
  }
  return conninfo;
}

Pool::Pool(PostgresOptions options, Clock& clock, Random& random)
    : options_(std::move(options)), conninfo_(ConnInfo(options_.url)), clock_(clock), random_(random) {}

int Pool::Limit(Urgency urgency) const {
  const bool reserves = urgency == Urgency::kUsual && options_.pool_size >= kLeastSizeToReserve;
  return options_.pool_size - (reserves ? 1 : 0);
}

absl::Duration Pool::Backoff() {
  const double factor = std::exp2(std::min(failures_ - 1, 20));
  const absl::Duration full = std::min(options_.first_backoff * factor, options_.max_backoff);
  return full * (0.5 + 0.5 * random_.NextUnit());
}

absl::StatusOr<std::unique_ptr<Connection>> Pool::Connect() {
  absl::StatusOr<std::unique_ptr<Connection>> connection;
  try {
    connection = std::make_unique<Connection>(conninfo_);
  } catch (const std::exception& error) {
    // libpq names host, port and user here, never the password.
    connection = Unavailable(StrCat("can't connect to the database: ", StripWhitespace(error.what())));
  }
  MutexLock lock(&mu_);
  probing_ = false;
  if (connection.ok()) {
    if (failures_ > 0) LogInfo("database.back", {{"attempts", failures_}});
    failures_ = 0;
  } else {
    --total_;
    ++failures_;
    retry_at_ = clock_.Elapsed() + Backoff();
    last_error_ = connection.status();
    LogEvery(log_limit_, LogLevel::kWarning, "database.unreachable",
             {{"attempts", failures_}, {"error", FromAbsl(last_error_.message())}});
  }
  changed_.NotifyAll();
  return connection;
}

absl::StatusOr<std::unique_ptr<Connection>> Pool::Acquire(absl::Duration limit, Urgency urgency) {
  const absl::Duration deadline = clock_.Elapsed() + limit;
  std::vector<std::unique_ptr<Connection>> stale;  // closed when the lock is not held any more
  {
    MutexLock lock(&mu_);
    while (true) {
      const auto free = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return total_ - static_cast<int>(idle_.size()) < Limit(urgency);
      };
      while (free() && !idle_.empty()) {
        std::unique_ptr<Connection> connection = std::move(idle_.back());
        idle_.pop_back();
        if (connection->IsOpen() && connection->IsQuiet()) return connection;
        stale.push_back(std::move(connection));
        --total_;
      }
      const absl::Duration now = clock_.Elapsed();
      const bool room = free() && idle_.empty() && total_ < options_.pool_size;
      if (room && (failures_ == 0 || (!probing_ && now >= retry_at_))) {
        ++total_;
        probing_ = failures_ > 0;
        break;
      }
      if (now >= deadline) {
        if (failures_ > 0) return last_error_;
        return Error(absl::StatusCode::kUnavailable, "DATABASE_BUSY",
                     StrCat("all ", options_.pool_size, " connections to the database stayed in use for ",
                            absl::FormatDuration(limit)));
      }
      absl::Duration wait = deadline - now;
      if (room && !probing_) wait = std::min(wait, retry_at_ - now);
      changed_.WaitWithTimeout(&mu_, wait);
    }
  }
  stale.clear();
  return Connect();
}

void Pool::Release(std::unique_ptr<Connection> connection, bool broken) {
  std::vector<std::unique_ptr<Connection>> stale;
  {
    MutexLock lock(&mu_);
    if (broken) {
      stale.swap(idle_);
      stale.push_back(std::move(connection));
      total_ -= static_cast<int>(stale.size());
    } else {
      idle_.push_back(std::move(connection));
    }
    changed_.NotifyAll();
  }
}

}  // namespace drover::postgres
