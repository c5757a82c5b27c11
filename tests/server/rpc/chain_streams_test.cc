// VerifyChain and ExportCar over the wire, with a repository whose answers the test writes.
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cim/persistence/v1/chains.grpc.pb.h"
#include "server/base/clock.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/car.h"
#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "server/rpc/chain_service.h"
#include "tests/server/rpc/fake_repository.h"
#include "tests/server/rpc/rpc_testing.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;
using testing::DetailOf;
using testing::Must;
using testing::NewContext;
using testing::ReasonOf;

const domain::AggregateRef kRef{.context = "sales", .aggregate = "order", .entity_id = "a.b"};

std::vector<Service> Only(Service service) {
  std::vector<Service> services;
  services.push_back(std::move(service));
  return services;
}

struct Fixture {
  testing::FakeRepository repository{};
  base::FakeClock clock{base::WallTime()};
  ChainService service{&repository, nullptr, {.clock = &clock}};
  testing::RpcServer server{Only(service.MakeService())};
  std::unique_ptr<pb::ChainService::Stub> stub = pb::ChainService::NewStub(server.channel());

  // All answers of a verification.
  grpc::Status Verify(const pb::VerifyChainRequest& request, std::vector<pb::VerifyChainResponse>* answers = nullptr) {
    const auto context = NewContext();
    const auto reader = stub->VerifyChain(context.get(), request);
    pb::VerifyChainResponse answer;
    while (reader->Read(&answer)) {
      if (answers != nullptr) answers->push_back(answer);
    }
    return reader->Finish();
  }
  grpc::Status Export(const pb::ExportCarRequest& request, std::vector<std::string>& chunks) {
    const auto context = NewContext();
    const auto reader = stub->ExportCar(context.get(), request);
    pb::ExportCarResponse answer;
    while (reader->Read(&answer)) chunks.push_back(answer.data());
    return reader->Finish();
  }
};

void SetRef(pb::AggregateRef& ref) {
  ref.set_context("sales");
  ref.set_aggregate("order");
  ref.set_entity_id("a.b");
}

repository::Verification Broken() {
  repository::Verification verification;
  verification.chain = {.verified = 4, .without_cid = 2, .verifiable_from = 3, .head_cid = "head", .head_version = 6};
  verification.chain.first_break = ipld::ChainBreak{.version = 7,
                                                    .reason = ipld::BreakReason::kEventReplaced,
                                                    .expected = "one",
                                                    .actual = "other",
                                                    .detail = "why",
                                                    .sequence = 12};
  verification.position = domain::Position({.stream = "S", .incarnation = 5, .sequence = 12});
  return verification;
}

TEST_CASE("VerifyChain tells its progress about once a second, and then the result", "[rpc]") {
  Fixture fixture;
  repository::VerifyCommand seen;
  fixture.repository.on_verify =
      [&](repository::VerifyCommand command,
          repository::VerifyProgressSink sink) -> base::Task<absl::StatusOr<repository::Verification>> {
    seen = std::move(command);
    for (uint64_t verified = 1; verified <= 9; ++verified) {
      fixture.clock.Advance(std::chrono::milliseconds(400));
      const repository::VerifyProgress progress{.verified = verified, .total = 9};
      const bool more = co_await sink(progress);
      CHECK(more);
    }
    co_return Broken();
  };
  pb::VerifyChainRequest request;
  SetRef(*request.mutable_aggregate());
  request.set_from_version(2);
  request.set_to_version(30);
  request.set_expected_head_cid(ipld::RawCid("h").ToString());
  request.set_expected_previous_cid(ipld::RawCid("p").ToString());
  std::vector<pb::VerifyChainResponse> answers;
  REQUIRE(fixture.Verify(request, &answers).ok());
  CHECK(seen.ref == kRef);
  CHECK(seen.from_version == 2);
  CHECK(seen.to_version == 30);
  CHECK(seen.expected_head_cid == request.expected_head_cid());
  CHECK(seen.expected_previous_cid == request.expected_previous_cid());
  REQUIRE(answers.size() == 4);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(answers[i].progress().verified() == 3 * (i + 1));
    CHECK(answers[i].progress().total() == 9);
  }
  const pb::ChainVerification& result = answers.back().result();
  CHECK_FALSE(result.valid());
  CHECK(result.verified() == 4);
  CHECK(result.without_cid() == 2);
  CHECK(result.verifiable_from() == 3);
  CHECK(result.head_cid() == "head");
  CHECK(result.head_version() == 6);
  CHECK(result.first_break().version() == 7);
  CHECK(result.first_break().reason() == pb::ChainBreak::REASON_EVENT_REPLACED);
  CHECK(result.first_break().expected() == "one");
  CHECK(result.first_break().actual() == "other");
  CHECK(result.first_break().detail() == "why");
  CHECK(result.first_break().position().token() == "S:5:12");
}

