#include "server/rpc/outbox.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/support/slice.h"
#include "server/base/burst.h"
#include "server/base/task.h"
#include "tests/testing/catch.h"

namespace persistd::rpc {
namespace {

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string TextOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  CHECK(buffer.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices) text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}

// Notes what is to be written. The test says when that is done.
class Wire final : public Outbox::Transport {
 public:
  void StartWrite(const grpc::ByteBuffer& message, bool more) override {
    CHECK_FALSE(writing);
    writing = true;
    written.push_back({TextOf(message), more});
  }

  struct Written {
    std::string text{};
    bool more = false;

    bool operator==(const Written&) const = default;
  };
  std::vector<Written> written{};
  bool writing = false;
};

struct Bench final : RawWriter {
  bool StartWrite(PendingWrite& write) override { return outbox.Add(write); }

  // A coroutine that writes; notes under `text` how that ended.
  void Write(const std::string& text) {
    base::Spawn([](Bench& bench, std::string what) -> base::Task<void> {
      const bool accepted = co_await PendingWrite(&bench, Bytes(what));
      bench.ended.push_back({what.substr(0, 8), accepted});
    }(*this, text));
  }
  void Drain() {
    base::Spawn([](Bench& bench) -> base::Task<void> {
      co_await bench.outbox.Drain();
      bench.drained = true;
    }(*this));
  }
  void Done(bool ok = true) {
    REQUIRE(wire.writing);
    wire.writing = false;
    outbox.OnWritten(ok);
  }

  Wire wire;
  Outbox outbox{&wire};
  std::vector<std::pair<std::string, bool>> ended{};
  bool drained = false;
};

using Written = Wire::Written;

TEST_CASE("Messages are written one at a time, in their order", "[outbox]") {
  Bench bench;
  bench.Write("a");
  CHECK(bench.wire.written == std::vector<Written>{{"a", false}});
  bench.Write("b");
  bench.Write("c");
  CHECK(bench.wire.written.size() == 1);
  CHECK(bench.ended.size() == 3);  // There is room, so nobody waits.
  bench.Done();
  bench.Done();
  bench.Done();
  CHECK(bench.wire.written == std::vector<Written>{{"a", false}, {"b", true}, {"c", false}});
  CHECK_FALSE(bench.wire.writing);
  bench.Write("d");
  CHECK(bench.wire.written.back() == Written{"d", false});
}

TEST_CASE("Within a burst the first write waits for its end and knows of the others", "[outbox]") {
  Bench bench;
  base::Burst::Begin();
  bench.Write("a");
  bench.Write("b");
  CHECK(bench.wire.written.empty());
  base::Burst::End();
  CHECK(bench.wire.written == std::vector<Written>{{"a", true}});
  bench.Done();
  CHECK(bench.wire.written.back() == Written{"b", false});
}

TEST_CASE("Who writes more messages than the queue holds waits for room", "[outbox]") {
  Bench bench;
  for (size_t i = 0; i < Outbox::kMaxMessages + 3; ++i) bench.Write(std::to_string(i));
  // One is being written, the queue is full.
  CHECK(bench.ended.size() == Outbox::kMaxMessages + 1);
  bench.Done();
  CHECK(bench.ended.size() == Outbox::kMaxMessages + 2);
  CHECK(bench.ended.back() == std::pair(std::to_string(Outbox::kMaxMessages + 1), true));
  while (bench.wire.writing) bench.Done();
  REQUIRE(bench.wire.written.size() == Outbox::kMaxMessages + 3);
  for (size_t i = 0; i < bench.wire.written.size(); ++i) CHECK(bench.wire.written[i].text == std::to_string(i));
  CHECK(bench.ended.size() == bench.wire.written.size());
}

TEST_CASE("Who writes more bytes than the queue holds waits for room", "[outbox]") {
  Bench bench;
  const std::string large(Outbox::kMaxBytes, 'x');
  bench.Write(large);  // Being written.
  bench.Write(large);  // Alone it is allowed to fill the queue.
  bench.Write("small");
  CHECK(bench.ended.size() == 2);
  bench.Done();
  CHECK(bench.ended.size() == 3);
  CHECK(bench.wire.written.back().more);
  bench.Done();
  CHECK(bench.wire.written.back() == Written{"small", false});
}

TEST_CASE("When the client is gone all writes end, those that wait and those that come", "[outbox]") {
  Bench bench;
  for (size_t i = 0; i < Outbox::kMaxMessages + 3; ++i) bench.Write(std::to_string(i));
  bench.Done(/*ok=*/false);
  CHECK_FALSE(bench.wire.writing);
  REQUIRE(bench.ended.size() == Outbox::kMaxMessages + 3);
  CHECK_FALSE(bench.ended.back().second);
  bench.Write("late");
  CHECK(bench.ended.back() == std::pair(std::string("late"), false));
  CHECK(bench.wire.written.size() == 1);
  bench.Drain();
  CHECK(bench.drained);
}

TEST_CASE("Drained is when nothing is left to write, and the last message says that the end follows", "[outbox]") {
  Bench empty;
  empty.Drain();
  CHECK(empty.drained);

  Bench bench;
  bench.Write("a");
  bench.Write("b");
  bench.Drain();
  bench.Done();
  CHECK_FALSE(bench.drained);
  CHECK(bench.wire.written.back() == Written{"b", true});
  bench.Done();
  CHECK(bench.drained);
}

TEST_CASE("A drain waits for a first write that waits for the end of its burst", "[outbox]") {
  Bench bench;
  base::Burst::Begin();
  bench.Write("a");
  bench.Drain();
  CHECK_FALSE(bench.drained);
  base::Burst::End();
  CHECK_FALSE(bench.drained);
  CHECK(bench.wire.written == std::vector<Written>{{"a", true}});
  bench.Done();
  CHECK(bench.drained);
}

}  // namespace
}  // namespace persistd::rpc
