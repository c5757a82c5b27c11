#include "client/cli/car_check.h"

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "server/ipld/any_cid.h"
#include "server/ipld/car.h"
#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::cli {
namespace {

using domain::RecordedEvent;
using testing::Must;

RecordedEvent Event(uint64_t version, std::string prev_cid, std::string entity = "1") {
  RecordedEvent event;
  event.ref = {.context = "sales", .aggregate = "order", .entity_id = std::move(entity)};
  event.version = version;
  event.event_id = "e";
  event.type = "changed";
  event.commit_id = "c";
  event.payload = {.content_type = "text/plain", .data = "payload " + std::to_string(version)};
  event.prev_cid = std::move(prev_cid);
  ipld::AddCids(event, {});
  return event;
}

std::vector<RecordedEvent> Four() {
  std::vector<RecordedEvent> events;
  for (uint64_t version = 1; version <= 4; ++version) {
    events.push_back(Event(version, events.empty() ? "" : events.back().cid));
  }
  return events;
}

std::string Section(const std::string& cid, const std::string& bytes) {
  return ipld::CarSection(ipld::AnyCid(*ipld::Cid::Parse(cid)), bytes);
}

std::string Car(const std::vector<RecordedEvent>& events, bool payloads = true) {
  std::string car = ipld::CarHeader(ipld::AnyCid(*ipld::Cid::Parse(events.back().cid)));
  for (const RecordedEvent& event : events) {
    car += Section(event.cid, *ipld::EventBlock(event, {}));
    if (payloads) car += Section(event.payload_cid, event.payload.data);
  }
  return car;
}

absl::StatusOr<CarSummary> Check(const std::string& car, const std::string& expected_root = "") {
  std::istringstream in(car);
  return CheckCar(in, expected_root);
}

TEST_CASE("A whole history in a CAR file verifies", "[car]") {
  const std::vector<RecordedEvent> events = Four();
  const CarSummary summary = Must(Check(Car(events), events.back().cid));
  CHECK(summary.root == events.back().cid);
  CHECK(summary.aggregate == "sales/order/1");
  CHECK(summary.first_version == 1);
  CHECK(summary.last_version == 4);
  CHECK(summary.events == 4);
  CHECK(summary.payloads == 4);
  CHECK(summary.erased_payloads == 0);
  CHECK(summary.before.empty());
}

TEST_CASE("Payloads that are not in a CAR file count as erased", "[car]") {
  const CarSummary summary = Must(Check(Car(Four(), /*payloads=*/false)));
  CHECK(summary.events == 4);
  CHECK(summary.payloads == 0);
  CHECK(summary.erased_payloads == 4);
}

TEST_CASE("A CAR file that begins later says what it continues", "[car]") {
  std::vector<RecordedEvent> events = Four();
  const std::string before = events[1].cid;
  events.erase(events.begin(), events.begin() + 2);
  const CarSummary summary = Must(Check(Car(events)));
  CHECK(summary.first_version == 3);
  CHECK(summary.before == before);
}

TEST_CASE("What is wrong with a CAR file is told", "[car]") {
  const std::vector<RecordedEvent> events = Four();
  const auto told = [](const std::string& car, const std::string& root = "") {
    return std::string(Check(car, root).status().message());
  };
  std::vector<RecordedEvent> gap = events;
  gap.erase(gap.begin() + 1);
  CHECK(told(Car(gap)).find("1 events of the file are not before its root") != std::string::npos);
  std::vector<RecordedEvent> jump = events;
  jump.push_back(Event(9, events.back().cid));
  CHECK(told(Car(jump)).find("version 9 continues version 4") != std::string::npos);
  std::vector<RecordedEvent> other = events;
  other.push_back(Event(5, events.back().cid, "2"));
  CHECK(told(Car(other)).find("sales/order/2 continues an event of sales/order/1") != std::string::npos);
  CHECK(told(Car(events), events[0].cid).find("the root is") != std::string::npos);
  std::string spoiled = Car(events);
  spoiled[spoiled.size() - 2] ^= 1;
  CHECK_FALSE(told(spoiled).empty());
  CHECK_FALSE(told(Car(events).substr(0, 300)).empty());
  CHECK_FALSE(told("").empty());
  CHECK_FALSE(told("no CAR at all").empty());
  const std::string no_event =
      ipld::CarHeader(ipld::AnyCid(ipld::RawCid("x"))) + Section(ipld::RawCid("x").ToString(), "x");
  CHECK(told(no_event) == "the root is no event that is in the file");
  const std::vector<RecordedEvent> forged = {Event(1, events.back().cid)};
  CHECK(told(Car(forged)).find("version 1 continues") != std::string::npos);
}

TEST_CASE("A block too large for an event's is not decoded, and is none", "[car]") {
  // An array of 200,000 nulls.
  std::string block = {'\x9a', '\x00', '\x03', '\x0d', '\x40'};
  block.append(200'000, '\xf6');
  const std::string cid = ipld::DagCborCid(block).ToString();
  const std::vector<RecordedEvent> events = Four();
  CHECK(Check(Car(events) + Section(cid, block)).ok());
  const std::string only = ipld::CarHeader(ipld::AnyCid(*ipld::Cid::Parse(cid))) + Section(cid, block);
  CHECK(Check(only).status().message() == "the root is no event that is in the file");
}

}  // namespace
}  // namespace persistd::cli
