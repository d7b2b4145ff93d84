// Memory of kind VMM_FD: the processes that get the descriptor, and the promise of --isolation.

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "client/session/deadline.h"
#include "client/session/socket_probe.h"
#include "client/session/ticket_exchange.h"
#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/socket_path.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

Deadline Soon() { return Deadline::After(absl::Seconds(20)); }

class VmmTest : public ::testing::Test {
 protected:
  explicit VmmTest(std::vector<std::string> flags = {})
      : daemon_(TestDaemon::Options{.flags = std::move(flags)}) {}

  v1::Token Allocate(uint64_t bytes) {
    v1::AllocateRequest request = session_.Request(bytes);
    request.set_memory_kind(v1::MEMORY_KIND_VMM_FD);
    v1::Token token;
    const grpc::Status status = session_.Send(request, &token);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return token;
  }

  grpc::Status AskTicket(uint64_t session, uint64_t allocation, std::string* ticket = nullptr) {
    v1::RequestRegionFdRequest request;
    request.set_session_id(session);
    request.set_allocation_id(allocation);
    v1::RequestRegionFdResponse response;
    grpc::ClientContext context;
    grpc::Status status = daemon_.allocator().RequestRegionFd(&context, request, &response);
    if (ticket != nullptr) *ticket = response.ticket();
    return status;
  }

  absl::StatusOr<UniqueFd> Exchange(const std::string& ticket) {
    return ExchangeTicket(FdSocketPath(daemon_.socket()), ticket, Soon());
  }

  UniqueFd FdOf(const v1::Token& token) {
    std::string ticket;
    EXPECT_TRUE(AskTicket(session_.id(), token.allocation_id(), &ticket).ok());
    absl::StatusOr<UniqueFd> fd = Exchange(ticket);
    EXPECT_TRUE(fd.ok()) << fd.status();
    return fd.ok() ? *std::move(fd) : UniqueFd();
  }

  cuda::Device& device() {
    if (device_ == nullptr) {
      driver_ = *cuda::Driver::Load(*cuda::ResolveDriver(OnRealDevice() ? "cuda" : "emulated"));
      device_ = *cuda::Device::Open(*driver_, "0");
    }
    return *device_;
  }

  TestDaemon daemon_;
  RawSession session_{daemon_.allocator()};
  std::unique_ptr<cuda::Driver> driver_;
  std::unique_ptr<cuda::Device> device_;
};

TEST_F(VmmTest, ABlockIsMappedByADescriptorAndIsZero) {
  const v1::Token token = Allocate(MiB(3).value());
  EXPECT_EQ(token.memory_kind(), v1::MEMORY_KIND_VMM_FD);
  EXPECT_EQ(token.ipc_handle(), "");
  const UniqueFd fd = FdOf(token);
  const Bytes size(token.region_size_bytes());
  const absl::StatusOr<cuda::VmmMemory> memory =
      device().ImportVmm(fd.get(), size, cuda::VmmAccess::kReadWrite);
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::vector<char> bytes(size.value(), 1);
  ASSERT_TRUE(device().CopyToHost(bytes.data(), memory->base, size).ok());
  EXPECT_EQ(bytes, std::vector<char>(size.value(), 0));
  ASSERT_TRUE(device().CopyToDevice(memory->base, "written", Bytes(7)).ok());
  // A second mapping shows the same memory.
  const UniqueFd again = FdOf(token);
  const absl::StatusOr<cuda::VmmMemory> read_only =
      device().ImportVmm(again.get(), size, cuda::VmmAccess::kRead);
  ASSERT_TRUE(read_only.ok()) << read_only.status();
  ASSERT_TRUE(device().CopyToHost(bytes.data(), read_only->base, Bytes(7)).ok());
  EXPECT_EQ(std::string(bytes.data(), 7), "written");
  EXPECT_FALSE(device().CopyToDevice(read_only->base, "x", Bytes(1)).ok());
  EXPECT_TRUE(device().ReleaseVmm(*read_only).ok());
  EXPECT_TRUE(device().ReleaseVmm(*memory).ok());
}

