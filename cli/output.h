// What `drover` prints: tables and details for people, protobuf JSON for scripts, errors with the fields that
// are wrong. Pure functions of their arguments. Whatever a server sends, no control character of it reaches
// the terminal in the forms for people.
#ifndef DROVER_CLI_OUTPUT_H_
#define DROVER_CLI_OUTPUT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "drover/v1/fleet_service.pb.h"
#include "drover/v1/job.pb.h"

namespace drover::cli {

// 1234567 → "1,234,567".
std::string FormatCount(int64_t value);
// Two units at most: "850ms", "7s", "2m10s", "3h05m", "4d06h".
std::string FormatSpan(absl::Duration span);
// "2026-02-03 04:05:06Z"; "-" for a time that is not set.
std::string FormatMoment(absl::Time time);
// "Active", "Preparing", … as S3 Batch Operations writes them.
std::string StateName(v1::JobState state);
// "active", "Active" or "ACTIVE"; JOB_STATE_UNSPECIFIED for anything else.
v1::JobState StateFromName(std::string_view name);
// Control characters replaced by '?', line ends and tabs by a blank.
std::string Printable(std::string_view text);

absl::Time TimeOf(const google::protobuf::Timestamp& timestamp);

// Columns padded to their widest cell, two blanks between them, no blanks at line ends. Numbers go to the
// right.
struct Column {
  std::string title;
  bool right = false;
};
std::string FormatTable(const std::vector<Column>& columns,
                        const std::vector<std::vector<std::string>>& rows);

// A row for each job, newest first as given.
std::string JobTable(const std::vector<v1::Job>& jobs, absl::Time now);
// Everything that a person asks of one job.
std::string JobDetails(const v1::Job& job, absl::Time now);
// How a job ended: counts, failures, where the report is. Several lines.
std::string JobSummary(const v1::Job& job);
// A row for each worker.
std::string WorkerTable(const std::vector<v1::Worker>& workers, absl::Time now);

// Protobuf JSON, numbers that are 0 included: indented over several lines, or one line. Ends with a line
// feed.
std::string ToJson(const google::protobuf::Message& message, bool indented);

// Where Client keeps the google.rpc.Status of a refused call in an absl::Status.
inline constexpr char kRpcStatusPayload[] = "type.googleapis.com/google.rpc.Status";

// A call's error: its message and reason, and a line for each wrong field; with `place_of`, which says where
// a field stands, in front of it.
std::string DescribeError(const absl::Status& status,
                          const std::function<std::string(std::string_view field)>& place_of = nullptr);

}  // namespace drover::cli

#endif  // DROVER_CLI_OUTPUT_H_
