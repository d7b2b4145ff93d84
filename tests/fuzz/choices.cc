#include "tests/fuzz/choices.h"

#include <algorithm>
#include <string>

#include "common/check.h"

namespace tenure::testing {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// The known ids that a field may take; null when the field holds no id of the daemon.
std::vector<uint64_t> KnownIds::*IdsFor(const FieldDescriptor& field) {
  if (field.name() == "session_id") return &KnownIds::sessions;
  if (field.name() == "allocation_id" || field.name() == "allocation_ids")
    return &KnownIds::allocations;
  if (field.name() == "attachment_id") return &KnownIds::attachments;
  if (field.name() == "region_ids") return &KnownIds::regions;
  return nullptr;
}

class Filler {
 public:
  Filler(absl::Span<const KnownIds> known, size_t caller, Choices& choices)
      : known_(known), caller_(caller), choices_(choices) {}

  void Fill(Message& message) {
    const Reflection& fields = *message.GetReflection();
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* const field = message.GetDescriptor()->field(i);
      if (field->is_repeated()) {
        for (int left = choices_.Next() % kMostRepeated; left > 0; --left) {
          Add(message, fields, field);
        }
      } else {
        Set(message, fields, field);
      }
    }
  }

 private:
  static constexpr int kMostRepeated = 24;

  void Set(Message& message, const Reflection& fields, const FieldDescriptor* field) {
    // A field that may be absent, optional or of a oneof, is left out in half of the cases.
    if (field->has_presence() && choices_.Next() % 2 == 1) return;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT64:
        return fields.SetUInt64(&message, field, Number(*field));
      case FieldDescriptor::CPPTYPE_UINT32:
        return fields.SetUInt32(&message, field, static_cast<uint32_t>(choices_.NextNumber()));
      case FieldDescriptor::CPPTYPE_BOOL:
        return fields.SetBool(&message, field, choices_.Next() % 2 == 1);
      case FieldDescriptor::CPPTYPE_ENUM:
        // The range has one value more than the enum, which is an unknown one.
        return fields.SetEnumValue(&message, field,
                                   choices_.Next() % (field->enum_type()->value_count() + 1));
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Fill(*fields.MutableMessage(&message, field));
      default:
        TENURE_CHECK(field->cpp_type() == FieldDescriptor::CPPTYPE_STRING);
        return fields.SetString(&message, field, TextFor(*field));
    }
  }

  void Add(Message& message, const Reflection& fields, const FieldDescriptor* field) {
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Fill(*fields.AddMessage(&message, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32) {
      fields.AddUInt32(&message, field, static_cast<uint32_t>(choices_.NextNumber()));
    } else {
      TENURE_CHECK(field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64);
      fields.AddUInt64(&message, field, Number(*field));
    }
  }

  uint64_t Number(const FieldDescriptor& field) {
    const auto ids = IdsFor(field);
    return ids == nullptr ? choices_.NextNumber() : Id(ids);
  }

  uint64_t Id(std::vector<uint64_t> KnownIds::*ids) {
    // Five in eight are ids that the caller knows. The others are 0, known to another process, or
    // known with one bit changed.
    const uint8_t how = choices_.Next();
    const uint8_t age = choices_.Next();
    const bool none = how % 8 == 5;
    const bool foreign = how % 8 == 6;
    const bool altered = how % 8 == 7;
    const std::vector<uint64_t>& from = known_[foreign ? how / 8 % known_.size() : caller_].*ids;
    if (from.empty() || none) return 0;
    const uint64_t id = from[from.size() - 1 - age % from.size()];
    return altered ? id ^ (uint64_t{1} << (how / 8 * 2)) : id;
  }

  std::string TextFor(const FieldDescriptor& field) {
    const uint8_t how = choices_.Next();
    if (how % 4 == 3) return Text();
    if (field.name() == "digest") return std::string(32, static_cast<char>(how));
    if (field.name() == "name") return std::string(1, static_cast<char>('a' + how / 4 % 3));
    return Text();
  }

  // ASCII, because protobuf refuses strings that are not UTF-8.
  std::string Text() {
    std::string text(choices_.Next() % 80, ' ');
    for (char& c : text) c = static_cast<char>(choices_.Next() % 128);
    return text;
  }

  const absl::Span<const KnownIds> known_;
  const size_t caller_;
  Choices& choices_;
};

}  // namespace

uint8_t Choices::Next() {
  if (bytes_.empty()) return 0;
  const uint8_t first = bytes_.front();
  bytes_.remove_prefix(1);
  return first;
}

Choices Choices::NextPart() {
  const size_t wanted = Next();
  const size_t length = std::min(wanted, bytes_.size());
  const Choices part(bytes_.first(length));
  bytes_.remove_prefix(length);
  return part;
}

uint64_t Choices::NextNumber() {
  const uint8_t shape = Next();
  const uint64_t number = uint64_t{Next()} << (shape % 64);
  constexpr uint64_t kMinusOne = ~uint64_t{0};
  constexpr uint64_t kNeighbours[] = {0, 1, kMinusOne, 0};
  return number + kNeighbours[shape / 64];
}

void Fill(Message& request, absl::Span<const KnownIds> known, size_t caller, Choices& choices) {
  Filler(known, caller, choices).Fill(request);
}

}  // namespace tenure::testing
