// From the flags of `drover job create` to the request that is sent.
#ifndef DROVER_CLI_CREATE_REQUEST_H_
#define DROVER_CLI_CREATE_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/copy_flags.h"
#include "cli/manifest_source.h"
#include "drover/v1/job_service.pb.h"

namespace drover::cli {

// The flags as given; what is absent was not. The server checks values; here only what can't be put into a
// request.
struct CreateFlags {
  std::string file;              // --file: a job file; the other flags change its jobs
  std::vector<std::string> set;  // PATH=VALUE, before the flags below
  std::string operation;         // noop, put-tags, copy
  std::optional<std::string> store;
  std::vector<std::string> tags;         // KEY=VALUE
  std::vector<std::string> add_tags;     // KEY=VALUE
  std::vector<std::string> remove_tags;  // KEY
  bool bypass_governance = false;
  std::optional<std::string> target_bucket;
  std::optional<std::string> target_prefix;
  std::optional<std::string> target_store;
  CopyFlags copy;
  std::optional<std::string> noop_duration;
  std::optional<double> noop_failure_fraction;

  std::optional<std::string> manifest;  // a place as of ParseManifestPlace(), or "-" for standard input
  std::optional<std::string> manifest_store;
  std::optional<std::string> manifest_bucket;
  std::optional<std::string> manifest_key;
  std::optional<std::string> manifest_version;
  std::optional<std::string> manifest_etag;
  std::optional<std::string> fields;  // Bucket,Key[,VersionId|Ignore…]
  ManifestSourceFlags source;         // --key, --upload, …

  std::optional<std::string> report;  // STORE/BUCKET[/PREFIX]
  std::optional<std::string> report_store;
  std::optional<std::string> report_bucket;
  std::optional<std::string> report_prefix;
  std::optional<std::string> report_scope;  // all, failed

  std::optional<int32_t> priority;
  std::optional<std::string> description;
  bool confirmation_required = false;
  bool skip_confirmation = false;
  std::optional<double> failure_fraction;
  std::optional<int64_t> failure_minimum;
  std::optional<int64_t> failure_tasks;
  std::optional<std::string> failure_action;  // fail, pause
  bool no_failure_threshold = false;

  std::string request_id;
  bool validate_only = false;
};

// Whether standard input is to be uploaded as the manifest: its place is then not in the request yet.
bool UploadsManifest(const CreateFlags& flags);

// The request of these flags, which change `job`: first --set, then the others. INVALID_ARGUMENT, in terms of
// the flags, if they don't make one: unknown operation, a flag of another operation, a tag without '=', no
// manifest, …
absl::StatusOr<v1::CreateJobRequest> BuildCreateRequest(const CreateFlags& flags, v1::Job job = {});

// The request id for the job at `index` of `count`: --request-id (with the number appended where there are
// several: ID-1, ID-2, …), else the document's own; empty if there is neither.
std::string RequestIdOf(const CreateFlags& flags, const std::string& own, size_t index, size_t count);

// "Bucket,Key,VersionId,Ignore" in any case, in the order of the file's columns.
absl::Status ParseFields(std::string_view text, v1::CsvManifest& manifest);

}  // namespace drover::cli

#endif  // DROVER_CLI_CREATE_REQUEST_H_
