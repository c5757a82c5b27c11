// The limits of a call: just below them it works, just above them the error names field, limit and key.
#include <cstdint>
#include <random>
#include <string>

#include "client/cpp/client.h"
#include "client/cpp/requests.h"
#include "tests/integration/api.h"
#include "tests/testing/catch.h"
#include "tests/testing/daemon.h"
#include "tests/testing/must.h"

namespace persistd::integration {
namespace {

using testing::Daemon;
using testing::Must;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;

std::string Bytes(uint64_t count) {
  std::mt19937 random(7);  // Not compressible, and no text.
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

struct Limit {
  std::string name;
  uint64_t limit = 0;
  uint64_t value = 0;
  std::string config_key = {};
};

void CheckTooLarge(const absl::Status& status, const Limit& expected) {
  INFO(status.ToString());
  const pb::ErrorDetail detail = DetailOf(status);
  CHECK(absl::IsResourceExhausted(status));
  CHECK(detail.reason() == pb::ERROR_REASON_TOO_LARGE);
  CHECK_FALSE(detail.retryable());
  CHECK(detail.limit().name() == expected.name);
  CHECK(detail.limit().limit() == expected.limit);
  CHECK(detail.limit().value() == expected.value);
  CHECK(detail.limit().config_key() == expected.config_key);
}

TEST_CASE("1000 events are saved at once, 1001 are refused", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  CheckTooLarge(api.Save(SaveOf(Order("1"), 1001)).status(), {.name = "events", .limit = 1000, .value = 1001});
  const pb::SaveResponse saved = Must(api.Save(SaveOf(Order("1"), 0, 1000, "{}")));
  CHECK(saved.events_size() == 1000);
  CHECK(saved.metadata().version() == 1000);
  CHECK(Must(api.History(Order("1"))).size() == 1000);
}

TEST_CASE("An event and a state of 512 KiB are stored, a byte more is refused", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  const std::string largest = Bytes(512 * kKiB);
  pb::SaveRequest save = SaveOf(Order("1"), 2);
  save.mutable_events(1)->mutable_payload()->set_data(largest);
  save.mutable_state()->set_data(largest);
  Must(api.Save(save).status());
  const pb::LoadResponse loaded = Must(api.Load(Order("1")));
  CHECK(loaded.state().payload().data() == largest);
  CHECK(Must(api.History(Order("1"))).at(1).payload().data() == largest);

  save.mutable_state()->set_data(largest + "x");
  CheckTooLarge(api.Save(save).status(),
                {.name = "state", .limit = 512 * kKiB, .value = 512 * kKiB + 1, .config_key = "limits.max_state_size"});
  save.clear_state();
  save.mutable_events(1)->mutable_payload()->set_data(largest + "x");
  CheckTooLarge(api.Save(save).status(), {.name = "events[1].payload",
                                          .limit = 512 * kKiB,
                                          .value = 512 * kKiB + 1,
                                          .config_key = "limits.max_event_size"});
  CHECK(Must(api.GetMetadata(Order("1"))).version() == 2);
}

// A request of exactly `size` bytes.
pb::SaveRequest RequestOf(uint64_t size) {
  pb::SaveRequest save = SaveOf(Order("1"), 9, std::string(450 * kKiB, 'x'));
  std::string& last = *save.mutable_events(8)->mutable_payload()->mutable_data();
  while (save.ByteSizeLong() != size) {
    const uint64_t now = save.ByteSizeLong();
    last.resize(now > size ? last.size() - (now - size) : last.size() + (size - now));
  }
  return save;
}

TEST_CASE("A request of 4 MiB is taken; larger ones are refused, a byte as well as a lot", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  Must(api.Save(RequestOf(4 * kMiB)).status());
  CheckTooLarge(api.Save(RequestOf(4 * kMiB + 1)).status(),
                {.name = "request", .limit = 4 * kMiB, .value = 4 * kMiB + 1, .config_key = "limits.max_request_size"});
  const absl::Status huge = api.Save(SaveOf(Order("1"), 60, std::string(500 * kKiB, 'x'))).status();
  INFO(huge.ToString());
  CHECK(absl::IsResourceExhausted(huge));
  CHECK(Must(api.GetMetadata(Order("1"))).version() == 9);
  const pb::GetServerInfoResponse info = Must(api.GetServerInfo());
  CHECK(info.max_request_bytes() == 4 * kMiB);
  CHECK(info.max_event_bytes() == 512 * kKiB);
  CHECK(info.max_state_bytes() == 512 * kKiB);
}

TEST_CASE("1000 events of the largest request are one save", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  const std::string data = Bytes(4000);
  Must(api.Save(SaveOf(Order("1"), 0, 1000, data)).status());
  for (const pb::RecordedEvent& event : Must(api.History(Order("1")))) REQUIRE(event.payload().data() == data);
}

TEST_CASE("However many checks of a commit fail, the error says how many and reaches the caller", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  const auto caller = Must(client::Client::Connect({.address = daemon->address()}));
  pb::SaveAllRequest request;
  constexpr uint32_t kSaves = 100;
  for (uint32_t i = 0; i < kSaves; ++i) {
    *request.add_saves() = SaveOf(Order(std::string(100, 'x') + std::to_string(i)), 5, 1, "{}");
  }
  const pb::ErrorDetail detail = DetailOf(caller.SaveAll(request).status());
  CHECK(detail.reason() == pb::ERROR_REASON_VERSION_CONFLICT);
  CHECK(detail.failed_checks_size() >= 10);
  CHECK(static_cast<uint32_t>(detail.failed_checks_size()) + detail.failed_checks_omitted() == kSaves);
}

TEST_CASE("Limits are those of the configuration", "[limits]") {
  const auto daemon = Must(Daemon::Start({.sets = {"limits.max_event_size=900KiB", "limits.max_state_size=1KiB",
                                                   "limits.max_request_size=1MiB", "limits.max_load_size=1MiB"}}));
  Api api(daemon->address());
  pb::SaveRequest save = SaveOf(Order("1"), 1, std::string(900 * kKiB, 'x'));
  *save.mutable_state() = client::JsonPayload(std::string(kKiB, '1'));
  Must(api.Save(save).status());
  save.mutable_state()->set_data(std::string(kKiB + 1, '1'));
  CheckTooLarge(api.Save(save).status(),
                {.name = "state", .limit = kKiB, .value = kKiB + 1, .config_key = "limits.max_state_size"});
  save.clear_state();
  save.mutable_events(0)->mutable_payload()->set_data(std::string(900 * kKiB + 1, 'x'));
  CheckTooLarge(api.Save(save).status(), {.name = "events[0].payload",
                                          .limit = 900 * kKiB,
                                          .value = 900 * kKiB + 1,
                                          .config_key = "limits.max_event_size"});
}

TEST_CASE("Metadata at its limits is stored with every event, and refused above them", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  pb::SaveRequest save = SaveOf(Order("1"));
  pb::EventMetadata& metadata = *save.mutable_events(0)->mutable_metadata();
  metadata.set_actor(std::string(256, 'a'));
  metadata.set_correlation_id(std::string(256, 'c'));
  (*metadata.mutable_custom())["k"] = std::string(8 * kKiB - 1, 'v');
  for (int i = 0; i < 32; ++i) save.mutable_options()->add_tags(std::string(126, 't') + std::to_string(10 + i));
  (*save.mutable_options()->mutable_metadata())["k"] = std::string(8 * kKiB - 1, 'w');
  Must(api.Save(save).status());
  const pb::RecordedEvent stored = Must(api.History(Order("1"))).at(0);
  CHECK(stored.metadata().SerializeAsString() == metadata.SerializeAsString());
  CHECK(Must(api.GetMetadata(Order("1"))).tags_size() == 32);

  const auto refused_at = [&](const pb::SaveRequest& request, const std::string& field) {
    const absl::Status status = api.Save(request).status();
    INFO(status.ToString());
    CHECK(absl::IsInvalidArgument(status));
    CHECK(DetailOf(status).field_violation().field() == field);
  };
  pb::SaveRequest wrong = save;
  (*wrong.mutable_events(0)->mutable_metadata()->mutable_custom())["k"] += "v";
  refused_at(wrong, "events[0].metadata.custom");
  wrong = save;
  wrong.mutable_events(0)->mutable_metadata()->mutable_actor()->push_back('a');
  refused_at(wrong, "events[0].metadata.actor");
  wrong = save;
  wrong.mutable_options()->add_tags("one more");
  refused_at(wrong, "options.tags");
  wrong = save;
  for (int i = 0; i < 65; ++i) (*wrong.mutable_events(0)->mutable_metadata()->mutable_custom())[std::to_string(i)] = "";
  refused_at(wrong, "events[0].metadata.custom");
}

TEST_CASE("Metadata that fits its limits but not the encoded headers is refused at its event", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  // Percent-encoded, JSON in between: one byte becomes three or more.
  std::string wide;
  while (wide.size() < 8 * kKiB - 8) wide += "\xc3\xa9";
  pb::SaveRequest save = SaveOf(Order("1"), 2);
  (*save.mutable_events(1)->mutable_metadata()->mutable_custom())["k"] = wide;
  (*save.mutable_options()->mutable_metadata())["k"] = wide;
  const absl::StatusOr<pb::SaveResponse> wide_saved = api.Save(save);
  INFO(wide_saved.status().ToString());
  CHECK(wide_saved.ok());  // 48 KiB of headers fit.

  std::string control(8 * kKiB - 8, '\x01');  // JSON writes six characters for each.
  (*save.mutable_events(1)->mutable_metadata()->mutable_custom())["k"] = control;
  (*save.mutable_options()->mutable_metadata())["k"] = control;
  const absl::Status refused = api.Save(save).status();
  INFO(refused.ToString());
  CHECK(ReasonOf(refused) == pb::ERROR_REASON_TOO_LARGE);
  CHECK(DetailOf(refused).limit().name() == "events[1].metadata");
  CHECK(DetailOf(refused).limit().value() > DetailOf(refused).limit().limit());
}

TEST_CASE("A load that would be larger than max_load_size says how to read it instead", "[limits]") {
  const auto daemon = Must(Daemon::Start({}));
  Api api(daemon->address());
  for (int i = 0; i < 3; ++i) Must(api.Save(SaveOf(Order("1"), 4, std::string(400 * kKiB, 'x'))).status());
  const absl::Status refused = api.Load(Order("1")).status();
  INFO(refused.ToString());
  CHECK(ReasonOf(refused) == pb::ERROR_REASON_TOO_LARGE);
  CHECK(DetailOf(refused).limit().config_key() == "limits.max_load_size");
  CHECK(Must(api.History(Order("1"))).size() == 12);
  pb::SaveRequest with_state = SaveOf(Order("1"));
  *with_state.mutable_state() = client::JsonPayload("{}");
  Must(api.Save(with_state).status());
  CHECK(Must(api.Load(Order("1"))).state().version() == 13);
}

}  // namespace
}  // namespace persistd::integration
