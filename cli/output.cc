#include "cli/output.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/exit_code.h"
#include "cli/operation_words.h"
#include "common/strings/strings.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace drover::cli {
namespace {

constexpr std::array<std::pair<v1::JobState, std::string_view>, 13> kStates = {{
    {v1::NEW, "New"},
    {v1::PREPARING, "Preparing"},
    {v1::SUSPENDED, "Suspended"},
    {v1::READY, "Ready"},
    {v1::ACTIVE, "Active"},
    {v1::PAUSING, "Pausing"},
    {v1::PAUSED, "Paused"},
    {v1::COMPLETING, "Completing"},
    {v1::COMPLETE, "Complete"},
    {v1::CANCELLING, "Cancelling"},
    {v1::CANCELLED, "Cancelled"},
    {v1::FAILING, "Failing"},
    {v1::FAILED, "Failed"},
}};

// Characters of a UTF-8 text: close enough to its width for padding.
size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string Pad(std::string_view text, size_t width, bool right) {
  const std::string blanks(width - std::min(width, Width(text)), ' ');
  return right ? StrCat(blanks, text) : StrCat(text, blanks);
}

// At most `limit` characters, the last one "…" if some are left out.
std::string Shorten(const std::string& text, size_t limit) {
  if (Width(text) <= limit) return text;
  size_t bytes = 0;
  for (size_t characters = 0; bytes < text.size(); ++bytes) {
    if ((static_cast<unsigned char>(text[bytes]) & 0xc0) != 0x80 && ++characters == limit) break;
  }
  return StrCat(text.substr(0, bytes), "…");
}

int64_t Executed(const v1::JobProgress& progress) {
  return progress.succeeded_tasks() + progress.failed_tasks();
}

std::string Percent(int64_t part, int64_t whole) {
  return whole <= 0
             ? "-"
             : absl::StrFormat("%.1f%%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string OperationName(const v1::Operation& operation) {
  const std::string_view word = OperationWord(operation.kind_case());
  if (!word.empty()) return std::string(word);
  // Operations that this client has no flags for go by their name in the API.
  const auto* field = v1::Operation::descriptor()->FindFieldByNumber(static_cast<int>(operation.kind_case()));
  return field == nullptr ? "-" : field->name();
}

std::string OperationText(const v1::Operation& operation) {
  std::vector<std::string> parts = {OperationName(operation)};
  if (!operation.store().empty()) parts.push_back(StrCat("in store ", operation.store()));
  if (operation.has_put_object_tagging()) {
    for (const v1::Tag& tag : operation.put_object_tagging().tags())
      parts.push_back(StrCat(tag.key(), "=", tag.value()));
  }
  if (operation.has_change_object_tagging()) {
    for (const v1::Tag& tag : operation.change_object_tagging().add())
      parts.push_back(StrCat("+", tag.key(), "=", tag.value()));
    for (const std::string& key : operation.change_object_tagging().remove_keys())
      parts.push_back(StrCat("-", key));
  }
  if (operation.has_copy_object()) {
    const v1::CopyObject& copy = operation.copy_object();
    if (!copy.target_store().empty()) parts.push_back(StrCat("to store ", copy.target_store()));
    if (!copy.target_bucket().empty()) parts.push_back(StrCat("to bucket ", copy.target_bucket()));
    if (!copy.target_key_prefix().empty()) parts.push_back(StrCat("under prefix ", copy.target_key_prefix()));
  }
  return Printable(absl::StrJoin(parts, " "));
}

std::string LocationText(const v1::ObjectLocation& location) {
  const std::string version = location.version_id().empty() ? "" : StrCat(" version ", location.version_id());
  return StrCat(location.store(), "/", location.bucket(), "/", location.key(), version);
}

std::string ManifestText(const v1::Manifest& manifest) {
  switch (manifest.kind_case()) {
    case v1::Manifest::kCsv: {
      const std::string etag =
          manifest.csv().etag().empty() ? "" : StrCat(" (ETag ", manifest.csv().etag(), ")");
      return Printable(StrCat("csv ", LocationText(manifest.csv().location()), etag));
    }
    case v1::Manifest::kInventory:
      return Printable(StrCat("inventory ", LocationText(manifest.inventory().location())));
    case v1::Manifest::kGenerated:
      return Printable(
          StrCat("listing of ", manifest.generated().store(), "/", manifest.generated().bucket()));
    case v1::Manifest::kRedrive:
      return Printable(StrCat("failed tasks of job ", manifest.redrive().job_id()));
    case v1::Manifest::kInline: return StrCat(manifest.inline_().objects_size(), " objects in the request");
    case v1::Manifest::KIND_NOT_SET: break;
  }
  return "-";
}

std::string ReportText(const v1::Job& job) {
  const v1::ReportRequest& request = job.report();
  const v1::ReportStatus& status = job.report_status();
  const std::string place = StrCat(request.store(), "/", request.bucket(), "/");
  switch (status.state()) {
    case v1::ReportStatus::WRITTEN: return Printable(StrCat("written: ", place, status.manifest_key()));
    case v1::ReportStatus::WRITING:
      return Printable(StrCat("being written, ", status.files_written(), " of ", status.files(),
                              " files: ", place, request.prefix()));
    case v1::ReportStatus::FAILED: return Printable(StrCat("could not be written: ", status.error()));
    case v1::ReportStatus::NOT_NEEDED: return "none, as no task was executed";
    default: break;
  }
  return job.has_report() ? Printable(StrCat("to come: ", place, request.prefix())) : "not asked for";
}

std::string FailureLines(const v1::Job& job) {
  std::string out;
  for (const v1::JobFailure& failure : job.failures()) {
    StrAppend(&out, "  ", Printable(failure.code()), ": ", Printable(failure.reason()), "\n");
    for (const v1::ManifestLineError& line : failure.bad_lines()) {
      StrAppend(&out, "    line ", line.line(), ": ", Printable(line.reason()), "\n");
    }
  }
  return out;
}

// The most frequent kinds of failed tasks, a line each; `job summary` shows all.
std::string FailedKinds(const v1::Job& job) {
  constexpr int kMostKinds = 5;
  std::string out;
  const auto& groups = job.failure_summary().groups();
  for (int i = 0; i < std::min(kMostKinds, groups.size()); ++i) {
    const v1::FailureGroup& group = groups[i];
    StrAppend(&out, "  ", FormatCount(group.failed_tasks()), " failed with ",
              group.error_code().empty() ? "no code" : Printable(group.error_code()));
    if (group.http_status() != 0) StrAppend(&out, " (", group.http_status(), ")");
    if (group.examples_size() > 0) {
      const v1::ManifestTask& example = group.examples(0);
      StrAppend(&out, ", e.g. ", Printable(StrCat(example.bucket(), "/", example.key())));
    }
    out += "\n";
  }
  if (groups.size() > kMostKinds) {
    StrAppend(&out, "  and ", groups.size() - kMostKinds, " more kinds: drover job summary\n");
  }
  return out;
}

std::string Labels(const google::protobuf::Map<std::string, std::string>& labels) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : labels) parts.push_back(StrCat(key, "=", value));
  std::sort(parts.begin(), parts.end());
  return parts.empty() ? "-" : Printable(absl::StrJoin(parts, ","));
}

}  // namespace

