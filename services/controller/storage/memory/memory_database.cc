#include "common/failpoint/failpoint.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/storage/memory/memory_storage.h"

namespace drover::memory {
namespace {

absl::Status BeforeCommit(std::string_view name) {
  return failpoint::HitStatus(StrCat("storage.", name, ".before_commit"));
}

absl::Status AfterCommit(std::string_view name) {
  if (failpoint::HitStatus(StrCat("storage.", name, ".after_commit")).ok()) return absl::OkStatus();
  return Error(absl::StatusCode::kUnknown, "COMMIT_UNKNOWN", StrCat(name, ": failpoint after commit"));
}

}  // namespace

void MemoryDatabase::Clear() {
  MutexLock lock(&mu_);
  tables_ = {};
}

void MemoryDatabase::Look(const JobId& job_id, absl::FunctionRef<void(const JobRows*)> look) const {
  MutexLock lock(&mu_);
  const auto found = tables_.jobs.find(job_id);
  look(found == tables_.jobs.end() ? nullptr : &found->second);
}

void MemoryDatabase::LookAtAll(absl::FunctionRef<void(const JobRows&)> look) const {
  MutexLock lock(&mu_);
  for (const auto& [id, rows] : tables_.jobs) look(rows);
}

std::optional<SessionRow> MemoryDatabase::Session(const SessionId& session) const {
  MutexLock lock(&mu_);
  const auto found = tables_.sessions.find(session);
  if (found == tables_.sessions.end()) return std::nullopt;
  return found->second;
}

absl::Status MemoryDatabase::Write(std::string_view name, const JobId& job_id,
                                   absl::FunctionRef<absl::Status(JobRows&)> body) {
  {
    MutexLock lock(&mu_);
    const auto found = tables_.jobs.find(job_id);
    if (found == tables_.jobs.end()) return JobNotFound(job_id);
    JobRows rows = found->second;
    DROVER_RETURN_IF_ERROR(body(rows));
    DROVER_RETURN_IF_ERROR(CheckConstraints(rows));
    DROVER_RETURN_IF_ERROR(BeforeCommit(name));
    if (on_commit_) on_commit_(name, &found->second, rows);
    found->second = std::move(rows);
  }
  return AfterCommit(name);
}

absl::Status MemoryDatabase::Read(const JobId& job_id,
                                  absl::FunctionRef<absl::Status(const JobRows&)> body) const {
  MutexLock lock(&mu_);
  const auto found = tables_.jobs.find(job_id);
  return found == tables_.jobs.end() ? JobNotFound(job_id) : body(found->second);
}

absl::Status MemoryDatabase::WriteAll(std::string_view name, absl::FunctionRef<absl::Status(Tables&)> body) {
  {
    MutexLock lock(&mu_);
    DROVER_RETURN_IF_ERROR(BeforeCommit(name));
    DROVER_RETURN_IF_ERROR(body(tables_));
  }
  return AfterCommit(name);
}

void MemoryDatabase::ReadAll(absl::FunctionRef<void(const Tables&)> body) const {
  MutexLock lock(&mu_);
  body(tables_);
}

}  // namespace drover::memory
