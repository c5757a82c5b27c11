// Named chains and blocks through whole daemons.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "client/cpp/request_id.h"
#include "server/base/future.h"
#include "server/ipld/cid.h"
#include "server/jetstream/reader.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"
#include "tests/testing/poll.h"

namespace persistd::integration {
namespace {

using testing::Daemon;
using testing::PollUntil;

// A second daemon over the same nats-server.
struct Other {
  explicit Other(const World& world)
      : daemon(Must(Daemon::Start({.sets = {"nats.urls=" + world.nats().url()}}))), api(daemon->address()) {}
  const std::unique_ptr<Daemon> daemon;
  Api api;
};

pb::AppendToChainRequest AppendAt(const std::string& chain, uint64_t expected, const std::string& data = "{}") {
  pb::AppendToChainRequest request = AppendTo(chain, data);
  request.set_expected_sequence(expected);
  return request;
}

pb::PutBlockRequest BlockOf(const std::string& data, pb::BlockCodec codec = pb::BLOCK_CODEC_RAW) {
  pb::PutBlockRequest request;
  request.set_data(data);
  request.set_codec(codec);
  return request;
}

std::vector<uint64_t> SequencesOf(const std::vector<pb::GetChainResponse>& entries) {
  std::vector<uint64_t> sequences;
  for (const pb::GetChainResponse& entry : entries) sequences.push_back(entry.sequence());
  return sequences;
}

void CheckLinks(const std::vector<pb::GetChainResponse>& entries) {
  std::string previous;
  uint64_t sequence = 0;
  for (const pb::GetChainResponse& entry : entries) {
    CHECK(entry.sequence() == ++sequence);
    CHECK(entry.prev_cid() == previous);
    CHECK(entry.content_cid() == ipld::RawCid(entry.content().data()).ToString());
    previous = entry.cid();
  }
}

// The index follows a stream that has just come within seconds.
pb::GetBlockResponse EventuallyGetBlock(Api& api, const std::string& cid) {
  absl::StatusOr<pb::GetBlockResponse> block = absl::UnknownError("not asked");
  const bool found = PollUntil([&] { return (block = api.GetBlock(cid)).ok(); }, kPatience);
  INFO(block.status());
  REQUIRE(found);
  return *block;
}

// The headers of a stored message that are not NATS's own.
jetstream::Headers EventHeaders(World& world, const std::string& stream, uint64_t sequence) {
  jetstream::Reader reader(&world.live().connection());
  const auto message = Must(base::BlockOn(
      reader.Get(stream, sequence, jetstream::ReadFrom::kLeader, base::Clock::System().SteadyNow() + kPatience)));
  jetstream::Headers headers;
  for (const auto& [name, value] : message.value().headers.fields()) {
    if (name.rfind("Nats-", 0) != 0) headers.Add(name, value);
  }
  return headers;
}

jetstream::Headers Replaced(const std::string& header, const std::string& with, const jetstream::Headers& headers) {
  jetstream::Headers result;
  for (const auto& [name, value] : headers.fields()) result.Add(name, name == header ? with : value);
  return result;
}

jetstream::Headers AsEntity(const std::string& id, const jetstream::Headers& headers) {
  return Replaced("ce-subject", id, headers);
}

jetstream::Headers WithPayloadCid(const std::string& cid, const jetstream::Headers& headers) {
  return Replaced("ce-datacid", cid, headers);
}

TEST_CASE("What is appended to a chain is read in order, in reverse and in parts", "[chains]") {
  World world;
  const std::string chain = "a chain/with any\nname: \xC3\xA9*>.";
  CHECK(ReasonOf(world.api().GetChain(chain).status()) == pb::ERROR_REASON_CHAIN_NOT_FOUND);
  std::string head;
  for (int n = 1; n <= 5; ++n) {
    pb::AppendToChainRequest append = AppendAt(chain, static_cast<uint64_t>(n - 1), absl::StrCat("{\"n\":", n, "}"));
    append.mutable_metadata()->set_actor("me");
    append.mutable_time()->set_seconds(1000 + n);
    const pb::AppendToChainResponse answer = Must(world.api().AppendToChain(append));
    CHECK(answer.sequence() == static_cast<uint64_t>(n));
    CHECK(answer.prev_cid() == head);
    CHECK_FALSE(answer.deduplicated());
    CHECK(answer.durability().replicas() == 1);
    CHECK_FALSE(answer.position().token().empty());
    head = answer.cid();
  }
  const std::vector<pb::GetChainResponse> entries = Must(world.api().GetChain(chain));
  REQUIRE(entries.size() == 5);
  CheckLinks(entries);
  CHECK(entries.back().cid() == head);
  CHECK(entries[2].content().data() == "{\"n\":3}");
  CHECK(entries[2].metadata().actor() == "me");
  CHECK(entries[2].time().seconds() == 1003);
  CHECK(entries[2].recorded_time().seconds() > 1'700'000'000);
  CHECK_FALSE(entries[2].commit_id().empty());

  pb::GetChainRequest part;
  part.set_chain(chain);
  part.set_from_sequence(1);
  part.set_to_sequence(3);
  CHECK(SequencesOf(Must(world.api().GetChain(part))) == std::vector<uint64_t>{2, 3});
  part.set_reverse(true);
  CHECK(SequencesOf(Must(world.api().GetChain(part))) == std::vector<uint64_t>{3, 2});
  part.clear_to_sequence();
  part.set_payload_view(pb::PAYLOAD_VIEW_JSON);
  const std::vector<pb::GetChainResponse> newest = Must(world.api().GetChain(part));
  CHECK(SequencesOf(newest) == std::vector<uint64_t>{5, 4, 3, 2});
  CHECK(newest.front().content().json().fields().at("n").number_value() == 5);
  part.set_from_sequence(5);
  CHECK(Must(world.api().GetChain(part)).empty());
  part.set_to_sequence(4);
  CHECK(DetailOf(world.api().GetChain(part).status()).field_violation().field() == "to_sequence");

  // An entry may be nothing but its metadata.
  pb::AppendToChainRequest empty = AppendTo("empty");
  empty.clear_content();
  Must(world.api().AppendToChain(empty).status());
  CHECK(Must(world.api().GetChain("empty")).front().content_cid().empty());

  pb::AppendToChainRequest wrong = AppendTo("");
  CHECK(DetailOf(world.api().AppendToChain(wrong).status()).field_violation().field() == "chain");
  wrong = AppendTo("large", std::string(512 * 1024 + 1, 'x'));
  CHECK(DetailOf(world.api().AppendToChain(wrong).status()).limit().name() == "content");
}

TEST_CASE("Chains are no aggregates to anybody", "[chains]") {
  World world;
  const client::Client caller = Must(client::Client::Connect({.address = world.daemon().address()}));
  Must(world.api().Save(SaveOf(Order("1"))).status());
  const pb::AppendToChainResponse entry = Must(world.api().AppendToChain(AppendTo("a")));
  const pb::AggregateRef ref = client::Ref("_chains", "chain", "a");
  CHECK(ReasonOf(world.api().Load(ref).status()) == pb::ERROR_REASON_INVALID_FIELD);
  CHECK(ReasonOf(world.api().Save(SaveOf(ref)).status()) == pb::ERROR_REASON_INVALID_FIELD);
  CHECK(ReasonOf(world.api().History(ref).status()) == pb::ERROR_REASON_INVALID_FIELD);
  pb::ListAggregatesRequest list;
  *list.mutable_at_least() = entry.position();
  const pb::ListAggregatesResponse page = Must(caller.ListAggregates(list));
  REQUIRE(page.aggregates_size() == 1);
  CHECK(page.aggregates(0).ref().entity_id() == "1");
  list.set_filter("context = \"_chains\"");
  CHECK(Must(caller.ListAggregates(list)).aggregates_size() == 0);
  const pb::ListAggregateTypesResponse types = Must(caller.ListAggregateTypes({}));
  REQUIRE(types.types_size() == 1);
  CHECK(types.types(0).aggregate() == "order");
  const pb::GetServerInfoResponse info = Must(world.api().GetServerInfo());
  for (const char* feature : {"chains", "blocks"}) {
    CHECK(std::find(info.features().begin(), info.features().end(), feature) != info.features().end());
  }
}

TEST_CASE("Two daemons that append at expected sequences take turns without a gap", "[chains]") {
  constexpr int kWriters = 4;
  constexpr int kEach = 25;
  World world;
  Other other(world);
  std::atomic<int> conflicts = 0;
  std::vector<std::set<uint64_t>> won(kWriters);
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      Api& api = w % 2 == 0 ? world.api() : other.api;
      uint64_t expected = 0;
      while (won[w].size() < kEach) {
        const auto answer = api.AppendToChain(AppendAt("shared", expected, absl::StrCat("[", w, ",", expected, "]")));
        if (answer.ok()) {
          won[w].insert(answer->sequence());
          expected = answer->sequence();
        } else if (ReasonOf(answer.status()) == pb::ERROR_REASON_VERSION_CONFLICT) {
          ++conflicts;
          expected = DetailOf(answer.status()).version_conflict().actual_version();
        } else {
          Must(answer.status());
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(conflicts > 0);
  const std::vector<pb::GetChainResponse> entries = Must(other.api.GetChain("shared"));
  REQUIRE(entries.size() == kWriters * kEach);
  CheckLinks(entries);
  for (const pb::GetChainResponse& entry : entries) {
    int winners = 0;
    for (int w = 0; w < kWriters; ++w) {
      if (!won[w].contains(entry.sequence())) continue;
      ++winners;
      CHECK(entry.content().data() == absl::StrCat("[", w, ",", entry.sequence() - 1, "]"));
    }
    CHECK(winners == 1);
  }
}

TEST_CASE("An append that is repeated at another daemon is answered with the first result", "[chains]") {
  World world;
  Other other(world);
  Must(world.api().AppendToChain(AppendTo("a")).status());
  for (const std::string& id : {client::NewRequestId(), std::string("my-own-id")}) {
    pb::AppendToChainRequest append = AppendTo("a", absl::StrCat("{\"id\":\"", id, "\"}"));
    append.set_request_id(id);
    const pb::AppendToChainResponse first = Must(world.api().AppendToChain(append));
    const pb::AppendToChainResponse again = Must(other.api.AppendToChain(append));
    CHECK(again.deduplicated());
    CHECK(again.sequence() == first.sequence());
    CHECK(again.cid() == first.cid());
    CHECK(again.prev_cid() == first.prev_cid());
    CHECK(again.position().token() == first.position().token());
    append.mutable_content()->set_data("{}");
    CHECK(ReasonOf(other.api.AppendToChain(append).status()) == pb::ERROR_REASON_REQUEST_ID_REUSED);
  }
  CHECK(Must(world.api().GetChain("a")).size() == 3);
}

TEST_CASE("After kill -9 of nats-server all acknowledged entries are there once, and the chain is whole", "[chains]") {
  constexpr int kWriters = 4;
  World world({}, {.sync_always = true});
  Other other(world);
  std::atomic<bool> stop = false;
  std::atomic<int> stored = 0;
  std::vector<std::map<std::string, std::string>> acknowledged(kWriters);  // Data → CID.
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      Api& api = w % 2 == 0 ? world.api() : other.api;
      for (int n = 0; !stop; ++n) {
        pb::AppendToChainRequest append = AppendTo("ledger", absl::StrCat("[", w, ",", n, "]"));
        append.set_request_id(client::NewRequestId());
        absl::StatusOr<pb::AppendToChainResponse> answer = api.AppendToChain(append, {.timeout = 2s});
        // Until the outcome is known, as a client does.
        while (!answer.ok() && !stop) {
          (void)api.WaitUntilServing(true, 1s);
          answer = api.AppendToChain(append, {.timeout = 2s});
        }
        if (!answer.ok()) break;
        acknowledged[w][append.content().data()] = answer->cid();
        ++stored;
      }
    });
  }
  for (int round = 1; round <= 3; ++round) {
    const int before = stored;
    const bool going = PollUntil([&] { return stored > before + 40; }, kPatience);
    world.nats().Kill9();
    Must(world.nats().Restart());
    if (!going) break;
  }
  const int before = stored;
  const bool going = PollUntil([&] { return stored > before + 40; }, kPatience);
  stop = true;
  for (std::thread& writer : writers) writer.join();
  REQUIRE(going);
  REQUIRE(world.api().WaitUntilServing(true));
  const std::vector<pb::GetChainResponse> entries = Must(world.api().GetChain("ledger"));
  CheckLinks(entries);
  std::map<std::string, std::string> found;
  for (const pb::GetChainResponse& entry : entries) {
    INFO(entry.content().data());
    CHECK(found.emplace(entry.content().data(), entry.cid()).second);
  }
  size_t checked = 0;
  for (const auto& writer : acknowledged) {
    for (const auto& [data, cid] : writer) {
      INFO(data);
      CHECK(found[data] == cid);
      ++checked;
    }
  }
  CHECK(checked > 160);
}

TEST_CASE("A block is stored once, whoever stores it, and read back by its CID", "[blocks]") {
  World world;
  Other other(world);
  const pb::PutBlockResponse first = Must(world.api().PutBlock(BlockOf("some bytes")));
  CHECK(first.cid() == ipld::RawCid("some bytes").ToString());
  CHECK_FALSE(first.existed());
  const pb::PutBlockResponse again = Must(other.api.PutBlock(BlockOf("some bytes")));
  CHECK(again.cid() == first.cid());
  CHECK(again.existed());
  CHECK(world.live().CountMessages("KV_cim-blocks") == 1);
  const pb::GetBlockResponse read = Must(other.api.GetBlock(first.cid()));
  CHECK(read.data() == "some bytes");
  CHECK(read.source() == pb::GetBlockResponse::SOURCE_BLOCK);
  CHECK_FALSE(Must(world.api().PutBlock(BlockOf(""))).existed());
  CHECK(Must(world.api().GetBlock(ipld::RawCid("").ToString())).data().empty());

  const std::string map = "\xA1\x61\x61\x01";  // {"a": 1}
  const pb::PutBlockResponse cbor = Must(world.api().PutBlock(BlockOf(map, pb::BLOCK_CODEC_DAG_CBOR)));
  CHECK(cbor.cid() == ipld::DagCborCid(map).ToString());
  CHECK(Must(world.api().GetBlock(cbor.cid())).data() == map);
  const absl::Status not_canonical =
      world.api().PutBlock(BlockOf("\xA1\x61\x61\x18\x01", pb::BLOCK_CODEC_DAG_CBOR)).status();
  CHECK(DetailOf(not_canonical).field_violation().field() == "data");

  pb::PutBlockRequest expecting = BlockOf("some bytes");
  expecting.set_expected_cid(first.cid());
  Must(world.api().PutBlock(expecting).status());
  expecting.set_expected_cid(cbor.cid());
  CHECK(DetailOf(world.api().PutBlock(expecting).status()).field_violation().field() == "expected_cid");
  CHECK(DetailOf(world.api().PutBlock(BlockOf(std::string(512 * 1024 + 1, 'x'))).status()).limit().name() == "data");
  for (const char* cid : {"", "x", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyk", "QmYwAPJzv5CZsnA"}) {
    INFO(cid);
    CHECK(DetailOf(world.api().GetBlock(cid).status()).field_violation().field() == "cid");
  }
}

TEST_CASE("A chunk of a state is a block, and stays one when a user stores it as well", "[blocks]") {
  World world;
  pb::SaveRequest save = SaveOf(Order("1"));
  const std::string chunk(512 * 1024, 'c');
  save.mutable_state()->set_content_type("text/plain");
  save.mutable_state()->set_data(chunk + "rest");
  world.StartDaemon({"limits.max_state_size=1MiB"});
  Must(world.api().Save(save).status());
  CHECK(Must(world.api().GetBlock(ipld::RawCid("rest").ToString())).source() == pb::GetBlockResponse::SOURCE_BLOCK);
  CHECK(Must(world.api().PutBlock(BlockOf("rest"))).existed());
  CHECK(Must(world.api().PutBlock(BlockOf(chunk))).existed());
  CHECK((Must(world.api().Load(Order("1"))).state().payload().data() == save.state().data()));
  CHECK((Must(world.api().GetBlock(ipld::RawCid(chunk).ToString())).data() == chunk));
}

TEST_CASE("A block whose bytes were altered is never returned, and stored anew by who has it", "[blocks]") {
  World world;
  const std::string cid = Must(world.api().PutBlock(BlockOf("right"))).cid();
  world.Publish("$KV.cim-blocks." + cid, {}, "wrong");
  const pb::ErrorDetail corrupt = DetailOf(world.api().GetBlock(cid).status());
  CHECK(corrupt.reason() == pb::ERROR_REASON_CORRUPT_DATA);
  CHECK(corrupt.data_loss().stream() == "KV_cim-blocks");
  CHECK(corrupt.data_loss().expected_cid() == cid);
  CHECK(corrupt.data_loss().actual_cid() == ipld::RawCid("wrong").ToString());
  CHECK_FALSE(Must(world.api().PutBlock(BlockOf("right"))).existed());
  CHECK(Must(world.api().GetBlock(cid)).data() == "right");
}

TEST_CASE("An event, its payload and an entry of a chain are read by their CIDs, also by an index made anew",
          "[blocks]") {
  World world;
  const pb::SaveResponse saved = Must(world.api().Save(SaveOf(Order("1"), 2, "{\"a\":1}")));
  const pb::AppendToChainResponse entry = Must(world.api().AppendToChain(AppendTo("audit", "{\"b\":2}")));
  const std::string payload = ipld::RawCid("{\"a\":1}").ToString();
  const auto check = [&] {
    for (const std::string& cid : {saved.events(0).cid(), saved.events(1).cid(), entry.cid()}) {
      const pb::GetBlockResponse block = EventuallyGetBlock(world.api(), cid);
      CHECK(block.source() == pb::GetBlockResponse::SOURCE_EVENT);
      CHECK(ipld::DagCborCid(block.data()).ToString() == cid);
    }
    const pb::GetBlockResponse content = EventuallyGetBlock(world.api(), payload);
    CHECK(content.source() == pb::GetBlockResponse::SOURCE_PAYLOAD);
    CHECK(content.data() == "{\"a\":1}");
    CHECK(EventuallyGetBlock(world.api(), ipld::RawCid("{\"b\":2}").ToString()).data() == "{\"b\":2}");
  };
  check();
  CHECK(ReasonOf(world.api().GetBlock(ipld::DagCborCid("nothing").ToString()).status()) ==
        pb::ERROR_REASON_BLOCK_NOT_FOUND);

  const std::string index = world.daemon().data_dir() + "/index.db";
  REQUIRE(std::filesystem::exists(index));
  (void)world.daemon().Terminate();
  for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(index + end);
  Must(world.daemon().Restart());
  check();

  // What a user has stored goes first.
  CHECK_FALSE(Must(world.api().PutBlock(BlockOf("{\"a\":1}"))).existed());
  CHECK(Must(world.api().GetBlock(payload)).source() == pb::GetBlockResponse::SOURCE_BLOCK);
}

TEST_CASE("An event whose stored bytes were altered is not returned as a block", "[blocks]") {
  World world;
  const pb::SaveResponse saved = Must(world.api().Save(SaveOf(Order("1"), 1, "{\"right\":1}")));
  (void)EventuallyGetBlock(world.api(), saved.events(0).cid());
  // What somebody else writes who says that it is another payload than it is.
  jetstream::Headers headers = EventHeaders(world, "CIM-EVENTS+sales+order", 1);
  world.Publish("cim.events.sales.order.2.happened.v1", AsEntity("2", headers), "{\"wrong\":1}");
  const std::string claimed = ipld::RawCid("{\"only there\":1}").ToString();
  world.Publish("cim.events.sales.order.3.happened.v1", WithPayloadCid(claimed, AsEntity("3", headers)), "{}");
  absl::Status status;
  const bool refused = PollUntil(
      [&] {
        status = world.api().GetBlock(claimed).status();
        return ReasonOf(status) == pb::ERROR_REASON_CORRUPT_DATA;
      },
      kPatience);
  INFO(status);
  CHECK(refused);
  CHECK(DetailOf(status).data_loss().expected_cid() == claimed);
  CHECK(DetailOf(status).data_loss().sequence() == 3);
  // The same payload is intact elsewhere.
  CHECK(Must(world.api().GetBlock(ipld::RawCid("{\"right\":1}").ToString())).data() == "{\"right\":1}");
}

}  // namespace
}  // namespace persistd::integration
