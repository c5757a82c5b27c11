#include "tests/testing/tcp_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"

namespace persistd::testing {
namespace {

constexpr size_t kChunk = 64 * 1024;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// The bytes that are there now; nullopt at the end of the connection.
std::optional<std::string> ReadSome(int fd) {
  std::string chunk(kChunk, '\0');
  const ssize_t count = recv(fd, chunk.data(), chunk.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return "";
  if (count <= 0) return std::nullopt;
  chunk.resize(static_cast<size_t>(count));
  return chunk;
}

// Writes what the socket takes now; false at the end of the connection.
bool WriteSome(int fd, std::string& bytes) {
  const ssize_t count = send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  bytes.erase(0, static_cast<size_t>(count));
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpProxy>> TcpProxy::Start(int server_port) {
  base::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!listener.valid() || bind(listener.get(), any, size) != 0 || listen(listener.get(), 64) != 0 ||
      getsockname(listener.get(), any, &size) != 0) {
    return absl::ErrnoToStatus(errno, "cannot listen for the proxy");
  }
  return std::unique_ptr<TcpProxy>(new TcpProxy(std::move(listener), ntohs(address.sin_port), server_port));
}

TcpProxy::TcpProxy(base::UniqueFd listener, int port, int server_port)
    : listener_(std::move(listener)),
      port_(port),
      server_port_(server_port),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { Run(); });
}

TcpProxy::~TcpProxy() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
}

void TcpProxy::Wake() { eventfd_write(wake_.get(), 1); }

void TcpProxy::StrikeAt(std::string text, Strike strike) {
  base::MutexLock lock(mutex_);
  text_ = std::move(text);
  next_strike_ = strike;
  struck_ = false;
}

bool TcpProxy::WaitForStrike(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  base::MutexLock lock(mutex_);
  while (!struck_) {
    if (!changed_.WaitUntil(mutex_, deadline)) return struck_;
  }
  return true;
}

void TcpProxy::CutStruck() {
  {
    base::MutexLock lock(mutex_);
    for (Link& link : links_) {
      if (!link.struck) continue;
      link.client.Reset();
      link.client_ended = true;
    }
  }
  Wake();
}

void TcpProxy::Release() {
  base::MutexLock lock(mutex_);
  for (Link& link : links_) {
    if (link.struck && link.strike == Strike::kHold) link.strike = Strike::kNone;
  }
  Wake();
  const auto delivered = [this]() REQUIRES(mutex_) {
    return std::all_of(links_.begin(), links_.end(), [](const Link& link) {
      return link.dead || link.strike == Strike::kHold || (link.to_server.empty() && !link.client_ended);
    });
  };
  while (!delivered()) changed_.Wait(mutex_);
}

void TcpProxy::ReplaceAnswers(std::string text, std::string replacement) {
  {
    base::MutexLock lock(mutex_);
    replaced_ = std::move(text);
    replacement_ = std::move(replacement);
    for (Link& link : links_) Replace(link);  // What waits, by the new rule.
  }
  Wake();
}

void TcpProxy::SetAway(bool away) {
  {
    base::MutexLock lock(mutex_);
    away_ = away;
    if (away) {
      for (Link& link : links_) link.dead = true;
    }
  }
  Wake();
}

