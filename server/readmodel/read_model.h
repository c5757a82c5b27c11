// Read models as values: documents made for reading, each with its type and id.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/domain/event.h"
#include "server/domain/position.h"
#include "server/domain/read_model_key.h"

namespace persistd::readmodel {

struct ReadModel {
  domain::ReadModelKey key;
  domain::Payload payload;
  uint32_t schema_version = 1;
  domain::Position source;  // What it was made from, as far as its writers said.
  uint64_t revision = 0;
  base::WallTime updated;                   // By the clock of NATS.
  std::optional<base::WallTime> expires{};  // nullopt: never.
};

// A write of one document.
struct Write {
  domain::ReadModelKey key;
  std::optional<domain::Payload> payload{};  // nullopt: the document is deleted.
  uint32_t schema_version = 1;
  domain::Position source{};                    // Empty: whatever it was made from.
  std::string source_field = "source";          // How errors name it.
  std::optional<uint64_t> expected_revision{};  // 0: there must be none; nullopt: whatever there is.
  std::optional<std::chrono::seconds> ttl{};    // nullopt: it stays.
};

struct Written {
  bool superseded = false;    // Something from a newer source is there.
  uint64_t revision = 0;      // Of what is there now; 0: nothing was ever there.
  bool existed = false;       // There was a document before.
  bool deduplicated = false;  // It was written by an earlier call with this id.
};

// Several, written together or not at all, each of another document.
struct WriteCommand {
  std::vector<Write> writes;
  std::string request_id;
};

struct ListQuery {
  std::string type;
  std::string id_prefix{};
  std::string id_pattern{};  // Of NATS; empty: all.
  size_t page_size = 100;
  std::string after{};  // What the page before said.
};

struct ListPage {
  std::vector<ReadModel> read_models;  // In the order of their keys in the bucket.
  std::string next{};                  // Empty: there are no more.
};

}  // namespace persistd::readmodel
