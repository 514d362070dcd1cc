// The bytes of a set are its runs, ascending, as unsigned varints:
//
//   set := ""                 -- the empty set
//        | gap length more*
//   more := gap length        -- here gap ≥ 1, or the two runs would be one
//
// where gap is how many indexes are left out before the run (for the first: its first index), and length ≥ 1
// how many the run has. {0, …, 4095} is 00 80 20; {3, 5, 6} is 03 01 01 02.
#include "common/codec/task_set.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "common/codec/task_batch.h"
#include "common/codec/varint.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

static_assert(TaskSet::kMaxTasks == kMaxBatchTasks);

absl::Status BadSet(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "BAD_TASK_SET", StrCat("task set: ", what));
}

}  // namespace

TaskSet TaskSet::All(size_t n) {
  TaskSet set;
  set.AddRange(0, static_cast<uint32_t>(std::min<size_t>(n, kMaxTasks + 1)));
  return set;
}

void TaskSet::AddRange(uint32_t first, uint32_t end) {
  if (first >= end) return;
  if (end > kMaxTasks) {
    std::fprintf(stderr, "TaskSet: index %u out of limits\n", end - 1);
    std::abort();
  }
  const size_t last_word = (end - 1) / 64;
  if (words_.size() <= last_word) words_.resize(last_word + 1);
  for (size_t word = first / 64; word <= last_word; ++word) {
    uint64_t bits = ~uint64_t{0};
    if (word == first / 64) bits &= ~uint64_t{0} << (first % 64);
    if (word == last_word) bits &= ~uint64_t{0} >> (63 - (end - 1) % 64);
    words_[word] |= bits;
  }
}

void TaskSet::Union(const TaskSet& other) {
  if (words_.size() < other.words_.size()) words_.resize(other.words_.size());
  for (size_t word = 0; word < other.words_.size(); ++word) words_[word] |= other.words_[word];
}

void TaskSet::Subtract(const TaskSet& other) {
  const size_t common = std::min(words_.size(), other.words_.size());
  for (size_t word = 0; word < common; ++word) words_[word] &= ~other.words_[word];
  Trim();
}

bool TaskSet::Intersects(const TaskSet& other) const {
  const size_t common = std::min(words_.size(), other.words_.size());
  for (size_t word = 0; word < common; ++word) {
    if ((words_[word] & other.words_[word]) != 0) return true;
  }
  return false;
}

bool TaskSet::IsSubsetOf(const TaskSet& other) const {
  if (words_.size() > other.words_.size()) return false;
  for (size_t word = 0; word < words_.size(); ++word) {
    if ((words_[word] & ~other.words_[word]) != 0) return false;
  }
  return true;
}

size_t TaskSet::count() const {
  size_t count = 0;
  for (const uint64_t word : words_) count += static_cast<size_t>(std::popcount(word));
  return count;
}

uint32_t TaskSet::FindFrom(uint32_t from, bool in_set) const {
  const uint64_t flip = in_set ? 0 : ~uint64_t{0};
  for (size_t word = from / 64; word < words_.size(); ++word) {
    uint64_t bits = words_[word] ^ flip;
    if (word == from / 64) bits &= ~uint64_t{0} << (from % 64);
    if (bits != 0) return static_cast<uint32_t>(word * 64 + static_cast<size_t>(std::countr_zero(bits)));
  }
  return static_cast<uint32_t>(words_.size() * 64);
}

void TaskSet::Trim() {
  while (!words_.empty() && words_.back() == 0) words_.pop_back();
}

std::string TaskSet::Encode() const {
  std::string bytes;
  uint32_t at = 0;
  ForEachRange([&](uint32_t first, uint32_t end) {
    PutVarint(first - at, bytes);
    PutVarint(end - first, bytes);
    at = end;
  });
  return bytes;
}

absl::StatusOr<TaskSet> TaskSet::Decode(std::string_view bytes, size_t limit) {
  limit = std::min(limit, kMaxTasks);
  TaskSet set;
  uint64_t at = 0;
  const char* in = bytes.data();
  const char* const end = in + bytes.size();
  while (in != end) {
    uint64_t gap;
    uint64_t length;
    if (!GetVarint(in, end, limit - at, gap) || (gap == 0 && at != 0)) return BadSet("bad gap");
    at += gap;
    if (!GetVarint(in, end, limit - at, length) || length == 0) return BadSet("bad run length");
    set.AddRange(static_cast<uint32_t>(at), static_cast<uint32_t>(at + length));
    at += length;
  }
  return set;
}

}  // namespace drover
