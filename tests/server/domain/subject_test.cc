#include "server/domain/subject.h"

#include <string>
#include <vector>

#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::domain {
namespace {

using ::persistd::testing::AnyBytes;
using ::persistd::testing::CheckProperty;
using ::persistd::testing::Utf8Text;

constexpr char kTokenBytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

rc::Gen<std::string> Token() {
  return rc::gen::suchThat(
      rc::gen::resize(64, rc::gen::container<std::string>(rc::gen::elementOf(std::string(kTokenBytes)))),
      [](const std::string& token) { return !token.empty() && token.size() <= kMaxTokenBytes && token[0] != '_'; });
}

rc::Gen<std::string> EntityId() {
  return rc::gen::suchThat(rc::gen::resize(200, Utf8Text(kMaxEntityBytes)),
                           [](const std::string& id) { return !id.empty(); });
}

AggregateRef Ref(std::string entity_id) {
  return {.context = "sales", .aggregate = "order", .entity_id = std::move(entity_id)};
}

std::string FieldOf(const absl::Status& status) {
  return GetErrorDetail(status).value_or(cim::persistence::v1::ErrorDetail()).field_violation().field();
}

TEST_CASE("An entity id survives encoding and decoding, whatever UTF-8 it is", "[domain]") {
  CheckProperty([] {
    const std::string id = *EntityId();
    const std::string token = EncodeEntity(id);
    RC_ASSERT(token.find_first_not_of(std::string(kTokenBytes) + "=") == std::string::npos);
    RC_ASSERT(DecodeEntity(token) == id);
  });
}

TEST_CASE("A text decodes only when encoding makes exactly that text", "[domain]") {
  CheckProperty([] {
    const std::string token = *rc::gen::oneOf(
        AnyBytes(), rc::gen::container<std::string>(rc::gen::elementOf(std::string("=0123456789ABCDEFabcdef_."))));
    const std::optional<std::string> id = DecodeEntity(token);
    if (id.has_value()) RC_ASSERT(EncodeEntity(*id) == token);
  });
}

TEST_CASE("Second spellings of an entity id are refused", "[domain]") {
  for (const char* token : {"",   // Empty.
                            "=",  // Cut off.
                            "=4",
                            "a=4",
                            "=41",  // 'A' needs no escape.
                            "=5F",
                            "=2D",
                            "=2e",
                            "=c3=a4",  // Lower case.
                            "=2G",
                            "=+1",
                            "= 1",
                            "==",
                            "a.b",
                            "a b",
                            "a*",
                            ">",
                            "a\r\n",
                            "\xC3\xA4",
                            "=FF",
                            "=C3",  // No UTF-8.
                            "=C0=AF",
                            "=ED=A0=80",        // Overlong; a surrogate.
                            "=F4=90=80=80"}) {  // Beyond U+10FFFF.
    INFO(token);
    CHECK_FALSE(DecodeEntity(token).has_value());
  }
  CHECK_FALSE(DecodeEntity(absl::string_view("a\0", 2)).has_value());
  CHECK(DecodeEntity(std::string(128, 'a')) == std::string(128, 'a'));
  CHECK_FALSE(DecodeEntity(std::string(129, 'a')).has_value());
}

TEST_CASE("Hostile entity ids are one harmless token", "[domain]") {
  CHECK(EncodeEntity("a\r\nPUB x 1") == "a=0D=0APUB=20x=201");
  CHECK(EncodeEntity("*") == "=2A");
  CHECK(EncodeEntity(">") == "=3E");
  CHECK(EncodeEntity("a.b") == "a=2Eb");
  CHECK(EncodeEntity("=41") == "=3D41");
  CHECK(EncodeEntity(std::string("\0", 1)) == "=00");
  CHECK(EncodeEntity("\xF0\x9F\x98\x80") == "=F0=9F=98=80");
  for (const std::string& id :
       {std::string("\r\n"), std::string("*"), std::string(">"), std::string("."), std::string("\0", 1),
        std::string("\xF0\x9F\x98\x80"), std::string("../../etc"), std::string("=00"), std::string(128, '.')}) {
    CHECK(ValidateRef(Ref(id)).ok());
    CHECK(DecodeEntity(EncodeEntity(id)) == id);
  }
}

TEST_CASE("Refs are refused at the field that is wrong", "[domain]") {
  CHECK(ValidateRef(Ref("1")).ok());
  CHECK(FieldOf(ValidateRef({.context = "", .aggregate = "order", .entity_id = "1"})) == "ref.context");
  CHECK(FieldOf(ValidateRef({.context = "sales", .aggregate = "a.b", .entity_id = "1"}, "checks[1].ref.")) ==
        "checks[1].ref.aggregate");
  for (const std::string& id :
       {std::string(), std::string(129, 'a'), std::string(200, 'a'), std::string("\xFF"), std::string("a\xC3")}) {
    const absl::Status status = ValidateRef(Ref(id));
    CHECK(absl::IsInvalidArgument(status));
    CHECK(FieldOf(status) == "ref.entity_id");
  }
  CHECK(std::string(ValidateRef(Ref(std::string(200, 'a'))).message()) ==
        "ref.entity_id: must be at most 128 bytes, has 200");
}

TEST_CASE("Tokens are 1 to 64 of the allowed characters and no leading underscore", "[domain]") {
  for (const std::string& token :
       {std::string("a"), std::string("A-b_9"), std::string("-"), std::string("0"), std::string(64, 'x')}) {
    INFO(token);
    CHECK(ValidateToken(token, "type").ok());
  }
  for (const std::string& token : {std::string(), std::string("_deleted"), std::string("a.b"), std::string("*"),
                                   std::string(">"), std::string("a b"), std::string("a\r\n"), std::string("\xC3\xA4"),
                                   std::string("a+b"), std::string("a\0b", 3), std::string(65, 'x')}) {
    INFO(token);
    CHECK(FieldOf(ValidateToken(token, "type")) == "type");
  }
}

TEST_CASE("Subjects and filters are spelled as the design says", "[domain]") {
  const AggregateRef ref = Ref("A 1");
  CHECK(EventSubject(ref, "placed", 3) == "cim.events.sales.order.A=201.placed.v3");
  CHECK(EventFilter(ref) == "cim.events.sales.order.A=201.>");
  CHECK(StateSubject(ref, 2) == "cim.aggregates.sales.order.A=201.state.v2");
  CHECK(StateFilter(ref) == "cim.aggregates.sales.order.A=201.state.>");
}

TEST_CASE("Parsing is the inverse of building a subject", "[domain]") {
  CheckProperty([] {
    const AggregateRef ref{.context = *Token(), .aggregate = *Token(), .entity_id = *EntityId()};
    const std::string type = *rc::gen::oneOf(Token(), rc::gen::just(std::string("_deleted")));
    const auto version = *rc::gen::inRange<uint32_t>(1, 1'000'000);
    const std::string event = EventSubject(ref, type, version);
    const std::string state = StateSubject(ref, version);
    for (const std::string& subject : {event, state, EventFilter(ref), StateFilter(ref)}) {
      RC_ASSERT(subject.find_first_not_of(std::string(kTokenBytes) + "=.>") == std::string::npos);
      RC_ASSERT(subject.size() < 1024u);
    }
    RC_ASSERT(ValidateRef(ref).ok());
    const std::optional<ParsedEventSubject> parsed = ParseEventSubject(event);
    RC_ASSERT(parsed.has_value());
    RC_ASSERT(parsed->ref == ref);
    RC_ASSERT(parsed->type == type);
    RC_ASSERT(parsed->schema_version == version);
    const std::optional<ParsedStateSubject> parsed_state = ParseStateSubject(state);
    RC_ASSERT(parsed_state.has_value());
    RC_ASSERT(parsed_state->ref == ref);
    RC_ASSERT(parsed_state->schema_version == version);
    RC_ASSERT(!ParseEventSubject(state).has_value());
    RC_ASSERT(!ParseStateSubject(event).has_value());
  });
}

TEST_CASE("Every entry of a chain has the one subject of its chain", "[domain]") {
  const AggregateRef chain = ChainRef("audit 2026");
  CHECK(EventSubject(chain, kChainEntryType, 1) == "cim.chains.audit=202026");
  CHECK(EventFilter(chain) == "cim.chains.audit=202026");
  CHECK(IsCheckSubject(CheckSubject(Ref("1"))));
  CHECK_FALSE(IsCheckSubject(EventSubject(ChainRef("_check"), kChainEntryType, 1)));
  CHECK(IsChain(chain));
  CHECK_FALSE(IsChain(Ref("1")));
  CheckProperty([] {
    const AggregateRef ref = ChainRef(*EntityId());
    const std::string subject = EventSubject(ref, kChainEntryType, 1);
    RC_ASSERT(subject == EventFilter(ref));
    RC_ASSERT(subject.find_first_not_of(std::string(kTokenBytes) + "=.") == std::string::npos);
    const std::optional<ParsedEventSubject> parsed = ParseEventSubject(subject);
    RC_ASSERT(parsed.has_value());
    RC_ASSERT(parsed->ref == ref);
    RC_ASSERT(parsed->type == kChainEntryType);
    RC_ASSERT(parsed->schema_version == 1u);
    RC_ASSERT(!ParseStateSubject(subject).has_value());
  });
  CheckProperty([] {
    const std::string subject =
        "cim.chains." + *rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab.=014_v>*")));
    const std::optional<ParsedEventSubject> parsed = ParseEventSubject(subject);
    if (parsed.has_value()) RC_ASSERT(EventSubject(parsed->ref, parsed->type, parsed->schema_version) == subject);
  });
}

TEST_CASE("Callers cannot name a chain as an aggregate", "[domain]") {
  CHECK(FieldOf(ValidateRef(ChainRef("audit"))) == "ref.context");
  // Nor does an aggregate's subject lead to one.
  CHECK_FALSE(ParseEventSubject("cim.events._chains.chain.audit.entry.v1").has_value());
  for (const char* subject : {"cim.chains", "cim.chains.", "cim.chains.a.b", "cim.chains.=41", "cim.chains.*",
                              "cim.chains.>", "cim.chains.a b", "cim.chainsa", "Cim.chains.a"}) {
    INFO(subject);
    CHECK_FALSE(ParseEventSubject(subject).has_value());
  }
}

TEST_CASE("Subjects that are not ours are not parsed", "[domain]") {
  for (const char* subject : {"",
                              "cim.events",
                              "cim.events.a.b.c.d",
                              "cim.events.a.b.c.d.v1.x",
                              "cim.events.a.b.c.d.v0",
                              "cim.events.a.b.c.d.v01",
                              "cim.events.a.b.c.d.v1000000",
                              "cim.events.a.b.c.d.1",
                              "cim.events.a.b.c.d.v",
                              "cim.events.a.b.c.d.v+1",
                              "cim.events.a.b.c.d.v1 ",
                              "cim.events._a.b.c.d.v1",
                              "cim.events.a._b.c.d.v1",
                              "cim.events.a.b.=41.d.v1",
                              "cim.events.a.b..d.v1",
                              "cim.events.a.b.*.d.v1",
                              "cim.events.a.b.c.>.v1",
                              "cim.events.a.b.c.d e.v1",
                              "xim.events.a.b.c.d.v1",
                              "cim.Events.a.b.c.d.v1",
                              "cim.aggregates.a.b.c.d.v1"}) {
    INFO(subject);
    CHECK_FALSE(ParseEventSubject(subject).has_value());
    CHECK_FALSE(ParseStateSubject(subject).has_value());
  }
  CHECK(ParseEventSubject("cim.events.a.b.c._deleted.v999999").has_value());
  CheckProperty([] {
    // Whatever is parsed has one spelling.
    const std::string subject =
        "cim.events." + *rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab.=014_v>*")));
    const std::optional<ParsedEventSubject> parsed = ParseEventSubject(subject);
    if (parsed.has_value()) RC_ASSERT(EventSubject(parsed->ref, parsed->type, parsed->schema_version) == subject);
  });
}

}  // namespace
}  // namespace persistd::domain
