// Segments by tenurectl and weights_worker.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/integration/program_fixture.h"
#include "tests/integration/segment_fixture.h"
#include "tests/support/lease_client_process.h"

namespace tenure::testing {
namespace {

class SegmentProgramsTest : public ProgramTest {
 protected:
  SegmentProgramsTest() : ProgramTest({.flags = {"--keeper"}, .memory = "2GiB"}) {
    WriteSafetensors(file_, 9, 300'001);
  }

  // Runs tenurectl as a process of another user.
  Outcome AsUser(int uid, const std::string& arguments) {
    const std::string user = std::to_string(uid);
    return RunInShell("setpriv --reuid " + user + " --regid " + user + " --clear-groups " +
                      ProgramFolder() + "/tenurectl --socket " + daemon_.socket() + " " +
                      arguments + " 2>&1 </dev/null");
  }

  const std::string file_ = daemon_.folder() + "/w.safetensors";
};

TEST_F(SegmentProgramsTest, PublishSegmentsAttachAndUnpublishSayWhatTheyDo) {
  const Outcome published = Tenurectl("publish llama " + file_);
  EXPECT_EQ(published.exit_code, 0) << published.output;
  EXPECT_TRUE(published.Says("10.3 MiB in 1 block with 9 tensors")) << published.output;
  EXPECT_TRUE(published.Says("it outlives the daemon's process")) << published.output;

  const Json segment = Tenurectl("segments --json").json().at("segments").at(0);
  EXPECT_EQ(segment.at("name"), "llama");
  EXPECT_EQ(segment.at("state"), "PUBLISHED");
  EXPECT_EQ(segment.at("memory_kind"), "VMM_FD");
  EXPECT_EQ(segment.at("tensors"), 9);
  EXPECT_EQ(segment.at("survives_daemon"), true);
  EXPECT_EQ(segment.at("attached_session_ids").size(), 0u) << "the publisher has detached";
  EXPECT_TRUE(Tenurectl("segments").Says("llama"));

  const Outcome attached = Tenurectl("attach llama --check --json");
  EXPECT_EQ(attached.exit_code, 0) << attached.output;
  EXPECT_EQ(attached.json().at("digest"), segment.at("digest"));
  EXPECT_EQ(attached.json().at("size_bytes"), segment.at("size_bytes"));
  EXPECT_EQ(Tenurectl("attach llama --check").exit_code, 0);

  const Outcome taken = Complaint("publish llama " + file_);
  EXPECT_EQ(taken.exit_code, 1);
  EXPECT_TRUE(taken.Says("already published")) << taken.output;
  EXPECT_EQ(Tenurectl("unpublish llama").exit_code, 0);
  EXPECT_EQ(Tenurectl("unpublish llama").exit_code, 5);
  EXPECT_EQ(Tenurectl("attach llama").exit_code, 5);
  EXPECT_EQ(Tenurectl("segments --json").json().at("segments").size(), 0u);
}

TEST_F(SegmentProgramsTest, AnIndexPublishesTheTensorsOfAllItsFiles) {
  std::filesystem::copy(file_, daemon_.folder() + "/m-1.safetensors");
  std::filesystem::copy(file_, daemon_.folder() + "/m-2.safetensors");
  const std::string index = daemon_.folder() + "/m.safetensors.index.json";
  std::ofstream(index) << R"({"weight_map":{")"
                       << "layer.0"
                       << R"(":"m-1.safetensors",")"
                       << "layer.1"
                       << R"(":"m-2.safetensors"}})";
  const Outcome published = Tenurectl("publish model " + index);
  EXPECT_EQ(published.exit_code, 0) << published.output;
  EXPECT_TRUE(published.Says("with 2 tensors")) << published.output;
  EXPECT_EQ(Tenurectl("attach model --check").exit_code, 0);
}

TEST_F(SegmentProgramsTest, PublishRefusesWhatItCannotLoad) {
  EXPECT_EQ(Tenurectl("publish x /nonexistent").exit_code, 5);
  EXPECT_EQ(Tenurectl("publish x /dev/null").exit_code, 2);
  EXPECT_EQ(Tenurectl("publish 'a b' " + file_).exit_code, 2);
  EXPECT_EQ(Tenurectl("publish x " + file_ + " --kind other").exit_code, 2);
  EXPECT_EQ(Tenurectl("publish x " + file_ + " --share me").exit_code, 2);
  EXPECT_EQ(Tenurectl("segments --json").json().at("segments").size(), 0u);
  EXPECT_EQ(daemon_.GetStats().active_allocations(), 0u);
}

