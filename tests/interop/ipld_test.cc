// Our IPLD code and the packages that JavaScript uses for IPLD, each on what the other made. Values are random: the
// seed is printed, and IPLD_SEED=N in the environment repeats it.
#include <fcntl.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/process.h"
#include "server/base/unique_fd.h"
#include "server/ipld/car.h"
#include "server/ipld/cid.h"
#include "server/ipld/dag_cbor.h"
#include "tests/server/ipld/values.h"
#include "tests/testing/catch.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/temp_dir.h"

namespace persistd::interop {
namespace {

using ::persistd::testing::ContainsText;
using ::persistd::testing::Must;
using ::persistd::testing::ReadFile;
using ::persistd::testing::Runfile;
using ::persistd::testing::TempDir;
using ::persistd::testing::WriteFile;

constexpr int kValues = 1000;

uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* given = std::getenv("IPLD_SEED");
    const uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    std::fprintf(stderr, "IPLD_SEED=%llu\n", static_cast<unsigned long long>(value));
    return value;
  }();
  return seed;
}

struct Block {
  ipld::Cid cid{};
  std::string bytes{};
};

Block BlockOf(const ipld::Value& value) {
  std::string bytes = Must(ipld::EncodeDagCbor(value));
  return {.cid = ipld::DagCborCid(bytes), .bytes = std::move(bytes)};
}

Block RawBlock(std::string bytes) { return {.cid = ipld::RawCid(bytes), .bytes = std::move(bytes)}; }

ipld::Value Link(const Block& block) { return ipld::AnyCid(block.cid); }

std::string Car(const Block& root, const std::vector<Block>& blocks) {
  std::string car = ipld::CarHeader(root.cid);
  for (const Block& block : blocks) car += ipld::CarSection(block.cid, block.bytes);
  return car;
}

struct NodeRun {
  int exit_code = -1;
  std::string output{};
};

