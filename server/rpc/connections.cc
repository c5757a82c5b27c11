#include "server/rpc/connections.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/numbers.h"

namespace persistd::rpc {
namespace {

// Of the local end of a TCP connection; -1 for everything else.
int LocalPort(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (getpeername(fd, any, &size) != 0) return -1;  // No socket, or one that listens.
  size = sizeof(address);
  if (getsockname(fd, any, &size) != 0) return -1;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  return -1;
}

}  // namespace

void BreakConnections(int port) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    int fd = -1;
    // The descriptor stays gRPC's, who closes it.
    if (absl::SimpleAtoi(entry.path().filename().string(), &fd) && LocalPort(fd) == port) shutdown(fd, SHUT_RDWR);
  }
}

}  // namespace persistd::rpc
