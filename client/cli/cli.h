// persistctl, without the process around it: reads the arguments, makes the call, prints the answer.
#pragma once

#include <functional>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

namespace persistd::cli {

// What the program is connected to. All must outlive Run.
struct Environment {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  // The value of an environment variable, or null.
  std::function<const char*(const char* name)> getenv;
};

inline constexpr int kExitOk = 0;
inline constexpr int kExitCallFailed = 1;
inline constexpr int kExitUsage = 2;

// Runs one command; `args` are without the program's name. Returns the exit code. Blocks until the call has ended.
int Run(const std::vector<std::string>& args, const Environment& environment);

}  // namespace persistd::cli
