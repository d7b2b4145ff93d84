#ifndef CLIENT_CTL_PROTO_JSON_H_
#define CLIENT_CTL_PROTO_JSON_H_

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

namespace tenure::ctl {

// A message as JSON: every field, under its name in the .proto, in its order, and integers as
// integers. Protobuf's own mapping would write 64-bit integers as strings, which no calculation in
// jq survives. Bytes become hexadecimal digits, a
// message that is absent null.
//
// Knows the kinds of field that the Stats service uses: integers, bools, doubles, strings, bytes,
// messages, and lists of messages or of integers without sign.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_PROTO_JSON_H_
