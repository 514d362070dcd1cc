#include "services/controller/api/job_view.h"

#include <utility>

#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

v1::JobState ToProto(lifecycle::State state) { return static_cast<v1::JobState>(state); }

void AddFailures(const JobRecord& record, v1::Job& job) {
  for (const lifecycle::Failure& failure : record.failures) {
    v1::JobFailure* out = job.add_failures();
    out->set_code(failure.code);
    out->set_reason(failure.reason);
    for (const lifecycle::Failure::BadLine& line : failure.bad_lines) {
      v1::ManifestLineError* bad = out->add_bad_lines();
      bad->set_line(line.line);
      bad->set_reason(line.reason);
    }
  }
}

void SetReportStatus(const JobRecord& record, v1::Job& job) {
  if (record.report_state == ReportState::kNone) return;
  v1::ReportStatus* out = job.mutable_report_status();
  out->set_state(static_cast<v1::ReportStatus::State>(record.report_state));
  out->set_manifest_key(record.report_manifest_key);
  out->set_error(record.report_error);
  if (record.report_settled.has_value()) SetTimestamp(*record.report_settled, out->mutable_settle_time());
  out->set_files(record.report_files);
  out->set_files_written(record.report_files_written);
}

}  // namespace

std::string JobEtag(int64_t version) { return StrCat("\"v", version, "\""); }

absl::StatusOr<v1::Job> ViewJob(const JobRecord& record, std::string waiting_for) {
  v1::Job job;
  if (!job.ParseFromString(record.spec.request)) {
    return Error(absl::StatusCode::kInternal, "STORED_REQUEST",
                 StrCat("the stored request of job ", record.spec.job_id, " can't be read"));
  }
  const lifecycle::Snapshot& snapshot = record.snapshot;
  job.set_job_id(record.spec.job_id);
  job.set_priority(record.priority);
  job.set_namespace_(record.spec.name_space);
  job.set_creator(record.spec.creator);
  job.set_state(ToProto(snapshot.state));
  // A new job has no state before.
  if (snapshot.state != lifecycle::State::kNew) job.set_previous_state(ToProto(snapshot.previous));
  if (!snapshot.reason_code.empty() || !record.reason_message.empty() || !record.reason_caller.empty()) {
    job.mutable_state_reason()->set_code(snapshot.reason_code);
    job.mutable_state_reason()->set_message(record.reason_message);
    job.mutable_state_reason()->set_caller(record.reason_caller);
  }
  job.set_waiting_for(std::move(waiting_for));
  v1::JobProgress* progress = job.mutable_progress();
  progress->set_total_tasks(snapshot.tasks);
  progress->set_succeeded_tasks(snapshot.succeeded);
  progress->set_failed_tasks(snapshot.failed);
  progress->set_unconfirmed_tasks(record.unconfirmed);
  progress->set_leased_tasks(record.leased_tasks);
  SetDuration(record.active, progress->mutable_active_duration());
  AddFailures(record, job);
  SetReportStatus(record, job);
  SetTimestamp(record.spec.created, job.mutable_create_time());
  SetTimestamp(record.state_time, job.mutable_state_time());
  if (record.start_time.has_value()) SetTimestamp(*record.start_time, job.mutable_start_time());
  if (record.end_time.has_value()) SetTimestamp(*record.end_time, job.mutable_end_time());
  job.set_version(record.version);
  job.set_etag(JobEtag(record.version));
  return job;
}

}  // namespace drover
