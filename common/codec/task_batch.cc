// The format of a batch payload, for whoever writes a worker in another language:
//
//   payload := 0x01 zstd        -- the codec byte, then one zstd frame (RFC 8878) that states the size of
//                                  its content, without a dictionary, up to the end of the payload
//   content := task_count       -- n, 1 to 4096
//              bucket_count     -- b, 1 to n
//              string{b}        -- the names of the buckets, 1 to 255 bytes each
//              bucket{n}        -- only if b > 1: which bucket each task is in, 0 to b - 1
//              prefix{n}        -- how many of its first bytes each key shares with the key before it
//                                  (0 for the first key)
//              suffix{n}        -- how many bytes of each key follow those; prefix + suffix is 1 to 1024
//              has_versions     -- 0 or 1
//              version_bytes{n} -- only if has_versions = 1: 0 to 1024; 0: that task has no version id
//              bytes            -- the suffixes of all keys, one after the other
//              bytes            -- only if has_versions = 1: all version ids, one after the other
//   string  := length bytes
//   numbers :  unsigned LEB128 varints, as short as possible
//
// and nothing after that. Keys, version ids and names of buckets together are at most kMaxBatchRawBytes
// (526,591). docs/internals/batch-format.md tells it for authors of workers, with a decoder in Python.
//
// Example: tasks (b, a/1) and (b, a/23) are the content 02 01 01 62 | 00 02 | 03 02 | 00 | 61 2f 31 32 33.
//
// Columns of like numbers and only what is new of each key leave little for zstd to search: its fastest level
// is then within a few percent of the smallest result, for sorted keys and for random ones
// (bench/codec_bench.cc).
#include "common/codec/task_batch.h"

#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "common/codec/varint.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr int kZstdLevel = 1;

// The longest content: every number of a task's five columns takes at most 2 bytes.
constexpr size_t kMaxContentBytes = kMaxBatchRawBytes + kMaxBatchTasks * 5 * 2 + 16;

// Room behind buffers, so that CopyShort may copy whole blocks.
constexpr size_t kSlack = 32;

// Copies `n` bytes, and up to kSlack - 1 bytes of rubbish behind them: much faster than memcpy for short
// strings. Both sides need that room; they don't overlap within whole blocks.
inline void CopyShort(char* to, const char* from, size_t n) {
  for (size_t i = 0; i < n; i += kSlack) {
    char block[kSlack];
    std::memcpy(block, from + i, kSlack);
    std::memcpy(to + i, block, kSlack);
  }
}

size_t SharedPrefix(const char* a, const char* b, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t x;
    uint64_t y;
    std::memcpy(&x, a + i, 8);
    std::memcpy(&y, b + i, 8);
    if (x != y) break;
  }
  while (i < n && a[i] == b[i]) ++i;
  return i;
}

// A number of at most 2^14 - 1 at `out`.
inline char* PutShort(char* out, size_t value) {
  if (value >= 0x80) {
    *out++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<char>(value);
  return out;
}

[[noreturn]] void BrokenPromise(const char* what) {
  std::fprintf(stderr, "TaskBatchBuilder: %s\n", what);
  std::abort();
}

absl::Status BadPayload(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "BAD_BATCH_PAYLOAD", StrCat("batch payload: ", what));
}

}  // namespace

size_t BatchSize(int64_t first_task, size_t cap) {
  return std::clamp(static_cast<size_t>(std::max<int64_t>(first_task, 0)) / 256, kMinBatchTasks,
                    std::max(cap, kMinBatchTasks));
}

// The columns of the batch being built, as they will lie in the content.
struct TaskBatchBuilder::Columns {
  // Numbers of a column, each of one or two bytes.
  struct Numbers {
    char bytes[kMaxBatchTasks * 2];
    char* end = bytes;

    void Put(size_t value) { end = PutShort(end, value); }
    std::string_view view() const { return {bytes, static_cast<size_t>(end - bytes)}; }
  };

