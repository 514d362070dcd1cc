// A set of task indexes within one batch: what a lease covers, what a segment records, what was given back.
//
//   TaskSet left = TaskSet::All(batch_size);
//   left.Subtract(recorded);
//   left.ForEachRange([](uint32_t first, uint32_t end) { … });   // maximal runs, ascending, end exclusive
//
// A value type: a bitmap of at most 512 bytes, cheap to move. Indexes are below kMaxTasks; adding another one
// ends the process (decode foreign bytes with Decode, which checks). Different instances may be used by
// different threads.
#ifndef DROVER_COMMON_CODEC_TASK_SET_H_
#define DROVER_COMMON_CODEC_TASK_SET_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace drover {

class TaskSet {
 public:
  static constexpr size_t kMaxTasks = 4096;  // = kMaxBatchTasks

  TaskSet() = default;
  // {0, 1, …, n - 1}; n ≤ kMaxTasks.
  static TaskSet All(size_t n);

  void Add(uint32_t index) { AddRange(index, index + 1); }
  // Adds first, …, end - 1; nothing if first ≥ end.
  void AddRange(uint32_t first, uint32_t end);
  void Union(const TaskSet& other);
  void Subtract(const TaskSet& other);
  void Clear() { words_.clear(); }

  bool Contains(uint32_t index) const {
    return index / 64 < words_.size() && (words_[index / 64] >> (index % 64) & 1) != 0;
  }
  bool Intersects(const TaskSet& other) const;
  bool IsSubsetOf(const TaskSet& other) const;
  size_t count() const;
  bool empty() const { return words_.empty(); }
  // The least n for which this is a subset of All(n): the last index + 1, or 0.
  size_t end() const { return words_.empty() ? 0 : words_.size() * 64 - std::countl_zero(words_.back()); }

  // Calls visit(first, end) for each maximal run of indexes, ascending.
  template <typename Visit>
  void ForEachRange(Visit&& visit) const {
    for (uint32_t first = FindFrom(0, true); first < words_.size() * 64;) {
      const uint32_t end = FindFrom(first, false);
      visit(first, end);
      first = FindFrom(end, true);
    }
  }
  // Calls visit(index) for each index, ascending.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (size_t word = 0; word < words_.size(); ++word) {
      for (uint64_t bits = words_[word]; bits != 0; bits &= bits - 1) {
        visit(static_cast<uint32_t>(word * 64 + std::countr_zero(bits)));
      }
    }
  }

  // The bytes stored and sent: varint run lengths (grammar in task_set.cc). The empty set is the empty
  // string; equal sets have equal bytes.
  std::string Encode() const;
  // The set whose Encode() is `bytes`; INVALID_ARGUMENT (reason BAD_TASK_SET) if there is none, or if it has
  // an index of `limit` (≤ kMaxTasks; the size of the batch) or more.
  static absl::StatusOr<TaskSet> Decode(std::string_view bytes, size_t limit);

  friend bool operator==(const TaskSet&, const TaskSet&) = default;

 private:
  // The least index ≥ from that is in the set (or, for false, is not); words_.size() * 64 if there is none.
  uint32_t FindFrom(uint32_t from, bool in_set) const;
  void Trim();

  std::vector<uint64_t> words_;  // bit i of word w: index 64 w + i; the last word is not 0
};

}  // namespace drover

#endif  // DROVER_COMMON_CODEC_TASK_SET_H_
