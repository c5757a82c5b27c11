#include "tests/testing/temp_dir.h"

#include <stdlib.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>

namespace persistd::testing {

TempDir::TempDir() {
  const char* root = std::getenv("TEST_TMPDIR");
  path_ = (root != nullptr ? std::filesystem::path(root) : std::filesystem::temp_directory_path()) / "persistd-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) {
    throw std::runtime_error("cannot make the folder " + path_ + ": " + std::generic_category().message(errno));
  }
}

TempDir::~TempDir() {
  if (std::getenv("KEEP_TEMP") != nullptr) return;
  std::error_code ignored;  // What stays behind is in a temporary folder.
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace persistd::testing
