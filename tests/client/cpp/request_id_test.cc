#include "client/cpp/request_id.h"

#include <chrono>
#include <cstdint>
#include <set>

#include "tests/testing/catch.h"

namespace persistd::client {
namespace {

TEST_CASE("A request id is a canonical UUID of version 7 with the time of now", "[client]") {
  const auto millis = [] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  const int64_t before = millis();
  const std::string id = NewRequestId();
  const int64_t after = millis();

  REQUIRE(id.size() == 36);
  CHECK(id.find_first_not_of("0123456789abcdef-") == std::string::npos);
  for (const size_t dash : {8u, 13u, 18u, 23u}) CHECK(id[dash] == '-');
  CHECK(id[14] == '7');
  CHECK(std::string("89ab").find(id[19]) != std::string::npos);
  const int64_t time = std::stoll(id.substr(0, 8) + id.substr(9, 4), nullptr, 16);
  CHECK(time >= before);
  CHECK(time <= after);
}

TEST_CASE("Request ids made in one millisecond differ", "[client]") {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(NewRequestId());
  CHECK(ids.size() == 1000);
}

}  // namespace
}  // namespace persistd::client
