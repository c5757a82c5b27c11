// A tmpfs of a few MiB in a mount namespace of its own: a disk that fills up. Needs no rights beyond user namespaces,
// which Bazel's sandbox needs too.
//
// A process that sleeps keeps the namespace, so the disk outlives the servers that run on it; it ends with the object.
// One thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/process.h"
#include "tests/testing/temp_dir.h"

namespace persistd::fault {

class SmallDisk {
 public:
  static absl::StatusOr<std::unique_ptr<SmallDisk>> Make(size_t mebibytes);

  // The folder, as those see it who are started with wrapper().
  const std::string& path() const { return path_; }
  std::vector<std::string> wrapper() const;
  absl::Status Resize(size_t mebibytes);

 private:
  SmallDisk();

  const testing::TempDir dir_;
  const std::string path_;
  std::unique_ptr<base::Process> holder_;
};

}  // namespace persistd::fault
