// Stands in for persistd in the harness's own test: takes the same flags, listens where its config says, writes the
// ready file, ends with 0 on SIGTERM. `--set fail=TEXT` makes it print TEXT and end with 3.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

namespace {

// Listens on 127.0.0.1:`port`; returns the port, or -1.
int Listen(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd, raw, size) != 0 || listen(fd, 1) != 0 || getsockname(fd, raw, &size) != 0) return -1;
  return ntohs(address.sin_port);
}

int PortInConfig(const std::string& path) {
  const std::string before = "listen_address: \"127.0.0.1:";
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (const size_t at = line.find(before); at != std::string::npos) return std::stoi(line.substr(at + before.size()));
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);

  std::string config;
  std::string ready_file;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--config") config = value;
    if (flag == "--ready-file") ready_file = value;
    if (flag == "--set" && value.rfind("fail=", 0) == 0) {
      std::cerr << value.substr(5) << std::endl;
      return 3;
    }
  }
  const int port = Listen(PortInConfig(config));
  if (port < 0) return 4;
  std::ofstream(ready_file + ".new") << "127.0.0.1:" << port << "\n";
  if (std::rename((ready_file + ".new").c_str(), ready_file.c_str()) != 0) return 5;
  int signal = 0;
  sigwait(&term, &signal);
  std::cerr << "stopped in order" << std::endl;
  return 0;
}
