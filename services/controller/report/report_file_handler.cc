#include "services/controller/report/report_file_handler.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/duties/pipeline.h"
#include "services/controller/report/report_layout.h"
#include "services/controller/report/result_rows.h"
#include "services/controller/report/rows/file_hasher.h"

namespace drover {
namespace {

constexpr size_t kPiecesWaiting = 2;
constexpr absl::Duration kRetryWait = absl::Milliseconds(200);

// Hashes and writes pieces, on a thread of its own.
class PieceWriter {
 public:
  explicit PieceWriter(ObjectWriter& writer)
      : writer_(writer),
        pieces_(kPiecesWaiting),
        spare_(kPiecesWaiting + 2),
        thread_("report-write", [this] { WriteAll(); }) {}
  ~PieceWriter() { (void)Drain(); }

  // Takes the text and leaves an empty string with room. False once a piece could not be written.
  bool Add(std::string& text) {
    if (!pieces_.Push(std::move(text))) return false;
    text = std::string();
    bool none = false;
    if (std::optional<std::string> spare = spare_.Pop(absl::ZeroDuration(), none)) text = *std::move(spare);
    text.clear();
    return true;
  }
  // Waits until all are written; the error of the first that could not be.
  absl::Status Drain() {
    pieces_.Close();
    thread_.Join();
    return status_;
  }
  // After Drain().
  absl::StatusOr<FileDigest> Digest() { return hasher_.Finish(); }

 private:
  void WriteAll() {
    while (std::optional<std::string> piece = pieces_.Pop()) {
      hasher_.Update(*piece);
      status_ = writer_.Write(*piece);
      if (status_.ok()) status_ = failpoint::HitStatus("report.between_parts");
      if (!status_.ok()) return pieces_.Abandon();
      spare_.Push(*std::move(piece));
    }
  }

  ObjectWriter& writer_;
  FileHasher hasher_;
  absl::Status status_;  // of the thread, read after it has ended
  BoundedQueue<std::string> pieces_;
  BoundedQueue<std::string> spare_;
  NamedThread thread_;
};

// Hashes and puts a file that is in one piece.
absl::Status PutFile(ObjectStore& store, const ObjectRef& ref, std::string_view text, ReportFile& file) {
  FileHasher hasher;
  hasher.Update(text);
  DROVER_ASSIGN_OR_RETURN(const FileDigest digest, hasher.Finish());
  DROVER_RETURN_IF_ERROR(store.Put(ref, text, kReportFileContentType).status());
  file.bytes = digest.bytes;
  file.md5 = digest.md5;
  file.sha256 = digest.sha256;
  return absl::OkStatus();
}

// One run of one file.
class FileRun {
 public:
  FileRun(const ReportFileOptions& options, Storage& storage, DutyContext& context, ObjectStore& store,
          std::string_view bucket, ReportFile file)
      : options_(options),
        storage_(storage),
        context_(context),
        store_(store),
        file_(std::move(file)),
        ref_{std::string(bucket), file_.key, ""} {}

  // The file, written. Errors of writer or store as theirs; CANCELLED when stopped; storage's as its own.
  absl::StatusOr<ReportFile> Run() {
    if (!file_.upload_id.empty()) DROVER_RETURN_IF_ERROR(store_.AbortUpload(ref_, file_.upload_id));
    DROVER_RETURN_IF_ERROR(AbortUnknownUploads(store_, ref_, context_));
    absl::Status status = Write();
    if (!status.ok() && writer_ != nullptr) {
      pieces_.reset();
      writer_->Abort();
    }
    if (!status.ok()) return status;
    return file_;
  }

 private:
  absl::Status Write() {
    std::string only;  // the one piece of a file that has no more
    const auto stop = [this] { return context_.ShouldStop(); };
    const auto emit = [&](std::string& text) -> absl::Status {
      if (writer_ == nullptr && text.size() < options_.piece_bytes) {
        only = std::move(text);
        return absl::OkStatus();
      }
      if (writer_ == nullptr) DROVER_RETURN_IF_ERROR(Begin());
      // Its own error is asked for at the end.
      return pieces_->Add(text) ? absl::OkStatus() : absl::UnavailableError("not written");
    };
    const absl::StatusOr<int64_t> rows =
        EmitResultRows(storage_, context_.duty().job_id, file_, options_.piece_bytes, stop, emit);
    if (pieces_) DROVER_RETURN_IF_ERROR(pieces_->Drain());
    if (!rows.ok()) return rows.status();
    file_.rows = *rows;
    if (context_.ShouldStop()) return absl::CancelledError("stopped");
    if (writer_ == nullptr) return PutFile(store_, ref_, only, file_);

    DROVER_ASSIGN_OR_RETURN(const FileDigest digest, pieces_->Digest());
    DROVER_RETURN_IF_ERROR(writer_->Commit().status());
    file_.bytes = digest.bytes;
    file_.md5 = digest.md5;
    file_.sha256 = digest.sha256;
    return absl::OkStatus();
  }

  absl::Status Begin() {
    DROVER_ASSIGN_OR_RETURN(writer_, store_.Create(ref_, kReportFileContentType));
    DROVER_RETURN_IF_ERROR(failpoint::HitStatus("report.before_set_upload"));
    DROVER_RETURN_IF_ERROR(storage_.SetUpload(context_.duty(), writer_->upload_id()));
    pieces_.emplace(*writer_);
    return absl::OkStatus();
  }

  const ReportFileOptions& options_;
  Storage& storage_;
  DutyContext& context_;
  ObjectStore& store_;
  ReportFile file_;
  const ObjectRef ref_;
  std::unique_ptr<ObjectWriter> writer_;
  std::optional<PieceWriter> pieces_;
};

class ReportFileHandler : public DutyHandler {
 public:
  ReportFileHandler(ReportFileOptions options, Storage& storage, StoreProvider& stores,
                    JobChangedFn on_job_changed)
      : options_(std::move(options)),
        storage_(storage),
        stores_(stores),
        on_job_changed_(on_job_changed ? std::move(on_job_changed) : [](const JobId&) {}) {}

