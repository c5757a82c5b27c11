#include "tests/testing/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <random>
#include <set>
#include <stdexcept>

#include "server/base/mutex.h"
#include "server/base/unique_fd.h"

namespace persistd::testing {
namespace {

constexpr int kLowest = 10'000;
constexpr int kMaxTries = 10'000;

int FirstKernelPort() {
  int first = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first;
  return first >= kLowest + 1'000 ? first : 32'768;
}

bool IsFree(int port) {
  const base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;  // As servers do: ports in TIME_WAIT count as free.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// The ports this process was given: one whose server is down at the moment looks free.
struct Given {
  base::Mutex mutex;
  std::set<int> ports GUARDED_BY(mutex);
};

}  // namespace

std::vector<int> FreePorts(int count) {
  static auto* given = new Given;
  std::random_device random;
  std::uniform_int_distribution<int> any(kLowest, FirstKernelPort() - 1);
  std::vector<int> ports;
  base::MutexLock lock(given->mutex);
  for (int tries = 0; static_cast<int>(ports.size()) < count; ++tries) {
    if (tries == kMaxTries) throw std::runtime_error("no free TCP port on 127.0.0.1");
    const int port = any(random);
    if (IsFree(port) && given->ports.insert(port).second) ports.push_back(port);
  }
  return ports;
}

}  // namespace persistd::testing
