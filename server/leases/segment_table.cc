#include "server/leases/segment_table.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"

namespace tenure::server {
namespace {

absl::Status TooManyAttachments() {
  return absl::ResourceExhaustedError(
      absl::StrCat("the daemon has ", kMaxSlots, " attachments, which is as many as it can"));
}

}  // namespace

absl::Status SegmentTable::CheckPublish(const SegmentKey& key, SessionId session) const {
  if (segments_.contains(key)) {
    return absl::AlreadyExistsError(
        absl::StrCat("segment '", key.name, "' of uid:", key.owner,
                     " is published already; attach it, or unpublish it first"));
  }
  const auto claim = claims_.find(key);
  if (claim != claims_.end()) {
    // A claimed name is counted and admitted already; the limits below were checked for the claim.
    if (claim->second == session) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("another session is loading segment '", key.name, "' of uid:", key.owner,
                     "; wait until it is published and attach it"));
  }
  // A publication attaches its publisher.
  if (attachments_.size() == kMaxSlots) return TooManyAttachments();
  const auto names = names_.find(key.owner);
  if (names != names_.end() && names->second >= kMostPerTenant) {
    return absl::ResourceExhaustedError(
        absl::StrCat("uid:", key.owner, " has ", names->second,
                     " segments, which is as many as one tenant may have; unpublish some "
                     "(`tenurectl segments`)"));
  }
  return absl::OkStatus();
}

void SegmentTable::Publish(const SegmentKey& key, Segment segment) {
  // The claim, if there is one, counted the name; the segment counts it from now on.
  const auto claim = claims_.find(key);
  if (claim != claims_.end()) EndClaimOf(claim);
  CountName(key.owner);
  region_bytes_ += segment.region_bytes();
  const auto [place, added] = segments_.emplace(key, std::move(segment));
  TENURE_CHECK(added && place->second.attachments.empty());
}

absl::StatusOr<std::vector<SegmentBlock>> SegmentTable::Unpublish(const SegmentKey& key) {
  const auto found = segments_.find(key);
  if (found == segments_.end()) {
    return absl::NotFoundError(absl::StrCat("uid:", key.owner, " has published no segment '",
                                            key.name, "'; `tenurectl segments` lists them"));
  }
  if (!found->second.attachments.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "segment '", key.name, "' is attached ", found->second.attachments.size(),
        " times; wait until those sessions are done (`tenurectl segments`), or use --force: "
        "processes "
        "that map it can still read it, and its memory comes back when the last of them ends"));
  }
  region_bytes_ -= found->second.region_bytes();
  std::vector<SegmentBlock> blocks = std::move(found->second.blocks);
  segments_.erase(found);
  UncountName(key.owner);
  return blocks;
}

const Segment* SegmentTable::Find(const SegmentKey& key, Tenant tenant) const {
  const auto found = segments_.find(key);
  if (found == segments_.end()) return nullptr;
  return MayAttach(tenant, key, found->second.notes->allowed) ? &found->second : nullptr;
}

bool SegmentTable::Claim(const SegmentKey& key, SessionId session) {
  const auto [place, added] = claims_.emplace(key, session);
  // A session that claims the name again keeps its claim, which is counted already.
  if (added) {
    CountName(key.owner);
    by_session_[session].claims.insert(key);
  }
  return place->second == session;
}

bool SegmentTable::EndClaim(const SegmentKey& key, SessionId session) {
  const auto found = claims_.find(key);
  if (found == claims_.end() || found->second != session) return false;
  EndClaimOf(found);
  return true;
}

void SegmentTable::EndClaimOf(std::map<SegmentKey, SessionId>::iterator claim) {
  const auto& [key, session] = *claim;
  by_session_.at(session).claims.erase(key);
  DropIfEmpty(session);
  UncountName(key.owner);
  claims_.erase(claim);
}

void SegmentTable::DropIfEmpty(SessionId session) {
  const auto of_session = by_session_.find(session);
  if (of_session->second.empty()) by_session_.erase(of_session);
}

absl::StatusOr<AttachmentId> SegmentTable::Attach(const SegmentKey& key, SessionId session) {
  const std::optional<AttachmentId> id = attachments_.Insert(Attachment{session, key});
  if (!id) return TooManyAttachments();
  IndexAttachment(*id, key, session);
  return *id;
}

void SegmentTable::RestoreAttachment(AttachmentId id, const SegmentKey& key, SessionId session) {
  attachments_.Restore(id, Attachment{session, key});
  IndexAttachment(id, key, session);
}

void SegmentTable::IndexAttachment(AttachmentId id, const SegmentKey& key, SessionId session) {
  segments_.at(key).attachments.insert(id);
  by_session_[session].attachments.insert(id);
}

const Attachment* SegmentTable::FindAttachment(AttachmentId id, SessionId session) const {
  const Attachment* const found = attachments_.Find(id);
  return found != nullptr && found->session == session ? found : nullptr;
}

void SegmentTable::Detach(AttachmentId id) {
  const Attachment attachment = attachments_.Take(id);
  // The segment stays without attachments: it is published until its owner unpublishes it.
  segments_.at(attachment.segment).attachments.erase(id);
  by_session_.at(attachment.session).attachments.erase(id);
  DropIfEmpty(attachment.session);
}

const SegmentTable::Holdings* SegmentTable::HoldingsOf(SessionId session) const {
  const auto of_session = by_session_.find(session);
  return of_session == by_session_.end() ? nullptr : &of_session->second;
}

std::vector<SegmentBlock> SegmentTable::TakeAll() {
  TENURE_CHECK(attachments_.size() == 0);
  std::vector<SegmentBlock> all;
  for (auto& [key, segment] : segments_) {
    for (SegmentBlock& block : segment.blocks) all.push_back(std::move(block));
  }
  segments_.clear();
  region_bytes_ = Bytes(0);
  names_.clear();
  return all;
}

void SegmentTable::CheckInvariants() const {
  size_t attached = 0;
  attachments_.ForEach([&](AttachmentId id, const Attachment& one) {
    TENURE_CHECK(segments_.at(one.segment).attachments.contains(id));
    TENURE_CHECK(by_session_.at(one.session).attachments.contains(id));
    return true;
  });
  absl::flat_hash_map<uid_t, size_t> names;
  Bytes region_bytes;
  for (const auto& [key, segment] : segments_) {
    TENURE_CHECK(!claims_.contains(key));
    attached += segment.attachments.size();
    ++names[key.owner];
    region_bytes += segment.region_bytes();
  }
  TENURE_CHECK(region_bytes == region_bytes_);
  for (const auto& [key, session] : claims_) {
    ++names[key.owner];
    TENURE_CHECK(by_session_.at(session).claims.contains(key));
  }
  TENURE_CHECK(names == names_);
  TENURE_CHECK(attached == attachments_.size());
  size_t held = 0;
  for (const auto& [session, holdings] : by_session_) {
    TENURE_CHECK(!holdings.empty());
    held += holdings.attachments.size() + holdings.claims.size();
  }
  TENURE_CHECK(held == attachments_.size() + claims_.size());
}

void SegmentTable::CountName(uid_t owner) { ++names_[owner]; }

void SegmentTable::UncountName(uid_t owner) {
  // An entry that stays with 0 would be memory that only grows, one entry for each user.
  const auto names = names_.find(owner);
  if (--names->second == 0) names_.erase(names);
}

}  // namespace tenure::server
