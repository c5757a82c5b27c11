// The disk under JetStream, or the space it may use, is full in the middle of saves: they fail, nothing acknowledged is
// lost, nothing is half there, and saves work again once there is room.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "tests/fault/small_disk.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"
#include "tests/testing/nats_server.h"
#include "tests/testing/poll.h"
#include "tests/testing/temp_dir.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;
using testing::Daemon;
using testing::Must;
using testing::NatsServer;
using testing::PollUntil;

constexpr int kEvents = 5;
constexpr size_t kEventBytes = 60'000;

pb::AggregateRef Ref() { return client::Ref("fault", "big", "1"); }

// Bytes that do not compress.
std::string Noise(size_t bytes, uint64_t seed) {
  std::string text(bytes, '\0');
  for (char& c : text) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(seed >> 56);
  }
  return text;
}

pb::SaveRequest SaveOf(uint64_t number, int events) {
  pb::SaveRequest request;
  *request.mutable_ref() = Ref();
  request.set_request_id(client::NewRequestId());
  for (int i = 0; i < events; ++i) {
    pb::NewEvent event = client::JsonEvent("changed", Noise(kEventBytes, number * kEvents + static_cast<uint64_t>(i)));
    event.mutable_payload()->set_content_type("application/octet-stream");
    *request.add_events() = std::move(event);
  }
  return request;
}

// All events, which must be whole saves; their commit ids.
std::vector<std::string> CommitIds(const client::Client& client) {
  pb::GetHistoryRequest request;
  *request.mutable_ref() = Ref();
  client::HistoryReader reader = client.History(std::move(request));
  std::vector<std::string> ids;
  for (uint64_t version = 1;; ++version) {
    const std::optional<pb::RecordedEvent> event = Must(reader.Next());
    if (!event.has_value()) break;
    REQUIRE(event->version() == version);
    REQUIRE(event->payload().data().size() == kEventBytes);
    ids.push_back(event->commit_id());
  }
  REQUIRE(Must(client.GetMetadata(Ref())).version() == ids.size());
  return ids;
}

// The save that failed, and why.
struct Failed {
  pb::SaveRequest request;
  absl::Status status;
};

// Saves until a save fails, which must happen.
Failed FillUp(const client::Client& client, int events, std::vector<std::string>& acknowledged) {
  for (uint64_t number = 0; number < 400; ++number) {
    const pb::SaveRequest request = SaveOf(number, events);
    const absl::StatusOr<pb::SaveResponse> answer = client.Save(request);
    if (!answer.ok()) return {.request = request, .status = answer.status()};
    acknowledged.insert(acknowledged.end(), static_cast<size_t>(events), request.request_id());
  }
  FAIL("the disk never filled up");
  return {};
}

void RequireStorageFull(const absl::Status& status) {
  INFO(status);
  REQUIRE(absl::IsResourceExhausted(status));
  REQUIRE(client::GetErrorDetail(status).value().reason() == pb::ERROR_REASON_STORAGE_FULL);
}

client::Client ClientOf(const Daemon& daemon, std::chrono::milliseconds timeout) {
  return Must(client::Client::Connect(
      {.address = daemon.address(), .default_timeout = timeout, .retry = {.max_elapsed = 0ms}}));
}

// There is room again: the save that failed goes through, once, and so do others.
void RequireWorksAgain(const client::Client& client, const Failed& failed, std::vector<std::string> acknowledged) {
  const int events = failed.request.events_size();
  const auto remember = [&](const pb::SaveRequest& request) {
    acknowledged.insert(acknowledged.end(), static_cast<size_t>(events), request.request_id());
  };
  // It may have been completed meanwhile only if it was said that this may happen.
  const pb::SaveResponse repeated = Must(client.Save(failed.request));
  if (repeated.deduplicated()) {
    INFO(failed.status);
    REQUIRE(client::MayHaveBeenStored(failed.status));
  }
  remember(failed.request);
  const pb::SaveRequest next = SaveOf(900, events);
  REQUIRE_FALSE(Must(client.Save(next)).deduplicated());
  remember(next);
  REQUIRE(Must(client.Save(failed.request)).deduplicated());
  const std::vector<std::string> stored = CommitIds(client);
  REQUIRE((stored == acknowledged));
}

// nats-server 2.15.1 checks this limit message by message: it may store the first messages of a batch, not the others,
// and then gives no answer. It may complete that batch when it starts again, so the outcome of this one save is
// unknown.
TEST_CASE("A JetStream that has used up the space it may use refuses saves, and takes them when it may use more",
          "[fault]") {
  const int events = GENERATE(1, kEvents, 2 * kEvents);
  const testing::TempDir data;
  std::vector<std::string> acknowledged;
  Failed failed;
  {
    const auto daemon =
        Must(Daemon::Start({.sets = {"nats.embedded.max_file_store_bytes=8MiB"}, .data_dir = data.path()}));
    const client::Client client = ClientOf(*daemon, 15s);
    failed = FillUp(client, events, acknowledged);
    if (!client::MayHaveBeenStored(failed.status)) RequireStorageFull(failed.status);
    REQUIRE(acknowledged.size() > 10);
    REQUIRE((CommitIds(client) == acknowledged));
    const absl::Status repeated = client.Save(failed.request).status();
    REQUIRE(client::GetErrorDetail(repeated).value().reason() ==
            client::GetErrorDetail(failed.status).value().reason());
    RequireStorageFull(client.Save(SaveOf(901, events)).status());
    REQUIRE((CommitIds(client) == acknowledged));
    daemon->Terminate();
  }
  const auto daemon =
      Must(Daemon::Start({.sets = {"nats.embedded.max_file_store_bytes=64MiB"}, .data_dir = data.path()}));
  RequireWorksAgain(ClientOf(*daemon, 15s), failed, std::move(acknowledged));
}

// After a write that failed nats-server 2.15.1 stores nothing more in that stream, also when there is room again, until
// it is restarted, and answers no publish, or that a batch is incomplete. Reads go on.
TEST_CASE("A full disk loses nothing and shows no half a save, and saves work again after it has grown", "[fault]") {
  const int events = GENERATE(1, kEvents);
  const auto disk = Must(SmallDisk::Make(8));
  const auto nats = Must(NatsServer::Start({.sync_always = true,
                                            .store_dir = absl::StrCat(disk->path(), "/store"),
                                            .max_file_store_bytes = 1u << 30,
                                            .wrapper = disk->wrapper()}));
  const auto daemon = Must(Daemon::Start({.sets = {absl::StrCat("nats.urls=[", nats->url(), "]")}}));
  const client::Client client = ClientOf(*daemon, 5s);
  std::vector<std::string> acknowledged;
  Failed failed = FillUp(client, events, acknowledged);
  REQUIRE(nats->log().find("no space left on device") != std::string::npos);
  REQUIRE(acknowledged.size() > 10);
  for (int attempt = 0; attempt < 2; ++attempt) {
    INFO(failed.status);
    REQUIRE((absl::IsUnavailable(failed.status) || absl::IsResourceExhausted(failed.status)));
    REQUIRE((CommitIds(client) == acknowledged));
    // An outcome that was unknown once stays so.
    if (const absl::Status again = client.Save(failed.request).status(); !client::MayHaveBeenStored(failed.status)) {
      failed.status = again;
    }
  }
  Must(disk->Resize(64));
  Must(nats->Restart());
  REQUIRE(PollUntil([&] { return client.GetMetadata(Ref()).ok(); }, 20s));
  RequireWorksAgain(client, failed, std::move(acknowledged));
}

}  // namespace
}  // namespace persistd::fault
