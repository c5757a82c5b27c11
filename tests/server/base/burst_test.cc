#include "server/base/burst.h"

#include <functional>
#include <utility>

#include "tests/testing/catch.h"

namespace persistd::base {
namespace {

class Counter final : public Deferred {
 public:
  void RunDeferred() override {
    ++runs;
    if (next) std::exchange(next, nullptr)();
  }
  int runs = 0;
  std::function<void()> next;
};

TEST_CASE("Outside of a burst things are done at once", "[base]") {
  auto counter = std::make_shared<Counter>();
  Burst::AtEnd(counter);
  Burst::AtEnd(counter);
  REQUIRE(counter->runs == 2);
}

TEST_CASE("A burst does each thing once, at its end, and what that asks for as well", "[base]") {
  auto first = std::make_shared<Counter>();
  auto second = std::make_shared<Counter>();
  first->next = [second] { Burst::AtEnd(second); };
  Burst::Begin();
  Burst::AtEnd(first);
  Burst::AtEnd(first);
  REQUIRE(first->runs == 0);
  Burst::End();
  REQUIRE(first->runs == 1);
  REQUIRE(second->runs == 1);
  Burst::AtEnd(first);
  REQUIRE(first->runs == 2);
}

}  // namespace
}  // namespace persistd::base
