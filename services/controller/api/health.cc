#include "services/controller/api/health.h"

#include <utility>

#include "common/log/log.h"

namespace drover {

HealthPoller::HealthPoller(std::function<absl::Status()> ping, std::function<void(bool)> report,
                           const Clock& clock, HealthPollerOptions options)
    : ping_(std::move(ping)), report_(std::move(report)), clock_(clock), options_(options) {}

HealthPoller::~HealthPoller() { Stop(); }

void HealthPoller::Start() {
  report_(false);
  ping_thread_.emplace("health-ping", [this] { Ping(); });
  watch_thread_.emplace("health-watch", [this] { Watch(); });
}

void HealthPoller::StopServing() {
  MutexLock lock(&mu_);
  if (!stopping_) ReportLocked(false);
  stopping_ = true;
  changed_.NotifyAll();
}

void HealthPoller::Stop() {
  StopServing();
  ping_thread_.reset();  // joins it
  watch_thread_.reset();
}

void HealthPoller::Ping() {
  while (true) {
    {
      MutexLock lock(&mu_);
      if (stopping_) return;
      asking_ = true;
      asked_at_ = clock_.Elapsed();
    }
    const absl::Status status = ping_();
    MutexLock lock(&mu_);
    if (stopping_) return;
    asking_ = false;
    if (serving_ && !status.ok()) LogWarning("api.not_serving", {{"error", status}});
    ReportLocked(status.ok());
    const absl::Duration until = clock_.Elapsed() + options_.interval;
    while (!stopping_ && clock_.Elapsed() < until) changed_.WaitWithTimeout(&mu_, until - clock_.Elapsed());
  }
}

void HealthPoller::Watch() {
  MutexLock lock(&mu_);
  while (!stopping_) {
    changed_.WaitWithTimeout(&mu_, options_.timeout / 4);
    if (stopping_ || !asking_ || clock_.Elapsed() - asked_at_ < options_.timeout) continue;
    if (serving_) LogWarning("api.not_serving", {{"error", "the database does not answer in time"}});
    ReportLocked(false);
  }
}

void HealthPoller::ReportLocked(bool serving) {
  if (serving == serving_) return;
  serving_ = serving;
  if (serving) LogInfo("api.serving");
  report_(serving);
}

}  // namespace drover