void TcpProxy::Accept() {
  base::UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.valid() || away_) return;
  base::UniqueFd server(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = Loopback(server_port_);
  if (!server.valid() || connect(server.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return;
  const int on = 1;
  setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(server.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Link link;
  link.client = std::move(client);
  link.server = std::move(server);
  links_.push_back(std::move(link));
}

void TcpProxy::FromClient(Link& link) {
  std::optional<std::string> bytes = ReadSome(link.client.get());
  if (!bytes.has_value()) {
    link.client.Reset();
    link.client_ended = true;
    return;
  }
  link.to_server += *bytes;
  if (next_strike_ == Strike::kNone) {
    link.recent.clear();
    return;
  }
  link.recent += *bytes;
  const size_t found = link.recent.find(text_);
  if (found == std::string::npos) {
    if (link.recent.size() >= text_.size()) link.recent.erase(0, link.recent.size() - text_.size() + 1);
    return;
  }
  link.struck = true;
  link.strike = next_strike_;
  if (link.strike == Strike::kHold) {
    // What came before the text goes out, as far as it has not yet.
    const size_t keep = std::min(link.to_server.size(), link.recent.size() - found);
    std::string before = link.to_server.substr(0, link.to_server.size() - keep);
    while (!before.empty() && WriteSome(link.server.get(), before)) {
    }
    link.to_server.erase(0, link.to_server.size() - keep);
  }
  link.recent.clear();
  next_strike_ = Strike::kNone;
  struck_ = true;
}

void TcpProxy::FromServer(Link& link) {
  std::optional<std::string> bytes = ReadSome(link.server.get());
  if (!bytes.has_value()) {
    link.to_client += link.from_server;
    Flush(link);
    link.dead = true;
  } else if (!link.client_ended && link.strike != Strike::kLoseAnswers) {
    link.from_server += *bytes;
    Replace(link);
  }
}

// Moves what is certain from `from_server` to `to_client`.
void TcpProxy::Replace(Link& link) {
  std::string& bytes = link.from_server;
  size_t kept = 0;
  if (!replaced_.empty()) {
    for (size_t found = bytes.find(replaced_); found != std::string::npos; found = bytes.find(replaced_)) {
      link.to_client.append(bytes, 0, found).append(replacement_);
      bytes.erase(0, found + replaced_.size());
    }
    kept = std::min(bytes.size(), replaced_.size() - 1);
    while (!absl::EndsWith(bytes, replaced_.substr(0, kept))) --kept;
  }
  link.to_client.append(bytes, 0, bytes.size() - kept);
  bytes.erase(0, bytes.size() - kept);
}

void TcpProxy::Flush(Link& link) {
  if (!link.to_client.empty() && !link.client_ended && !WriteSome(link.client.get(), link.to_client)) {
    link.client.Reset();
    link.client_ended = true;
  }
  if (link.strike == Strike::kHold) return;
  if (!link.to_server.empty() && !WriteSome(link.server.get(), link.to_server)) link.dead = true;
  // A half-close, so that the server deals with everything that was written; its own close ends the link.
  if (link.client_ended && link.to_server.empty() && !link.server_ended) {
    shutdown(link.server.get(), SHUT_WR);
    link.server_ended = true;
  }
}

void TcpProxy::Run() {
  while (true) {
    std::vector<pollfd> polled = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    std::vector<Link*> links;
    {
      base::MutexLock lock(mutex_);
      if (stopping_) return;
      links_.remove_if([](const Link& link) { return link.dead; });
      changed_.NotifyAll();
      for (Link& link : links_) {
        const bool write_server = !link.to_server.empty() && link.strike != Strike::kHold;
        polled.push_back({link.client_ended ? -1 : link.client.get(),
                          static_cast<short>(POLLIN | (link.to_client.empty() ? 0 : POLLOUT)), 0});
        polled.push_back({link.server.get(), static_cast<short>(POLLIN | (write_server ? POLLOUT : 0)), 0});
        links.push_back(&link);
      }
    }
    poll(polled.data(), polled.size(), -1);
    base::MutexLock lock(mutex_);
    eventfd_t ignored;
    eventfd_read(wake_.get(), &ignored);
    for (size_t i = 0; i < links.size(); ++i) {
      Link& link = *links[i];
      if (link.dead) continue;
      if (!link.client_ended && polled[2 + 2 * i].revents != 0) FromClient(link);
      if (polled[3 + 2 * i].revents != 0) FromServer(link);
      if (!link.dead) Flush(link);
    }
    if (polled[0].revents != 0) Accept();
  }
}

}  // namespace persistd::testing
