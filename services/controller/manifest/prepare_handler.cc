#include "services/controller/manifest/prepare_handler.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/codec/task_batch.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "services/controller/duties/pipeline.h"
#include "services/controller/manifest/csv/csv_manifest.h"
#include "services/controller/manifest/decompressing_reader.h"
#include "services/controller/manifest/inline/inline_manifest.h"
#include "services/controller/manifest/manifest_plan.h"
#include "services/controller/manifest/prepare_progress.h"

namespace drover {
namespace {

constexpr size_t kBlocks = 4;                      // between reader and parser
constexpr size_t kBatchesWaiting = 2;              // between parser and encoder
constexpr size_t kBuilders = kBatchesWaiting + 2;  // and one in each one's hands
constexpr size_t kChunksWaiting = 1;               // between parser and the database
constexpr size_t kMaxChunkBytes = 8 << 20;
constexpr absl::Duration kStopCheck = absl::Milliseconds(500);  // of whether to stop, while a store is silent
constexpr absl::Duration kMaxBlockAge =
    absl::Milliseconds(200);  // a slow store's bytes are passed on in part

using Buffer = std::unique_ptr<char[]>;

// A piece of the manifest.
struct Block {
  Buffer buffer;
  size_t size = 0;
  int64_t offset = 0;           // of its first byte in the manifest (of a compressed one: in its content)
  ResumableSha256 hash_before;  // of all bytes before it
  bool last = false;
  absl::Status error;  // reading ended here, with an error
};

struct Environment {
  const PrepareOptions& options;
  Storage& storage;
  StoreProvider& stores;
  const Clock& clock;
  const JobChangedFn& on_job_changed;
};

// Reads a manifest in blocks, on a thread of its own once there is more than one.
class BlockReader {
 public:
  // From `offset` on; `hash` is that of the bytes before, and is carried on if `hashing`.
  BlockReader(std::unique_ptr<ObjectReader> reader, int64_t offset, ResumableSha256 hash, bool hashing,
              size_t block_bytes, const Clock& clock)
      : reader_(std::move(reader)),
        offset_(offset),
        hash_(hash),
        hashing_(hashing),
        block_bytes_(block_bytes),
        clock_(clock),
        filled_(kBlocks),
        empty_(kBlocks) {
    for (size_t i = 0; i < kBlocks; ++i) empty_.Push(std::make_unique_for_overwrite<char[]>(block_bytes_));
  }
  ~BlockReader() { Stop(); }

  // The next block; nothing yet if `timed_out`, else nothing after the last one.
  std::optional<Block> Next(absl::Duration timeout, bool& timed_out) {
    timed_out = false;
    if (!started_) {
      // The first block is read here: most manifests have no second one, and need no thread.
      started_ = true;
      Block block = Read(*empty_.Pop());
      if (block.last || !block.error.ok()) {
        filled_.Close();
      } else {
        thread_.emplace("manifest-read", [this] { ReadAll(); });
      }
      return block;
    }
    return filled_.Pop(timeout, timed_out);
  }
  // Gives a block's buffer back.
  void Recycle(Block block) { empty_.Push(std::move(block.buffer)); }
  void Stop() {
    filled_.Abandon();
    empty_.Abandon();
    if (thread_) thread_->Join();
  }
  // Of the whole manifest, once its last block was handed out.
  std::string HexDigest() const { return hash_.HexDigest(); }

 private:
  void ReadAll() {
    while (std::optional<Buffer> buffer = empty_.Pop()) {
      Block block = Read(*std::move(buffer));
      const bool end = block.last || !block.error.ok();
      if (!filled_.Push(std::move(block)) || end) break;
    }
    filled_.Close();
  }

