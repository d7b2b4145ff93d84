// A table of values under ids that are never used again.
#ifndef SERVER_IDENTITY_SLOT_TABLE_H_
#define SERVER_IDENTITY_SLOT_TABLE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "common/check.h"
#include "server/identity/ids.h"

namespace tenure::server {

// Values under ids, with insert, find and take in constant time. Slots are used again, ids are not:
// the generation in an id changes with each use of its slot. It wraps after 2^28 uses, and even
// then an id works only for the session that holds the value. Values that outlived an earlier
// daemon keep the ids of its epoch.
//
// Thread safety: thread-compatible.
template <typename T>
class SlotTable {
 public:
  explicit SlotTable(Epoch epoch) : epoch_(epoch) { TENURE_CHECK(epoch != 0); }

  size_t size() const { return size_; }

  // The new value's id; nullopt when kMaxSlots values are in the table, with `value` unchanged.
  std::optional<uint64_t> Insert(T&& value) {
    if (free_.empty()) {
      if (slots_.size() == kMaxSlots) return std::nullopt;
      free_.push_back(static_cast<uint32_t>(slots_.size()));
      slots_.emplace_back();
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    slot.generation = (slot.generation + 1) & ((uint32_t{1} << kGenerationBits) - 1);
    slot.value.emplace(std::move(value));
    ++size_;
    return Compose(slot.generation, index);
  }

  // Inserts a value of an earlier daemon under the id that it had. REQUIRES: no value has that id.
  // Restored values do not use the slots: two of them may have the same slot, because that daemon
  // used a slot again while a record of its former value still existed.
  void Restore(uint64_t id, T&& value) {
    TENURE_CHECK(EpochOf(id) != epoch_ && restored_.emplace(id, std::move(value)).second);
    ++size_;
  }

  // The value with this id; nullptr when there is none. Valid until it is taken.
  const T* Find(uint64_t id) const {
    if (EpochOf(id) != epoch_) {
      const auto restored = restored_.find(id);
      return restored == restored_.end() ? nullptr : &restored->second;
    }
    const uint64_t index = id & (kMaxSlots - 1);
    if (index >= slots_.size()) return nullptr;
    const Slot& slot = slots_[index];
    if (!slot.value || Compose(slot.generation, index) != id) return nullptr;
    return &*slot.value;
  }
  T* Find(uint64_t id) { return const_cast<T*>(std::as_const(*this).Find(id)); }

  // Takes the value with this id out of the table. The id must be in it.
  T Take(uint64_t id) {
    T* found = Find(id);
    TENURE_CHECK(found != nullptr);
    T value = std::move(*found);
    --size_;
    if (restored_.erase(id) > 0) return value;
    const uint64_t index = id & (kMaxSlots - 1);
    slots_[index].value.reset();
    free_.push_back(static_cast<uint32_t>(index));
    return value;
  }

  // The position of a value in the order of ForEach. Values of this epoch come first, by slot;
  // restored ones follow, by id. No id of another epoch is as small as a slot.
  uint64_t Place(uint64_t id) const { return EpochOf(id) == epoch_ ? id & (kMaxSlots - 1) : id; }

  // Calls `visit(id, value)` for the values in their order from `first` (a Place) on, until it
  // returns false.
  template <typename Visit>
  void ForEach(Visit visit, uint64_t first = 0) const {
    for (uint64_t index = first; index < slots_.size(); ++index) {
      const Slot& slot = slots_[index];
      if (slot.value && !visit(Compose(slot.generation, index), *slot.value)) return;
    }
    for (auto it = restored_.lower_bound(first); it != restored_.end(); ++it) {
      if (!visit(it->first, it->second)) return;
    }
  }
  template <typename Visit>
  void ForEach(Visit visit) {
    std::as_const(*this).ForEach(
        [&visit](uint64_t id, const T& value) { return visit(id, const_cast<T&>(value)); });
  }

 private:
  struct Slot {
    uint32_t generation = 0;
    std::optional<T> value;
  };

  uint64_t Compose(uint64_t generation, uint64_t index) const {
    return (uint64_t{epoch_} << (kSlotBits + kGenerationBits)) | (generation << kSlotBits) | index;
  }

  const Epoch epoch_;
  std::deque<Slot> slots_;  // values do not move when it grows
  std::vector<uint32_t> free_;
  std::map<uint64_t, T> restored_;
  size_t size_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_SLOT_TABLE_H_
