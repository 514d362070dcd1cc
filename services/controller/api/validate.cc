#include "services/controller/api/validate.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/clock/clock.h"
#include "common/codec/task.h"
#include "common/hash/sha256.h"
#include "common/protobuf/time.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/api/errors.h"
#include "services/controller/api/supported_fields.h"
#include "services/controller/api/validate_copy.h"
#include "services/controller/api/validate_text.h"
#include "services/controller/manifest/csv/csv_manifest.h"
#include "services/controller/manifest/inline/inline_manifest.h"

namespace drover {
namespace {

constexpr int kMaxInlineErrors = 50;  // objects of an inline manifest that an error names

void CheckText(std::string_view path, std::string_view text, size_t max_chars, FieldErrors& errors) {
  const size_t chars = CountChars(text);
  if (chars > max_chars) {
    errors.Add(path, StrCat("must be at most ", max_chars, " characters, has ", chars));
  }
  if (HasControlCharacter(text)) errors.Add(path, "must not contain control characters");
}

std::string StoreNames(const Stores& stores) {
  std::string names;
  for (const StoreConfig& store : stores.list()) StrAppend(&names, names.empty() ? "" : ", ", store.name);
  return names.empty() ? "none is configured" : StrCat("configured are: ", CutText(names, 300));
}

// The names S3 allows; for files one folder's name.
void CheckBucket(const std::string& path, const std::string& bucket, const StoreConfig* store,
                 FieldErrors& errors) {
  if (bucket.empty()) {
    errors.Add(path, "is required");
    return;
  }
  if (store == nullptr) return;  // which rules hold is not known
  if (store->kind == StoreKind::kS3) {
    std::string why;
    if (!IsValidBucketName(bucket, &why)) errors.Add(path, StrCat(Show(bucket), " is no bucket name: ", why));
  } else if (bucket.size() > 255 || bucket == "." || bucket == ".." ||
             bucket.find('/') != std::string::npos || HasControlCharacter(bucket)) {
    errors.Add(path, StrCat(Show(bucket),
                            " is no folder's name: a bucket of a file store is one folder beneath its root, "
                            "1 to 255 bytes without slash and control characters"));
  }
}

// For files: a relative path that stays beneath its folder. `what` names the text in the error.
void CheckFilePath(const std::string& path, std::string_view text, FieldErrors& errors) {
  for (const std::string_view part : Split(text, '/')) {
    if (part.empty() || part == "." || part == ".." || part.size() > 255) {
      errors.Add(path, StrCat(Show(text),
                              " is no path beneath a folder: between slashes there must be 1 to 255 bytes "
                              "other than . and .."));
      return;
    }
  }
}

void CheckSha256(const std::string& path, std::string* text, FieldErrors& errors) {
  const bool hex = std::all_of(text->begin(), text->end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  });
  if (text->size() != 64 || !hex) {
    errors.Add(path, "must be the 64 hexadecimal digits of a SHA-256");
    return;
  }
  std::transform(text->begin(), text->end(), text->begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c; });
}

// Fills in `fallback` for a duration left out; checks it against the range.
absl::Duration CheckDuration(const std::string& path, bool present, google::protobuf::Duration* field,
                             absl::Duration fallback, absl::Duration least, absl::Duration most,
                             FieldErrors& errors) {
  if (!present) {
    SetDuration(fallback, field);
    return fallback;
  }
  const bool mixed_signs =
      (field->seconds() < 0 && field->nanos() > 0) || (field->seconds() > 0 && field->nanos() < 0);
  if (mixed_signs || std::abs(static_cast<int64_t>(field->nanos())) > 999'999'999) {
    errors.Add(path, "is no valid duration: nanos must be below 1,000,000,000 and have the sign of seconds");
    return fallback;
  }
  const absl::Duration value = absl::Seconds(field->seconds()) + absl::Nanoseconds(field->nanos());
  if (value < least || value > most) {
    errors.Add(path, StrCat("must be ", absl::FormatDuration(least), " to ", absl::FormatDuration(most),
                            ", got ", absl::FormatDuration(value)));
    return fallback;
  }
  return value;
}

