#include "server/jetstream/reply_token.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"

namespace persistd::jetstream {
namespace {

TEST_CASE("An answer belongs to the request that its subject numbers", "[jetstream]") {
  CHECK(ReplyToken("_INBOX.abc.", "_INBOX.abc.17", "") == 17u);
  CHECK(ReplyToken("_INBOX.abc.", "_INBOX.abc.17", "$JS.ACK.S.persistd-x-4.1.2.3.4.5") == 17u);
  for (const char* subject : {"_INBOX.abc.", "_INBOX.abc.x", "_INBOX.abc.-1", "_INBOX.abc. 1", "_INBOX.abd.17", ""}) {
    INFO(subject);
    CHECK_FALSE(ReplyToken("_INBOX.abc.", subject, "").has_value());
  }
}

TEST_CASE("A consumer's message belongs to the channel that its name ends with", "[jetstream]") {
  const std::string name = DeliveryName("0f", 42);
  CHECK(ReplyToken("_INBOX.abc.", "orders.1", absl::StrCat("$JS.ACK.S.", name, ".1.20.3.40.5")) == 42u);
  CHECK(ReplyToken("_INBOX.abc.", "orders.1", absl::StrCat("$JS.ACK.hub.ACC.S.", name, ".1.20.3.40.5.rnd")) == 42u);
  CHECK_FALSE(ReplyToken("_INBOX.abc.", "orders.1", "$JS.ACK.S.theirs.1.20.3.40.5").has_value());
  CHECK_FALSE(ReplyToken("_INBOX.abc.", "orders.1", "some.reply").has_value());
}

TEST_CASE("What a consumer tells is read in both forms, and nothing else is", "[jetstream]") {
  for (const char* reply : {"$JS.ACK.S+a+b.c-1.1.20.3.40.5", "$JS.ACK._.ACC.S+a+b.c-1.1.20.3.40.5.rnd",
                            "$JS.ACK._.ACC.S+a+b.c-1.1.20.3.40.5"}) {
    INFO(reply);
    const std::optional<Delivery> delivery = ParseDelivery(reply);
    REQUIRE(delivery.has_value());
    CHECK(delivery->stream == "S+a+b");
    CHECK(delivery->consumer == "c-1");
    CHECK(delivery->stream_sequence == 20);
    CHECK(delivery->consumer_sequence == 3);
    CHECK(delivery->time_ns == 40);
    CHECK(delivery->pending == 5);
  }
  for (const char* reply : {"", "$JS.ACK", "$JS.ACK.", "$JS.ACK.S.c.1.20.3.40", "$JS.ACK.S.c.1.x.3.40.5",
                            "$JS.ACK.S.c.1.20.-3.40.5", "$JS.ACK.S.c.1.20.3.40.", "$JS.ACK.S.c.1.20.3.40.5.6",
                            "$JS.ACK.a.b.c.d.1.2.3.4.5.6.7.8", "$JS.ACK.S.c.1.99999999999999999999.3.40.5"}) {
    INFO(reply);
    CHECK_FALSE(ParseDelivery(reply).has_value());
  }
}

}  // namespace
}  // namespace persistd::jetstream
