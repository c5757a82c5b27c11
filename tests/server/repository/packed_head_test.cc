#include "server/repository/packed_head.h"

#include <memory>
#include <string>
#include <vector>

#include "server/base/uuid.h"
#include "server/ipld/cid.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::repository {
namespace {

bool Same(const Head& a, const Head& b) {
  return a.stream == b.stream && a.version == b.version && a.last_sequence == b.last_sequence &&
         a.sequence == b.sequence && a.pointers == b.pointers && a.commit_id == b.commit_id &&
         a.recorded_time == b.recorded_time && a.cid == b.cid && a.labels == b.labels && a.deleted == b.deleted &&
         a.torn_commit_id == b.torn_commit_id && a.foreign_tail == b.foreign_tail;
}

Head AnyHead() {
  Head head;
  if (*rc::gen::arbitrary<bool>()) head.stream = std::make_shared<const jetstream::Stream>();
  head.version = *rc::gen::arbitrary<uint64_t>();
  head.last_sequence = *rc::gen::arbitrary<uint64_t>();
  head.sequence = *rc::gen::arbitrary<uint64_t>();
  head.pointers.back = *rc::gen::arbitrary<std::vector<uint64_t>>();
  const auto versions = *rc::gen::arbitrary<std::vector<uint64_t>>();
  for (const uint64_t version : versions) {
    head.pointers.skip.push_back({.version = version, .sequence = *rc::gen::arbitrary<uint64_t>()});
  }
  head.commit_id = *rc::gen::oneOf(testing::Utf8Text(200), rc::gen::map(rc::gen::arbitrary<int>(), [](int /*unused*/) {
                                     return base::NewUuidV7(base::Clock::System().WallNow());
                                   }));
  head.recorded_time = base::WallTime(std::chrono::nanoseconds(*rc::gen::arbitrary<int64_t>()));
  head.cid = *rc::gen::oneOf(testing::Utf8Text(60), rc::gen::map(testing::AnyBytes(), [](const std::string& block) {
                               return ipld::DagCborCid(block).ToString();
                             }));
  head.labels.tags = *rc::gen::arbitrary<std::vector<std::string>>();
  if (*rc::gen::arbitrary<bool>()) head.labels.metadata["key"] = *testing::Utf8Text(20);
  head.deleted = *rc::gen::arbitrary<bool>();
  head.torn_commit_id = *testing::Utf8Text(40);
  head.foreign_tail = *rc::gen::arbitrary<bool>();
  return head;
}

TEST_CASE("A head survives being packed", "[packed_head]") {
  testing::CheckProperty([] {
    const Head head = AnyHead();
    const PackedHead packed(head);
    RC_ASSERT(Same(packed.Unpack(), head));
    RC_ASSERT(packed.last_sequence() == head.last_sequence);
    RC_ASSERT(packed.stream() == head.stream);
  });
}

TEST_CASE("Ids that only look like UUIDs keep their spelling", "[packed_head]") {
  for (const char* id : {"0198c0de-0000-7000-8000-00000000000A", "0198c0de00007000800000000000000aabcd",
                         "0198c0de-0000-7000-8000-00000000000g", "0198c0de-0000-7000-8000-00000000000", ""}) {
    Head head;
    head.commit_id = id;
    REQUIRE(PackedHead(head).Unpack().commit_id == id);
  }
}

TEST_CASE("A packed head takes few bytes", "[packed_head]") {
  Head head;
  head.version = 32;
  head.sequence = 1'000'000;
  head.last_sequence = head.sequence;
  for (uint64_t i = 1; i < 32; ++i) head.pointers.back.push_back(head.sequence - i * 10'000);
  head.commit_id = base::NewUuidV7(base::Clock::System().WallNow());
  head.recorded_time = base::Clock::System().WallNow();
  REQUIRE(PackedHead(head).extra_bytes() < 130);
}

}  // namespace
}  // namespace persistd::repository