TEST_F(VmmTest, ATicketIsGoodOnceAndForItsOwnProcessOnly) {
  const v1::Token token = Allocate(MiB(2).value());
  std::string ticket;
  ASSERT_TRUE(AskTicket(session_.id(), token.allocation_id(), &ticket).ok());
  const pid_t thief = fork();
  ASSERT_GE(thief, 0);
  if (thief == 0) _exit(absl::IsNotFound(Exchange(ticket).status()) ? 0 : 1);
  EXPECT_EQ(WaitForExit(thief), 0) << "another process's ticket was taken";
  EXPECT_TRUE(Exchange(ticket).ok());
  EXPECT_TRUE(absl::IsNotFound(Exchange(ticket).status())) << "used twice";
  EXPECT_TRUE(absl::IsNotFound(Exchange(std::string(16, 'x')).status()));
  EXPECT_TRUE(absl::IsNotFound(Exchange("x").status()));
}

TEST_F(VmmTest, ATicketForAFreedAllocationIsRefused) {
  const v1::Token token = Allocate(MiB(2).value());
  std::string ticket;
  ASSERT_TRUE(AskTicket(session_.id(), token.allocation_id(), &ticket).ok());
  ASSERT_TRUE(session_.Free(token.allocation_id()).ok());
  EXPECT_TRUE(absl::IsNotFound(Exchange(ticket).status()));
  EXPECT_EQ(AskTicket(session_.id(), token.allocation_id()).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(VmmTest, ForeignAndOtherKindsAllocationsHaveNoTicket) {
  v1::AllocateRequest request = session_.Request(MiB(2).value());
  request.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
  v1::Token ipc;
  ASSERT_TRUE(session_.Send(request, &ipc).ok());
  EXPECT_EQ(ipc.ipc_handle().size(), 64u);
  EXPECT_EQ(AskTicket(session_.id(), ipc.allocation_id()).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  const v1::Token token = Allocate(MiB(2).value());
  RawSession other(daemon_.allocator());
  EXPECT_EQ(AskTicket(other.id(), token.allocation_id()).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(AskTicket(12345, token.allocation_id()).error_code(), grpc::StatusCode::NOT_FOUND)
      << "no life has epoch 0";
}

TEST_F(VmmTest, SilenceAndGarbageOnTheFdSocketHarmNoOtherClient) {
  const v1::Token token = Allocate(MiB(2).value());
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 100; ++i) {
    silent.emplace_back(ConnectOnce(FdSocketPath(daemon_.socket())));
    ASSERT_TRUE(silent.back());
  }
  EXPECT_FALSE(Exchange(std::string(100'000, 'x')).ok());
  EXPECT_TRUE(FdOf(token));
}

class StrictIsolationTest : public VmmTest {
 protected:
  StrictIsolationTest() : VmmTest({"--isolation", "strict"}) {}
};

TEST_F(StrictIsolationTest, OnlyDescriptorsAreGranted) {
  v1::Token token;
  ASSERT_TRUE(session_.Allocate(MiB(2).value(), &token).ok());
  EXPECT_EQ(token.memory_kind(), v1::MEMORY_KIND_VMM_FD);
  EXPECT_TRUE(FdOf(token));
  v1::AllocateRequest request = session_.Request(100);
  request.set_memory_kind(v1::MEMORY_KIND_CUDA_IPC);
  const grpc::Status refused = session_.Send(request);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(refused.error_message().find("--isolation strict"), std::string::npos)
      << refused.error_message();
}

// The attempts of a process of another user that knows everything: the socket, the session, the
// allocation, the region, its size, the ticket.
TEST_F(StrictIsolationTest, AnotherUserWithEverythingButTheDescriptorGetsNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  const v1::Token token = Allocate(MiB(2).value());
  std::string ticket;
  ASSERT_TRUE(AskTicket(session_.id(), token.allocation_id(), &ticket).ok());
  ASSERT_EQ(chmod(daemon_.folder().c_str(), 0755), 0);
  ASSERT_EQ(chmod(FdSocketPath(daemon_.socket()).c_str(), 0666), 0);
  const pid_t stranger = fork();
  ASSERT_GE(stranger, 0);
  if (stranger == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
    _exit(absl::IsNotFound(Exchange(ticket).status()) ? 0 : 1);
  }
  EXPECT_EQ(WaitForExit(stranger), 0);
  EXPECT_TRUE(Exchange(ticket).ok()) << "the owner's right is untouched";
}

}  // namespace
}  // namespace tenure::testing
