// Reads small files with errors that name the file and the reason.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace persistd::config {

// The file's content; INVALID_ARGUMENT when it cannot be read or is larger than `max` bytes. Reads no more than that.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::size_t max);

// OK when the file can be opened and holds something to read.
absl::Status CheckReadable(const std::string& path);

}  // namespace persistd::config
