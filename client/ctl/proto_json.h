// Protobuf messages as JSON, for `--json`.
#ifndef CLIENT_CTL_PROTO_JSON_H_
#define CLIENT_CTL_PROTO_JSON_H_

#include <string>

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

namespace tenure::ctl {

// Every field of the message, under its name in the .proto and in its order. Integers stay
// integers: protobuf's own mapping writes 64-bit integers as strings, with which jq cannot
// calculate. Ids (fields of 64 bits whose names end in _id or _ids) become strings of decimal
// digits: they exceed 2^53, beyond which jq and JavaScript round. Bytes become hexadecimal digits;
// an absent message becomes null.
//
// REQUIRES: only the field types of the Stats and Admin services: integers, bools, doubles,
// strings, bytes, messages, and lists of messages or of unsigned integers.
nlohmann::ordered_json ToJson(const google::protobuf::Message& message);

// The text of a JSON value, all in ASCII, so that no name in it can steer a terminal.
std::string TextOf(const nlohmann::ordered_json& json);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_PROTO_JSON_H_
