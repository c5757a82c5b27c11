// What an operator should know of the streams. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/repository/types.h"

namespace persistd::app {

// max_subjects: of all streams together (limits.max_subjects_warning).
std::vector<std::string> StreamWarnings(const repository::StreamsReport& report, uint64_t max_subjects);

}  // namespace persistd::app
