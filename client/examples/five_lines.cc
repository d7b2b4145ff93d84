// The smallest client of tenured: leases memory, uses it, and frees it when it goes out of scope.
#include <iostream>
#include <vector>

#include "tenure/client.h"

int main() {
  absl::StatusOr<tenure::Client> client = tenure::Client::Connect();
  if (!client.ok()) return std::cerr << client.status().message() << "\n", 1;
  const std::vector<float> ones(1 << 20, 1.0f);
  auto tensor = tenure::Tensor::FromHost<float>(*client, {1024, 1024}, ones);
  if (!tensor.ok()) return std::cerr << tensor.status().message() << "\n", 1;
  std::cout << tensor->layout().ToString() << " leased on " << client->device_uuid() << "\n";
}