  Block Read(Buffer buffer) {
    Block block;
    block.offset = offset_;
    block.hash_before = hash_;
    const absl::Duration start = clock_.Elapsed();
    while (block.size < block_bytes_ && clock_.Elapsed() - start < kMaxBlockAge) {
      const absl::StatusOr<size_t> n = reader_->Read(buffer.get() + block.size, block_bytes_ - block.size);
      if (!n.ok()) block.error = n.status();
      if (n.ok() && *n == 0) block.last = true;
      if (!n.ok() || *n == 0) break;
      block.size += *n;
    }
    if (hashing_) hash_.Update({buffer.get(), block.size});
    offset_ += static_cast<int64_t>(block.size);
    block.buffer = std::move(buffer);
    return block;
  }

  const std::unique_ptr<ObjectReader> reader_;
  int64_t offset_;
  ResumableSha256 hash_;
  const bool hashing_;
  const size_t block_bytes_;
  const Clock& clock_;
  BoundedQueue<Block> filled_;
  BoundedQueue<Buffer> empty_;
  bool started_ = false;
  std::optional<NamedThread> thread_;
};

// Stores chunks one after the other, on a thread of its own once there is one to store.
class ChunkWriter {
 public:
  ChunkWriter(const Environment& env, const Duty& duty) : env_(env), duty_(duty), chunks_(kChunksWaiting) {}
  ~ChunkWriter() { (void)Drain(); }

  // False once a chunk could not be stored.
  bool Add(Storage::PrepareChunk chunk) {
    if (!thread_) thread_.emplace("manifest-store", [this] { StoreAll(); });
    return chunks_.Push(std::move(chunk));
  }
  // Waits until all are stored; the error of the first that could not be.
  absl::Status Drain() {
    chunks_.Close();
    if (thread_) thread_->Join();
    return status_;
  }

 private:
  void StoreAll() {
    while (std::optional<Storage::PrepareChunk> chunk = chunks_.Pop()) {
      status_ = failpoint::HitStatus("prepare.between_chunks");
      if (status_.ok()) status_ = env_.storage.AppendBatches(duty_, *chunk);
      if (!status_.ok()) return chunks_.Abandon();
      env_.on_job_changed(duty_.job_id);
    }
  }

  const Environment& env_;
  const Duty& duty_;
  BoundedQueue<Storage::PrepareChunk> chunks_;
  std::optional<NamedThread> thread_;
  absl::Status status_;  // of the thread, read after it has ended
};

// A batch that is full but not encoded, and the progress once it is stored.
struct FilledBatch {
  TaskBatchBuilder builder;
  int64_t first_task = 0;
  PrepareProgress after;
};

// Encodes batches and gathers them into chunks for the writer, on a thread of its own once it is started.
class ChunkMaker {
 public:
  ChunkMaker(const Environment& env, const Duty& duty)
      : env_(env),
        writer_(env, duty),
        chunk_begun_(env.clock.Elapsed()),
        filled_(kBatchesWaiting),
        spare_(kBuilders) {}
  ~ChunkMaker() { (void)Drain(); }

  void Start() {
    if (!thread_) thread_.emplace("manifest-encode", [this] { EncodeAll(); });
  }
  // An empty builder; waits for one if the encoding lags behind.
  TaskBatchBuilder TakeBuilder() {
    bool none = false;
    std::optional<TaskBatchBuilder> spare = spare_.Pop(absl::ZeroDuration(), none);
    if (!spare && builders_ >= kBuilders) spare = spare_.Pop();
    if (spare) return *std::move(spare);
    ++builders_;
    return {};
  }
  // False once a chunk could not be stored.
  bool Add(FilledBatch batch) {
    if (thread_) return filled_.Push(std::move(batch));
    return Encode(std::move(batch));
  }
  // Waits until all batches are encoded and all chunks sent are stored; the error of the first that could not
  // be.
  absl::Status Drain() {
    filled_.Close();
    if (thread_) thread_->Join();
    return writer_.Drain();
  }
  // After Drain(): what was not sent, for the last chunk; its progress is `progress`.
  Storage::PrepareChunk TakeRest(const PrepareProgress& progress) {
    Storage::PrepareChunk chunk;
    chunk.batches = std::exchange(batches_, {});
    chunk.progress = progress.Serialize();
    return chunk;
  }