// One request on its way to a ValidJob: each function checks a part, notes errors and fills in defaults.
class Validator {
 public:
  Validator(const Stores& stores, ValidJob& out) : stores_(stores), out_(out), job_(out.job) {}

  void CheckRequestId(const std::string& id) {
    if (id.empty()) {
      errors_.Add("request_id", "is required: choose 1 to 64 printable ASCII characters, anew for each job");
    } else if (id.size() > kMaxRequestIdBytes || !IsPrintableAscii(id)) {
      errors_.Add("request_id", StrCat("must be 1 to ", kMaxRequestIdBytes, " printable ASCII characters"));
    }
  }

  void CheckJob() {
    if (job_.priority() < 0) {
      errors_.Add("job.priority", StrCat("must be 0 to 2147483647, got ", job_.priority()));
    }
    CheckText("job.description", job_.description(), kMaxDescriptionChars, errors_);
    CheckOperation();
    CheckConfirmation();
    CheckManifest();
    if (job_.has_report()) CheckReport();
    CheckFailurePolicy();
    CheckRetryPolicy();
  }

  void Require(std::string_view path, std::string_view what) { errors_.Add(path, what); }
  const FieldErrors& errors() const { return errors_; }

 private:
  // The store of that name, pinned in the job; null (and an error noted) if there is none.
  const StoreConfig* UseStore(const std::string& path, const std::string& name, bool s3_only) {
    if (name.empty()) {
      errors_.Add(path, StrCat("is required: the name of a store (", StoreNames(stores_), ")"));
      return nullptr;
    }
    const StoreConfig* store = stores_.Find(name);
    if (store == nullptr) {
      errors_.Add(path, StrCat("no store is named ", Show(name), "; ", StoreNames(stores_)));
      return nullptr;
    }
    if (s3_only && store->kind != StoreKind::kS3) {
      errors_.Add(path, StrCat("store ", Show(name), " is of kind ", store->KindName(),
                               "; objects need one of kind s3"));
      return nullptr;
    }
    out_.stores.emplace(name, store->Fingerprint());
    return store;
  }

  void CheckOperation() {
    v1::Operation& operation = *job_.mutable_operation();
    const std::string path = "job.operation";
    if (operation.kind_case() == v1::Operation::KIND_NOT_SET) {
      errors_.Add(path, "is required: exactly one operation, e.g. put_object_tagging");
      return;
    }
    const auto* oneof = v1::Operation::descriptor()->FindOneofByName("kind");
    out_.operation = v1::Operation::GetReflection()->GetOneofFieldDescriptor(operation, oneof)->name();
    // A no-op touches no object; when it names a store all the same, the rehearsal goes to the workers that
    // the real operation would go to.
    if (!operation.has_no_op() || !operation.store().empty()) {
      if (UseStore(path + ".store", operation.store(), /*s3_only=*/true) != nullptr) {
        out_.worker_stores.push_back(operation.store());
      }
    }
    switch (operation.kind_case()) {
      case v1::Operation::kNoOp: CheckNoOp(*operation.mutable_no_op(), path + ".no_op"); break;
      case v1::Operation::kPutObjectTagging:
        CheckTags(operation.put_object_tagging().tags(), path + ".put_object_tagging.tags");
        break;
      case v1::Operation::kChangeObjectTagging:
        CheckTagChange(operation.change_object_tagging(), path + ".change_object_tagging");
        break;
      case v1::Operation::kCopyObject:
        CheckCopy(operation, *operation.mutable_copy_object(), path + ".copy_object");
        break;
      default:  // without parameters to check, or refused before, by the list of supported fields
        break;
    }
  }

