// Which of a process's files a forked child gives up.

#include "client/session/device_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tenure {
namespace {

class DeviceFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  ~DeviceFilesTest() override { std::filesystem::remove_all(folder_); }

  UniqueFd Open(const std::string& name) const {
    return UniqueFd(open((folder_ + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  static std::string PathOf(const UniqueFd& file) {
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(file.get()));
  }

  std::string folder_;
};

TEST_F(DeviceFilesTest, AUsersOwnFilesStayWhateverTheirNames) {
  const UniqueFd log = Open("nvidia_train.log");
  const UniqueFd other = Open("nvidia-processes");
  ReleaseDeviceFiles();
  EXPECT_EQ(PathOf(log), folder_ + "/nvidia_train.log");
  EXPECT_EQ(PathOf(other), folder_ + "/nvidia-processes");
}

TEST_F(DeviceFilesTest, TheFileOfAnEmulatedCardIsGivenUp) {
  const UniqueFd card = Open("card-3");
  const UniqueFd processes = Open("nvidia-processes");
  ReleaseDeviceFiles();
  EXPECT_EQ(PathOf(processes), "/dev/null");
  EXPECT_EQ(PathOf(card), folder_ + "/card-3");
}

TEST_F(DeviceFilesTest, ADeviceOfTheDriverIsGivenUp) {
  const std::string path = folder_ + "/nvidia0";
  // The device is that of /dev/zero; the driver's need not be here.
  if (mknod(path.c_str(), S_IFCHR | 0600, makedev(1, 5)) != 0) {
    GTEST_SKIP() << "only root can make a device file";
  }
  const UniqueFd device(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!device) GTEST_SKIP() << "device files do not work in this folder";
  ReleaseDeviceFiles();
  EXPECT_EQ(PathOf(device), "/dev/null");
}

}  // namespace
}  // namespace tenure
