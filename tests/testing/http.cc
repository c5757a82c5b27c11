#include "tests/testing/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/unique_fd.h"

namespace persistd::testing {

absl::StatusOr<std::string> HttpGet(int port, const std::string& path) {
  constexpr size_t kMaxBytes = 16 << 20;
  const std::string url = absl::StrCat("http://127.0.0.1:", port, path);
  const auto unavailable = [&url] {
    return absl::UnavailableError(absl::StrCat("no answer from ", url, ": ", strerror(errno)));
  };

  const base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval timeout = {.tv_sec = 2, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return unavailable();

  // HTTP/1.0: the answer ends with the connection.
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
  if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return unavailable();
  }
  std::string answer;
  std::array<char, 16384> buffer;
  while (answer.size() < kMaxBytes) {
    const ssize_t count = recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (count < 0) return unavailable();
    if (count == 0) break;
    answer.append(buffer.data(), static_cast<size_t>(count));
  }
  const size_t head = answer.find("\r\n\r\n");
  const std::string status_line = answer.substr(0, answer.find("\r\n"));
  if (head == std::string::npos || !absl::StrContains(status_line, " 200 ")) {
    return absl::UnknownError(absl::StrCat(url, " answered ", status_line));
  }
  return answer.substr(head + 4);
}

}  // namespace persistd::testing
