// The payload of a batch: up to 4,096 tasks as compressed columns. It is what `batches` stores, what a Grant
// carries and what a worker decodes, so it is a public wire format; its grammar is on top of task_batch.cc.
//
//   TaskBatchBuilder builder;
//   while (!builder.Full(BatchSize(first_task, kBatchCapLight))) builder.Add(next());
//   std::string payload = builder.Finish();            // the builder is empty again, its buffers are kept
//
//   TaskBatchReader reader;
//   absl::StatusOr<DecodedBatch> batch = reader.Decode(payload);
//   for (size_t i = 0; i < batch->size(); ++i) Run((*batch)[i]);
#ifndef DROVER_COMMON_CODEC_TASK_BATCH_H_
#define DROVER_COMMON_CODEC_TASK_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/codec/task.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace drover {

// The codec byte in front of each payload that TaskBatchBuilder makes; workers name the codecs they read in
// Hello.
inline constexpr uint8_t kTaskBatchCodec = 1;

// Most tasks of a batch, and the caps by weight of the operation (see BatchSize).
inline constexpr size_t kMaxBatchTasks = 4096;
inline constexpr size_t kMinBatchTasks = 32;
inline constexpr size_t kBatchCapLight = 4096;    // tags, ACLs, deletes, no-op
inline constexpr size_t kBatchCapHeavy = 256;     // copies, checksums
inline constexpr size_t kBatchCapFunctions = 32;  // functions

// A batch closes once its raw bytes reach this; so it holds less than this and one task more.
inline constexpr size_t kMaxBatchRawKeyBytes = 512 * 1024;
inline constexpr size_t kMaxBatchRawBytes =
    kMaxBatchRawKeyBytes + kMaxBucketBytes + kMaxKeyBytes + kMaxVersionIdBytes;

// No payload is longer; one that is, is refused before a byte of it is looked at.
inline constexpr size_t kMaxBatchPayloadBytes = 1024 * 1024;

// How many tasks the batch that begins with task `first_task` (≥ 0) of its job holds: clamp(first_task / 256,
// 32, cap). A pure function of the position, so that a resumed preparation makes the same batches. `cap` is
// at least 32.
size_t BatchSize(int64_t first_task, size_t cap);

// Makes payloads. Reusable, movable, not thread-safe.
class TaskBatchBuilder {
 public:
  TaskBatchBuilder();
  ~TaskBatchBuilder();
  TaskBatchBuilder(TaskBatchBuilder&&) noexcept;
  TaskBatchBuilder& operator=(TaskBatchBuilder&&) noexcept;

  // Appends a copy of `task`. The caller keeps to the limits: bucket 1 to kMaxBucketBytes, key 1 to
  // kMaxKeyBytes, version id up to kMaxVersionIdBytes, and not Full(kMaxBatchTasks); breaking them ends the
  // process, because the payload could not be read again.
  void Add(const Task& task);

  size_t count() const { return count_; }
  // Bytes of the keys and version ids added, and of each distinct bucket name once.
  size_t raw_bytes() const { return raw_bytes_; }
  // Whether a batch of at most `size` tasks has to be finished now.
  bool Full(size_t size) const { return count_ >= size || raw_bytes_ >= kMaxBatchRawKeyBytes; }

  // The payload of the tasks added since the last Finish, in their order. At least one task. Equal tasks give
  // equal bytes, with the same version of zstd.
  std::string Finish();

 private:
  struct Columns;
  struct FreeContext {
    void operator()(ZSTD_CCtx_s* context) const;
  };

  size_t count_ = 0;
  size_t raw_bytes_ = 0;
  std::unique_ptr<Columns> columns_;
  std::unique_ptr<ZSTD_CCtx_s, FreeContext> context_;
};

// The tasks of one payload, in one arena. Movable; the views of Tasks handed out stay valid when it moves,
// until it is destroyed, assigned to or decoded into again. Reading it from several threads is fine.
class DecodedBatch {
 public:
  DecodedBatch() = default;
  DecodedBatch(DecodedBatch&&) noexcept = default;
  DecodedBatch& operator=(DecodedBatch&&) noexcept = default;

  size_t size() const { return rows_.size(); }
  // Task `index` of the batch, in manifest order; index < size().
  Task operator[](size_t index) const {
    const Row& row = rows_[index];
    return {View(buckets_[row.bucket]), View(row.key), View(row.version_id)};
  }
  bool has_version_ids() const { return has_version_ids_; }
  // As TaskBatchBuilder::raw_bytes().
  size_t raw_bytes() const { return raw_bytes_; }

 private:
  friend class TaskBatchReader;
  struct Slice {
    uint32_t offset = 0;
    uint32_t length = 0;
  };
  struct Row {
    Slice key;
    Slice version_id;
    uint32_t bucket = 0;
  };
  void Clear() {
    buckets_.clear();
    rows_.clear();
    raw_bytes_ = 0;
    has_version_ids_ = false;
  }
  std::string_view View(Slice slice) const { return {arena_.get() + slice.offset, slice.length}; }

  std::unique_ptr<char[]> arena_;
  size_t arena_capacity_ = 0;
  std::vector<Slice> buckets_;
  std::vector<Row> rows_;
  size_t raw_bytes_ = 0;
  bool has_version_ids_ = false;
};

// Reads payloads, hostile ones too: whatever the bytes are, it reads only them, needs a few MiB at most, and
// answers either a batch within all limits or INVALID_ARGUMENT (reason BAD_BATCH_PAYLOAD). Reusable, not
// thread-safe.
class TaskBatchReader {
 public:
  TaskBatchReader();
  ~TaskBatchReader();
  TaskBatchReader(TaskBatchReader&&) noexcept;
  TaskBatchReader& operator=(TaskBatchReader&&) noexcept;

  absl::StatusOr<DecodedBatch> Decode(std::string_view payload);
  // The same into `batch`, whose memory is used again. After an error `batch` is empty.
  absl::Status Decode(std::string_view payload, DecodedBatch& batch);

 private:
  struct FreeContext {
    void operator()(ZSTD_DCtx_s* context) const;
  };

  // Decompresses into content_ and returns the number of bytes.
  absl::StatusOr<size_t> Decompress(std::string_view payload);
  static absl::Status Parse(const char* in, const char* end, DecodedBatch& batch);

  std::unique_ptr<ZSTD_DCtx_s, FreeContext> context_;
  std::vector<char> content_;
};

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_TASK_BATCH_H_
