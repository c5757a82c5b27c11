#include "client/cpp/history.h"

#include "client/cpp/client.h"
#include "tests/client/cpp/fakes.h"
#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

namespace pb = cim::persistence::v1;
using Versions = std::vector<uint64_t>;

const absl::Status kBroken = absl::UnavailableError("stream broke");
const absl::Status kLate = absl::DeadlineExceededError("stream too old");

struct Fixture {
  std::shared_ptr<FakeStub> stub = std::make_shared<FakeStub>();
  std::shared_ptr<FakeClock> clock = std::make_shared<FakeClock>();
  Client client{stub, {}, clock};

  // Reads to the end; the status says how it ended.
  std::pair<Versions, absl::Status> ReadAll(const pb::GetHistoryRequest& request = {}) {
    HistoryReader reader = client.History(request);
    Versions versions;
    while (true) {
      const auto event = reader.Next();
      if (!event.ok()) return {versions, event.status()};
      if (!event->has_value()) return {versions, absl::OkStatus()};
      versions.push_back((*event)->version());
    }
  }
};

TEST_CASE_METHOD(Fixture, "A history that broke twice continues without gap or duplicate", "[client]") {
  stub->histories = {{{1, 2}, kBroken}, {{}, kBroken}, {{3}, kBroken}, {{4, 5}, {}}};
  const auto [versions, status] = ReadAll();
  CHECK(status.ok());
  CHECK(versions == Versions{1, 2, 3, 4, 5});
  REQUIRE(stub->history_requests.size() == 4);
  CHECK(stub->history_requests[0].from_version() == 0);
  CHECK(stub->history_requests[1].from_version() == 2);
  CHECK(stub->history_requests[2].from_version() == 2);
  CHECK(stub->history_requests[3].from_version() == 3);
}

TEST_CASE_METHOD(Fixture, "A reverse history that broke continues downwards and keeps its filter", "[client]") {
  stub->histories = {{{9, 6}, kBroken}, {{4}, {}}};
  pb::GetHistoryRequest request;
  request.set_reverse(true);
  request.set_from_version(3);
  request.add_event_types("paid");
  const auto [versions, status] = ReadAll(request);
  CHECK(status.ok());
  CHECK(versions == Versions{9, 6, 4});
  REQUIRE(stub->history_requests.size() == 2);
  CHECK_FALSE(stub->history_requests[0].has_to_version());
  CHECK(stub->history_requests[1].to_version() == 5);
  CHECK(stub->history_requests[1].from_version() == 3);
  CHECK(stub->history_requests[1].event_types(0) == "paid");
}

TEST_CASE_METHOD(Fixture, "A stream that breaks after the last possible event is not opened again", "[client]") {
  pb::GetHistoryRequest request;
  stub->histories = {{{2, 1}, kBroken}};
  request.set_reverse(true);
  CHECK(ReadAll(request).first == Versions{2, 1});

  stub->histories = {{{1, 2}, kBroken}};
  request.set_reverse(false);
  request.set_to_version(2);
  CHECK(ReadAll(request).first == Versions{1, 2});
  CHECK(stub->history_requests.size() == 2);
}

TEST_CASE_METHOD(Fixture, "A history longer than a stream may live is read on in a new stream", "[client]") {
  stub->histories = {{{1, 2}, kLate}, {{3}, kLate}, {{4}, {}}};
  const auto [versions, status] = ReadAll();
  CHECK(status.ok());
  CHECK(versions == Versions{1, 2, 3, 4});
}

TEST_CASE_METHOD(Fixture, "A stream that delivers nothing in time fails", "[client]") {
  stub->histories = {{{1}, kLate}, {{}, kLate}};
  const auto [versions, status] = ReadAll();
  CHECK(versions == Versions{1});
  CHECK(absl::IsDeadlineExceeded(status));
}

TEST_CASE_METHOD(Fixture, "A daemon that stays away ends the history at the deadline, for good", "[client]") {
  stub->histories = {{{1}, kBroken}, {{}, kBroken}};
  HistoryReader reader = client.History({});
  CHECK(reader.Next().ok());
  const auto start = clock->Now();
  const auto failed = reader.Next();
  CHECK(absl::IsUnavailable(failed.status()));
  CHECK(clock->Now() - start < std::chrono::seconds(30));
  const size_t calls = stub->history_requests.size();
  CHECK(reader.Next().status() == failed.status());
  CHECK(stub->history_requests.size() == calls);
}

TEST_CASE_METHOD(Fixture, "Errors that a repeat cannot help come through at once", "[client]") {
  stub->histories = {{{}, Error(absl::StatusCode::kNotFound, pb::ERROR_REASON_AGGREGATE_NOT_FOUND)}};
  const auto [versions, status] = ReadAll();
  CHECK(absl::IsNotFound(status));
  CHECK(GetErrorDetail(status)->reason() == pb::ERROR_REASON_AGGREGATE_NOT_FOUND);
  CHECK(stub->history_requests.size() == 1);
}

TEST_CASE_METHOD(Fixture, "Events that repeat or run backwards are an error, not data", "[client]") {
  stub->histories = {{{1, 2}, kBroken}, {{2, 3}, {}}};
  CHECK(absl::IsInternal(ReadAll().second));
  stub->histories = {{{0}, {}}};
  CHECK(absl::IsInternal(ReadAll().second));
  stub->histories = {{{2, 3}, {}}};
  pb::GetHistoryRequest reverse;
  reverse.set_reverse(true);
  CHECK(absl::IsInternal(ReadAll(reverse).second));
}

TEST_CASE_METHOD(Fixture, "An ended history stays ended, and a reader outlives its client", "[client]") {
  stub->histories = {{{1}, {}}};
  std::optional<Client> short_lived(client);
  HistoryReader reader = short_lived->History({});
  short_lived.reset();
  CHECK(reader.Next()->has_value());
  for (int i = 0; i < 3; ++i) CHECK_FALSE(reader.Next()->has_value());
  CHECK(stub->history_requests.size() == 1);
}

TEST_CASE_METHOD(Fixture, "A chain that broke is read on after its last entry, in both directions", "[client]") {
  const auto read = [this](bool reverse) {
    pb::GetChainRequest request;
    request.set_chain("audit");
    request.set_reverse(reverse);
    ChainReader reader = client.Chain(request);
    Versions sequences;
    while (true) {
      const auto entry = reader.Next();
      REQUIRE(entry.ok());
      if (!entry->has_value()) return sequences;
      sequences.push_back((*entry)->sequence());
    }
  };
  stub->chains = {{{1, 2}, kBroken}, {{3}, {}}};
  CHECK(read(false) == Versions{1, 2, 3});
  REQUIRE(stub->chain_requests.size() == 2);
  CHECK(stub->chain_requests[1].chain() == "audit");
  CHECK(stub->chain_requests[1].from_sequence() == 2);
  stub->chains = {{{3, 2}, kBroken}, {{1}, kBroken}};
  CHECK(read(true) == Versions{3, 2, 1});
  CHECK(stub->chain_requests.back().to_sequence() == 1);
}

TEST_CASE_METHOD(Fixture, "An append is repeated with one request id", "[client]") {
  stub->appends = {kBroken, pb::AppendToChainResponse()};
  CHECK(client.AppendToChain({}).ok());
  REQUIRE(stub->append_requests.size() == 2);
  CHECK_FALSE(stub->append_requests[0].request_id().empty());
  CHECK(stub->append_requests[0].request_id() == stub->append_requests[1].request_id());
}

}  // namespace
}  // namespace persistd::client
