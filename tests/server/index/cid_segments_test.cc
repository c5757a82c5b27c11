#include "server/index/cid_segments.h"

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/temp_dir.h"

namespace persistd::index {
namespace {

using testing::Must;

struct Fixture {
  Fixture() {
    Open();
    Must(
        database->Execute(absl::StrCat("CREATE TABLE streams(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO streams "
                                       "VALUES(1, 'one'), (2, 'two');",
                                       CidSegments::Schema())));
    segments.emplace(Must(CidSegments::Open(database.get())));
  }

  void Open() {
    segments.reset();
    database = Must(Database::Open({.path = absl::StrCat(dir.path(), "/x.db")}));
  }

  void Add(int64_t stream, std::vector<CidPlace> places) {
    Must(database->Execute("BEGIN"));
    Must(segments->Add(stream, std::move(places)));
    Must(database->Execute("COMMIT"));
  }

  std::set<uint64_t> Find(uint64_t key, const std::string& stream = "one") {
    std::set<uint64_t> sequences;
    for (const CidSegments::Found& found : Must(CidSegments::Find(*database, key))) {
      if (found.stream == stream) sequences.insert(found.sequence);
    }
    return sequences;
  }

  int64_t Count(const char* table) {
    return Must(database->QueryInteger(absl::StrCat("SELECT count(*) FROM ", table)));
  }

  const testing::TempDir dir;
  std::unique_ptr<Database> database;
  std::optional<CidSegments> segments;
};

TEST_CASE_METHOD(Fixture, "Every key is found, however many transactions wrote how much", "[index]") {
  std::mt19937_64 random(20261127);
  std::map<uint64_t, uint64_t> all;
  uint64_t sequence = 0;
  for (int transaction = 0; transaction < 300; ++transaction) {
    std::vector<CidPlace> places;
    const size_t count = transaction % 50 == 0 ? 5000 : 1 + random() % 200;
    for (size_t i = 0; i < count; ++i) {
      places.push_back({.key = random() | 1, .sequence = ++sequence});
      all[places.back().key] = sequence;
    }
    Add(1, std::move(places));
  }
  // At most seven of each of the few sizes.
  CHECK(Count("cid_segments") <= 7 * 6);
  CHECK(Must(database->QueryInteger("SELECT sum(size) FROM cid_segments")) == static_cast<int64_t>(all.size()));
  size_t checked = 0;
  for (const auto& [key, place] : all) {
    if (checked++ % 50 != 0) continue;
    if (Find(key) != std::set<uint64_t>{place}) CHECK(Find(key) == std::set<uint64_t>{place});
    CHECK(Find(key + 1).empty());
  }
  CHECK(Find(0).empty());
  CHECK(Find(UINT64_MAX - 1).empty());
}

TEST_CASE_METHOD(Fixture, "The least and the largest keys are found", "[index]") {
  Add(1, {{.key = UINT64_MAX, .sequence = 1}, {.key = 1, .sequence = 2}, {.key = uint64_t{1} << 63, .sequence = 3}});
  CHECK(Find(UINT64_MAX) == std::set<uint64_t>{1});
  CHECK(Find(1) == std::set<uint64_t>{2});
  CHECK(Find(uint64_t{1} << 63) == std::set<uint64_t>{3});
}

TEST_CASE_METHOD(Fixture, "Of a key that comes again and again the last place is kept, in little room", "[index]") {
  for (uint64_t transaction = 0; transaction < 100; ++transaction) {
    std::vector<CidPlace> places;
    for (uint64_t i = 1; i <= 50; ++i) places.push_back({.key = 7, .sequence = transaction * 50 + i});
    Add(1, std::move(places));
  }
  CHECK(Find(7).contains(5000));
  CHECK(Must(database->QueryInteger("SELECT sum(size) FROM cid_segments")) <= 7);
}

TEST_CASE_METHOD(Fixture, "Streams are told apart and removed by themselves, also after a restart", "[index]") {
  for (uint64_t i = 1; i <= 20; ++i) {
    Add(1 + static_cast<int64_t>(i % 2), {{.key = 5, .sequence = i}, {.key = 100 + i, .sequence = i}});
  }
  Open();
  segments.emplace(Must(CidSegments::Open(database.get())));
  CHECK(Find(5, "one").contains(20));
  CHECK(Find(5, "two").contains(19));
  CHECK(Find(103, "two") == std::set<uint64_t>{3});
  for (uint64_t i = 21; i <= 40; ++i) Add(1, {{.key = 100 + i, .sequence = i}});
  Must(segments->Remove(1));
  CHECK(Find(5, "one").empty());
  CHECK(Find(5, "two").contains(19));
  Must(segments->Remove(2));
  CHECK(Count("cid_segments") == 0);
  CHECK(Count("cid_pages") == 0);
}

}  // namespace
}  // namespace persistd::index