 private:
  void EncodeAll() {
    while (true) {
      bool timed_out = false;
      std::optional<FilledBatch> batch = filled_.Pop(env_.options.chunk_age, timed_out);
      if (!batch && !timed_out) return;
      if (batch ? Encode(*std::move(batch)) : SendIfDue()) continue;
      filled_.Abandon();
      spare_.Abandon();
      return;
    }
  }

  bool Encode(FilledBatch filled) {
    NewBatch batch;
    batch.first_task = filled.first_task;
    batch.tasks = static_cast<int32_t>(filled.builder.count());
    batch.payload = filled.builder.Finish();
    spare_.Push(std::move(filled.builder));
    chunk_bytes_ += batch.payload.size();
    batches_.push_back(std::move(batch));
    after_ = std::move(filled.after);
    return SendIfDue();
  }

  bool SendIfDue() {
    const size_t limit = std::min(env_.options.chunk_bytes, kMaxChunkBytes - kMaxBatchPayloadBytes);
    const absl::Duration now = env_.clock.Elapsed();
    if (chunk_bytes_ < limit && now - chunk_begun_ < env_.options.chunk_age) return true;
    chunk_begun_ = now;
    if (batches_.empty()) return true;
    chunk_bytes_ = 0;
    return writer_.Add(TakeRest(after_));
  }

  const Environment& env_;
  ChunkWriter writer_;
  std::vector<NewBatch> batches_;  // the chunk being made
  PrepareProgress after_;          // once these are stored
  size_t chunk_bytes_ = 0;
  absl::Duration chunk_begun_;
  size_t builders_ = 0;
  BoundedQueue<FilledBatch> filled_;
  BoundedQueue<TaskBatchBuilder> spare_;
  std::optional<NamedThread> thread_;
};

// One run of one preparation.
class Preparation {
 public:
  Preparation(const Environment& env, DutyContext& context, ManifestPlan plan, PrepareProgress progress)
      : env_(env),
        context_(context),
        duty_(context.duty()),
        plan_(std::move(plan)),
        progress_(std::move(progress)),
        chunks_(env, duty_),
        builder_(chunks_.TakeBuilder()) {}

  DutyOutcome Run() {
    absl::StatusOr<ObjectStore*> store = env_.stores.GetPinned(plan_.store, plan_.fingerprint);
    if (!store.ok()) return StoreFailed(store.status());
    store_ = *store;
    // The hash of a file tells users what was read; that of an object is made only if it is compared with
    // something.
    hashing_ = !plan_.sha256.empty() || store_->config().kind == StoreKind::kFile;
    // A compressed manifest is always read from its start: what is in batches is skipped.
    const int64_t read_from = plan_.compression ? 0 : hashing_ ? progress_.hashed : progress_.position.offset;

    const bool opened_before = !progress_.etag.empty();
    const std::string expected = opened_before         ? progress_.etag
                                 : !plan_.etag.empty() ? plan_.etag
                                                       : plan_.pin;
    absl::StatusOr<std::unique_ptr<ObjectReader>> reader = store_->Open(plan_.object, read_from, expected);
    if (!reader.ok()) return StoreFailed(reader.status());
    if (!opened_before) progress_.etag = (*reader)->info().etag;

    absl::StatusOr<CsvManifestParser> parser = CsvManifestParser::Create(plan_.format, progress_.position);
    if (!parser.ok()) return Fail(MakeFailure(kManifestUnsupported, FromAbsl(parser.status().message())));
    ResumableSha256 stored_hash;  // of a compressed manifest; the reader's thread writes it
    if (plan_.compression) {
      reader = std::make_unique<DecompressingReader>(*std::move(reader), *plan_.compression,
                                                     [&](std::string_view bytes) {
                                                       if (hashing_) stored_hash.Update(bytes);
                                                     });
    }
    BlockReader blocks(*std::move(reader), read_from, progress_.hash, hashing_ && !plan_.compression,
                       env_.options.block_bytes, env_.clock);
    const absl::Status read = ReadManifest(blocks, *parser);
    blocks.Stop();
    const absl::Status stored = chunks_.Drain();
    if (!stored.ok()) return OutcomeOf(stored);
    if (failure_) return Fail(*failure_);
    if (!read.ok()) return StoreFailed(read);
    if (!at_end_) return DutyOutcome::Again(absl::ZeroDuration());  // stopped
    if (!parser->bad_lines().empty()) return Fail(FailureOfBadLines(parser->bad_lines(), looks_compressed_));
    return Finish(plan_.compression ? stored_hash.HexDigest() : blocks.HexDigest());
  }

