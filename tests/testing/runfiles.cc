#include "tests/testing/runfiles.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace persistd::testing {

namespace fs = std::filesystem;

absl::StatusOr<std::string> Runfile(const std::string& name) {
  std::error_code error;
  const char* root = std::getenv("TEST_SRCDIR");
  const fs::path base = root != nullptr ? fs::path(root) : fs::read_symlink("/proc/self/exe", error) += ".runfiles";
  const fs::path path = base / name;
  if (!fs::exists(path, error)) {
    return absl::NotFoundError(
        absl::StrCat("the runfile ", path.string(), " does not exist: is it in the test's data?"));
  }
  return path.string();
}

}  // namespace persistd::testing
