// Job files (docs/job-files.md): YAML documents, each a Job as a client gives it.
#ifndef DROVER_CLI_JOB_FILE_H_
#define DROVER_CLI_JOB_FILE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/message_reader.h"
#include "drover/v1/job.pb.h"

namespace drover::cli {

// Beside the fields of Job: the CreateJobRequest's.
inline constexpr char kRequestIdKey[] = "request_id";
inline constexpr size_t kMaxProblemsShown = 20;
inline constexpr size_t kMaxRequestIdLength = 64;

// One document.
struct JobDocument {
  v1::Job job;
  std::string request_id;  // empty: not given
  TextPlace place;
  Places places;  // of the paths within the job, for errors that the server finds
};

// The documents of a file, at least one. INVALID_ARGUMENT if anything is wrong in any of them, a line for
// each mistake: "NAME:LINE:COLUMN: path: what is wrong and what to do", kMaxProblemsShown at most. What
// values mean (whether a store exists, …) is the server's to judge.
absl::StatusOr<std::vector<JobDocument>> ReadJobFile(std::string_view name, std::string_view text);

// "NAME:LINE:COLUMN" of a field as the server names it (`job.operation.store`), or of the nearest thing
// around it.
std::string PlaceOf(std::string_view name, const JobDocument& document, std::string_view field);

// What a client gave of a job: the same without all that the service sets.
v1::Job InputOf(const v1::Job& job);

// A job file that makes the same job again.
std::string WriteJobFile(const v1::Job& job);

}  // namespace drover::cli

#endif  // DROVER_CLI_JOB_FILE_H_