 private:
  // Until the end, an error of the store (returned), enough bad lines, a failure, an error of the database,
  // or a stop.
  absl::Status ReadManifest(BlockReader& blocks, CsvManifestParser& parser) {
    while (!at_end_ && !failure_ && !storing_failed_ && !context_.ShouldStop()) {
      bool timed_out = false;
      std::optional<Block> block = blocks.Next(kStopCheck, timed_out);
      if (timed_out) continue;
      if (!block) return absl::InternalError("the manifest's reader ended without an end");
      if (!block->error.ok()) return block->error;
      if (!block->last) chunks_.Start();  // there is enough to do for one more thread
      Feed(*block, parser);
      at_end_ = block->last || parser.done();
      blocks.Recycle(*std::move(block));
    }
    if (at_end_ && parser.bad_lines().empty() && builder_.count() > 0) CloseBatch(parser.position(), nullptr);
    return absl::OkStatus();
  }

  void Feed(const Block& block, CsvManifestParser& parser) {
    std::string_view bytes(block.buffer.get(), block.size);
    if (block.offset == 0 && !plan_.compression) looks_compressed_ = DetectCompression(bytes);
    // A resumed hash goes on at the start of the block that the resumed parser stands in, a compressed
    // manifest at its start.
    const int64_t parsed = resumed_at_ - block.offset;
    if (parsed > 0) bytes.remove_prefix(std::min(bytes.size(), static_cast<size_t>(parsed)));
    parser.Feed(bytes, block.last, [&](const Task& task) {
      if (failure_ || storing_failed_) return;
      builder_.Add(task);
      if (builder_.Full(BatchSize(progress_.next_task, plan_.batch_cap)))
        CloseBatch(parser.position(), &block);
    });
  }

  // `block`: the one that was being parsed; null at the end, where nobody goes on.
  void CloseBatch(const CsvPosition& position, const Block* block) {
    const auto tasks = static_cast<int64_t>(builder_.count());
    const int64_t first_task = progress_.next_task;
    if (first_task + tasks > kMaxTasksPerJob || progress_.batches >= kMaxBatchesPerJob) {
      failure_ = MakeFailure(kManifestTooLarge, StrCat("a job has at most ", kMaxTasksPerJob, " tasks in ",
                                                       kMaxBatchesPerJob, " batches"));
      return;
    }
    progress_.next_task += tasks;
    ++progress_.batches;
    progress_.position = position;
    progress_.unavailable_since.reset();
    if (block != nullptr && hashing_ && !plan_.compression && position.offset >= block->offset) {
      progress_.hashed = block->offset;
      progress_.hash = block->hash_before;
    }
    storing_failed_ = !chunks_.Add({std::move(builder_), first_task, progress_});
    builder_ = chunks_.TakeBuilder();
  }

