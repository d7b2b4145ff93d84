#include "server/leases/segment_table.h"

#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

constexpr SessionId kLoader = 1;
constexpr SessionId kReader = 2;
const SegmentKey kKey{1000, "weights"};
constexpr Tenant kOwner{1000};
constexpr Tenant kFriend{1001};
constexpr Tenant kStranger{1002};

class SegmentTableTest : public ::testing::Test {
 protected:
  ~SegmentTableTest() override { table_.CheckInvariants(); }

  void Publish() {
    ASSERT_TRUE(table_.CheckPublish(kKey, kLoader).ok());
    Segment segment;
    SegmentNotes notes;
    notes.allowed = {kFriend.uid};
    segment.notes = std::make_shared<const SegmentNotes>(std::move(notes));
    table_.Publish(kKey, std::move(segment));
    table_.CheckInvariants();
  }

  SegmentTable table_{7};
};

TEST_F(SegmentTableTest, ASegmentIsSeenByItsOwnerAndWhomItAllows) {
  EXPECT_EQ(table_.Find(kKey, kOwner), nullptr);
  Publish();
  EXPECT_NE(table_.Find(kKey, kOwner), nullptr);
  EXPECT_NE(table_.Find(kKey, kFriend), nullptr);
  EXPECT_EQ(table_.Find(kKey, kStranger), nullptr);
  EXPECT_TRUE(absl::IsAlreadyExists(table_.CheckPublish(kKey, kLoader)));
  EXPECT_TRUE(table_.CheckPublish({1001, "weights"}, kLoader).ok()) << "another user's name";
}

TEST_F(SegmentTableTest, AnAttachedSegmentStays) {
  Publish();
  const AttachmentId first = *table_.Attach(kKey, kLoader);
  const AttachmentId second = *table_.Attach(kKey, kReader);
  EXPECT_NE(first, second);
  EXPECT_TRUE(absl::IsFailedPrecondition(table_.Unpublish(kKey).status()));
  EXPECT_EQ(table_.FindAttachment(first, kReader), nullptr) << "another session's";
  table_.Detach(first);
  EXPECT_EQ(table_.FindAttachment(first, kLoader), nullptr);
  EXPECT_TRUE(absl::IsFailedPrecondition(table_.Unpublish(kKey).status()));
  table_.Detach(second);
  EXPECT_TRUE(table_.Unpublish(kKey).ok());
  EXPECT_TRUE(absl::IsNotFound(table_.Unpublish(kKey).status()));
}

TEST_F(SegmentTableTest, OneSessionAtATimeLoads) {
  EXPECT_TRUE(table_.Claim(kKey, kLoader));
  EXPECT_TRUE(table_.Claim(kKey, kLoader)) << "repeated";
  EXPECT_FALSE(table_.Claim(kKey, kReader));
  EXPECT_TRUE(absl::IsFailedPrecondition(table_.CheckPublish(kKey, kReader)));
  EXPECT_FALSE(table_.EndClaim(kKey, kReader)) << "another session's";
  EXPECT_EQ(table_.HoldingsOf(kLoader)->claims.size(), 1u);
  EXPECT_TRUE(table_.EndClaim(kKey, kLoader));
  EXPECT_TRUE(table_.Claim(kKey, kReader));
  table_.CheckInvariants();
  EXPECT_TRUE(table_.EndClaim(kKey, kReader));
  Publish();
  EXPECT_TRUE(table_.claims().empty());
}

TEST_F(SegmentTableTest, ATenantHasOnlySoManyNames) {
  for (size_t i = 0; i < SegmentTable::kMostPerTenant; ++i) {
    ASSERT_TRUE(table_.Claim({1000, std::to_string(i)}, kLoader));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(table_.CheckPublish(kKey, kLoader)));
  EXPECT_TRUE(table_.CheckPublish({1001, "weights"}, kLoader).ok());
}

}  // namespace
}  // namespace tenure::server
