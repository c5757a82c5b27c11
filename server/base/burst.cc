#include "server/base/burst.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace persistd::base {
namespace {

struct State {
  bool active = false;
  std::vector<std::shared_ptr<Deferred>> deferred;
};

State& OfThread() {
  thread_local State state;
  return state;
}

}  // namespace

void Burst::Begin() { OfThread().active = true; }

void Burst::Now() {
  State& state = OfThread();
  // What runs may put off more, behind the rest.
  while (!state.deferred.empty()) {
    std::vector<std::shared_ptr<Deferred>> now;
    now.swap(state.deferred);
    for (const std::shared_ptr<Deferred>& deferred : now) deferred->RunDeferred();
    now.clear();
    if (state.deferred.empty()) state.deferred.swap(now);  // Keeps the memory.
  }
}

void Burst::End() {
  Now();
  OfThread().active = false;
}

void Burst::AtEnd(std::shared_ptr<Deferred> what) {
  State& state = OfThread();
  if (!state.active) {
    what->RunDeferred();
    return;
  }
  const bool known = std::find(state.deferred.begin(), state.deferred.end(), what) != state.deferred.end();
  if (!known) state.deferred.push_back(std::move(what));
}

}  // namespace persistd::base