  // Jobs that delete wait for a person unless the request says otherwise.
  void CheckConfirmation() {
    if (job_.skip_confirmation() && job_.confirmation_required()) {
      errors_.Add("job.skip_confirmation", "contradicts confirmation_required; set one of them");
    }
    if (job_.operation().has_delete_object() && !job_.skip_confirmation()) {
      job_.set_confirmation_required(true);
    }
  }

  void CheckNoOp(v1::NoOp& no_op, const std::string& path) {
    if (no_op.has_duration()) {
      CheckDuration(path + ".duration", true, no_op.mutable_duration(), absl::ZeroDuration(),
                    absl::ZeroDuration(), kMaxNoOpDuration, errors_);
    }
    const double fraction = no_op.failure_fraction();
    if (!(fraction >= 0 && fraction <= 1)) {
      errors_.Add(path + ".failure_fraction", StrCat("must be 0 to 1, got ", fraction));
    }
  }

  void CheckTags(const google::protobuf::RepeatedPtrField<v1::Tag>& tags, const std::string& path) {
    if (tags.size() > kMaxTags) {
      errors_.Add(path, StrCat("an object has at most ", kMaxTags, " tags, got ", tags.size()));
      return;
    }
    std::set<std::string> keys;
    for (int i = 0; i < tags.size(); ++i) {
      const std::string at = StrCat(path, "[", i, "]");
      const size_t value_chars = CountChars(tags[i].value());
      CheckTagKey(tags[i].key(), at + ".key", keys);
      if (value_chars > kMaxTagValueChars) {
        errors_.Add(at + ".value",
                    StrCat("must be at most ", kMaxTagValueChars, " characters, has ", value_chars));
      }
      if (HasControlCharacter(tags[i].value()))
        errors_.Add(at + ".value", "must not contain control characters");
    }
  }

  // `keys` are those seen before; this one is added.
  void CheckTagKey(const std::string& key, const std::string& path, std::set<std::string>& keys) {
    const size_t chars = CountChars(key);
    if (chars < 1 || chars > kMaxTagKeyChars) {
      errors_.Add(path, StrCat("must be 1 to ", kMaxTagKeyChars, " characters, has ", chars));
    } else if (!keys.insert(key).second) {
      errors_.Add(path, StrCat(Show(key), " occurs twice; each key may be there once"));
    }
    if (HasControlCharacter(key)) errors_.Add(path, "must not contain control characters");
  }

  void CheckTagChange(const v1::ChangeObjectTagging& change, const std::string& path) {
    if (change.add().empty() && change.remove_keys().empty()) {
      errors_.Add(path, "would change nothing; give tags to add or keys to remove");
    }
    CheckTags(change.add(), path + ".add");
    if (change.remove_keys_size() > kMaxRemovedTagKeys) {
      errors_.Add(path + ".remove_keys",
                  StrCat("at most ", kMaxRemovedTagKeys, " keys, got ", change.remove_keys_size()));
      return;
    }
    // A tag that is added and removed: which of the two?
    std::set<std::string> keys;
    for (const v1::Tag& tag : change.add()) keys.insert(tag.key());
    for (int i = 0; i < change.remove_keys_size(); ++i) {
      CheckTagKey(change.remove_keys(i), StrCat(path, ".remove_keys[", i, "]"), keys);
    }
  }

  void CheckCopy(const v1::Operation& operation, v1::CopyObject& copy, const std::string& path) {
    CopySurroundings around;
    out_.min_revision = CopyRevision(copy);
    if (!copy.target_store().empty() && copy.target_store() != operation.store()) {
      around.across_stores = true;
      const StoreConfig* target = UseStore(path + ".target_store", copy.target_store(), /*s3_only=*/true);
      const StoreConfig* source = stores_.Find(operation.store());
      around.same_objects =
          target != nullptr && source != nullptr && target->Fingerprint() == source->Fingerprint();
      if (target != nullptr) out_.worker_stores.push_back(copy.target_store());
    }
    const v1::Manifest& manifest = job_.manifest();
    around.versions =
        (manifest.inline_().objects_size() > 0 && !manifest.inline_().objects(0).version_id().empty()) ||
        std::count(manifest.csv().fields().begin(), manifest.csv().fields().end(),
                   v1::MANIFEST_FIELD_VERSION_ID) > 0;
    CheckTags(copy.new_tags(), path + ".new_tags");
    CheckCopyObject(copy, around, path, errors_);
  }