TEST_CASE("Every reason of a break has its own value", "[rpc]") {
  std::set<int> values;
  for (int i = 0; i <= static_cast<int>(ipld::BreakReason::kMisplaced); ++i) {
    Fixture fixture;
    fixture.repository.on_verify =
        [i](repository::VerifyCommand,
            repository::VerifyProgressSink) -> base::Task<absl::StatusOr<repository::Verification>> {
      repository::Verification verification = Broken();
      verification.chain.first_break->reason = static_cast<ipld::BreakReason>(i);
      co_return verification;
    };
    pb::VerifyChainRequest request;
    request.set_chain("c");
    std::vector<pb::VerifyChainResponse> answers;
    REQUIRE(fixture.Verify(request, &answers).ok());
    const pb::ChainBreak::Reason reason = answers.back().result().first_break().reason();
    CHECK(pb::ChainBreak::Reason_Name(reason) == "REASON_" + std::string(ToString(static_cast<ipld::BreakReason>(i))));
    values.insert(reason);
  }
  CHECK(values.size() == static_cast<size_t>(pb::ChainBreak::Reason_ARRAYSIZE) - 1);
}

TEST_CASE("An aggregate, or a chain, that is not there", "[rpc]") {
  Fixture fixture;
  fixture.repository.on_verify = [](repository::VerifyCommand command, repository::VerifyProgressSink)
      -> base::Task<absl::StatusOr<repository::Verification>> { co_return domain::AggregateNotFound(command.ref); };
  pb::VerifyChainRequest verify;
  SetRef(*verify.mutable_aggregate());
  CHECK(ReasonOf(fixture.Verify(verify)) == pb::ERROR_REASON_AGGREGATE_NOT_FOUND);
  verify.set_chain("c");
  CHECK(ReasonOf(fixture.Verify(verify)) == pb::ERROR_REASON_CHAIN_NOT_FOUND);
  pb::ExportCarRequest car;
  car.set_chain("c");
  std::vector<std::string> chunks;
  CHECK(ReasonOf(fixture.Export(car, chunks)) == pb::ERROR_REASON_CHAIN_NOT_FOUND);
  CHECK(chunks.empty());
}

TEST_CASE("Requests that cannot be verified name the field", "[rpc]") {
  Fixture fixture;
  const auto field = [&fixture](const std::function<void(pb::VerifyChainRequest&)>& change) {
    pb::VerifyChainRequest request;
    SetRef(*request.mutable_aggregate());
    change(request);
    return DetailOf(fixture.Verify(request)).value().field_violation().field();
  };
  CHECK(field([](auto& r) { r.clear_target(); }) == "aggregate");
  CHECK(field([](auto& r) { r.mutable_aggregate()->set_context("_x"); }) == "aggregate.context");
  CHECK(field([](auto& r) { r.set_chain(""); }) == "chain");
  CHECK(field([](auto& r) { r.set_from_version(std::numeric_limits<uint64_t>::max()); }) == "from_version");
  CHECK(field([](auto& r) { r.set_to_version(0); }) == "to_version");
  CHECK(field([](auto& r) { r.set_expected_head_cid("x"); }) == "expected_head_cid");
  CHECK(field([](auto& r) { r.set_expected_previous_cid(ipld::RawCid("x").ToString()); }) == "expected_previous_cid");
  pb::ExportCarRequest car;
  std::vector<std::string> chunks;
  CHECK(DetailOf(fixture.Export(car, chunks)).value().field_violation().field() == "aggregate");
  car.set_chain("c");
  car.set_to_version(0);
  CHECK(DetailOf(fixture.Export(car, chunks)).value().field_violation().field() == "to_version");
}

