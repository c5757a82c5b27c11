#include "server/app/warnings.h"

#include "absl/strings/str_cat.h"

namespace persistd::app {
namespace {

constexpr uint64_t kNearlyFullPercent = 80;

// Without overflow, for limits up to 1024 TiB.
bool NearlyFull(uint64_t bytes, uint64_t max_bytes) { return bytes / kNearlyFullPercent >= max_bytes / 100; }

}  // namespace

std::vector<std::string> StreamWarnings(const repository::StreamsReport& report, uint64_t max_subjects) {
  std::vector<std::string> warnings;
  for (const auto& [stream, complaint] : report.complaints) {
    warnings.push_back(absl::StrCat("stream ", stream, " is not as configured: ", complaint));
  }
  uint64_t subjects = 0;
  for (const jetstream::StreamFacts& stream : report.streams) {
    subjects += stream.subjects;
    if (stream.settings.storage == "memory") {
      warnings.push_back(absl::StrCat("stream ", stream.name,
                                      " is kept in memory: acknowledged saves do not survive a restart of its NATS "
                                      "servers"));
    }
    const uint64_t max_bytes = stream.settings.max_bytes.value_or(0);
    if (max_bytes != 0 && NearlyFull(stream.bytes, max_bytes)) {
      warnings.push_back(absl::StrCat("stream ", stream.name, " holds ", stream.bytes, " of at most ", max_bytes,
                                      " bytes; when it is full, saves fail with STORAGE_FULL: raise max_bytes"));
    }
  }
  if (subjects > max_subjects) {
    warnings.push_back(absl::StrCat("the streams have ", subjects, " subjects, limits.max_subjects_warning is ",
                                    max_subjects, ": NATS keeps each in memory, 0.35 to 1.1 KB, about ",
                                    subjects / 1000 * 350 / 1000, " to ", subjects / 1000 * 1100 / 1000,
                                    " MB in all; give its servers that, or spread the types over more clusters"));
  }
  return warnings;
}

}  // namespace persistd::app
