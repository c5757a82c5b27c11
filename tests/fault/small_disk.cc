#include "tests/fault/small_disk.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "tests/testing/files.h"
#include "tests/testing/poll.h"

namespace persistd::fault {

SmallDisk::SmallDisk() : path_(dir_.File("disk")) {}

absl::StatusOr<std::unique_ptr<SmallDisk>> SmallDisk::Make(size_t mebibytes) {
  std::unique_ptr<SmallDisk> disk(new SmallDisk());
  std::filesystem::create_directory(disk->path_);
  const std::string ready = disk->dir_.File("ready");
  const std::string script = absl::StrCat("mount -t tmpfs -o size=", mebibytes, "m tmpfs '", disk->path_, "' && : > '",
                                          ready, "' && exec sleep infinity");
  ASSIGN_OR_RETURN(
      disk->holder_,
      base::Process::Start({.command = {"/usr/bin/unshare", "--map-root-user", "--mount", "/bin/sh", "-c", script}}));
  const bool settled =
      testing::PollUntil([&] { return std::filesystem::exists(ready) || disk->holder_->exit_status().has_value(); },
                         std::chrono::seconds(20));
  if (!settled || disk->holder_->exit_status().has_value()) {
    return absl::UnavailableError("cannot mount a tmpfs in a user namespace (unshare --map-root-user --mount)");
  }
  return disk;
}

std::vector<std::string> SmallDisk::wrapper() const {
  return {"nsenter", "--preserve-credentials", "--user", "--mount", absl::StrCat("--target=", holder_->pid())};
}

absl::Status SmallDisk::Resize(size_t mebibytes) {
  std::vector<std::string> command = wrapper();
  command.insert(command.begin(), "/usr/bin/env");
  command.insert(command.end(), {"mount", "-o", absl::StrCat("remount,size=", mebibytes, "m"), path_});
  return base::RunForOutput(std::move(command), std::chrono::seconds(20)).status();
}

}  // namespace persistd::fault