  // The whole manifest was read: is it still what it was, and what the client meant?
  DutyOutcome Finish(const std::string& digest) {
    if (!plan_.sha256.empty() && digest != plan_.sha256) {
      return Fail(MakeFailure(
          kManifestSha256Mismatch,
          StrCat("the job names a manifest with SHA-256 ", plan_.sha256, ", but its bytes have ", digest)));
    }
    if (store_->config().kind == StoreKind::kFile) {
      const absl::StatusOr<ObjectInfo> now = store_->Head(plan_.object);
      if (!now.ok()) return StoreFailed(now.status());
      if (now->etag != progress_.etag) {
        return Fail(MakeFailure(kManifestChanged, "the manifest changed while it was read"));
      }
    }
    if (absl::Status status = failpoint::HitStatus("prepare.before_last"); !status.ok()) {
      return DutyOutcome::Failed(status);
    }
    Storage::PrepareChunk chunk = chunks_.TakeRest(progress_);
    chunk.last = true;
    if (absl::Status status = env_.storage.AppendBatches(duty_, chunk); !status.ok())
      return OutcomeOf(status);
    LogInfo("manifest.prepared", {{"job", duty_.job_id},
                                  {"tasks", progress_.next_task},
                                  {"batches", progress_.batches},
                                  {"bytes", progress_.position.offset},
                                  {"etag", progress_.etag},
                                  {"sha256", hashing_ ? digest : "-"}});
    env_.on_job_changed(duty_.job_id);
    return DutyOutcome::Ended();
  }

  DutyOutcome Fail(const lifecycle::Failure& failure) {
    if (absl::Status status = env_.storage.FailPreparation(duty_, failure); !status.ok())
      return OutcomeOf(status);
    LogInfo("manifest.refused", {{"job", duty_.job_id}, {"code", failure.code}, {"reason", failure.reason}});
    env_.on_job_changed(duty_.job_id);
    return DutyOutcome::Ended();
  }

  // The batches made so far, those that aren't stored yet as well, are kept.
  DutyOutcome StoreFailed(const absl::Status& error) {
    if (context_.ShouldStop()) return DutyOutcome::Again(absl::ZeroDuration());
    const bool opened = !progress_.etag.empty();
    const std::optional<ErrorDetails> details = GetErrorDetails(error);
    std::string present;  // asked for only by the message that shows it
    if (details && details->reason == "OBJECT_CHANGED" && !opened && !plan_.etag.empty()) {
      const absl::StatusOr<ObjectInfo> now = store_->Head(plan_.object);
      if (now.ok()) present = now->etag;
    }
    if (const auto failure = FailureOfStoreError(plan_, error, opened, present)) return Fail(*failure);

    const absl::Time now = env_.clock.Now();
    if (progress_.unavailable_since && now - *progress_.unavailable_since >= env_.options.unavailable_limit) {
      return Fail(
          MakeFailure(kManifestUnavailable,
                      StrCat("the manifest could not be read for ",
                             absl::FormatDuration(env_.options.unavailable_limit), ": ", error.message())));
    }
    const bool noted = progress_.unavailable_since.has_value();
    if (!noted) progress_.unavailable_since = now;
    const Storage::PrepareChunk rest = chunks_.TakeRest(progress_);
    if (!noted || !rest.batches.empty()) {
      if (absl::Status status = env_.storage.AppendBatches(duty_, rest); !status.ok())
        return OutcomeOf(status);
    }
    return DutyOutcome::Failed(error);
  }

  const Environment& env_;
  DutyContext& context_;
  const Duty& duty_;
  const ManifestPlan plan_;
  PrepareProgress progress_;  // at the end of the last batch that was closed
  const int64_t resumed_at_ = progress_.position.offset;
  ObjectStore* store_ = nullptr;
  bool hashing_ = false;
  bool at_end_ = false;  // of the manifest, or of the lines that are looked at after a bad one
  bool storing_failed_ = false;
  std::optional<Compression> looks_compressed_;  // though the job does not say so
  std::optional<lifecycle::Failure> failure_;

