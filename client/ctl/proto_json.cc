#include "client/ctl/proto_json.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <google/protobuf/descriptor.h>

#include "common/check.h"

namespace tenure::ctl {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Json = nlohmann::ordered_json;

bool IsId(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64 &&
         (absl::EndsWith(field->name(), "_id") || absl::EndsWith(field->name(), "_ids"));
}

Json ValueOf(const Message& message, const FieldDescriptor* field) {
  const google::protobuf::Reflection* fields = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return fields->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return fields->GetInt64(message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return fields->GetUInt32(message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      if (IsId(field)) return absl::StrCat(fields->GetUInt64(message, field));
      return fields->GetUInt64(message, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return fields->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return fields->GetDouble(message, field);
    case FieldDescriptor::CPPTYPE_STRING:
      if (field->type() == FieldDescriptor::TYPE_BYTES) {
        return absl::BytesToHexString(fields->GetString(message, field));
      }
      return fields->GetString(message, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      // Null, and not an object of zeros: absent has a meaning of its own, as in
      // Survival.recovered.
      if (!fields->HasField(message, field)) return nullptr;
      return ToJson(fields->GetMessage(message, field));
    default:
      TENURE_CHECK(false && "a kind of field that the Stats service does not use");
  }
  return nullptr;
}

Json ElementOf(const Message& message, const FieldDescriptor* field, int index) {
  const google::protobuf::Reflection* fields = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_UINT32:
      return fields->GetRepeatedUInt32(message, field, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      if (IsId(field)) return absl::StrCat(fields->GetRepeatedUInt64(message, field, index));
      return fields->GetRepeatedUInt64(message, field, index);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(fields->GetRepeatedMessage(message, field, index));
    default:
      TENURE_CHECK(false && "a kind of list that the Stats service does not use");
  }
  return nullptr;
}

Json ListOf(const Message& message, const FieldDescriptor* field) {
  const int size = message.GetReflection()->FieldSize(message, field);
  Json list = Json::array();
  for (int i = 0; i < size; ++i) list.push_back(ElementOf(message, field, i));
  return list;
}

}  // namespace

Json ToJson(const Message& message) {
  Json object = Json::object();
  const google::protobuf::Descriptor* type = message.GetDescriptor();
  // All fields of the type and not only those that are set: a script finds each name in each
  // answer.
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    object[field->name()] = field->is_repeated() ? ListOf(message, field) : ValueOf(message, field);
  }
  return object;
}

std::string TextOf(const Json& json) {
  return json.dump(/*indent=*/2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

}  // namespace tenure::ctl
