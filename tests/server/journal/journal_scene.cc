#include "tests/server/journal/journal_scene.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

#include "common/check.h"

namespace tenure::server {
namespace {

constexpr uint64_t kRegionBytes = 2 << 20;
constexpr uint64_t kBlockBytes = 1024;

}  // namespace

journal::Opening OpeningOfLife(uint32_t epoch) {
  journal::Opening opening;
  opening.set_format(kJournalFormat);
  opening.set_daemon_version("0.1.0");
  opening.set_boot_id("6d0f2d3c-7a3e-4a53-9a0c-0c7a6d2b1f55");
  opening.set_device_uuid("GPU-00000000-1111-2222-3333-444444444444");
  opening.set_epoch(epoch);
  return opening;
}

journal::Record Opened(const journal::Opening& opening) {
  journal::Record record;
  *record.mutable_opening() = opening;
  return record;
}

journal::Record SessionOpened(uint64_t session) {
  journal::Record record;
  journal::SessionOpened& opened = *record.mutable_session_opened();
  opened.set_session_id(session);
  opened.set_open_request_id(session + 1000);
  opened.set_pid(static_cast<int32_t>(session % 30000) + 1);
  opened.set_start_time(session * 7);
  opened.set_uid(1000);
  opened.set_gid(1001);
  opened.set_name(absl::StrCat("worker-", session));
  return record;
}

journal::Record SessionEnded(uint64_t session) {
  journal::Record record;
  record.mutable_session_ended()->set_session_id(session);
  return record;
}

journal::Record Granted(uint64_t session, uint64_t allocation, uint64_t request, uint64_t region,
                        uint64_t offset) {
  journal::Record record;
  journal::BlockGranted& block = *record.mutable_block_granted();
  block.set_session_id(session);
  block.set_allocation_id(allocation);
  block.set_request_id(request);
  block.set_region_id(region);
  block.set_region_bytes(kRegionBytes);
  block.set_offset_bytes(offset);
  block.set_size_bytes(kBlockBytes);
  block.set_requested_bytes(kBlockBytes - 24);
  return record;
}

journal::Record Freed(uint64_t session, uint64_t allocation, uint64_t request) {
  journal::Record record;
  record.mutable_block_freed()->set_session_id(session);
  record.mutable_block_freed()->set_allocation_id(allocation);
  record.mutable_block_freed()->set_request_id(request);
  return record;
}

journal::Record Claimed(const std::string& name, uint32_t uid, uint64_t session) {
  journal::Record record;
  record.mutable_segment_claimed()->set_name(name);
  record.mutable_segment_claimed()->set_uid(uid);
  record.mutable_segment_claimed()->set_session_id(session);
  return record;
}

journal::Record ClaimEnded(const std::string& name, uint32_t uid) {
  journal::Record record;
  record.mutable_segment_claim_ended()->set_name(name);
  record.mutable_segment_claim_ended()->set_uid(uid);
  return record;
}

journal::Record Published(const std::string& name, uint32_t uid, uint64_t session,
                          uint64_t allocation, uint64_t region) {
  journal::Record record;
  journal::SegmentPublished& published = *record.mutable_segment_published();
  published.set_session_id(session);
  published.add_allocation_ids(allocation);
  journal::Segment& segment = *published.mutable_segment();
  segment.set_name(name);
  segment.set_uid(uid);
  segment.add_allowed_uids(1002);
  segment.set_digest(std::string("\0\1\2\xff", 4));
  journal::Segment::Block& block = *segment.add_blocks();
  block.set_region_id(region);
  block.set_region_bytes(kRegionBytes);
  block.set_size_bytes(kBlockBytes);
  journal::Segment::Tensor& tensor = *segment.add_tensors();
  tensor.set_name("layers.0.weight");
  tensor.set_dtype("BF16");
  tensor.add_shape(16);
  tensor.add_shape(8);
  tensor.set_offset_bytes(256);
  tensor.set_size_bytes(256);
  return record;
}

journal::Record Unpublished(const std::string& name, uint32_t uid) {
  journal::Record record;
  record.mutable_segment_unpublished()->set_name(name);
  record.mutable_segment_unpublished()->set_uid(uid);
  return record;
}

journal::Record Attached(const std::string& name, uint32_t uid, uint64_t session,
                         uint64_t attachment) {
  journal::Record record;
  journal::SegmentAttached& attached = *record.mutable_segment_attached();
  attached.set_name(name);
  attached.set_uid(uid);
  attached.set_session_id(session);
  attached.set_attachment_id(attachment);
  attached.set_request_id(attachment + 5000);
  return record;
}

journal::Record Detached(uint64_t session, uint64_t attachment) {
  journal::Record record;
  record.mutable_segment_detached()->set_session_id(session);
  record.mutable_segment_detached()->set_attachment_id(attachment);
  return record;
}

std::vector<journal::Record> EveryKind() {
  journal::Record remembered;
  remembered.mutable_requests_remembered()->set_session_id(2);
  journal::RequestsRemembered::Request& one =
      *remembered.mutable_requests_remembered()->add_requests();
  one.set_request_id(901);
  one.set_id(61);
  one.set_freed(true);
  return {Opened(OpeningOfLife(7)),
          SessionOpened(1),
          SessionOpened(2),
          Granted(1, 10, 100, 70, 0),
          Granted(1, 11, 101, 71, 0),
          Granted(1, 12, 102, 71, 1024),
          Granted(2, 20, 100, 72, 4096),
          remembered,
          Freed(1, 11, 103),
          Claimed("llama", 1000, 1),
          Claimed("qwen", 1000, 2),
          Published("llama", 1000, 1, 10, 70),
          Attached("llama", 1000, 2, 40),
          Attached("llama", 1000, 1, 41),
          ClaimEnded("qwen", 1000),
          Claimed("qwen", 1001, 2),
          Detached(1, 41),
          Unpublished("llama", 1000),
          Opened(OpeningOfLife(8)),
          Granted(1, 13, 104, 73, 0),
          Published("llama", 1000, 1, 13, 73),
          SessionOpened(3),
          Granted(3, 30, 100, 74, 512),
          SessionEnded(3)};
}

std::string Print(const JournalState& state) {
  std::string all;
  const absl::Status printed = state.ForEachRecord([&all](const journal::Record& record) {
    absl::StrAppend(&all, record.ShortDebugString(), "\n");
    return absl::OkStatus();
  });
  TENURE_CHECK(printed.ok());
  return all;
}

std::vector<std::string> PrintsOfPrefixes(const std::vector<journal::Record>& records) {
  JournalState state;
  std::vector<std::string> prints = {Print(state)};
  for (const journal::Record& record : records) {
    TENURE_CHECK(state.Apply(record).ok());
    prints.push_back(Print(state));
  }
  return prints;
}

void PutFile(const std::string& path, const std::string& bytes) {
  using std::filesystem::perms;
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
  std::filesystem::permissions(path, perms::owner_read | perms::owner_write);
}

std::string FileOf(const std::vector<journal::Record>& records) {
  std::string file(kJournalMagic);
  for (size_t i = 0; i < records.size(); ++i) {
    TENURE_CHECK(AppendFrame(i + 1, records[i], file).ok());
  }
  return file;
}

std::vector<size_t> EndsIn(const std::vector<journal::Record>& records) {
  std::vector<size_t> ends = {kJournalMagic.size()};
  for (const journal::Record& record : records) {
    ends.push_back(ends.back() + kFrameHeaderBytes + record.ByteSizeLong());
  }
  return ends;
}

journal::Record History::Next() {
  if (!open_) {
    open_ = true;
    return Opened(OpeningOfLife(1));
  }
  const uint64_t way = Pick(100);
  if (sessions_.empty() || (way < 8 && sessions_.size() < 20)) {
    sessions_.push_back(++last_id_);
    return SessionOpened(last_id_);
  }
  if (way < 12) {
    const auto ended = sessions_.begin() + static_cast<ptrdiff_t>(Pick(sessions_.size()));
    const uint64_t session = *ended;
    sessions_.erase(ended);
    std::erase_if(blocks_, [session](const Block& block) { return block.session == session; });
    return SessionEnded(session);
  }
  if (way < 16 && !segments_.empty()) {
    const std::string name = segments_.back();
    segments_.pop_back();
    return Unpublished(name, 1000);
  }
  if (way < 24 && !segments_.empty()) {
    return Attached(segments_[Pick(segments_.size())], 1000, sessions_[Pick(sessions_.size())],
                    ++last_id_);
  }
  return NextOfBlocks();
}

journal::Record History::NextOfBlocks() {
  const uint64_t way = Pick(100);
  if (way < 50 || blocks_.empty()) {
    const uint64_t session = sessions_[Pick(sessions_.size())];
    const uint64_t id = ++last_id_;
    blocks_.push_back({session, id, id});
    return Granted(session, id, id, id, 0);
  }
  const auto chosen = blocks_.begin() + static_cast<ptrdiff_t>(Pick(blocks_.size()));
  const Block block = *chosen;
  blocks_.erase(chosen);
  if (way < 60) {
    segments_.push_back(absl::StrCat("segment-", ++last_id_));
    return Published(segments_.back(), 1000, block.session, block.allocation, block.region);
  }
  return Freed(block.session, block.allocation, ++last_id_);
}

}  // namespace tenure::server
