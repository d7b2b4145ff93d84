// A small inference worker. It leases memory for its weights once, and for an input and an output
// in each request. It multiplies on the GPU and checks the product in double precision.
#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include <CLI/CLI.hpp>

#include "client/client.h"
#include "client/examples/matrix_product.h"
#include "client/tensor.h"
#include "common/clock.h"
#include "common/status_macros.h"

namespace tenure::examples {
namespace {

constexpr int64_t kInputs = 512;
constexpr int64_t kOutputs = 256;
constexpr double kLargestError = 1e-5;

// Returns the same values for the same seed on every machine. The C++ standard defines the output
// of mt19937, but not that of its distributions.
std::vector<float> RandomValues(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(random() >> 8) / static_cast<float>(1 << 23) - 1.0f;
  }
  return values;
}

// One worker with its weights.
//
// Thread safety: thread-confined.
class Worker {
 public:
  static absl::StatusOr<Worker> Make(Client client) {
    TENURE_ASSIGN_OR_RETURN(MatrixProduct product, MatrixProduct::Make(client));
    std::vector<float> weights = RandomValues(kInputs * kOutputs, /*seed=*/1);
    TENURE_ASSIGN_OR_RETURN(Tensor leased, Tensor::FromHost<float>(client, {kInputs, kOutputs},
                                                                   absl::MakeConstSpan(weights)));
    return Worker(std::move(client), std::move(product), std::move(weights), std::move(leased));
  }

  struct Answer {
    float first = 0;
    double error = 0;
    absl::Duration took;
  };

  // Serves one request: leases, uploads, multiplies, downloads, frees, checks.
  absl::StatusOr<Answer> Serve(uint32_t seed) {
    const std::vector<float> input = RandomValues(kInputs, seed);
    std::vector<float> output(kOutputs);
    const BootTime began = SystemClock().Now();
    const absl::Status served = Multiply(input, output);
    const absl::Duration took = SystemClock().Now() - began;
    if (!served.ok()) return served;
    const double error = RelativeError(input, weights_, output);
    // Not ">=": a product of NaN must fail as well.
    if (!(error < kLargestError)) {
      return absl::DataLossError(absl::StrFormat("the product is off by %.1e", error));
    }
    return Answer{output[0], error, took};
  }

  const std::string& where() const { return product_.where(); }
  const std::string& device_name() const { return client_.device().name(); }

 private:
  Worker(Client client, MatrixProduct product, std::vector<float> weights, Tensor leased)
      : client_(std::move(client)),
        product_(std::move(product)),
        weights_(std::move(weights)),
        leased_weights_(std::move(leased)) {}

  absl::Status Multiply(const std::vector<float>& input, std::vector<float>& output) {
    TENURE_ASSIGN_OR_RETURN(
        const Tensor x, Tensor::FromHost<float>(client_, {1, kInputs}, absl::MakeConstSpan(input)));
    TENURE_ASSIGN_OR_RETURN(Tensor y, Tensor::Create(client_, {1, kOutputs}, DType::kF32));
    TENURE_RETURN_IF_ERROR(product_.Run(x, leased_weights_, y));
    return y.CopyToHost<float>(absl::MakeSpan(output));
  }

  Client client_;
  MatrixProduct product_;
  std::vector<float> weights_;
  Tensor leased_weights_;
};

struct Options {
  std::string socket;
  uint64_t repeat = 1;
  bool forever = false;
};

void Print(uint64_t round, const Worker::Answer& answer) {
  std::cout << absl::StrFormat(
                   "inference_worker %d: request %u, y[0] = %+.6f, relative error %.1e, %.0f us",
                   getpid(), round, static_cast<double>(answer.first), answer.error,
                   absl::ToDoubleMicroseconds(answer.took))
            << std::endl;
}

absl::Status Run(const Options& options) {
  TENURE_ASSIGN_OR_RETURN(Client client,
                          Client::Connect({.socket = options.socket, .name = "inference_worker"}));
  TENURE_ASSIGN_OR_RETURN(Worker worker, Worker::Make(std::move(client)));
  std::cout << absl::StrFormat("inference_worker %d: f32[1,%d] x f32[%d,%d] on %s, %s", getpid(),
                               kInputs, kInputs, kOutputs, worker.device_name(), worker.where())
            << std::endl;
  // The first and the last request are printed, and between them one line a second.
  BootTime print_at;
  for (uint64_t round = 1; options.forever || round <= options.repeat; ++round) {
    TENURE_ASSIGN_OR_RETURN(const Worker::Answer answer,
                            worker.Serve(static_cast<uint32_t>(round) + 1));
    const bool last = !options.forever && round == options.repeat;
    const BootTime now = SystemClock().Now();
    if (!last && now < print_at) continue;
    print_at = now + absl::Seconds(1);
    Print(round, answer);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tenure::examples

int main(int argc, char** argv) {
  tenure::examples::Options options;
  CLI::App app{"Leases GPU memory from tenured and multiplies matrices in it.", "inference_worker"};
  app.add_option("--socket", options.socket, "The daemon's socket")->envname("TENURE_SOCKET");
  app.add_option("--repeat", options.repeat, "How many requests to serve")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000'000}))
      ->capture_default_str();
  app.add_flag("--forever", options.forever, "Serve until killed, and print one line each second");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = tenure::examples::Run(options);
  if (status.ok()) return 0;
  std::cerr << "inference_worker: " << status.message() << "\n";
  return 1;
}