// Runs a script of this folder with Node.
NodeRun RunNode(const TempDir& folder, const std::string& script, const std::vector<std::string>& arguments) {
  const std::string output = folder.File("output");
  const base::UniqueFd fd(open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  std::vector<std::string> command = {Must(Runfile("node/node")), Must(Runfile("persistd/tests/interop/" + script))};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const auto node = Must(base::Process::Start({.command = std::move(command), .output_fd = fd.get()}));
  const auto exit = node->WaitUntil(std::chrono::steady_clock::now() + std::chrono::seconds(50));
  return {.exit_code = exit.has_value() ? exit->code : -1, .output = ReadFile(output)};
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// A history as it is exported: each event links to its payload and to the event before it. The last one first.
std::vector<Block> History(int events) {
  std::vector<Block> blocks;
  ipld::Value previous;
  for (int i = 1; i <= events; ++i) {
    const Block payload = RawBlock(absl::StrCat("{\"number\": ", i, "}"));
    const Block event = BlockOf(ipld::Value::Map{
        {"version", ipld::Value::Integer(i)},
        {"data", Link(payload)},
        {"prev", previous},
    });
    previous = Link(event);
    blocks.insert(blocks.begin(), {event, payload});
  }
  return blocks;
}

TEST_CASE("JavaScript reads our blocks, encodes them to the same bytes and gives them the same CIDs", "[ipld]") {
  const TempDir folder;
  const auto values = ipld::AnyValue({.for_javascript = true});
  rc::Random random(Seed());
  std::string lines;
  for (int i = 0; i < kValues; ++i) {
    const Block block = BlockOf(values(random.split()).value());
    absl::StrAppend(&lines, block.cid.ToString(), " ", absl::BytesToHexString(block.bytes), "\n");
  }
  Must(WriteFile(folder.File("blocks"), lines));
  const NodeRun run = RunNode(folder, "ipld_peer.mjs", {"check", folder.File("blocks")});
  INFO(run.output);
  CHECK(run.exit_code == 0);
  CHECK(run.output == absl::StrCat(kValues, " blocks are the same\n"));
}

TEST_CASE("JavaScript notices a block that is not canonical and a CID that is wrong", "[ipld]") {
  const TempDir folder;
  const std::string cid = ipld::DagCborCid("\xA0").ToString();
  Must(WriteFile(folder.File("blocks"), cid + " a2616201616102\n"));
  NodeRun run = RunNode(folder, "ipld_peer.mjs", {"check", folder.File("blocks")});
  CHECK(run.exit_code == 1);
  CHECK_THAT(run.output, ContainsText("a2616201616102 is encoded as a2616102616201"));
  Must(WriteFile(folder.File("blocks"), cid + " a1616100\n"));
  run = RunNode(folder, "ipld_peer.mjs", {"check", folder.File("blocks")});
  CHECK(run.exit_code == 1);
  CHECK_THAT(run.output, ContainsText("a1616100 has the CID "));
}

TEST_CASE("We read JavaScript's blocks and its CAR, and refuse what it refuses", "[ipld]") {
  const TempDir folder;
  const NodeRun run = RunNode(folder, "ipld_peer.mjs",
                              {"make", absl::StrCat(Seed()), absl::StrCat(kValues), folder.File("blocks"),
                               folder.File("refused"), folder.File("car")});
  INFO(run.output);
  REQUIRE(run.exit_code == 0);

  const std::vector<std::string> blocks = Lines(ReadFile(folder.File("blocks")));
  REQUIRE(blocks.size() == kValues);
  for (const std::string& line : blocks) {
    INFO(line);
    const std::pair<std::string, std::string> block = absl::StrSplit(line, ' ');
    const std::string bytes = absl::HexStringToBytes(block.second);
    CHECK(ipld::DagCborCid(bytes).ToString() == block.first);
    CHECK(Must(ipld::EncodeDagCbor(Must(ipld::DecodeDagCbor(bytes)))) == bytes);
  }

  const std::vector<std::string> refused = Lines(ReadFile(folder.File("refused")));
  CHECK(refused.size() > kValues / 2);
  for (const std::string& hex : refused) {
    INFO(hex);
    CHECK_FALSE(ipld::DecodeDagCbor(absl::HexStringToBytes(hex)).ok());
  }

  ipld::CarReader car;
  car.Add(ReadFile(folder.File("car")));
  for (const std::string& line : blocks) {
    const auto block = Must(car.Next());
    REQUIRE(block.has_value());
    CHECK(absl::StrCat(block->cid.ToString(), " ", absl::BytesToHexString(block->bytes)) == line);
  }
  CHECK_FALSE(Must(car.Next()).has_value());
  Must(car.Finish());
  REQUIRE(car.roots().size() == 1);
  CHECK(blocks[0].substr(0, blocks[0].find(' ')) == car.roots()[0].ToString());
}

TEST_CASE("JavaScript reads our CAR and finds every block by the links from its root", "[ipld]") {
  const TempDir folder;
  const std::vector<Block> history = History(100);
  Must(WriteFile(folder.File("car"), Car(history[0], history)));
  const NodeRun run = RunNode(folder, "read_car.mjs", {folder.File("car")});
  INFO(run.output);
  REQUIRE(run.exit_code == 0);
  const std::vector<std::string> lines = Lines(run.output);
  REQUIRE(lines.size() == history.size());
  for (size_t i = 0; i < history.size(); ++i)
    CHECK(nlohmann::json::parse(lines[i])["cid"] == history[i].cid.ToString());

  const nlohmann::json event = nlohmann::json::parse(lines[0]);
  CHECK(event["codec"] == "dag-cbor");
  CHECK(event["value"]["version"] == 100);
  CHECK(event["value"]["data"] == nlohmann::json{{"/", history[1].cid.ToString()}});
  CHECK(event["value"]["prev"] == nlohmann::json{{"/", history[2].cid.ToString()}});
  const nlohmann::json payload = nlohmann::json::parse(lines[1]);
  CHECK(payload["codec"] == "raw");
  CHECK(payload["value"]["/"]["bytes"] == absl::Base64Escape(history[1].bytes));
}

TEST_CASE("JavaScript's reading of a CAR notices every fault", "[ipld]") {
  const TempDir folder;
  const std::vector<Block> history = History(3);
  const auto check_fault = [&folder](const std::string& car, const std::string& message) {
    Must(WriteFile(folder.File("car"), car));
    const NodeRun run = RunNode(folder, "read_car.mjs", {folder.File("car")});
    CHECK(run.exit_code == 1);
    CHECK_THAT(run.output, ContainsText(message));
  };

  std::string spoilt = Car(history[0], history);
  spoilt.back() = static_cast<char>(spoilt.back() ^ 1);
  check_fault(spoilt, absl::StrCat(history.back().cid.ToString(), " is not the CID of its block"));
  check_fault(Car(history[0], {history.begin(), history.end() - 1}),
              absl::StrCat("there is no block for the link ", history.back().cid.ToString()));
  check_fault(Car(history[2], history), absl::StrCat("no link leads from the root to ", history[0].cid.ToString()));
  check_fault(Car(history[0], history).substr(0, 300), "Unexpected end of data");
}

}  // namespace
}  // namespace persistd::interop
