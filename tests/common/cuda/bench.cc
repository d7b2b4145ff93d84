#include "tests/common/cuda/bench.h"

#include <filesystem>
#include <memory>

#include "gtest/gtest.h"

#include "common/check.h"
#include "common/cuda/driver_path.h"
#include "tests/support/emulated_card.h"

namespace tenure::testing {
namespace {

std::unique_ptr<EmulatedCard> card;

class CardEnvironment : public ::testing::Environment {
 public:
  void SetUp() override { card = std::make_unique<EmulatedCard>("1GiB", 2); }
  void TearDown() override { card.reset(); }
};

}  // namespace

const std::string& DriverPath() {
  static const std::string* const path = new std::string(cuda::ResolveDriver("emulated").value());
  return *path;
}

const cuda::Driver& TestDriver() {
  TENURE_CHECK(card != nullptr);
  static const cuda::Driver* const driver = cuda::Driver::Load(DriverPath()).value().release();
  return *driver;
}

const std::string& CardFolder() { return card->folder(); }

std::string BesideProgram(const std::string& file) {
  return std::filesystem::read_symlink("/proc/self/exe").replace_filename(file);
}

}  // namespace tenure::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::AddGlobalTestEnvironment(new tenure::testing::CardEnvironment);
  return RUN_ALL_TESTS();
}
