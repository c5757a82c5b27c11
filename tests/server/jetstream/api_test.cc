#include "server/jetstream/api.h"

#include <chrono>

#include "cim/persistence/v1/errors.pb.h"
#include "server/domain/errors.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::jetstream {
namespace {

namespace pb = cim::persistence::v1;
using ::persistd::testing::Must;

TEST_CASE("An error inside an answer is read", "[jetstream]") {
  const ApiAnswer answer =
      Must(ParseApiAnswer(R"({"type":"x","error":{"code":404,"err_code":10059,"description":"stream not found"}})"));
  REQUIRE(answer.error.has_value());
  CHECK(answer.error->code == 404);
  CHECK(answer.error->err_code == kErrStreamNotFound);
  CHECK(answer.error->ToString() == "stream not found (10059)");
  CHECK_FALSE(Must(ParseApiAnswer("{}")).error.has_value());
  for (const char* data : {"", "[]", "null", "1", "{", "\xFF"}) CHECK(absl::IsDataLoss(ParseApiAnswer(data).status()));
}

TEST_CASE("Fields of other types count as absent", "[jetstream]") {
  const nlohmann::json object = nlohmann::json::parse(
      R"({"n":7,"minus":-7,"half":0.5,"big":18446744073709551615,"s":"x","b":true,"o":{"n":1},"null":null})");
  CHECK(UnsignedField(object, "n") == 7);
  CHECK(UnsignedField(object, "big") == UINT64_MAX);
  for (const char* name : {"minus", "half", "s", "b", "o", "null", "none"}) CHECK(UnsignedField(object, name) == 0);
  CHECK(StringField(object, "s") == "x");
  for (const char* name : {"n", "b", "o", "null", "none"}) CHECK(StringField(object, name).empty());
  CHECK(BoolField(object, "b"));
  for (const char* name : {"n", "s", "null", "none"}) CHECK_FALSE(BoolField(object, name));
  CHECK(UnsignedField(ObjectField(object, "o"), "n") == 1);
  for (const char* name : {"n", "s", "null", "none"}) CHECK(ObjectField(object, name).empty());
}

TEST_CASE("What callers see of a read that failed", "[jetstream]") {
  for (const absl::Status& failed : {absl::UnknownError("no answer"), absl::UnavailableError("nobody")}) {
    CHECK(domain::HasReason(ReadError(failed, "reading S"), pb::ERROR_REASON_NATS_UNAVAILABLE));
  }
  CHECK(ReadError(absl::UnavailableError("nobody"), "reading S").message() ==
        "reading S: nobody; nothing was stored, retry is safe");
  const absl::Status ours = domain::ShuttingDown();
  CHECK(ReadError(ours, "reading S") == ours);
}

}  // namespace
}  // namespace persistd::jetstream
