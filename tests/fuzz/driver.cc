// Runs a fuzz target without a fuzzer: over its seeds, then over random changes of them, always the same ones. So a
// target is built and run with every test run, by any compiler.
//
//   FUZZ_SEED=N  other changes
//   FUZZ_RUNS=N  more of them
//
// With the name of a folder as argument it only writes the seeds there, for libFuzzer.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/fuzz/fuzz_target.h"

namespace persistd::fuzz {
namespace {

constexpr uint64_t kDefaultRuns = 300'000;
constexpr size_t kMaxInputBytes = 4096;

std::string current_input;  // For PrintInput.

void PrintInput(int signal) {
  std::fprintf(stderr, "fuzz: the input, in hexadecimal: %s\n", absl::BytesToHexString(current_input).c_str());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Mutator {
 public:
  Mutator(uint64_t seed, std::vector<std::string> seeds) : random_(seed), seeds_(std::move(seeds)) {}

  std::string Next() {
    std::string input = AnySeed();
    for (size_t changes = 1 + Below(4); changes > 0; --changes) Change(input);
    if (input.size() > kMaxInputBytes) input.resize(kMaxInputBytes);
    return input;
  }

 private:
  size_t Below(size_t bound) { return static_cast<size_t>(random_() % bound); }
  const std::string& AnySeed() { return seeds_[Below(seeds_.size())]; }

  // Often one that means something in a binary format.
  char AnyByte() {
    constexpr char kSpecial[] = "\x00\x01\x17\x18\x7F\x80\xA0\xFF";
    return Below(2) == 0 ? kSpecial[Below(sizeof(kSpecial) - 1)] : static_cast<char>(Below(256));
  }

  void Change(std::string& input) {
    const size_t at = Below(input.size() + 1);
    const size_t size = 1 + Below(8);
    switch (Below(7)) {
      case 0:  // A bit.
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(8)));
        break;
      case 1:
        if (at < input.size()) input[at] = AnyByte();
        break;
      case 2:
        input.insert(at, 1, AnyByte());
        break;
      case 3:
        input.erase(at, size);
        break;
      case 4:  // A piece once more, elsewhere.
        input.insert(Below(input.size() + 1), input.substr(at, size));
        break;
      case 5:  // All of another seed inside.
        input.insert(at, AnySeed());
        break;
      default:
        input.resize(at);
    }
  }

  std::mt19937_64 random_;  // The standard says which numbers it gives, so runs repeat everywhere.
  const std::vector<std::string> seeds_;
};

void Run(const std::string& input) {
  current_input = input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

void WriteSeeds(const std::string& folder) {
  int number = 0;
  for (const std::string& input : SeedInputs()) {
    std::ofstream(folder + "/seed" + std::to_string(number++), std::ios::binary) << input;
  }
}

void RunAll() {
  std::signal(SIGABRT, PrintInput);
  std::signal(SIGSEGV, PrintInput);
  const std::vector<std::string> seeds = SeedInputs();
  for (const std::string& input : seeds) Run(input);
  const uint64_t seed = FromEnvironment("FUZZ_SEED", 1);
  const uint64_t runs = FromEnvironment("FUZZ_RUNS", kDefaultRuns);
  std::printf("FUZZ_SEED=%llu FUZZ_RUNS=%llu\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(runs));
  Mutator mutator(seed, seeds);
  for (uint64_t i = 0; i < runs; ++i) Run(mutator.Next());
}

}  // namespace
}  // namespace persistd::fuzz

int main(int argc, char** argv) {
  if (argc > 1) {
    persistd::fuzz::WriteSeeds(argv[1]);
  } else {
    persistd::fuzz::RunAll();
  }
  return 0;
}
