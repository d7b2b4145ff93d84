// A shared object that uses the client library, as a plug-in of some engine would.
#include <cstdio>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/tensor.h"

// Leases memory, writes to it and reads it back. Returns 0 if the bytes are those that were
// written.
extern "C" TENURE_EXPORT int UseTenure(const char* socket) {
  absl::StatusOr<tenure::Client> client = tenure::Client::Connect({.socket = socket});
  if (!client.ok()) return std::puts(client.status().ToString().c_str()), 1;
  const std::vector<float> values = {1, 2, 3, 4};
  const auto tensor = tenure::Tensor::FromHost<float>(*client, {2, 2}, values);
  if (!tensor.ok()) return std::puts(tensor.status().ToString().c_str()), 1;
  std::vector<float> read(values.size());
  return tensor->CopyToHost<float>(absl::MakeSpan(read)).ok() && read == values ? 0 : 1;
}
