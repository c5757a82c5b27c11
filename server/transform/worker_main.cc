// A program that is only a transform worker, for tests. The daemon runs its own program again (server/main.cc).

#include "server/transform/worker.h"

int main(int argc, char** argv) {
  return persistd::transform::RunWorkerIfAsked(argc, argv).value_or(persistd::transform::kExitBroken);
}