// Versions 3 to 6, each with a payload of some bytes but the last.
std::vector<domain::RecordedEvent> Chained() {
  std::vector<domain::RecordedEvent> events;
  for (uint64_t version = 3; version <= 6; ++version) {
    domain::RecordedEvent event;
    event.ref = kRef;
    event.version = version;
    event.event_id = "e";
    event.type = "placed";
    event.commit_id = "c";
    if (version < 6) {
      event.payload = {.content_type = "text/plain", .data = std::string(300'000, static_cast<char>('0' + version))};
    }
    event.prev_cid = events.empty() ? "" : events.back().cid;
    ipld::AddCids(event, {});
    events.push_back(std::move(event));
  }
  return events;
}

// A repository that holds these, of which versions 1 and 2 have no CID.
void Hold(testing::FakeRepository& repository, const std::vector<domain::RecordedEvent>& events) {
  const std::string root = events.back().cid;
  repository.on_verify = [root](
                             repository::VerifyCommand,
                             repository::VerifyProgressSink) -> base::Task<absl::StatusOr<repository::Verification>> {
    repository::Verification verification;
    verification.chain = {.verified = 4, .without_cid = 2, .verifiable_from = 3, .head_cid = root, .head_version = 6};
    co_return verification;
  };
  repository.on_read_chain = [events](domain::AggregateRef ref, uint64_t first, uint64_t last,
                                      repository::ChainSink sink) -> base::Task<absl::Status> {
    CHECK(ref == kRef);
    CHECK(first == 3);
    CHECK(last == 6);
    for (const domain::RecordedEvent& event : events) {
      repository::ChainedEvent chained{.event = event};
      const bool more = co_await sink(std::move(chained));
      if (!more) co_return absl::OkStatus();
    }
    co_return absl::OkStatus();
  };
}

TEST_CASE("ExportCar streams each event's block and payload, oldest first", "[rpc]") {
  Fixture fixture;
  const std::vector<domain::RecordedEvent> events = Chained();
  Hold(fixture.repository, events);
  pb::ExportCarRequest request;
  SetRef(*request.mutable_aggregate());
  std::vector<std::string> chunks;
  REQUIRE(fixture.Export(request, chunks).ok());
  CHECK(chunks.size() == 4);
  std::vector<std::string> cids;
  ipld::CarReader reader;
  for (const std::string& chunk : chunks) {
    CHECK(chunk.size() <= 256 * 1024);
    reader.Add(chunk);
    while (const auto block = Must(reader.Next())) cids.push_back(block->cid.ToString());
  }
  Must(reader.Finish());
  REQUIRE(reader.roots().size() == 1);
  CHECK(reader.roots().front().ToString() == events.back().cid);
  std::vector<std::string> expected;
  for (const domain::RecordedEvent& event : events) {
    expected.push_back(event.cid);
    if (!event.payload_cid.empty()) expected.push_back(event.payload_cid);
  }
  CHECK(cids == expected);
}

TEST_CASE("ExportCar refuses what is not chained, and what does not verify", "[rpc]") {
  Fixture fixture;
  Hold(fixture.repository, Chained());
  pb::ExportCarRequest request;
  SetRef(*request.mutable_aggregate());
  std::vector<std::string> chunks;
  request.set_to_version(7);
  CHECK(ReasonOf(fixture.Export(request, chunks)) == pb::ERROR_REASON_VERSION_NOT_FOUND);
  request.clear_to_version();
  fixture.repository.on_verify = [](repository::VerifyCommand, repository::VerifyProgressSink)
      -> base::Task<absl::StatusOr<repository::Verification>> { co_return Broken(); };
  const grpc::Status broken = fixture.Export(request, chunks);
  CHECK(broken.error_code() == grpc::StatusCode::DATA_LOSS);
  const pb::ErrorDetail::DataLoss loss = DetailOf(broken).value().data_loss();
  CHECK(loss.stream() == "S");
  CHECK(loss.sequence() == 12);
  CHECK(loss.expected_cid() == "one");
  CHECK(loss.actual_cid() == "other");
  fixture.repository.on_verify =
      [](repository::VerifyCommand,
         repository::VerifyProgressSink) -> base::Task<absl::StatusOr<repository::Verification>> {
    repository::Verification verification;
    verification.chain = {.verified = 1, .without_cid = 1, .head_cid = "x", .head_version = 1};
    co_return verification;
  };
  CHECK(ReasonOf(fixture.Export(request, chunks)) == pb::ERROR_REASON_NOT_CHAINED);
  CHECK(chunks.empty());
}

TEST_CASE("An export that breaks off ends with an error", "[rpc]") {
  Fixture fixture;
  const std::vector<domain::RecordedEvent> events = Chained();
  Hold(fixture.repository, events);
  const bool other_end = GENERATE(true, false);
  fixture.repository.on_read_chain = [&](domain::AggregateRef, uint64_t, uint64_t,
                                         repository::ChainSink sink) -> base::Task<absl::Status> {
    repository::ChainedEvent chained{.event = events.front()};
    co_await sink(std::move(chained));
    if (other_end) co_return absl::OkStatus();
    co_return domain::CorruptData("S", 8, "gone");
  };
  pb::ExportCarRequest request;
  SetRef(*request.mutable_aggregate());
  std::vector<std::string> chunks;
  const grpc::Status status = fixture.Export(request, chunks);
  CHECK(ReasonOf(status) == (other_end ? pb::ERROR_REASON_INTERNAL : pb::ERROR_REASON_CORRUPT_DATA));
}

}  // namespace
}  // namespace persistd::rpc
