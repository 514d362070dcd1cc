// Which of a claim's slots gets which batch: the same in every implementation of Storage.
#ifndef DROVER_SERVICES_CONTROLLER_STORAGE_SLOT_DEALER_H_
#define DROVER_SERVICES_CONTROLLER_STORAGE_SLOT_DEALER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "services/controller/storage/storage.h"

namespace drover {

// Deals batches to slots: each goes to the slot with the most credit left. Not thread-safe.
class SlotDealer {
 public:
  explicit SlotDealer(const std::vector<ClaimSlot>& slots) {
    for (const ClaimSlot& slot : slots) left_.push_back(slot.credit);
  }
  // Whether any slot takes another batch.
  bool HasCredit() const { return !left_.empty() && *std::ranges::max_element(left_) > 0; }
  // The index of the slot that gets a batch of so many tasks. There must be a slot.
  size_t Deal(int64_t tasks) {
    const auto richest = std::ranges::max_element(left_);
    *richest -= tasks;
    return static_cast<size_t>(richest - left_.begin());
  }

 private:
  std::vector<int64_t> left_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_STORAGE_SLOT_DEALER_H_