  std::map<std::string, uint32_t, std::less<>> bucket_ids;
  std::string bucket_names;  // string{b}
  std::string last_bucket;
  uint32_t last_bucket_id = 0;
  Numbers buckets;
  Numbers prefixes;
  Numbers suffixes;
  Numbers version_lengths;
  std::string suffix_bytes;
  std::string version_bytes;
  char last_key[kMaxKeyBytes];
  size_t last_key_bytes = 0;

  // Scratch of Finish.
  std::string content;
  std::string compressed;

  void Clear() {
    bucket_ids.clear();
    bucket_names.clear();
    last_bucket.clear();
    for (Numbers* column : {&buckets, &prefixes, &suffixes, &version_lengths}) column->end = column->bytes;
    suffix_bytes.clear();
    version_bytes.clear();
    last_key_bytes = 0;
  }

  // The number of `name`; `added` are the bytes of a name that is new.
  uint32_t BucketId(std::string_view name, size_t& added) {
    if (name == last_bucket) return last_bucket_id;
    const auto [it, is_new] =
        bucket_ids.try_emplace(std::string(name), static_cast<uint32_t>(bucket_ids.size()));
    if (is_new) {
      PutVarint(name.size(), bucket_names);
      bucket_names.append(name);
      added = name.size();
    }
    last_bucket = name;
    last_bucket_id = it->second;
    return last_bucket_id;
  }
};

void TaskBatchBuilder::FreeContext::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }

TaskBatchBuilder::TaskBatchBuilder() : columns_(std::make_unique<Columns>()), context_(ZSTD_createCCtx()) {
  if (context_ == nullptr) BrokenPromise("out of memory");
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kZstdLevel);
}
TaskBatchBuilder::~TaskBatchBuilder() = default;
TaskBatchBuilder::TaskBatchBuilder(TaskBatchBuilder&&) noexcept = default;
TaskBatchBuilder& TaskBatchBuilder::operator=(TaskBatchBuilder&&) noexcept = default;

void TaskBatchBuilder::Add(const Task& task) {
  if (task.bucket.empty() || task.bucket.size() > kMaxBucketBytes) BrokenPromise("bucket name out of limits");
  if (task.key.empty() || task.key.size() > kMaxKeyBytes) BrokenPromise("key out of limits");
  if (task.version_id.size() > kMaxVersionIdBytes) BrokenPromise("version id out of limits");
  if (Full(kMaxBatchTasks)) BrokenPromise("batch is full");
  Columns& columns = *columns_;
  size_t added = task.key.size() + task.version_id.size();
  size_t added_bucket = 0;
  columns.buckets.Put(columns.BucketId(task.bucket, added_bucket));

  const size_t prefix =
      SharedPrefix(columns.last_key, task.key.data(), std::min(columns.last_key_bytes, task.key.size()));
  const std::string_view suffix = task.key.substr(prefix);
  columns.prefixes.Put(prefix);
  columns.suffixes.Put(suffix.size());
  columns.suffix_bytes.append(suffix);
  std::memcpy(columns.last_key + prefix, suffix.data(), suffix.size());
  columns.last_key_bytes = task.key.size();

  columns.version_lengths.Put(task.version_id.size());
  columns.version_bytes.append(task.version_id);
  raw_bytes_ += added + added_bucket;
  ++count_;
}

