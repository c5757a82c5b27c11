#include "server/config/yaml.h"

#include <string>
#include <variant>

#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::config {
namespace {

using Kind = YamlNode::Kind;

YamlNode Parsed(const std::string& text) {
  const auto parsed = ParseYaml(text);
  if (const auto* problem = std::get_if<YamlProblem>(&parsed)) FAIL(problem->line << ": " << problem->what);
  return std::get<YamlNode>(parsed);
}

// "LINE: message"
std::string Problem(const std::string& text) {
  const auto parsed = ParseYaml(text);
  REQUIRE(std::holds_alternative<YamlProblem>(parsed));
  const auto& problem = std::get<YamlProblem>(parsed);
  return std::to_string(problem.line) + ": " + problem.what;
}

TEST_CASE("Maps, lists and scalars keep their order and lines", "[config]") {
  const YamlNode root = Parsed("# comment\na: 1\nb:\n  - x\n  - \"y\"\nc: {d: ~, e: ''}\n");
  REQUIRE(root.kind == Kind::kMap);
  REQUIRE(root.children.size() == 3);
  REQUIRE(root.children[0].key == "a");
  REQUIRE(root.children[0].text == "1");
  REQUIRE(root.children[0].line == 2);
  REQUIRE_FALSE(root.children[0].quoted);
  REQUIRE(root.children[1].kind == Kind::kList);
  REQUIRE(root.children[1].line == 3);
  REQUIRE(root.children[1].children[1].line == 5);
  REQUIRE(root.children[1].children[1].quoted);
  REQUIRE(root.children[2].children[0].kind == Kind::kNull);
  REQUIRE(root.children[2].children[1].kind == Kind::kScalar);
  REQUIRE(root.children[2].children[1].quoted);
}

TEST_CASE("Text without content is a null node", "[config]") {
  for (const char* text : {"", "\n\n", "# only a comment", "---\n", "---\n...\n", "\xef\xbb\xbf"}) {
    INFO(text);
    REQUIRE(Parsed(text).kind == Kind::kNull);
  }
}

TEST_CASE("Duplicate keys are both kept", "[config]") {
  const YamlNode root = Parsed("a: 1\nb: 2\na: 3\n");
  REQUIRE(root.children.size() == 3);
  REQUIRE(root.children[2].key == "a");
  REQUIRE(root.children[2].line == 3);
}

TEST_CASE("Windows line ends are read like others", "[config]") {
  const YamlNode root = Parsed("a: 1\r\nb:\r\n  c: 2\r\n");
  REQUIRE(root.children[0].text == "1");
  REQUIRE(root.children[1].children[0].line == 3);
}

TEST_CASE("An alias bomb is refused at its first anchor", "[config]") {
  REQUIRE(Problem("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n") ==
          "1: an anchor (&name) or alias (*name); write the value out, or put it in quotes if it is text");
  REQUIRE(Problem("x: 1\ny: &here 2\n").substr(0, 5) == "2: an");
  REQUIRE(Problem("a: *nothing\n").substr(0, 2) == "1:");
}

TEST_CASE("Tags are refused", "[config]") {
  REQUIRE(Problem("a: 1\nb: !!binary aGk=\n") ==
          "2: the tag \"tag:yaml.org,2002:binary\"; a configuration has no tags");
  REQUIRE(Problem("a: !include other.yaml\n") == "1: the tag \"!include\"; a configuration has no tags");
}

TEST_CASE("Nesting is bounded in every style", "[config]") {
  REQUIRE(Problem("a: " + std::string(17, '[') + "x" + std::string(17, ']')) == "1: nested deeper than 16 levels");
  std::string maps;
  for (int i = 0; i < 17; ++i) maps += "{a: ";
  REQUIRE(Problem(maps + "b" + std::string(17, '}')) == "1: nested deeper than 16 levels");
  std::string dashes;
  for (int i = 0; i < 50'000; ++i) dashes += "- ";
  REQUIRE(Problem(dashes + "x") == "1: nested deeper than 16 levels");
  std::string indented;
  for (int i = 0; i < 300; ++i) indented += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  REQUIRE(Problem(indented) == "17: nested deeper than 16 levels");
}

TEST_CASE("Brackets without end are refused soon", "[config]") {
  for (const char bracket : {'[', '{'}) {
    REQUIRE(Problem(std::string(1'000'000, bracket) + " ").substr(0, 2) == "1:");
  }
}

TEST_CASE("A tab as indentation is refused with its line", "[config]") {
  REQUIRE(Problem("a:\n\tb: 1\n") == "2: a tab indents this line; YAML is indented with spaces");
  REQUIRE(Problem("a:\n  \t b: 1\n") == "2: a tab indents this line; YAML is indented with spaces");
  REQUIRE(Parsed("a: 1\t# after a value\n\t\n\t# before a comment\n").children[0].text == "1");
}

TEST_CASE("Bytes that are not UTF-8 and control characters are refused with their line", "[config]") {
  REQUIRE(Problem("a: 1\nb: \xff\n") == "2: bytes that are not UTF-8");
  REQUIRE(Problem(std::string("\xff\xfe"
                              "a\0:\0",
                              6)) == "1: bytes that are not UTF-8");
  REQUIRE(Problem(std::string("a: 1\nb: x\0y\n", 12)) == "2: a control character; only tabs and line ends are allowed");
  REQUIRE(Problem("a: \x1b[31m\n") == "1: a control character; only tabs and line ends are allowed");
}

TEST_CASE("A second document is refused", "[config]") {
  REQUIRE(Problem("a: 1\n---\nb: 2\n") ==
          "2: more after the end of the YAML document; a configuration is one document");
}

TEST_CASE("A directive is refused", "[config]") {
  REQUIRE(Problem("%YAML 1.2\n---\na: 1\n") == "1: a YAML directive; a configuration has none");
  REQUIRE(Problem("a: 1\n%ignored\n") == "2: a YAML directive; a configuration has none");
}

TEST_CASE("Keys that are not text are refused", "[config]") {
  REQUIRE(Problem("a: 1\n? [x, y]\n: 2\n") == "2: a list or map as a key, or a bracket that is never closed");
  REQUIRE(Problem("a: 1\n~: 2\n") == "2: a key without text");
}

TEST_CASE("A quote that is never closed does not swallow the rest of the file", "[config]") {
  for (const char* text : {"a: \"open\nb: 2\n", "a: 'open\nb: 2\n\n  \n", "a: \"open\n# comment\n"}) {
    INFO(text);
    REQUIRE(Problem(text).find("not YAML: illegal EOF in scalar") != std::string::npos);
  }
}

TEST_CASE("What follows a list at the top is refused", "[config]") {
  REQUIRE(Problem("- a\nb: 1\n") == "2: more after the end of the YAML document; a configuration is one document");
}

TEST_CASE("Broken YAML is refused with its line", "[config]") {
  for (const char* text :
       {"a: 1\nb: [1, 2\n", "a: 1\nb: {x: 1\n", "a: 1\nb: \"open\n", "a: 1\n b: 2\n", "a: 1\nb: c: d\n"}) {
    INFO(text);
    const std::string problem = Problem(text);
    INFO(problem);
    REQUIRE(problem.find("not YAML: ") != std::string::npos);
    REQUIRE(problem[0] >= '2');
  }
}

TEST_CASE("Random YAML-like text never escapes as an exception", "[config]") {
  const auto piece = rc::gen::elementOf(std::vector<std::string>{
      "a",   "b: ", "- ",   "\n",           "\n  ",  "\n    ", "[",           "]",          "{",    "}",
      ", ",  ": ",  "? ",   "\"",           "'",     "|",      ">",           "|2-\n",      "#",    " #c\n",
      "&a ", "*a",  "!t ",  "!!str ",       "---\n", "...\n",  "%YAML 1.2\n", "%TAG ! x\n", "<<: ", "~",
      "\\",  "\t",  "\r\n", "\xef\xbb\xbf", "ž",     "\\x41",  "0x"});
  testing::CheckProperty([&] {
    std::string text;
    for (const std::string& part : *rc::gen::container<std::vector<std::string>>(piece)) text += part;
    const auto parsed = ParseYaml(text);
    if (const auto* problem = std::get_if<YamlProblem>(&parsed)) RC_ASSERT(problem->line >= 1);
  });
}

}  // namespace
}  // namespace persistd::config