TEST_F(SegmentProgramsTest, APlainFileAndCudaIpcArePublishedToo) {
  const std::string plain = daemon_.folder() + "/plain.bin";
  std::ofstream(plain) << "not a multiple of anything";
  const Outcome published = Tenurectl("publish plain " + plain + " --kind ipc --json");
  EXPECT_EQ(published.exit_code, 0) << published.output;
  EXPECT_EQ(published.json().at("memory_kind"), "CUDA_IPC");
  EXPECT_EQ(published.json().at("size_bytes"), 26);
  EXPECT_EQ(published.json().at("survives_daemon"), false);
  EXPECT_EQ(Tenurectl("attach plain --check").exit_code, 0);
}

TEST_F(SegmentProgramsTest, ChangedContentsAreExitCodeOne) {
  ASSERT_EQ(Tenurectl("publish ipc " + file_ + " --kind ipc").exit_code, 0);
  {
    absl::StatusOr<Client> client = Client::Connect({.socket = daemon_.socket()});
    ASSERT_TRUE(client.ok()) << client.status();
    const absl::StatusOr<Segment> segment = client->Attach("ipc");
    ASSERT_TRUE(segment.ok()) << segment.status();
    ASSERT_TRUE(client->device()
                    .CopyToDevice(segment->blocks()[0].pointer + 1'000'000, "changed", Bytes(7))
                    .ok());
  }
  const Outcome attached = Complaint("attach ipc --check");
  EXPECT_EQ(attached.exit_code, 1);
  EXPECT_TRUE(attached.Says("digest")) << attached.output;
  EXPECT_EQ(Tenurectl("attach ipc").exit_code, 0) << "the contents were not to be checked";
}

TEST_F(SegmentProgramsTest, TheFirstOfFourWorkersLoads) {
  std::vector<std::future<Outcome>> workers;
  for (int i = 0; i < 4; ++i) {
    workers.push_back(std::async(std::launch::async, [&] {
      return Run("weights_worker", "llama " + file_ + " --verify --repeat 3");
    }));
  }
  int loaded = 0;
  for (std::future<Outcome>& worker : workers) {
    const Outcome outcome = worker.get();
    EXPECT_EQ(outcome.exit_code, 0);
    loaded += outcome.Says("loaded 'llama'");
  }
  EXPECT_EQ(loaded, 1);
}

TEST_F(SegmentProgramsTest, WorkersDieAndTheSegmentStaysUntilItIsTakenBack) {
  const std::vector<std::string> words = {"--socket", daemon_.socket(), "llama", file_, "--hold"};
  LeaseClientProcess first(words, "weights_worker");
  ASSERT_NE(first.ReadLine().find("loaded"), std::string::npos);
  LeaseClientProcess second(words, "weights_worker");
  ASSERT_NE(second.ReadLine().find("attached"), std::string::npos);
  first.Kill();
  EXPECT_EQ(Tenurectl("attach llama --check").exit_code, 0);
  ASSERT_TRUE(Eventually([&] {
    return Tenurectl("segments --json")
               .json()
               .at("segments")
               .at(0)
               .at("attached_session_ids")
               .size() == 1;
  }));
  const Outcome refused = Complaint("unpublish llama");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(refused.Says("--force")) << refused.output;
  EXPECT_EQ(Tenurectl("unpublish llama --force").exit_code, 0);
  second.Kill();
}

TEST_F(SegmentProgramsTest, OthersAttachOnlyWhatIsSharedWithThem) {
  if (geteuid() != 0) GTEST_SKIP() << "becoming another user needs root";
  const char* const device = std::getenv("TENURE_EMULATED_DIR");
  ASSERT_EQ(chmod(daemon_.folder().c_str(), 0755), 0);
  ASSERT_TRUE(device == nullptr || chmod(device, 0777) == 0);
  for (const char* socket : {"/grpc.sock", "/fd.sock"}) {
    ASSERT_EQ(chmod((daemon_.folder() + socket).c_str(), 0666), 0);
  }
  ASSERT_EQ(Tenurectl("publish shared " + file_ + " --share 54321").exit_code, 0);
  const Outcome friendly = AsUser(54321, "attach shared --owner 0 --check");
  EXPECT_EQ(friendly.exit_code, 0) << friendly.output;
  EXPECT_EQ(AsUser(54321, "attach shared").exit_code, 5) << "its own user has none";
  EXPECT_TRUE(AsUser(54321, "segments").Says("shared"));
  EXPECT_EQ(AsUser(54321, "unpublish shared --owner 0").exit_code, 6);
  const Outcome stranger = AsUser(54322, "attach shared --owner 0 --check");
  EXPECT_EQ(stranger.exit_code, 5) << stranger.output;
  EXPECT_FALSE(AsUser(54322, "segments").Says("shared"));
  // Each user has names of its own, and root may end them.
  EXPECT_EQ(AsUser(54322, "publish shared /etc/passwd").exit_code, 0);
  EXPECT_EQ(Tenurectl("unpublish shared --owner 54322").exit_code, 0);
  EXPECT_EQ(Tenurectl("attach shared --check").exit_code, 0);
}

}  // namespace
}  // namespace tenure::testing