std::string TaskBatchBuilder::Finish() {
  if (count_ == 0) BrokenPromise("no tasks");
  Columns& columns = *columns_;
  std::string& content = columns.content;
  content.clear();
  PutVarint(count_, content);
  PutVarint(columns.bucket_ids.size(), content);
  content += columns.bucket_names;
  if (columns.bucket_ids.size() > 1) content += columns.buckets.view();
  content += columns.prefixes.view();
  content += columns.suffixes.view();
  const bool has_versions = !columns.version_bytes.empty();
  PutVarint(has_versions ? 1 : 0, content);
  if (has_versions) content += columns.version_lengths.view();
  content += columns.suffix_bytes;
  content += columns.version_bytes;

  std::string& compressed = columns.compressed;
  compressed.resize(std::max(compressed.size(), 1 + ZSTD_compressBound(content.size())));
  compressed[0] = static_cast<char>(kTaskBatchCodec);
  const size_t bytes = ZSTD_compress2(context_.get(), compressed.data() + 1, compressed.size() - 1,
                                      content.data(), content.size());
  if (ZSTD_isError(bytes)) BrokenPromise(ZSTD_getErrorName(bytes));
  columns.Clear();
  count_ = 0;
  raw_bytes_ = 0;
  return compressed.substr(0, 1 + bytes);
}

void TaskBatchReader::FreeContext::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

TaskBatchReader::TaskBatchReader() : context_(ZSTD_createDCtx()) {
  if (context_ == nullptr) BrokenPromise("out of memory");
}
TaskBatchReader::~TaskBatchReader() = default;
TaskBatchReader::TaskBatchReader(TaskBatchReader&&) noexcept = default;
TaskBatchReader& TaskBatchReader::operator=(TaskBatchReader&&) noexcept = default;

absl::StatusOr<DecodedBatch> TaskBatchReader::Decode(std::string_view payload) {
  DecodedBatch batch;
  DROVER_RETURN_IF_ERROR(Decode(payload, batch));
  return batch;
}

absl::Status TaskBatchReader::Decode(std::string_view payload, DecodedBatch& batch) {
  batch.Clear();
  absl::StatusOr<size_t> content_bytes = Decompress(payload);
  if (!content_bytes.ok()) return content_bytes.status();
  absl::Status status = Parse(content_.data(), content_.data() + *content_bytes, batch);
  if (!status.ok()) batch.Clear();
  return status;
}

absl::StatusOr<size_t> TaskBatchReader::Decompress(std::string_view payload) {
  if (payload.empty()) return BadPayload("empty");
  if (payload.size() > kMaxBatchPayloadBytes) return BadPayload("too long");
  if (static_cast<uint8_t>(payload[0]) != kTaskBatchCodec) {
    return BadPayload(StrCat("unknown codec ", static_cast<uint8_t>(payload[0])));
  }
  payload.remove_prefix(1);
  const unsigned long long content_bytes = ZSTD_getFrameContentSize(payload.data(), payload.size());
  if (content_bytes == ZSTD_CONTENTSIZE_ERROR) return BadPayload("no zstd frame");
  if (content_bytes == ZSTD_CONTENTSIZE_UNKNOWN) return BadPayload("frame without a content size");
  if (content_bytes > kMaxContentBytes) return BadPayload("content too long");
  if (ZSTD_findFrameCompressedSize(payload.data(), payload.size()) != payload.size()) {
    return BadPayload("not exactly one whole frame");
  }
  if (content_.size() < content_bytes + kSlack) content_.resize(content_bytes + kSlack);
  const size_t bytes =
      ZSTD_decompressDCtx(context_.get(), content_.data(), content_bytes, payload.data(), payload.size());
  if (ZSTD_isError(bytes)) return BadPayload(ZSTD_getErrorName(bytes));
  if (bytes != content_bytes) return BadPayload("content size differs from the stated one");
  return bytes;
}