  void CheckManifest() {
    if (job_.manifest().kind_case() == v1::Manifest::KIND_NOT_SET) {
      errors_.Add("job.manifest", "is required: exactly one manifest, e.g. csv");
      return;
    }
    if (job_.manifest().has_inline_()) CheckInline(*job_.mutable_manifest()->mutable_inline_());
    if (!job_.manifest().has_csv()) return;  // others were refused before, by the list of supported fields
    v1::CsvManifest& csv = *job_.mutable_manifest()->mutable_csv();
    const std::string path = "job.manifest.csv";
    const StoreConfig* store = CheckLocation(csv.location(), path + ".location");
    if (store != nullptr && store->kind == StoreKind::kS3) {
      if (csv.etag().empty()) {
        errors_.Add(path + ".etag", "is required for a manifest in a store of kind s3: the object's ETag");
      } else if (csv.etag().size() > kMaxEtagBytes || !IsPrintableAscii(csv.etag())) {
        errors_.Add(path + ".etag", StrCat("must be 1 to ", kMaxEtagBytes, " printable ASCII characters"));
      }
    } else if (store != nullptr && !csv.etag().empty()) {
      errors_.Add(path + ".etag", "files have no ETag; leave it out (sha256 may be given instead)");
    }
    CheckFields(csv, path + ".fields");
    if (!csv.sha256().empty()) CheckSha256(path + ".sha256", csv.mutable_sha256(), errors_);
  }

  // The rules of a CSV manifest's rows (csv_manifest.h), but for the encoding of keys. That texts are UTF-8
  // was seen to by protobuf's parser.
  void CheckInline(v1::InlineManifest& manifest) {
    const std::string path = "job.manifest.inline.objects";
    if (manifest.objects().empty()) {
      errors_.Add(path, StrCat("is required: 1 to ", kMaxInlineObjects, " objects"));
    } else if (manifest.objects_size() > kMaxInlineObjects || manifest.ByteSizeLong() > kMaxInlineBytes) {
      errors_.Add(path, StrCat("must be at most ", kMaxInlineObjects, " objects in ", kMaxInlineBytes,
                               " bytes, got ", manifest.objects_size(), " in ", manifest.ByteSizeLong(),
                               "; a longer list belongs into a csv manifest"));
      return;
    }
    int wrong = 0;
    for (int i = 0; i < manifest.objects_size() && wrong < kMaxInlineErrors; ++i) {
      const bool versions = !manifest.objects(0).version_id().empty();
      wrong += CheckInlineObject(manifest.objects(i), versions, StrCat(path, "[", i, "]")) ? 0 : 1;
    }
    out_.prepare_progress = TakeInlineObjects(manifest);
  }

  // False if something is wrong with it, which is noted. `versions`: whether the first object has a version
  // id.
  bool CheckInlineObject(const v1::InlineObject& object, bool versions, const std::string& path) {
    bool good = true;
    const auto bad = [&](std::string_view field, std::string_view what) {
      errors_.Add(StrCat(path, ".", field), what);
      good = false;
    };
    std::string why;
    if (!IsValidBucketName(object.bucket(), &why)) {
      bad("bucket", object.bucket().empty() ? "is required"
                                            : StrCat(Show(object.bucket()), " is no bucket name: ", why));
    }
    const std::string& key = object.key();
    if (key.empty() || key.size() > kMaxKeyBytes) {
      bad("key",
          key.empty() ? "is required" : StrCat("must be at most ", kMaxKeyBytes, " bytes, has ", key.size()));
    } else if (key.find('\0') != std::string::npos) {
      bad("key", "must not contain NUL");
    }
    const std::string& version = object.version_id();
    if (version.size() > kMaxVersionIdBytes) {
      bad("version_id", StrCat("must be at most ", kMaxVersionIdBytes, " bytes, has ", version.size()));
    } else if (HasControlCharacter(version)) {
      bad("version_id", "must not contain control characters");
    } else if (version.empty() == versions) {
      bad("version_id", versions ? "is empty, but the first object has one; either all have one or none has"
                                 : "is set, but the first object has none; either all have one or none has");
    }
    return good;
  }

