#include "cli/create_request.h"

#include <utility>

#include "absl/strings/match.h"
#include "cli/message_reader.h"
#include "cli/operation_words.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

absl::Status Usage(std::string_view message) { return absl::InvalidArgumentError(ToAbsl(message)); }

bool SameWord(std::string_view a, std::string_view b) { return absl::EqualsIgnoreCase(ToAbsl(a), ToAbsl(b)); }

absl::StatusOr<v1::Tag> ParseTag(std::string_view flag, std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0)
    return Usage(StrCat(flag, " is KEY=VALUE, not \"", text, "\""));
  v1::Tag tag;
  tag.set_key(std::string(text.substr(0, equals)));
  tag.set_value(std::string(text.substr(equals + 1)));
  return tag;
}

// Refuses flags that belong to an operation other than the one chosen: they would be ignored.
absl::Status CheckForeignFlags(const CreateFlags& flags, std::string_view operation) {
  const auto foreign = [&](bool given, std::string_view flag, std::string_view owner) {
    return given && operation != owner
               ? Usage(StrCat(flag, " belongs to --operation ", owner, ", not to ", operation))
               : absl::OkStatus();
  };
  DROVER_RETURN_IF_ERROR(foreign(!flags.tags.empty(), "--tag", "put-tags"));
  DROVER_RETURN_IF_ERROR(foreign(!flags.add_tags.empty(), "--add-tag", "change-tags"));
  DROVER_RETURN_IF_ERROR(foreign(!flags.remove_tags.empty(), "--remove-tag", "change-tags"));
  DROVER_RETURN_IF_ERROR(foreign(flags.bypass_governance, "--bypass-governance", "delete"));
  DROVER_RETURN_IF_ERROR(foreign(flags.target_bucket.has_value(), "--target-bucket", "copy"));
  DROVER_RETURN_IF_ERROR(foreign(flags.target_prefix.has_value(), "--target-prefix", "copy"));
  DROVER_RETURN_IF_ERROR(foreign(flags.target_store.has_value(), "--target-store", "copy"));
  DROVER_RETURN_IF_ERROR(foreign(!flags.copy.First().empty(), flags.copy.First(), "copy"));
  DROVER_RETURN_IF_ERROR(foreign(flags.noop_duration.has_value(), "--noop-duration", "noop"));
  return foreign(flags.noop_failure_fraction.has_value(), "--noop-failure-fraction", "noop");
}

// The name of the operation that the job has already, from its file.
std::string_view OperationName(const v1::Operation& operation) {
  if (operation.kind_case() == v1::Operation::KIND_NOT_SET) return "";
  const std::string_view word = OperationWord(operation.kind_case());
  return word.empty() ? "that of the file" : word;
}

absl::Status SetTagChange(const CreateFlags& flags, v1::ChangeObjectTagging& change) {
  if (!flags.add_tags.empty()) change.clear_add();
  for (const std::string& text : flags.add_tags) {
    DROVER_ASSIGN_OR_RETURN(*change.add_add(), ParseTag("--add-tag", text));
  }
  if (!flags.remove_tags.empty()) change.clear_remove_keys();
  for (const std::string& key : flags.remove_tags) change.add_remove_keys(key);
  return absl::OkStatus();
}

absl::Status SetOperation(const CreateFlags& flags, v1::Operation& operation) {
  const std::string name = flags.operation.empty() ? std::string(OperationName(operation)) : flags.operation;
  if (name.empty()) return Usage(StrCat("--operation is missing: ", OperationWords()));
  DROVER_RETURN_IF_ERROR(CheckForeignFlags(flags, name));
  if (flags.store.has_value()) operation.set_store(*flags.store);
  if (name == "noop") {
    v1::NoOp& noop = *operation.mutable_no_op();
    if (flags.noop_duration.has_value()) {
      absl::Duration duration;
      if (!absl::ParseDuration(*flags.noop_duration, &duration) || duration == absl::InfiniteDuration() ||
          duration < absl::ZeroDuration()) {
        return Usage("--noop-duration is a duration like 20ms or 1s");
      }
      SetDuration(duration, noop.mutable_duration());
    }
    if (flags.noop_failure_fraction.has_value()) noop.set_failure_fraction(*flags.noop_failure_fraction);
  } else if (name == "put-tags") {
    v1::PutObjectTagging& tagging = *operation.mutable_put_object_tagging();
    if (!flags.tags.empty()) tagging.clear_tags();
    for (const std::string& text : flags.tags) {
      DROVER_ASSIGN_OR_RETURN(*tagging.add_tags(), ParseTag("--tag", text));
    }
  } else if (name == "change-tags") {
    DROVER_RETURN_IF_ERROR(SetTagChange(flags, *operation.mutable_change_object_tagging()));
  } else if (name == "delete-tags") {
    operation.mutable_delete_object_tagging();
  } else if (name == "delete") {
    v1::DeleteObject& deletion = *operation.mutable_delete_object();
    if (flags.bypass_governance) deletion.set_bypass_governance_retention(true);
  } else if (name == "undelete") {
    operation.mutable_undelete_object();
  } else if (name == "head") {
    operation.mutable_head_object();
  } else if (name == "copy") {
    v1::CopyObject& copy = *operation.mutable_copy_object();
    if (flags.target_bucket.has_value()) copy.set_target_bucket(*flags.target_bucket);
    if (flags.target_prefix.has_value()) copy.set_target_key_prefix(*flags.target_prefix);
    if (flags.target_store.has_value()) copy.set_target_store(*flags.target_store);
    DROVER_RETURN_IF_ERROR(SetCopy(flags.copy, copy));
  } else if (!flags.operation.empty()) {
    return Usage(StrCat("unknown operation \"", flags.operation, "\": it is ", OperationWords()));
  }
  return absl::OkStatus();
}