std::string FormatCount(int64_t value) {
  std::string digits = StrCat(value);
  for (ptrdiff_t at = static_cast<ptrdiff_t>(digits.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    digits.insert(static_cast<size_t>(at), ",");
  }
  return digits;
}

std::string FormatSpan(absl::Duration span) {
  if (span == absl::InfiniteDuration()) return "?";
  if (span < absl::ZeroDuration()) span = absl::ZeroDuration();
  if (span < absl::Seconds(1)) return StrCat(absl::ToInt64Milliseconds(span), "ms");
  const int64_t seconds = absl::ToInt64Seconds(span);
  if (seconds < 60) return StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  if (seconds < 86400) return absl::StrFormat("%dh%02dm", seconds / 3600, seconds % 3600 / 60);
  return absl::StrFormat("%dd%02dh", seconds / 86400, seconds % 86400 / 3600);
}

std::string FormatMoment(absl::Time time) {
  if (time == absl::InfinitePast()) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%SZ", time, absl::UTCTimeZone());
}

std::string StateName(v1::JobState state) {
  for (const auto& [value, name] : kStates) {
    if (value == state) return std::string(name);
  }
  return StrCat("State", static_cast<int>(state));
}

v1::JobState StateFromName(std::string_view name) {
  for (const auto& [value, known] : kStates) {
    if (absl::EqualsIgnoreCase(ToAbsl(name), ToAbsl(known))) return value;
  }
  return v1::JOB_STATE_UNSPECIFIED;
}

std::string Printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n' || c == '\r' || c == '\t') {
      out += ' ';
    } else if (c < 0x20 || c == 0x7f) {
      out += '?';
    } else if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
      out += '?';  // C1 controls, which some terminals obey
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp) {
  if (timestamp.seconds() == 0 && timestamp.nanos() == 0) return absl::InfinitePast();
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string FormatTable(const std::vector<Column>& columns,
                        const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const Column& column : columns) widths.push_back(Width(column.title));
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string out;
  const auto append = [&](const auto& cell) {
    std::string line;
    for (size_t i = 0; i < columns.size(); ++i) {
      StrAppend(&line, i == 0 ? "" : "  ", Pad(cell(i), widths[i], columns[i].right));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    StrAppend(&out, line, "\n");
  };
  append([&](size_t i) { return columns[i].title; });
  for (const auto& row : rows) append([&](size_t i) { return row[i]; });
  return out;
}

std::string JobTable(const std::vector<v1::Job>& jobs, absl::Time now) {
  constexpr size_t kDescription = 40;
  std::vector<std::vector<std::string>> rows;
  for (const v1::Job& job : jobs) {
    const v1::JobProgress& progress = job.progress();
    const absl::Time created = TimeOf(job.create_time());
    rows.push_back({Printable(job.job_id()), StateName(job.state()), StrCat(job.priority()),
                    OperationName(job.operation()), FormatCount(progress.total_tasks()),
                    Percent(Executed(progress), progress.total_tasks()), FormatCount(progress.failed_tasks()),
                    created == absl::InfinitePast() ? "-" : FormatSpan(now - created),
                    Shorten(Printable(job.description()), kDescription)});
  }
  return FormatTable({{"JOB"},
                      {"STATE"},
                      {"PRIORITY", true},
                      {"OPERATION"},
                      {"TASKS", true},
                      {"DONE", true},
                      {"FAILED", true},
                      {"AGE", true},
                      {"DESCRIPTION"}},
                     rows);
}

std::string JobDetails(const v1::Job& job, absl::Time now) {
  std::string out;
  const auto line = [&](std::string_view title, std::string_view value) {
    if (!value.empty()) StrAppend(&out, Pad(title, 14, false), value, "\n");
  };
  const v1::JobProgress& progress = job.progress();
  const absl::Time state_time = TimeOf(job.state_time());
  line("Job", Printable(job.job_id()));
  line("Description", Printable(job.description()));
  const std::string since =
      state_time == absl::InfinitePast() ? "" : StrCat(", for ", FormatSpan(now - state_time));
  line("State", StrCat(StateName(job.state()), IsTerminal(job.state()) ? "" : since));
  if (!job.state_reason().code().empty()) {
    const std::string by =
        job.state_reason().caller().empty() ? "" : StrCat(" (", job.state_reason().caller(), ")");
    const std::string words =
        job.state_reason().message().empty() ? "" : StrCat(": ", job.state_reason().message());
    line("Reason", Printable(StrCat(job.state_reason().code(), words, by)));
  }
  line("Waits for", Printable(job.waiting_for()));
  line("Priority", StrCat(job.priority()));
  line("Operation", OperationText(job.operation()));
  line("Manifest", ManifestText(job.manifest()));
  line("Report", ReportText(job));
  line("Tasks", StrCat(FormatCount(progress.total_tasks()), job.state() == v1::PREPARING ? " so far" : ""));
  line("  succeeded", FormatCount(progress.succeeded_tasks()));
  line("  failed", FormatCount(progress.failed_tasks()));
  if (progress.unconfirmed_tasks() > 0) line("  unconfirmed", FormatCount(progress.unconfirmed_tasks()));
  line("  done", Percent(Executed(progress), progress.total_tasks()));
  const std::string creator = job.creator().empty() ? "" : StrCat(" by ", Printable(job.creator()));
  line("Created", StrCat(FormatMoment(TimeOf(job.create_time())), creator));
  if (job.has_start_time()) line("Started", FormatMoment(TimeOf(job.start_time())));
  if (job.has_end_time()) line("Ended", FormatMoment(TimeOf(job.end_time())));
  if (job.failures_size() > 0) StrAppend(&out, "Failures\n", FailureLines(job));
  if (job.failure_summary().groups_size() > 0) StrAppend(&out, "Failed tasks\n", FailedKinds(job));
  return out;
}

std::string JobSummary(const v1::Job& job) {
  const v1::JobProgress& progress = job.progress();
  std::string out =
      StrCat("job ", Printable(job.job_id()), " is ", StateName(job.state()), ": ",
             FormatCount(progress.succeeded_tasks()), " succeeded, ", FormatCount(progress.failed_tasks()),
             " failed, of ", FormatCount(progress.total_tasks()), " tasks");
  if (progress.unconfirmed_tasks() > 0) {
    StrAppend(&out, " (", FormatCount(progress.unconfirmed_tasks()), " unconfirmed)");
  }
  if (job.has_start_time() && job.has_end_time()) {
    StrAppend(&out, " in ", FormatSpan(TimeOf(job.end_time()) - TimeOf(job.start_time())));
  }
  StrAppend(&out, "\n", FailureLines(job), FailedKinds(job));
  if (job.has_report()) StrAppend(&out, "report ", ReportText(job), "\n");
  return out;
}

std::string WorkerTable(const std::vector<v1::Worker>& workers, absl::Time now) {
  std::vector<std::vector<std::string>> rows;
  for (const v1::Worker& worker : workers) {
    const absl::Time created = TimeOf(worker.create_time());
    const absl::Time expires = TimeOf(worker.expire_time());
    rows.push_back(
        {Printable(worker.name()), Printable(worker.session_id()), Printable(worker.version()),
         Printable(worker.controller()), worker.draining() ? "draining" : "ready", StrCat(worker.leases()),
         created == absl::InfinitePast() ? "-" : FormatSpan(now - created),
         expires == absl::InfinitePast() ? "-" : FormatSpan(expires - now),
         Printable(absl::StrJoin(worker.operations(), ",")), Printable(absl::StrJoin(worker.stores(), ",")),
         worker.mismatched_stores().empty() ? "-" : Printable(absl::StrJoin(worker.mismatched_stores(), ",")),
         Labels(worker.labels())});
  }
  return FormatTable({{"WORKER"},
                      {"SESSION"},
                      {"VERSION"},
                      {"CONTROLLER"},
                      {"STATUS"},
                      {"LEASES", true},
                      {"AGE", true},
                      {"EXPIRES IN", true},
                      {"OPERATIONS"},
                      {"STORES"},
                      {"MISMATCHED"},
                      {"LABELS"}},
                     rows);
}

std::string ToJson(const google::protobuf::Message& message, bool indented) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = indented;
  options.always_print_primitive_fields = true;
  std::string out;
  if (!google::protobuf::util::MessageToJsonString(message, &out, options).ok()) return "{}\n";
  if (out.empty() || out.back() != '\n') out += '\n';
  return out;
}

