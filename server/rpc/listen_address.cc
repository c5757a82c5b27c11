#include "server/rpc/listen_address.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/base/unique_fd.h"

namespace persistd::rpc {
namespace {

absl::Status CannotListen(absl::string_view address, absl::string_view reason) {
  return absl::FailedPreconditionError(absl::StrCat("cannot listen on ", address, ": ", reason));
}

}  // namespace

absl::Status CheckCanListen(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return CannotListen(address, "it has no port; write HOST:PORT");
  absl::string_view host = absl::string_view(address).substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  const std::string port = address.substr(colon + 1);
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(std::string(host).c_str(), port.c_str(), &hints, &found);
  if (error != 0) return CannotListen(address, gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  // A name may have several addresses, of which gRPC needs one.
  int reason = 0;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    const base::UniqueFd fd(socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol));
    const int on = 1;
    if (fd.valid() && setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd.get(), each->ai_addr, each->ai_addrlen) == 0) {
      return absl::OkStatus();
    }
    reason = errno;
  }
  return CannotListen(address, std::generic_category().message(reason));
}

}  // namespace persistd::rpc
