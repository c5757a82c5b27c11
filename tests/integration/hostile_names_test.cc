// Texts that try to break out of subjects, headers and protocol lines, in every text field of a save. Each is refused
// at its field or comes back as it was, and the streams hold what was saved and nothing else.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cpp/requests.h"
#include "server/domain/subject.h"
#include "server/domain/utf8.h"
#include "server/jetstream/reader.h"
#include "tests/integration/api.h"
#include "tests/integration/world.h"
#include "tests/testing/catch.h"

namespace persistd::integration {
namespace {

constexpr char kInjectionTrap[] = "INJECTED";  // A stream that catches what a broken-out text would publish.

std::string Repeat(const std::string& text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

std::vector<std::string> HostileTexts() {
  const std::string zero("a\0b", 3);
  return {
      "x\r\nPUB injected.a 2\r\nhi\r\n",
      "x\r\n\r\nNATS/1.0\r\nNats-Rollup: all\r\n\r\n",
      "x\nNats-Expected-Last-Subject-Sequence: 0",
      "\r\n",
      "\n",
      "x\r",
      "*",
      ">",
      "a.>",
      "a.*.b",
      ".",
      "..",
      "a.b",
      ".a",
      "a.",
      " ",
      "a b",
      " a",
      "a ",
      "\t",
      zero,
      std::string(1, '\0'),
      "$JS.API.STREAM.DELETE.CIM-EVENTS+t+x",
      "$JS",
      "_INBOX.x",
      "_deleted",
      "_",
      "%",
      "%0D%0A",
      "%2",
      "%%",
      "=0D=0A",
      "=",
      "==41",
      "\"",
      "\\",
      "\"},\"x\":{\"",
      "a/b",
      "../../etc/passwd",
      "a:b",
      "a,b;c",
      "\x1b[2J\x7f",
      "\xc2\x9b",      // A control character of the second set.
      "\xe2\x80\xae",  // Right-to-left override.
      "\xef\xbb\xbfx",
      "Ünïcödé",
      Repeat("\xf0\x9f\x92\xa5", 32),        // 128 bytes of emoji.
      Repeat("\xf0\x9f\x92\xa5", 32) + "x",  // 129.
      std::string(64, 'a'),
      std::string(65, 'a'),
      std::string(128, 'a'),
      std::string(200, 'a'),
      std::string(256, 'b'),
      std::string(257, 'b'),
      std::string(9000, 'c'),
      "\xff\xfe",       // Not UTF-8.
      "\xc0\xaf",       // Overlong.
      "\xed\xa0\x80",   // A surrogate.
      "a\xf0\x9f\x92",  // Cut off.
  };
}

bool Printable(const std::string& text, char least) {
  return std::all_of(text.begin(), text.end(), [least](char c) { return c >= least && c <= '~'; });
}

// The rules as the proto comments give them.
bool IsToken(const std::string& text) {
  return !text.empty() && text.size() <= 64 && text[0] != '_' && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}
bool IsEntity(const std::string& text) { return !text.empty() && text.size() <= 128; }
bool IsId(const std::string& text) { return !text.empty() && text.size() <= 128 && Printable(text, '!'); }
bool IsMetadataText(const std::string& text) { return text.size() <= 256; }
bool IsContentType(const std::string& text) {
  return text.size() <= 256 && Printable(text, ' ') && text.front() != ' ' && text.back() != ' ';
}
bool IsTag(const std::string& text) { return text.size() <= 128; }
bool IsCustom(const std::string& text) { return text.size() <= 8 * 1024 - 1; }  // The other half is one byte.

// A text field of a save: how to set it, how to find it in what comes back, and which texts it takes.
struct Field {
  std::string path;
  std::function<void(pb::SaveRequest&, const std::string&)> set;
  std::function<bool(const pb::LoadResponse&, const pb::RecordedEvent&, const std::string&)> came_back;
  std::function<bool(const std::string&)> takes;
};

std::vector<Field> Fields() {
  using Load = pb::LoadResponse;
  using Event = pb::RecordedEvent;
  using Save = pb::SaveRequest;
  using Text = std::string;
  const auto event_of = [](Save& save) { return save.mutable_events(0); };
  const auto metadata_of = [](Save& save) { return save.mutable_events(0)->mutable_metadata(); };
  return {
      {"ref.context", [](Save& s, const Text& t) { s.mutable_ref()->set_context(t); },
       [](const Load&, const Event& e, const Text& t) { return e.ref().context() == t; }, IsToken},
      {"ref.aggregate", [](Save& s, const Text& t) { s.mutable_ref()->set_aggregate(t); },
       [](const Load&, const Event& e, const Text& t) { return e.ref().aggregate() == t; }, IsToken},
      {"ref.entity_id", [](Save& s, const Text& t) { s.mutable_ref()->set_entity_id(t); },
       [](const Load&, const Event& e, const Text& t) { return e.ref().entity_id() == t; }, IsEntity},
      {"events[0].type", [=](Save& s, const Text& t) { event_of(s)->set_type(t); },
       [](const Load&, const Event& e, const Text& t) { return e.type() == t; }, IsToken},
      {"events[0].event_id", [=](Save& s, const Text& t) { event_of(s)->set_event_id(t); },
       [](const Load&, const Event& e, const Text& t) { return e.event_id() == t; }, IsId},
      {"events[0].payload.content_type",
       [=](Save& s, const Text& t) { event_of(s)->mutable_payload()->set_content_type(t); },
       [](const Load&, const Event& e, const Text& t) { return e.payload().content_type() == t; }, IsContentType},
      {"events[0].metadata.correlation_id", [=](Save& s, const Text& t) { metadata_of(s)->set_correlation_id(t); },
       [](const Load&, const Event& e, const Text& t) { return e.metadata().correlation_id() == t; }, IsMetadataText},
      {"events[0].metadata.causation_id", [=](Save& s, const Text& t) { metadata_of(s)->set_causation_id(t); },
       [](const Load&, const Event& e, const Text& t) { return e.metadata().causation_id() == t; }, IsMetadataText},
      {"events[0].metadata.actor", [=](Save& s, const Text& t) { metadata_of(s)->set_actor(t); },
       [](const Load&, const Event& e, const Text& t) { return e.metadata().actor() == t; }, IsMetadataText},
      {"events[0].metadata.traceparent", [=](Save& s, const Text& t) { metadata_of(s)->set_traceparent(t); },
       [](const Load&, const Event&, const Text&) { return false; }, [](const Text&) { return false; }},
      {"events[0].metadata.custom", [=](Save& s, const Text& t) { (*metadata_of(s)->mutable_custom())["k"] = t; },
       [](const Load&, const Event& e, const Text& t) { return e.metadata().custom().at("k") == t; }, IsCustom},
      {"events[0].metadata.custom", [=](Save& s, const Text& t) { (*metadata_of(s)->mutable_custom())[t] = "v"; },
       [](const Load&, const Event& e, const Text& t) { return e.metadata().custom().count(t) == 1; }, IsCustom},
      {"state.content_type", [](Save& s, const Text& t) { s.mutable_state()->set_content_type(t); },
       [](const Load& l, const Event&, const Text& t) { return l.state().payload().content_type() == t; },
       IsContentType},
      {"options.tags[0]", [](Save& s, const Text& t) { s.mutable_options()->add_tags(t); },
       [](const Load& l, const Event&, const Text& t) { return l.metadata().tags(0) == t; }, IsTag},
      {"options.metadata", [](Save& s, const Text& t) { (*s.mutable_options()->mutable_metadata())["k"] = t; },
       [](const Load& l, const Event&, const Text& t) { return l.metadata().metadata().at("k") == t; }, IsCustom},
      {"options.metadata", [](Save& s, const Text& t) { (*s.mutable_options()->mutable_metadata())[t] = "v"; },
       [](const Load& l, const Event&, const Text& t) { return l.metadata().metadata().count(t) == 1; }, IsCustom},
      {"request_id", [](Save& s, const Text& t) { s.set_request_id(t); },
       [](const Load&, const Event& e, const Text& t) { return e.commit_id() == t; }, IsId},
  };
}

domain::AggregateRef ToDomain(const pb::AggregateRef& ref) {
  return {.context = ref.context(), .aggregate = ref.aggregate(), .entity_id = ref.entity_id()};
}

// The subjects that each stream must hold, in order.
using StreamContents = std::map<std::string, std::vector<std::string>>;

void ExpectStored(const pb::SaveRequest& save, StreamContents& contents) {
  const domain::AggregateRef ref = ToDomain(save.ref());
  const std::string type = absl::StrCat("+", ref.context, "+", ref.aggregate);
  contents["CIM-EVENTS" + type].push_back(domain::EventSubject(ref, save.events(0).type(), 1));
  contents["CIM-AGGREGATES" + type].push_back(domain::StateSubject(ref, 1));
}

StreamContents ReadAllStreams(World& world) {
  StreamContents contents;
  jetstream::Reader reader(&world.live().connection());
  uint64_t listed = 0;
  while (true) {
    const jetstream::ApiAnswer names = world.live().Api("STREAM.NAMES", absl::StrCat("{\"offset\":", listed, "}"));
    if (names.body["streams"].is_null()) break;
    for (const auto& name : names.body["streams"]) contents[name.get<std::string>()];
    listed = contents.size();
    if (listed >= jetstream::UnsignedField(names.body, "total")) break;
  }
  for (auto& [stream, subjects] : contents) {
    const uint64_t count = world.live().CountMessages(stream);
    for (uint64_t sequence = 1; sequence <= count; ++sequence) {
      const auto message =
          Must(base::BlockOn(reader.Get(stream, sequence, jetstream::ReadFrom::kAnyReplica, jetstream::In(kPatience))));
      subjects.push_back(message.has_value() ? message->subject : "(missing)");
    }
  }
  return contents;
}

TEST_CASE("Hostile texts in any field are refused there or come back as they were, and nothing else is stored",
          "[hostile]") {
  World world({"repository.max_streams=1000"});
  world.live().MakeStream({{"name", kInjectionTrap}, {"subjects", {"injected", "injected.>"}}});
  StreamContents expected;
  expected[kInjectionTrap];
  int saved = 0;
  int refused = 0;
  for (const Field& field : Fields()) {
    for (const std::string& text : HostileTexts()) {
      INFO(field.path << " = \"" << absl::CHexEscape(text.substr(0, 100)) << "\" of " << text.size() << " bytes");
      pb::SaveRequest save = SaveOf(client::Ref("t", "x", absl::StrCat("e", saved, "-", refused)));
      *save.mutable_state() = client::JsonPayload("{}");
      field.set(save, text);
      const absl::StatusOr<pb::SaveResponse> answer = world.api().Save(save);
      const bool utf8 = domain::IsUtf8(text);
      if (utf8 && field.takes(text)) {
        REQUIRE(answer.status().ToString() == "OK");
        ++saved;
        ExpectStored(save, expected);
        const pb::LoadResponse loaded = Must(world.api().Load(save.ref()));
        const std::vector<pb::RecordedEvent> history = Must(world.api().History(save.ref()));
        REQUIRE(history.size() == 1);
        REQUIRE(field.came_back(loaded, history[0], text));
      } else {
        ++refused;
        INFO(answer.status().ToString());
        REQUIRE(absl::IsInvalidArgument(answer.status()));
        const pb::ErrorDetail detail = DetailOf(answer.status());
        REQUIRE(detail.reason() == pb::ERROR_REASON_INVALID_FIELD);
        // Protobuf itself refuses what is not UTF-8, without saying where.
        REQUIRE(detail.field_violation().field() == (utf8 ? field.path : "request"));
        // The answer is shown on terminals.
        REQUIRE(Printable(std::string(answer.status().message()), ' '));
      }
    }
  }
  REQUIRE(saved > 200);
  REQUIRE(refused > 200);
  const StreamContents found = ReadAllStreams(world);
  REQUIRE(found.size() == expected.size());
  for (const auto& [stream, subjects] : expected) {
    INFO(stream);
    REQUIRE(found.count(stream) == 1);
    REQUIRE(found.at(stream) == subjects);
  }
}

TEST_CASE("Hostile texts in reads are refused at their field", "[hostile]") {
  World world;
  Must(world.api().Save(SaveOf(Order("here"))).status());
  for (const std::string& text : HostileTexts()) {
    INFO(absl::CHexEscape(text.substr(0, 100)));
    const bool utf8 = domain::IsUtf8(text);
    const auto refused_at = [&](const absl::Status& status, const std::string& field) {
      INFO(status.ToString());
      REQUIRE(DetailOf(status).field_violation().field() == (utf8 ? field : "request"));
    };
    const absl::Status by_id = world.api().Load(Order(text)).status();
    if (utf8 && IsEntity(text)) {
      REQUIRE(ReasonOf(by_id) == pb::ERROR_REASON_AGGREGATE_NOT_FOUND);
    } else {
      refused_at(by_id, "ref.entity_id");
    }
    if (!utf8 || !IsToken(text)) {
      refused_at(world.api().GetMetadata(client::Ref(text, "order", "here")).status(), "ref.context");
      refused_at(world.api().Load(client::Ref("sales", text, "here")).status(), "ref.aggregate");
      if (text != "_deleted") {  // Reserved types may be asked for.
        pb::GetHistoryRequest history = HistoryOf(Order("here"));
        history.add_event_types(text);
        refused_at(world.api().History(history).status(), "event_types[0]");
      }
    }
  }
  REQUIRE(world.live().CountMessages("CIM-EVENTS+sales+order") == 1);
}

}  // namespace
}  // namespace persistd::integration