  const StoreConfig* CheckLocation(const v1::ObjectLocation& location, const std::string& path) {
    const StoreConfig* store = UseStore(path + ".store", location.store(), /*s3_only=*/false);
    CheckBucket(path + ".bucket", location.bucket(), store, errors_);
    const std::string& key = location.key();
    if (key.empty() || key.size() > kMaxKeyBytes) {
      errors_.Add(path + ".key", key.empty()
                                     ? "is required"
                                     : StrCat("must be at most ", kMaxKeyBytes, " bytes, has ", key.size()));
    } else if (key.find('\0') != std::string::npos) {
      errors_.Add(path + ".key", "must not contain NUL");
    } else if (store != nullptr && store->kind == StoreKind::kFile) {
      CheckFilePath(path + ".key", key, errors_);
    }
    if (location.version_id().size() > kMaxVersionIdBytes || !IsPrintableAscii(location.version_id())) {
      errors_.Add(path + ".version_id",
                  StrCat("must be at most ", kMaxVersionIdBytes, " printable ASCII characters"));
    } else if (store != nullptr && store->kind == StoreKind::kFile && !location.version_id().empty()) {
      errors_.Add(path + ".version_id", "files have no versions; leave it out");
    }
    return store;
  }

  void CheckFields(v1::CsvManifest& csv, const std::string& path) {
    if (csv.fields().empty()) {
      csv.add_fields(v1::MANIFEST_FIELD_BUCKET);
      csv.add_fields(v1::MANIFEST_FIELD_KEY);
    }
    if (static_cast<size_t>(csv.fields_size()) > kMaxCsvColumns) {
      errors_.Add(path, StrCat("at most ", kMaxCsvColumns, " columns, got ", csv.fields_size()));
      return;
    }
    const auto count = [&](v1::ManifestField field) {
      return std::count(csv.fields().begin(), csv.fields().end(), field);
    };
    if (count(v1::MANIFEST_FIELD_UNSPECIFIED) != 0)
      errors_.Add(path, "MANIFEST_FIELD_UNSPECIFIED is no column");
    const std::pair<v1::ManifestField, std::string_view> once[] = {
        {v1::MANIFEST_FIELD_BUCKET, "MANIFEST_FIELD_BUCKET"}, {v1::MANIFEST_FIELD_KEY, "MANIFEST_FIELD_KEY"}};
    for (const auto& [field, name] : once) {
      if (count(field) != 1)
        errors_.Add(path, StrCat("must have ", name, " exactly once, has it ", count(field), " times"));
    }
    if (count(v1::MANIFEST_FIELD_VERSION_ID) > 1)
      errors_.Add(path, "must have MANIFEST_FIELD_VERSION_ID at most once");
  }

  void CheckReport() {
    v1::ReportRequest& report = *job_.mutable_report();
    const StoreConfig* store = UseStore("job.report.store", report.store(), /*s3_only=*/false);
    CheckBucket("job.report.bucket", report.bucket(), store, errors_);
    const std::string& prefix = report.prefix();
    if (!prefix.empty()) {
      if (prefix.size() > kMaxReportPrefixBytes) {
        errors_.Add("job.report.prefix",
                    StrCat("must be at most ", kMaxReportPrefixBytes, " bytes, has ", prefix.size()));
      } else if (prefix.front() == '/' || prefix.back() == '/') {
        errors_.Add("job.report.prefix", "must have no slash at either end");
      } else if (prefix.find('\0') != std::string::npos) {
        errors_.Add("job.report.prefix", "must not contain NUL");
      } else if (store != nullptr && store->kind == StoreKind::kFile) {
        CheckFilePath("job.report.prefix", prefix, errors_);
      }
    }
    if (report.scope() == v1::ReportRequest::SCOPE_UNSPECIFIED)
      report.set_scope(v1::ReportRequest::ALL_TASKS);
  }

