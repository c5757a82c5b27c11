// Stands in for a daemon that is killed: starts an embedded nats-server in the folder argv[1] with the program argv[2],
// prints its process id, and waits to be killed.
#include <unistd.h>

#include <iostream>
#include <memory>
#include <utility>

#include "server/jetstream/embedded_server.h"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  auto server = persistd::jetstream::EmbeddedServer::Create({.binary = argv[2], .dir = argv[1]});
  if (!server.ok()) {
    std::cout << server.status() << std::endl;
    return 1;
  }
  std::cout << (*server)->pid() << std::endl;
  while (true) pause();
}
