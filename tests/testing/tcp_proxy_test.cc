#include "tests/testing/tcp_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <string>

#include "server/base/unique_fd.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"

namespace persistd::testing {
namespace {

using std::chrono_literals::operator""s;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// The server and client side of one connection through a proxy.
class Pair {
 public:
  Pair() : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    REQUIRE(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(listener_.get(), 4) == 0);
    REQUIRE(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    proxy_ = Must(TcpProxy::Start(ntohs(address.sin_port)));
    Connect();
  }

  void Connect() {
    client = base::UniqueFd(socket(AF_INET, SOCK_STREAM, 0));
    const sockaddr_in address = Loopback(proxy_->port());
    REQUIRE(connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    server = base::UniqueFd(accept(listener_.get(), nullptr, nullptr));
    const timeval patience{10, 0};
    for (const int fd : {client.get(), server.get()}) {
      REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
    }
  }
  TcpProxy& proxy() { return *proxy_; }

  static void Send(const base::UniqueFd& fd, const std::string& text) {
    REQUIRE(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
  }
  // `count` bytes, or what came before the end.
  static std::string Receive(const base::UniqueFd& fd, size_t count) {
    std::string text;
    while (text.size() < count) {
      char byte;
      if (recv(fd.get(), &byte, 1, 0) <= 0) break;
      text += byte;
    }
    return text;
  }

  base::UniqueFd client;
  base::UniqueFd server;

 private:
  base::UniqueFd listener_;
  std::unique_ptr<TcpProxy> proxy_;
};

TEST_CASE("The proxy passes bytes on both ways, and ends of connections", "[harness]") {
  Pair pair;
  Pair::Send(pair.client, "ping");
  REQUIRE(Pair::Receive(pair.server, 4) == "ping");
  Pair::Send(pair.server, "pong");
  REQUIRE(Pair::Receive(pair.client, 4) == "pong");
  pair.client.Reset();
  REQUIRE(Pair::Receive(pair.server, 1) == "");
}

TEST_CASE("The proxy holds back from a text on, also when it comes in pieces, and delivers it late", "[harness]") {
  Pair pair;
  pair.proxy().StrikeAt("HOLD", TcpProxy::Strike::kHold);
  Pair::Send(pair.client, "before HO");
  REQUIRE(Pair::Receive(pair.server, 9) == "before HO");
  Pair::Send(pair.client, "LD after");
  REQUIRE(pair.proxy().WaitForStrike(10s));
  Pair::Send(pair.server, "answer");
  REQUIRE(Pair::Receive(pair.client, 6) == "answer");
  pair.proxy().CutStruck();
  REQUIRE(Pair::Receive(pair.client, 1) == "");
  REQUIRE(recv(pair.server.get(), nullptr, 0, MSG_DONTWAIT) == -1);  // Nothing there, and no end either.
  std::string late;
  std::thread reader([&] {
    late = Pair::Receive(pair.server, 100);
    pair.server.Reset();
  });
  pair.proxy().Release();
  reader.join();
  REQUIRE(late == "LD after");
  // The next connection is not struck.
  pair.Connect();
  Pair::Send(pair.client, "HOLD");
  REQUIRE(Pair::Receive(pair.server, 4) == "HOLD");
}

TEST_CASE("The proxy loses answers from a text on", "[harness]") {
  Pair pair;
  pair.proxy().StrikeAt("save", TcpProxy::Strike::kLoseAnswers);
  Pair::Send(pair.client, "save me");
  REQUIRE(Pair::Receive(pair.server, 7) == "save me");
  Pair::Send(pair.server, "saved");
  pair.server.Reset();
  REQUIRE(Pair::Receive(pair.client, 1) == "");
}

TEST_CASE("The proxy replaces a text in answers, also when it comes in pieces, by a rule that can change",
          "[harness]") {
  Pair pair;
  pair.proxy().ReplaceAnswers("aab", "XYZ");
  Pair::Send(pair.client, "aab");
  REQUIRE(Pair::Receive(pair.server, 3) == "aab");  // Requests are left alone.
  Pair::Send(pair.server, "aab.aaab.aa.aabaab.");
  REQUIRE(Pair::Receive(pair.client, 19) == "XYZ.aXYZ.aa.XYZXYZ.");
  // The pieces are apart: what came before each was received first.
  Pair::Send(pair.server, "1aa");
  REQUIRE(Pair::Receive(pair.client, 1) == "1");
  Pair::Send(pair.server, "aa");
  REQUIRE(Pair::Receive(pair.client, 2) == "aa");
  Pair::Send(pair.server, "b2a");
  REQUIRE(Pair::Receive(pair.client, 4) == "XYZ2");
  // The last "a" waits no longer when it begins nothing any more.
  pair.proxy().ReplaceAnswers("2.15.1", "2.14.3");
  REQUIRE(Pair::Receive(pair.client, 1) == "a");
  Pair::Send(pair.server, "aab 2.15.1");
  REQUIRE(Pair::Receive(pair.client, 10) == "aab 2.14.3");
  pair.proxy().ReplaceAnswers("", "");
  Pair::Send(pair.server, "2.15.1");
  REQUIRE(Pair::Receive(pair.client, 6) == "2.15.1");
  // Nor does it at the end of the connection, and the next one begins anew.
  pair.proxy().ReplaceAnswers("aab", "XYZ");
  Pair::Send(pair.server, "1a");
  REQUIRE(Pair::Receive(pair.client, 1) == "1");
  pair.server.Reset();
  REQUIRE(Pair::Receive(pair.client, 2) == "a");
  pair.Connect();
  Pair::Send(pair.server, "ab.aab");
  REQUIRE(Pair::Receive(pair.client, 6) == "ab.XYZ");
}

TEST_CASE("The proxy can be away", "[harness]") {
  Pair pair;
  pair.proxy().SetAway(true);
  REQUIRE(Pair::Receive(pair.client, 1) == "");
  REQUIRE(Pair::Receive(pair.server, 1) == "");
  pair.proxy().SetAway(false);
  pair.Connect();
  Pair::Send(pair.client, "x");
  REQUIRE(Pair::Receive(pair.server, 1) == "x");
}

}  // namespace
}  // namespace persistd::testing