std::string DescribeError(const absl::Status& status,
                          const std::function<std::string(std::string_view field)>& place_of) {
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  if (const auto payload = status.GetPayload(kRpcStatusPayload); payload.has_value()) {
    google::rpc::Status rpc;
    if (rpc.ParseFromString(std::string(*payload))) {
      for (const auto& detail : rpc.details()) {
        if (detail.Is<google::rpc::ErrorInfo>()) detail.UnpackTo(&info);
        if (detail.Is<google::rpc::BadRequest>()) detail.UnpackTo(&bad_request);
      }
    }
  }
  const std::string message(status.message());
  std::string out = absl::StatusCodeToString(status.code());
  if (!info.reason().empty()) StrAppend(&out, " (", Printable(info.reason()), ")");
  // The message of a bad request repeats its first fields; they are listed below in full.
  const bool repeats = bad_request.field_violations_size() > 0 &&
                       StartsWith(message, bad_request.field_violations(0).field() + ":");
  if (!repeats && !message.empty()) StrAppend(&out, ": ", Printable(message));
  out += '\n';
  for (const auto& violation : bad_request.field_violations()) {
    const std::string place = place_of == nullptr ? "" : StrCat(place_of(violation.field()), ": ");
    StrAppend(&out, "  ", Printable(place), Printable(violation.field()), ": ",
              Printable(violation.description()), "\n");
  }
  return out;
}

}  // namespace drover::cli