  void CheckFailurePolicy() {
    v1::FailurePolicy& policy = *job_.mutable_failure_policy();
    if (policy.disabled()) {
      if (policy.has_failed_fraction() || policy.has_minimum_executed() || policy.has_failed_tasks() ||
          policy.action() != v1::FailurePolicy::ACTION_UNSPECIFIED) {
        errors_.Add("job.failure_policy.disabled", "goes with no other field of the policy");
      }
      out_.failure_policy.enabled = false;
      return;
    }
    if (!policy.has_failed_fraction()) policy.set_failed_fraction(kDefaultFailedFraction);
    if (!policy.has_minimum_executed()) policy.set_minimum_executed(kDefaultMinimumExecuted);
    if (policy.action() == v1::FailurePolicy::ACTION_UNSPECIFIED) policy.set_action(v1::FailurePolicy::FAIL);
    if (!(policy.failed_fraction() > 0 && policy.failed_fraction() <= 1)) {
      errors_.Add("job.failure_policy.failed_fraction",
                  StrCat("must be more than 0 and at most 1 (1: never), got ", policy.failed_fraction()));
    }
    if (policy.minimum_executed() < 1) {
      errors_.Add("job.failure_policy.minimum_executed",
                  StrCat("must be at least 1, got ", policy.minimum_executed()));
    }
    if (policy.failed_tasks() < 0) {
      errors_.Add("job.failure_policy.failed_tasks",
                  StrCat("must be 0 or more, got ", policy.failed_tasks()));
    }
    out_.failure_policy.enabled = true;
    out_.failure_policy.failed_fraction = policy.failed_fraction();
    out_.failure_policy.minimum_executed = policy.minimum_executed();
    if (policy.has_failed_tasks()) out_.failure_policy.failed_tasks = policy.failed_tasks();
    out_.failure_policy.pause = policy.action() == v1::FailurePolicy::PAUSE;
  }

  void CheckRetryPolicy() {
    v1::RetryPolicy& policy = *job_.mutable_retry_policy();
    const std::string path = "job.retry_policy";
    if (!policy.has_max_attempts()) policy.set_max_attempts(kDefaultMaxAttempts);
    if (policy.max_attempts() < 1 || policy.max_attempts() > kMaxMaxAttempts) {
      errors_.Add(path + ".max_attempts",
                  StrCat("must be 1 to ", kMaxMaxAttempts, ", got ", policy.max_attempts()));
    }
    const bool has_initial = policy.has_initial_backoff();
    const bool has_most = policy.has_max_backoff();
    const bool has_timeout = policy.has_unavailable_timeout();
    const absl::Duration initial =
        CheckDuration(path + ".initial_backoff", has_initial, policy.mutable_initial_backoff(),
                      kDefaultInitialBackoff, absl::Milliseconds(10), absl::Seconds(60), errors_);
    // Left out, the longest wait is never below a first wait that was given, and the first never above the
    // longest.
    const absl::Duration most = CheckDuration(path + ".max_backoff", has_most, policy.mutable_max_backoff(),
                                              std::max(kDefaultMaxBackoff, initial), absl::Milliseconds(10),
                                              absl::Minutes(10), errors_);
    if (initial > most && has_initial) {
      errors_.Add(path + ".max_backoff",
                  StrCat("must be at least initial_backoff (", absl::FormatDuration(initial), "), got ",
                         absl::FormatDuration(most)));
    } else if (initial > most) {
      *policy.mutable_initial_backoff() = policy.max_backoff();
    }
    CheckDuration(path + ".unavailable_timeout", has_timeout, policy.mutable_unavailable_timeout(),
                  kDefaultUnavailableTimeout, absl::ZeroDuration(), absl::Hours(1), errors_);
  }