// The place of the manifest: --manifest, --manifest-store, …
absl::Status SetManifestPlace(const CreateFlags& flags, v1::ObjectLocation& location) {
  if (flags.manifest) {
    DROVER_ASSIGN_OR_RETURN(location, ParseManifestPlace(*flags.manifest));
    if (flags.manifest_bucket || flags.manifest_key || (flags.manifest_store && !location.store().empty()))
      return Usage("give either --manifest, or --manifest-store, --manifest-bucket and --manifest-key");
    if (!flags.manifest_store && location.store().empty())
      return Usage(
          StrCat("--manifest ", *flags.manifest, " needs --manifest-store: the store that it is in"));
  }
  if (flags.manifest_store) location.set_store(*flags.manifest_store);
  if (flags.manifest_bucket) location.set_bucket(*flags.manifest_bucket);
  if (flags.manifest_key) location.set_key(*flags.manifest_key);
  if (flags.manifest_version) location.set_version_id(*flags.manifest_version);
  if (location.store().empty() || location.bucket().empty() || location.key().empty()) {
    return Usage("the manifest needs store, bucket and key: --manifest STORE/BUCKET/KEY");
  }
  return absl::OkStatus();
}

absl::Status SetManifest(const CreateFlags& flags, v1::Manifest& manifest) {
  const ManifestSourceFlags& source = flags.source;
  const bool place = flags.manifest_store || flags.manifest_bucket || flags.manifest_key ||
                     flags.manifest_version || flags.manifest_etag;
  const bool csv_flags = place || flags.manifest || flags.fields || source.compression || source.upload;
  if (source.keys_bucket && !source.HasKeys()) return Usage("--keys-bucket goes with --key or --keys-from");
  if (source.HasKeys()) {
    if (csv_flags) return Usage("--key and --keys-from go with no flag of a CSV manifest");
    manifest.mutable_inline_()->Clear();
    return SetInlineObjects(source, *manifest.mutable_inline_());
  }
  if (!csv_flags) {
    return manifest.kind_case() == v1::Manifest::KIND_NOT_SET
               ? Usage("--manifest STORE/BUCKET/KEY is missing, or --key BUCKET/KEY")
               : absl::OkStatus();
  }
  v1::CsvManifest& csv = *manifest.mutable_csv();
  if (source.compression) {
    DROVER_ASSIGN_OR_RETURN(const auto compression, ParseCompression(*source.compression));
    csv.set_compression(compression);
  }
  if (flags.fields) DROVER_RETURN_IF_ERROR(ParseFields(*flags.fields, csv));
  if (UploadsManifest(flags)) {
    if (place) return Usage("--manifest - goes with no other --manifest-… flag: --upload says where it goes");
    return source.upload ? absl::OkStatus()
                         : Usage("--manifest - needs --upload STORE/BUCKET/KEY: where it goes");
  }
  if (source.upload) return Usage("--upload goes with --manifest -");
  if (flags.manifest_etag) csv.set_etag(*flags.manifest_etag);
  return SetManifestPlace(flags, *csv.mutable_location());
}

