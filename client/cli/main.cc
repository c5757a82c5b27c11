// persistctl: the command line client of persistd.
#include <cstdlib>
#include <iostream>

#include "client/cli/cli.h"

int main(int argc, char** argv) {
  return persistd::cli::Run({argv + 1, argv + argc},
                            {.in = std::cin, .out = std::cout, .err = std::cerr, .getenv = [](const char* name) {
                               return std::getenv(name);
                             }});
}
