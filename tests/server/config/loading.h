// Loads configurations from text in tests. The file is called c.yaml in messages, wherever it is.
#pragma once

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_replace.h"
#include "server/config/loader.h"
#include "tests/testing/catch.h"
#include "tests/testing/temp_dir.h"

namespace persistd::config {

// A folder with files, removed at the end of the test.
class Folder {
 public:
  // Returns the file's path.
  std::string Write(const std::string& name, const std::string& content) const {
    std::ofstream(dir_.File(name), std::ios::binary) << content;
    return dir_.File(name);
  }
  const std::string& path() const { return dir_.path(); }

 private:
  testing::TempDir dir_;
};

struct Sources {
  std::string yaml = {};
  std::map<std::string, std::string> environment = {};
  std::vector<std::string> overrides = {};
};

inline absl::StatusOr<Config> Load(const Sources& sources) {
  const Folder folder;
  const std::string file = folder.Write("c.yaml", sources.yaml);
  absl::StatusOr<Config> config =
      LoadConfig({.file = file, .overrides = sources.overrides, .environment = sources.environment});
  if (config.ok()) return config;
  return absl::Status(config.status().code(),
                      absl::StrReplaceAll(std::string(config.status().message()), {{folder.path() + "/", ""}}));
}

// The configuration; the test fails with the message when there is none.
inline Config Loaded(const Sources& sources) {
  const absl::StatusOr<Config> config = Load(sources);
  INFO(config.status().ToString());
  REQUIRE(config.ok());
  return *config;
}

// The message; the test fails when the configuration is accepted.
inline std::string Refusal(const Sources& sources) {
  const absl::StatusOr<Config> config = Load(sources);
  REQUIRE_FALSE(config.ok());
  REQUIRE(config.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(config.status().message());
}

}  // namespace persistd::config
