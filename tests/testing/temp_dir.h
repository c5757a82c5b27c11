// A folder of a test's own, under $TEST_TMPDIR (else the system's), removed with all it holds when the object goes.
// KEEP_TEMP=1 in the environment keeps it, for a look at what a failed test left.
#pragma once

#include <string>

namespace persistd::testing {

class TempDir {
 public:
  TempDir();  // Throws std::runtime_error when no folder can be made.
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  // path()/name
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace persistd::testing