  DutyOutcome Run(DutyContext& context) override {
    const Duty& duty = context.duty();
    const absl::StatusOr<JobRecord> job = storage_.GetJob(duty.job_id);
    if (!job.ok()) return OutcomeOf(job.status());
    absl::StatusOr<ReportFile> file = storage_.ReadReportFile(duty.job_id, duty.part);
    if (!file.ok()) return OutcomeOf(file.status());
    if (file->written) return DutyOutcome::Done();

    absl::StatusOr<ReportFile> written = WriteFile(context, job->spec, *std::move(file));
    if (!written.ok()) return NotWritten(context, written.status());
    return Store(context, *written);
  }

 private:
  absl::StatusOr<ReportFile> WriteFile(DutyContext& context, const JobSpec& spec, ReportFile file) {
    DROVER_ASSIGN_OR_RETURN(const ReportPlace place, PlanReportPlace(spec));
    DROVER_ASSIGN_OR_RETURN(ObjectStore * store, stores_.GetPinned(place.store, place.fingerprint));
    return FileRun(options_, storage_, context, *store, place.bucket, std::move(file)).Run();
  }

  DutyOutcome NotWritten(const DutyContext& context, const absl::Status& error) {
    if (absl::IsAborted(error)) return DutyOutcome::Ended();
    if (context.ShouldStop()) return DutyOutcome::Again(absl::ZeroDuration());
    // A successor may have written it, having aborted this upload: then nothing is wrong with the report.
    const Duty& duty = context.duty();
    const absl::StatusOr<ReportFile> now = storage_.ReadReportFile(duty.job_id, duty.part);
    if (!now.ok()) return OutcomeOf(now.status());
    if (now->written) return DutyOutcome::Ended();
    if (IsStoreShutOff(error)) {
      const absl::StatusOr<JobRecord> job = storage_.GetJob(duty.job_id);
      if (!job.ok()) return OutcomeOf(job.status());
      if (!job->report_error.empty()) return DutyOutcome::Failed(error);
    }
    const absl::Status noted = storage_.NoteReportError(duty.job_id, std::string(error.message()));
    if (!noted.ok()) return OutcomeOf(noted);
    return DutyOutcome::Failed(error);
  }

  // A file that is written is not written again for a moment's trouble with the database.
  DutyOutcome Store(DutyContext& context, ReportFile& file) {
    const Duty& duty = context.duty();
    file.written = true;
    while (true) {
      absl::Status status = failpoint::HitStatus("report.before_finish_file");
      if (status.ok()) status = storage_.FinishReportFile(duty, file);
      if (status.ok()) break;
      const bool passing = absl::IsUnavailable(status) || absl::IsUnknown(status);
      if (!passing || context.ShouldStop()) return OutcomeOf(status);
      options_.sleep(kRetryWait);
    }
    LogInfo("report.file_written", {{"job", duty.job_id},
                                    {"part", duty.part},
                                    {"kind", RowKindName(RowKindOf(file))},
                                    {"rows", file.rows},
                                    {"bytes", file.bytes}});
    on_job_changed_(duty.job_id);
    return DutyOutcome::Ended();
  }

  const ReportFileOptions options_;
  Storage& storage_;
  StoreProvider& stores_;
  const JobChangedFn on_job_changed_;
};

}  // namespace

std::unique_ptr<DutyHandler> MakeReportFileHandler(ReportFileOptions options, Storage& storage,
                                                   StoreProvider& stores, JobChangedFn on_job_changed) {
  if (!options.sleep) options.sleep = [](absl::Duration duration) { absl::SleepFor(duration); };
  return std::make_unique<ReportFileHandler>(std::move(options), storage, stores, std::move(on_job_changed));
}

absl::Status AbortUnknownUploads(ObjectStore& store, const ObjectRef& ref, const DutyContext& context) {
  if (context.duty().epoch <= 1 || context.ShouldStop()) return absl::OkStatus();
  const absl::Status status = store.AbortUploads(ref);
  if (status.ok() || absl::IsUnavailable(status) || absl::IsCancelled(status)) return status;
  LogWarning("report.uploads_not_listed",
             {{"job", context.duty().job_id}, {"key", ref.key}, {"error", status}});
  return absl::OkStatus();
}

absl::StatusOr<bool> WriteSmallReportFile(Storage& storage, ObjectStore& store, const JobId& job_id,
                                          std::string_view bucket, size_t max_bytes,
                                          const DutyContext& context, ReportFile& file) {
  std::string text;
  const auto stop = [&context] { return context.ShouldStop(); };
  bool too_large = false;
  const auto emit = [&](std::string& piece) -> absl::Status {
    too_large = piece.size() > max_bytes;
    text = std::move(piece);
    return too_large ? absl::ResourceExhaustedError("too large") : absl::OkStatus();
  };
  const absl::StatusOr<int64_t> rows = EmitResultRows(storage, job_id, file, max_bytes + 1, stop, emit);
  if (too_large) return false;
  if (!rows.ok()) return rows.status();
  if (context.ShouldStop()) return absl::CancelledError("stopped");
  file.rows = *rows;
  const ObjectRef ref = {std::string(bucket), file.key, ""};
  if (store.config().kind == StoreKind::kFile)
    DROVER_RETURN_IF_ERROR(AbortUnknownUploads(store, ref, context));
  DROVER_RETURN_IF_ERROR(PutFile(store, ref, text, file));
  file.written = true;
  return true;
}

}  // namespace drover