  const Stores& stores_;
  ValidJob& out_;
  v1::Job& job_;
  FieldErrors errors_;
};

std::string Fingerprint(const v1::Job& job) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    job.SerializeToCodedStream(&coded);
  }
  return Sha256Hex(bytes);
}

absl::Status OneField(std::string_view path, std::string_view description) {
  FieldErrors errors;
  errors.Add(path, description);
  return errors.ToStatus();
}

}  // namespace

absl::StatusOr<ValidJob> ValidateCreateJob(const v1::CreateJobRequest& request, const Stores& stores) {
  DROVER_RETURN_IF_ERROR(CheckCreateJobFields(request));
  ValidJob valid;
  valid.job = request.job();
  Validator validator(stores, valid);
  validator.CheckRequestId(request.request_id());
  if (request.has_job()) {
    validator.CheckJob();
  } else {
    validator.Require("job", "is required");
  }
  if (!validator.errors().empty()) return validator.errors().ToStatus();
  valid.fingerprint = Fingerprint(request.job());
  return valid;
}

absl::Status ValidateJobId(std::string_view job_id) {
  if (job_id.empty()) return OneField("job_id", "is required");
  if (IsUuid(std::string(job_id))) return absl::OkStatus();
  return OneField("job_id",
                  StrCat(Show(job_id), " is no job's id: a UUID in lower case, as CreateJob returns it"));
}

absl::Status ValidateReason(std::string_view reason) {
  FieldErrors errors;
  CheckText("reason", reason, kMaxReasonChars, errors);
  return errors.empty() ? absl::OkStatus() : errors.ToStatus();
}

absl::Status ValidatePriority(int32_t priority) {
  if (priority >= 0) return absl::OkStatus();
  return OneField("priority", StrCat("must be 0 to 2147483647, got ", priority));
}

absl::StatusOr<int> ValidatePageSize(int32_t page_size) {
  if (page_size == 0) return kDefaultPageSize;
  if (page_size > 0 && page_size <= kMaxPageSize) return page_size;
  return OneField("page_size",
                  StrCat("must be 1 to ", kMaxPageSize, " (0: ", kDefaultPageSize, "), got ", page_size));
}

absl::StatusOr<OutcomeQuery> ValidateOutcomeQuery(const v1::ListTaskOutcomesRequest& request) {
  DROVER_RETURN_IF_ERROR(ValidateJobId(request.job_id()));
  FieldErrors errors;
  if (const size_t chars = CountChars(request.error_code()); chars > kMaxOutcomeCodeChars) {
    errors.Add("error_code",
               StrCat("has ", chars, " characters; at most ", kMaxOutcomeCodeChars, " are allowed"));
  }
  if (request.key_prefix().size() > kMaxKeyBytes) {
    errors.Add("key_prefix", StrCat("has ", request.key_prefix().size(), " bytes; at most ", kMaxKeyBytes,
                                    " are allowed, as in a key"));
  }
  if (!errors.empty()) return errors.ToStatus();
  OutcomeQuery query{request.job_id(), request.include_succeeded(), std::nullopt, request.key_prefix()};
  if (request.has_error_code()) query.code = request.error_code();
  return query;
}

absl::StatusOr<std::vector<lifecycle::State>> ValidateStates(
    const google::protobuf::RepeatedField<int>& states) {
  std::vector<lifecycle::State> out;
  for (int i = 0; i < states.size(); ++i) {
    const std::optional<lifecycle::State> state = lifecycle::StateFromNumber(states[i]);
    if (!state.has_value())
      return OneField(StrCat("states[", i, "]"), StrCat(states[i], " is no state of a job"));
    out.push_back(*state);
  }
  return out;
}

}  // namespace drover
