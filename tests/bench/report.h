// Results as text: for a terminal, as Markdown for README.md, as JSON for machines.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/runner.h"

namespace persistd::bench {

enum class Format { kText, kMarkdown, kJson };

std::string Render(const std::vector<ModeResult>& results, const RunPlan& plan, Format format);

}  // namespace persistd::bench
