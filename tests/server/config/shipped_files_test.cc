// The files of config/ against the table of keys, so that they cannot drift.
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/config/config.h"
#include "server/config/keys.h"
#include "server/config/loader.h"
#include "server/config/yaml.h"
#include "tests/server/config/loading.h"
#include "tests/testing/catch.h"
#include "tests/testing/properties.h"

namespace persistd::config {
namespace {

std::string Content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  INFO(path);
  REQUIRE(in.is_open());
  return {std::istreambuf_iterator<char>(in), {}};
}

// The keys below `node`, with their lines.
void Collect(const std::string& section, const YamlNode& node, std::vector<std::pair<std::string, int>>& out) {
  for (const YamlNode& entry : node.children) {
    const std::string path = section.empty() ? entry.key : absl::StrCat(section, ".", entry.key);
    if (entry.kind == YamlNode::Kind::kMap) {
      Collect(path, entry, out);
    } else {
      out.emplace_back(path, entry.line);
    }
  }
}

std::vector<std::pair<std::string, int>> KeysOf(const std::string& yaml) {
  const auto parsed = ParseYaml(yaml);
  REQUIRE(std::holds_alternative<YamlNode>(parsed));
  std::vector<std::pair<std::string, int>> keys;
  Collect("", std::get<YamlNode>(parsed), keys);
  return keys;
}

// The comment right above a line, as one line of text.
std::string CommentAbove(const std::vector<std::string>& lines, int line) {
  std::string comment;
  for (int i = line - 2; i >= 0; --i) {
    absl::string_view text = absl::StripAsciiWhitespace(lines[static_cast<std::size_t>(i)]);
    if (!absl::ConsumePrefix(&text, "# ")) break;
    comment = absl::StrCat(text, " ", comment);
  }
  return comment;
}

TEST_CASE("persistd.yaml has every key once, in the table's order", "[config]") {
  std::vector<std::string> expected;
  for (const Key& key : Keys()) expected.push_back(key.path);
  std::vector<std::string> found;
  for (const auto& [path, line] : KeysOf(Content("config/persistd.yaml"))) found.push_back(path);
  REQUIRE(found == expected);
  REQUIRE(std::set<std::string>(found.begin(), found.end()).size() == found.size());
}

TEST_CASE("persistd.yaml gives every key its default", "[config]") {
  const absl::StatusOr<Config> config = LoadConfig({.file = "config/persistd.yaml"});
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  REQUIRE(*config == Config{});
  // Key by key as well: a default that rules between keys would set is not hidden.
  REQUIRE(Describe(*config) == Describe(Config{}));
}

TEST_CASE("persistd.yaml says above every key what is allowed", "[config]") {
  const std::string yaml = Content("config/persistd.yaml");
  const std::vector<std::string> lines = absl::StrSplit(yaml, '\n');
  for (const auto& [path, line] : KeysOf(yaml)) {
    INFO(path);
    REQUIRE(absl::StrContains(CommentAbove(lines, line), absl::StrCat("Allowed: ", FindKey(path)->allowed, ".")));
  }
}

TEST_CASE("Every key reads back what it shows", "[config]") {
  // A row that shows one member and sets another would pass everything else.
  for (const Key& key : Keys()) {
    INFO(key.path);
    Config changed;
    bool differs = false;
    for (const char* text : {"3h", "3s", "50ms", "3KiB", "3MiB", "333MiB", "2", "3", "warn", "single", "s2", "false",
                             "true", "h:1", "http://h", "memory", "other"}) {
      Config config;
      bool good = true;
      key.set({.kind = YamlNode::Kind::kScalar, .text = text}, config,
              [&](int, absl::string_view, const std::string&) { good = false; });
      if (good && config != Config{}) {
        differs = true;
        REQUIRE(key.show(config) != key.show(Config{}));
        for (const Key& other : Keys()) {
          if (other.path != key.path) REQUIRE(other.show(config) == other.show(Config{}));
        }
      }
    }
    // Storage has one word only, but where what is kept can be made again.
    const bool one_word = absl::EndsWith(key.path, ".storage") && key.path != "repository.kv.cim-read-models.storage";
    REQUIRE(differs == (!key.is_list && !one_word));
  }
}

TEST_CASE("A damaged persistd.yaml is refused or read, never more", "[config]") {
  const std::string yaml = Content("config/persistd.yaml");
  const Folder folder;
  testing::CheckProperty([&] {
    std::string damaged = yaml;
    for (int i = *rc::gen::inRange(1, 4); i > 0; --i) {
      const auto at = *rc::gen::inRange<std::size_t>(0, damaged.size());
      const auto length = *rc::gen::inRange<std::size_t>(0, 40);
      const auto noise =
          *rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab19 \n\t:-[]{}\"'#&*!|>?%@`~,.\\\xff")));
      damaged.replace(at, length, noise);
    }
    const absl::StatusOr<Config> config = LoadConfig({.file = folder.Write("c.yaml", damaged)});
    if (config.ok()) return;
    RC_ASSERT(config.status().code() == absl::StatusCode::kInvalidArgument);
    for (const absl::string_view line : absl::StrSplit(config.status().message(), '\n')) {
      RC_ASSERT(absl::StartsWith(line, folder.path()) || line == "and more problems" ||
                absl::StartsWith(line, "default nats.embedded.enabled"));
    }
  });
}

TEST_CASE("dev.yaml keeps everything in the working folder", "[config]") {
  const absl::StatusOr<Config> config = LoadConfig({.file = "config/dev.yaml"});
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  REQUIRE(config->data_dir == "./.persistd-data");
  REQUIRE(config->nats.embedded.enabled);
}

TEST_CASE("production.yaml is an external cluster with three copies", "[config]") {
  const Folder folder;
  const absl::StatusOr<Config> config =
      LoadConfig({.file = "config/production.yaml",
                  .overrides = {"nats.creds_file=" + folder.Write("nats.creds", "-----BEGIN NATS USER JWT-----")}});
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  REQUIRE(config->nats.urls.size() == 3);
  REQUIRE_FALSE(config->nats.embedded.enabled);
  REQUIRE(config->repository.stream.replicas == 3);
}

TEST_CASE("production.yaml names the credentials file that is missing", "[config]") {
  REQUIRE(LoadConfig({.file = "config/production.yaml"}).status().message() ==
          "config/production.yaml:19: nats.creds_file: cannot read \"/etc/persistd/nats.creds\": No such file or "
          "directory");
}

}  // namespace
}  // namespace persistd::config
