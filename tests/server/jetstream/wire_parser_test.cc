#include "server/jetstream/wire_parser.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/catch.h"

namespace persistd::jetstream {
namespace {

// Writes down what comes.
class Recorder final : public WireParser::Sink {
 public:
  void OnMessage(absl::string_view subject, absl::string_view reply, absl::string_view headers,
                 absl::string_view data) override {
    std::string text = absl::StrCat("message ", subject, " <", reply, "> ", data);
    const Headers parsed = ParseHeaders(headers);
    for (const auto& [name, value] : parsed.fields()) absl::StrAppend(&text, " ", name, "=", value);
    seen.push_back(text);
  }
  void OnPing() override { seen.push_back("ping"); }
  void OnError(absl::string_view text) override { seen.push_back(absl::StrCat("error ", text)); }

  std::vector<std::string> seen;
};

const std::string kConversation =
    "INFO {\"server_id\":\"X\"}\r\nPING\r\n+OK\r\nMSG _INBOX.a.1 1 5\r\nhello\r\n"
    "MSG cim.x 1 $JS.ACK.y 4\r\n\r\n\r\n\r\n"
    "HMSG _INBOX.a.2 1 29 32\r\nNATS/1.0\r\nA: 1\r\nB-C:  x y\r\n\r\nabc\r\n"
    "HMSG _INBOX.a.3 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    "HMSG _INBOX.a.4 1 reply.to 34 34\r\nNATS/1.0 404 Message Not Found\r\n\r\n\r\n"
    "MSG _INBOX.a.5 1 0\r\n\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\nPONG\r\n";

const std::vector<std::string> kSeen = {
    "ping",
    "message _INBOX.a.1 <> hello",
    "message cim.x <$JS.ACK.y> \r\n\r\n",
    "message _INBOX.a.2 <> abc A=1 B-C=x y",
    "message _INBOX.a.3 <>  Status=503",
    "message _INBOX.a.4 <reply.to>  Status=404 Description=Message Not Found",
    "message _INBOX.a.5 <> ",
    "error Permissions Violation for Publish to \"x\"",
};

TEST_CASE("What a server sends is taken apart, however it is cut", "[jetstream]") {
  for (size_t piece = 1; piece <= kConversation.size(); ++piece) {
    WireParser parser;
    Recorder recorder;
    for (size_t at = 0; at < kConversation.size(); at += piece) {
      REQUIRE(parser.Feed(absl::string_view(kConversation).substr(at, piece), recorder).ok());
    }
    INFO("pieces of " << piece);
    REQUIRE(recorder.seen == kSeen);
  }
}

TEST_CASE("What is not the protocol is refused", "[jetstream]") {
  for (const char* bytes :
       {"HTTP/1.1 400 Bad Request\r\n", "MSG a 1\r\n", "MSG a 1 x\r\n", "MSG a 1 r r 5\r\n", "HMSG a 1 9 5\r\n",
        "MSG a 1 5\r\nhelloX\r\n", "MSG a 1 -1\r\n", "MSG a 1 99999999999999\r\n", "\r\n"}) {
    WireParser parser;
    Recorder recorder;
    INFO(bytes);
    CHECK(absl::IsDataLoss(parser.Feed(bytes, recorder)));
  }
  WireParser parser;
  Recorder recorder;
  CHECK(absl::IsDataLoss(parser.Feed(std::string(2 << 20, 'x'), recorder)));
}

}  // namespace
}  // namespace persistd::jetstream
