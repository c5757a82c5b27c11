#include "server/transform/runner.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/transform/jq_program.h"
#include "tests/testing/catch.h"
#include "tests/testing/must.h"
#include "tests/testing/properties.h"
#include "tests/testing/runfiles.h"

namespace persistd::transform {
namespace {

using nlohmann::json;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

Runner::Options Fast(Runner::Options options = {}) {
  options.worker_program = testing::Must(testing::Runfile("persistd/server/transform/worker_main"));
  options.time_limit = 10s;
  return options;
}

base::SteadyTime In(std::chrono::milliseconds time) { return base::Clock::System().SteadyNow() + time; }

FoldOutput Wait(base::Future<FoldOutput> future) {
  auto wait = [](base::Future<FoldOutput> inner) -> base::Task<FoldOutput> { co_return co_await inner; };
  return base::BlockOn(wait(std::move(future)));
}

FoldOutput Run(Runner& runner, const std::string& source, const std::string& state, std::vector<std::string> datas) {
  const ProgramPtr program = testing::Must(runner.Compile(source));
  std::vector<FoldInput> inputs;
  for (std::string& data : datas) {
    inputs.push_back(
        {.fields = absl::StrCat("{\"type\":\"t\",\"version\":", inputs.size() + 1, "}"), .data = std::move(data)});
  }
  return Wait(runner.Fold(program, state, std::move(inputs), In(60s)));
}

TEST_CASE("A fold hands each output to the next event as its state", "[transform]") {
  Runner runner(Fast());
  const FoldOutput output = Run(runner, "{sum: (($state.sum // 0) + .data.n), last: .type, at: .version}", "",
                                {R"({"n":1})", R"({"n":2})", R"({"n":0.5})"});
  REQUIRE(output.status == absl::OkStatus());
  CHECK(output.state == R"({"sum":3.5,"last":"t","at":3})");
  CHECK(Run(runner, "$state", "", {}).state == "null");
  CHECK(Run(runner, "$state", R"({"a":"\u0001\"\\ü"})", {"1"}).state == "{\"a\":\"\\u0001\\\"\\\\ü\"}");
  CHECK(Run(runner, ".data", "", {""}).state == "null");
  CHECK(Run(runner, "def f: 1; f # and a comment", "", {"0"}).state == "1");
}

TEST_CASE("A program that does not compile is refused with the line", "[transform]") {
  Runner runner(Fast());
  const auto refusal = [&](const std::string& source) {
    const absl::StatusOr<ProgramPtr> program = runner.Compile(source);
    REQUIRE(absl::IsInvalidArgument(program.status()));
    return std::string(program.status().message());
  };
  CHECK(absl::StrContains(refusal("{a:"), "line 1: syntax error"));
  CHECK(absl::StrContains(refusal("1 |\n\n  }"), "line 3: syntax error"));
  CHECK(refusal(".a |\n  foo(1)") == "line 2: foo/1 is not defined");
  CHECK(absl::StrContains(refusal("import \"a\" as a; 1"), "unexpected import"));
  CHECK(absl::StrContains(refusal("include \"a\"; 1"), "unexpected include"));
  CHECK(absl::StrContains(refusal(""), "syntax error"));
  CHECK(refusal(std::string("1\0 | x", 6)) == "holds a NUL byte");
  CHECK(absl::StrContains(refusal(std::string(2'000'000, ' ')), "larger than"));
}

TEST_CASE("A program that fails is named with its event", "[transform]") {
  Runner runner(Fast());
  const auto failure = [&](const std::string& source, std::vector<std::string> datas, size_t failed,
                           const std::string& state = "") {
    const FoldOutput output = Run(runner, source, state, std::move(datas));
    CHECK(absl::IsInvalidArgument(output.status));
    CHECK(output.failed == failed);
    return std::string(output.status.message());
  };
  CHECK(failure("if .data == 2 then error(\"no twos\") else 1 end", {"1", "2"}, 1) == "the program says: no twos");
  CHECK(failure("error({a: 1})", {"1"}, 0) == "the program says: {\"a\":1}");
  CHECK(absl::StrContains(failure(".data.x.y", {"{\"x\":1}"}, 0), "the program says: Cannot index number with"));
  CHECK(absl::StrContains(failure("empty", {"1"}, 0), "gave no output"));
  CHECK(absl::StrContains(failure("1, 2", {"1"}, 0), "more than one output"));
  CHECK(failure("1, error(\"late\")", {"1"}, 0) == "the program says: late");
  CHECK(absl::StrContains(failure("1", {"1", "{"}, 1), "its data is no JSON"));
  CHECK(absl::StrContains(failure("1", {"1", "9007199254740993"}, 1), "its data holds the number 9007199254740993"));
  CHECK(absl::StrContains(failure("1", {"1"}, 0, "[1e99]"), "the state holds the number 1e99"));
  CHECK(absl::StrContains(failure(".data * 2", {"9007199254740992"}, 0), "computed a number beyond 2^53"));
  CHECK(absl::StrContains(failure("[{a: infinite}]", {"1"}, 0), "computed a number beyond 2^53"));
  CHECK(absl::StrContains(failure("nan", {"1"}, 0), "computed a number beyond 2^53"));
  CHECK(absl::StrContains(failure("reduce range(300) as $i (1; [.])", {"1"}, 0), "nested too deep"));
  // The runner is as good as new after each of these.
  CHECK(Run(runner, "1", "", {"0"}).state == "1");
}

TEST_CASE("What is outside of its input is hidden from a program", "[transform]") {
  setenv("PERSISTD_SECRET", "hush", 1);
  Runner runner(Fast());
  CHECK(Run(runner, "$ENV", "", {"0"}).state == "{}");
  for (const std::string name : {"env", "input", "inputs", "debug", "stderr", "input_filename", "input_line_number",
                                 "halt", "halt_error", "modulemeta", "now", "localtime", "get_search_list"}) {
    INFO(name);
    const FoldOutput output = Run(runner, name, "", {"0"});
    CHECK(output.status.message() == absl::StrCat("the program says: ", name, " is not available here"));
  }
  CHECK(absl::StrContains(Run(runner, "halt_error(5)", "", {"0"}).status.message(), "is not available here"));
}

TEST_CASE("A program without end is stopped, and the next one runs", "[transform]") {
  Runner::Options options = Fast({.workers = 1});
  options.time_limit = 300ms;
  Runner runner(options);
  for (const char* source : {"def f: f; f", "[repeat(1)] | length", "last(range(infinite))", "until(false; .)"}) {
    INFO(source);
    const base::SteadyTime start = base::Clock::System().SteadyNow();
    const FoldOutput output = Run(runner, source, "", {"1"});
    CHECK(absl::IsResourceExhausted(output.status));
    // Endless lists may need too much memory before their time is up.
    CHECK(base::Clock::System().SteadyNow() - start < 20s);
  }
  CHECK(absl::StrContains(Run(runner, "def f: f; f", "", {"1"}).status.message(), "did not end within 300 ms"));
  const ProgramPtr echo = testing::Must(runner.Compile(".data"));
  for (int attempt = 0;; ++attempt) {  // Starting a process may take longer than this time limit on a busy machine.
    const FoldOutput output = Wait(runner.Fold(echo, "", {{.fields = "{}", .data = "7"}}, In(60s)));
    if (!output.status.ok() && attempt < 20) continue;
    CHECK(output.state == "7");
    break;
  }
}

TEST_CASE("A program that makes jq crash or takes too much harms nobody else", "[transform]") {
  Runner::Options options = Fast({.workers = 1, .memory_bytes = 64u << 20});
  options.time_limit = 3s;
  Runner runner(options);
  const ProgramPtr echo = testing::Must(runner.Compile(".data"));
  for (const char* source : {
           "null | .[.infinite // 1431655765] = 1",              // Writes beyond its memory in libjq 1.6.
           "reduce range(40) as $i (\"x\"; . + .) | length",     // A text of a terabyte.
           "def f: [f]; f",                                      // Recursion without end.
           "reduce range(3000000) as $i (1; [.]) | tojson | 1",  // Freed recursively.
       }) {
    INFO(source);
    const FoldOutput output = Run(runner, source, "", {"1"});
    // What a sanitizer lets pass ends with an error of the program or with its output.
    if (!output.status.ok()) CHECK_FALSE(output.status.message().empty());
    CHECK(Wait(runner.Fold(echo, "", {{.fields = "{}", .data = "7"}}, In(60s))).state == "7");
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(absl::IsResourceExhausted(Run(runner, "reduce range(40) as $i (\"x\"; . + .) | length", "", {"1"}).status));
  CHECK(absl::IsResourceExhausted(Run(runner, "null | .[1431655765] = 1", "", {"1"}).status));
#endif
}

TEST_CASE("A state that is too large is refused", "[transform]") {
  Runner::Options options = Fast();
  options.max_state_bytes = 1000;
  Runner runner(options);
  CHECK(Run(runner, "\"x\" * 998", "", {"1"}).status == absl::OkStatus());
  const FoldOutput output = Run(runner, "\"x\" * 999", "", {"1"});
  CHECK(absl::IsOutOfRange(output.status));
  CHECK(absl::IsOutOfRange(Run(runner, "[range(1000)]", "", {"1"}).status));
}

TEST_CASE("Folds wait for their turn no longer than their callers, and no more than allowed", "[transform]") {
  Runner::Options options = Fast({.workers = 1, .max_waiting = 1});
  options.time_limit = 500ms;
  Runner runner(options);
  const ProgramPtr endless = testing::Must(runner.Compile("def f: f; f"));
  base::Future<FoldOutput> running = runner.Fold(endless, "", {{.fields = "{}", .data = "1"}}, In(60s));
  // Until the first one is taken the second one finds no place.
  base::Future<FoldOutput> waiting = runner.Fold(endless, "", {{.fields = "{}", .data = "1"}}, In(1ms));
  FoldOutput late = Wait(std::move(waiting));
  for (int attempt = 0; absl::IsUnavailable(late.status) && attempt < 100'000; ++attempt) {
    late = Wait(runner.Fold(endless, "", {{.fields = "{}", .data = "1"}}, In(1ms)));
  }
  CHECK(absl::IsDeadlineExceeded(late.status));
  CHECK(absl::IsResourceExhausted(Wait(std::move(running)).status));
}

TEST_CASE("Stopping fails what runs and what comes", "[transform]") {
  Runner::Options options = Fast({.workers = 1});
  options.time_limit = 60s;
  Runner runner(options);
  const ProgramPtr endless = testing::Must(runner.Compile("def f: f; f"));
  base::Future<FoldOutput> running = runner.Fold(endless, "", {{.fields = "{}", .data = "1"}}, In(60s));
  base::Future<FoldOutput> waiting = runner.Fold(endless, "", {{.fields = "{}", .data = "1"}}, In(60s));
  const base::SteadyTime start = base::Clock::System().SteadyNow();
  runner.Stop();
  CHECK(base::Clock::System().SteadyNow() - start < 20s);
  CHECK(absl::IsUnavailable(Wait(std::move(running)).status));
  CHECK(absl::IsUnavailable(Wait(std::move(waiting)).status));
  CHECK(absl::IsUnavailable(Wait(runner.Fold(endless, "", {}, In(60s))).status));
  CHECK(absl::IsUnavailable(runner.Compile("1").status()));
}

TEST_CASE("Without its program a runner says so", "[transform]") {
  Runner runner({.worker_program = "/nowhere/worker"});
  CHECK(absl::IsUnavailable(runner.Compile("1").status()));
}

// Any JSON that jq can keep.
rc::Gen<json> AnyJson(int depth = 3) {
  const auto leaf =
      rc::gen::oneOf(rc::gen::map(rc::gen::inRange<int64_t>(-9'007'199'254'740'991, 9'007'199'254'740'992),
                                  [](int64_t n) { return json(n); }),
                     rc::gen::map(rc::gen::inRange<int64_t>(-1'000'000'000, 1'000'000'000),
                                  [](int64_t n) { return json(static_cast<double>(n) / 1024); }),
                     rc::gen::map(rc::gen::string<std::string>(),
                                  [](std::string text) {
                                    for (char& c : text) c = static_cast<char>(c & 0x7F);
                                    return json(text);
                                  }),
                     rc::gen::element(json(nullptr), json(true), json(false), json("\xF0\x9F\x98\x80\xC3\xBC")));
  if (depth == 0) return leaf;
  return rc::gen::oneOf(
      leaf,
      rc::gen::map(rc::gen::container<std::vector<json>>(AnyJson(depth - 1)),
                   [](std::vector<json> a) { return json(a); }),
      rc::gen::map(rc::gen::container<std::map<std::string, json>>(
                       rc::gen::element<std::string>("a", "b", "\xC3\xBC", "", "long key", "\t"), AnyJson(depth - 1)),
                   [](std::map<std::string, json> o) { return json(o); }));
}

TEST_CASE("JSON passes through a program unchanged", "[transform][property]") {
  const auto program = testing::Must(JqProgram::Compile("[$state, .data]"));
  testing::CheckProperty([&] {
    const json state = *AnyJson();
    const json data = *AnyJson();
    testing::Must(program->Begin(state.dump()));
    testing::Must(program->Step("{}", data.dump()));
    const std::string out = testing::Must(program->Finish(100'000'000));
    RC_ASSERT(json::parse(out) == json::array({state, data}));
  });
}

}  // namespace
}  // namespace persistd::transform