absl::Status SetReport(const CreateFlags& flags, v1::Job& job) {
  const bool parts = flags.report_store || flags.report_bucket || flags.report_prefix;
  if (!parts && !flags.report && !flags.report_scope) return absl::OkStatus();
  if (flags.report && parts) {
    return Usage("give either --report, or --report-store, --report-bucket and --report-prefix");
  }
  v1::ReportRequest& report = *job.mutable_report();
  if (flags.report) {
    const std::string_view text = *flags.report;
    const size_t first = text.find('/');
    if (first == std::string_view::npos || first == 0 || first + 1 == text.size()) {
      return Usage("--report is STORE/BUCKET or STORE/BUCKET/PREFIX");
    }
    const size_t second = text.find('/', first + 1);
    report.set_store(std::string(text.substr(0, first)));
    report.set_bucket(
        std::string(text.substr(first + 1, second == std::string_view::npos ? second : second - first - 1)));
    if (second != std::string_view::npos) report.set_prefix(std::string(text.substr(second + 1)));
  }
  if (flags.report_store) report.set_store(*flags.report_store);
  if (flags.report_bucket) report.set_bucket(*flags.report_bucket);
  if (flags.report_prefix) report.set_prefix(*flags.report_prefix);
  if (report.store().empty() || report.bucket().empty()) {
    return Usage("the report needs store and bucket: --report STORE/BUCKET[/PREFIX]");
  }
  if (flags.report_scope) {
    if (*flags.report_scope == "all") {
      report.set_scope(v1::ReportRequest::ALL_TASKS);
    } else if (*flags.report_scope == "failed") {
      report.set_scope(v1::ReportRequest::FAILED_TASKS_ONLY);
    } else {
      return Usage("--report-scope is all or failed");
    }
  }
  return absl::OkStatus();
}

absl::Status SetFailurePolicy(const CreateFlags& flags, v1::Job& job) {
  const bool threshold =
      flags.failure_fraction || flags.failure_minimum || flags.failure_tasks || flags.failure_action;
  if (flags.no_failure_threshold) {
    if (threshold) return Usage("--no-failure-threshold goes with no other --failure-… flag");
    job.mutable_failure_policy()->Clear();
    job.mutable_failure_policy()->set_disabled(true);
    return absl::OkStatus();
  }
  if (!threshold) return absl::OkStatus();
  v1::FailurePolicy& policy = *job.mutable_failure_policy();
  if (flags.failure_fraction) policy.set_failed_fraction(*flags.failure_fraction);
  if (flags.failure_minimum) policy.set_minimum_executed(*flags.failure_minimum);
  if (flags.failure_tasks) policy.set_failed_tasks(*flags.failure_tasks);
  if (flags.failure_action) {
    if (*flags.failure_action == "fail") {
      policy.set_action(v1::FailurePolicy::FAIL);
    } else if (*flags.failure_action == "pause") {
      policy.set_action(v1::FailurePolicy::PAUSE);
    } else {
      return Usage("--failure-action is fail or pause");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseFields(std::string_view text, v1::CsvManifest& manifest) {
  constexpr std::pair<std::string_view, v1::ManifestField> kFields[] = {
      {"Bucket", v1::MANIFEST_FIELD_BUCKET},
      {"Key", v1::MANIFEST_FIELD_KEY},
      {"VersionId", v1::MANIFEST_FIELD_VERSION_ID},
      {"Ignore", v1::MANIFEST_FIELD_IGNORE},
  };
  manifest.clear_fields();
  for (const std::string_view part : Split(text, ',')) {
    bool found = false;
    for (const auto& [name, field] : kFields) {
      if (!SameWord(StripWhitespace(part), name)) continue;
      manifest.add_fields(field);
      found = true;
    }
    if (!found)
      return Usage(StrCat("--fields names columns Bucket, Key, VersionId or Ignore, not \"", part, "\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::CreateJobRequest> BuildCreateRequest(const CreateFlags& flags, v1::Job job) {
  for (const std::string& assignment : flags.set) DROVER_RETURN_IF_ERROR(Assign(assignment, job));
  DROVER_RETURN_IF_ERROR(SetOperation(flags, *job.mutable_operation()));
  DROVER_RETURN_IF_ERROR(SetManifest(flags, *job.mutable_manifest()));
  DROVER_RETURN_IF_ERROR(SetReport(flags, job));
  DROVER_RETURN_IF_ERROR(SetFailurePolicy(flags, job));
  if (flags.priority) job.set_priority(*flags.priority);
  if (flags.description) job.set_description(*flags.description);
  if (flags.confirmation_required) job.set_confirmation_required(true);
  if (flags.skip_confirmation) job.set_skip_confirmation(true);
  v1::CreateJobRequest request;
  request.set_request_id(flags.request_id);
  request.set_validate_only(flags.validate_only);
  *request.mutable_job() = std::move(job);
  return request;
}

bool UploadsManifest(const CreateFlags& flags) { return flags.manifest == "-"; }

std::string RequestIdOf(const CreateFlags& flags, const std::string& own, size_t index, size_t count) {
  if (flags.request_id.empty()) return own;
  return count == 1 ? flags.request_id : StrCat(flags.request_id, "-", index + 1);
}

}  // namespace drover::cli