  ChunkMaker chunks_;
  TaskBatchBuilder builder_;  // the batch being filled
};

class PrepareHandler : public DutyHandler {
 public:
  PrepareHandler(PrepareOptions options, Storage& storage, StoreProvider& stores, const Clock& clock,
                 JobChangedFn on_job_changed)
      : options_(options),
        on_job_changed_(on_job_changed ? std::move(on_job_changed) : [](const JobId&) {}),
        env_{options_, storage, stores, clock, on_job_changed_} {}

  DutyOutcome Run(DutyContext& context) override {
    const Duty& duty = context.duty();
    const absl::StatusOr<JobRecord> job = env_.storage.GetJob(duty.job_id);
    if (!job.ok()) return OutcomeOf(job.status());
    lifecycle::State state = job->snapshot.state;
    if (state == lifecycle::State::kNew) {
      const auto begun = env_.storage.ChangeJob(
          duty.job_id,
          [&](const lifecycle::Snapshot& snapshot) {
            state = snapshot.state;
            return lifecycle::Decide(snapshot, {lifecycle::Cause::kPrepareBegins, "", "", {}});
          },
          /*with_leases=*/false);
      if (!begun.ok()) return OutcomeOf(begun.status());
      if (*begun) {
        state = (*begun)->to;
        env_.on_job_changed(duty.job_id);
      }
    }
    // Cancelled meanwhile, which has removed the duty.
    if (state != lifecycle::State::kPreparing) return DutyOutcome::Done();

    absl::StatusOr<ManifestPlan> plan = PlanManifest(job->spec);
    if (!plan.ok()) return Unsupported(duty, plan.status());
    if (plan->in_request) return PrepareInline(duty, plan->batch_cap);
    absl::StatusOr<PrepareProgress> progress = PrepareProgress::Parse(duty.progress);
    if (!progress.ok()) return DutyOutcome::Failed(progress.status());
    return Preparation(env_, context, *std::move(plan), *std::move(progress)).Run();
  }

 private:
  DutyOutcome Unsupported(const Duty& duty, const absl::Status& why) const {
    const lifecycle::Failure failure = MakeFailure(kManifestUnsupported, FromAbsl(why.message()));
    if (absl::Status status = env_.storage.FailPreparation(duty, failure); !status.ok())
      return OutcomeOf(status);
    env_.on_job_changed(duty.job_id);
    return DutyOutcome::Ended();
  }

  // All of it in one chunk: it is small, and there is nothing to wait for.
  DutyOutcome PrepareInline(const Duty& duty, size_t batch_cap) const {
    absl::StatusOr<std::vector<NewBatch>> batches = MakeInlineBatches(duty.progress, batch_cap);
    if (!batches.ok()) return Unsupported(duty, batches.status());
    if (absl::Status status = failpoint::HitStatus("prepare.before_last"); !status.ok()) {
      return DutyOutcome::Failed(status);
    }
    Storage::PrepareChunk chunk;
    chunk.batches = *std::move(batches);
    chunk.last = true;
    if (absl::Status status = env_.storage.AppendBatches(duty, chunk); !status.ok()) return OutcomeOf(status);
    LogInfo("manifest.prepared", {{"job", duty.job_id}, {"batches", chunk.batches.size()}, {"inline", true}});
    env_.on_job_changed(duty.job_id);
    return DutyOutcome::Ended();
  }

  const PrepareOptions options_;
  const JobChangedFn on_job_changed_;
  const Environment env_;
};

}  // namespace

std::unique_ptr<DutyHandler> MakePrepareHandler(PrepareOptions options, Storage& storage,
                                                StoreProvider& stores, const Clock& clock,
                                                JobChangedFn on_job_changed) {
  return std::make_unique<PrepareHandler>(options, storage, stores, clock, std::move(on_job_changed));
}

}  // namespace drover