absl::Status TaskBatchReader::Parse(const char* in, const char* end, DecodedBatch& batch) {
  uint64_t count;
  uint64_t bucket_count;
  if (!GetVarint(in, end, kMaxBatchTasks, count) || count == 0) return BadPayload("bad task count");
  if (!GetVarint(in, end, count, bucket_count) || bucket_count == 0) return BadPayload("bad bucket count");

  // Names of buckets stay where they are until the size of the arena is known.
  const char* const names = in;
  size_t raw_bytes = 0;
  batch.buckets_.reserve(bucket_count);
  for (uint64_t i = 0; i < bucket_count; ++i) {
    uint64_t length;
    if (!GetVarint(in, end, kMaxBucketBytes, length) || length == 0 ||
        length > static_cast<size_t>(end - in)) {
      return BadPayload("bad bucket name");
    }
    batch.buckets_.push_back({static_cast<uint32_t>(in - names), static_cast<uint32_t>(length)});
    raw_bytes += length;
    in += length;
  }
  const size_t names_bytes = static_cast<size_t>(in - names);

  batch.rows_.resize(count);
  if (bucket_count > 1) {
    for (DecodedBatch::Row& row : batch.rows_) {
      uint64_t bucket;
      if (!GetVarint(in, end, bucket_count - 1, bucket)) return BadPayload("bad bucket");
      row.bucket = static_cast<uint32_t>(bucket);
    }
  }

  // Until the keys are put together, key.offset is the length of the prefix.
  size_t last_bytes = 0;
  const char* suffixes = in;
  for (DecodedBatch::Row& row : batch.rows_) {
    uint64_t prefix;
    if (!GetVarint(in, end, kMaxKeyBytes, prefix)) return BadPayload("bad prefix length");
    row.key.offset = static_cast<uint32_t>(prefix);
  }
  size_t suffix_bytes = 0;
  for (DecodedBatch::Row& row : batch.rows_) {
    uint64_t suffix;
    if (!GetVarint(in, end, kMaxKeyBytes, suffix)) return BadPayload("bad suffix length");
    if (row.key.offset > last_bytes) return BadPayload("prefix longer than the key before");
    last_bytes = row.key.offset + suffix;
    if (last_bytes == 0 || last_bytes > kMaxKeyBytes) return BadPayload("bad key length");
    row.key.length = static_cast<uint32_t>(last_bytes);
    suffix_bytes += suffix;
    raw_bytes += last_bytes;
  }

  uint64_t has_versions;
  if (!GetVarint(in, end, 1, has_versions)) return BadPayload("bad version flag");
  size_t version_bytes = 0;
  if (has_versions != 0) {
    for (DecodedBatch::Row& row : batch.rows_) {
      uint64_t length;
      if (!GetVarint(in, end, kMaxVersionIdBytes, length)) return BadPayload("bad version id length");
      row.version_id.length = static_cast<uint32_t>(length);
      version_bytes += length;
    }
    raw_bytes += version_bytes;
  }
  if (raw_bytes > kMaxBatchRawBytes) return BadPayload("keys too long together");
  if (suffix_bytes + version_bytes != static_cast<size_t>(end - in))
    return BadPayload("length differs from its parts");
  suffixes = in;

  // The arena: names with their lengths in between, keys, version ids, and room for CopyShort.
  const size_t arena_bytes = raw_bytes + names_bytes + kSlack;
  if (batch.arena_ == nullptr || batch.arena_capacity_ < arena_bytes) {
    batch.arena_ = std::make_unique_for_overwrite<char[]>(arena_bytes);
    batch.arena_capacity_ = arena_bytes;
  }
  char* const arena = batch.arena_.get();
  std::memcpy(arena, names, names_bytes);
  size_t at = names_bytes;
  const char* last_key = arena;
  for (DecodedBatch::Row& row : batch.rows_) {
    const size_t prefix = row.key.offset;
    const size_t suffix = row.key.length - prefix;
    char* const key = arena + at;
    CopyShort(key, last_key, prefix);
    CopyShort(key + prefix, suffixes, suffix);
    suffixes += suffix;
    row.key.offset = static_cast<uint32_t>(at);
    at += row.key.length;
    last_key = key;
  }
  if (version_bytes != 0) {
    std::memcpy(arena + at, suffixes, version_bytes);
    for (DecodedBatch::Row& row : batch.rows_) {
      row.version_id.offset = static_cast<uint32_t>(at);
      at += row.version_id.length;
    }
  }
  batch.raw_bytes_ = raw_bytes;
  batch.has_version_ids_ = version_bytes != 0;
  return absl::OkStatus();
}

}  // namespace drover
