#include "client/cli/car_check.h"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/ipld/car.h"
#include "server/ipld/dag_cbor.h"

namespace persistd::cli {
namespace {

using ipld::AnyCid;
using ipld::Value;

constexpr size_t kPieceBytes = 256u << 10;
constexpr size_t kMaxSectionBytes = 80u << 20;  // NATS takes messages of up to 64 MiB.
// What is in the block of an event is in the headers of its message, of which NATS takes 64 KiB. A larger block would
// take a multiple of its size once decoded.
constexpr size_t kMaxEventBlockBytes = 128u << 10;

// What of an event's block (server/ipld/README.md) leads to others.
struct EventLinks {
  std::string aggregate{};
  uint64_t version = 0;
  std::optional<AnyCid> previous{};
  std::optional<AnyCid> payload{};
};

const Value* Field(const Value::Map& map, absl::string_view key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

// A link, or null; false: it is neither.
bool ReadLink(const Value* value, std::optional<AnyCid>& link) {
  if (value == nullptr) return false;
  if (const AnyCid* cid = value->As<AnyCid>()) link = *cid;
  return link.has_value() || value->As<ipld::Null>() != nullptr;
}

// nullopt: the block is not one of an event.
std::optional<EventLinks> ReadEvent(absl::string_view block) {
  if (block.size() > kMaxEventBlockBytes) return std::nullopt;
  const absl::StatusOr<Value> value = ipld::DecodeDagCbor(block);
  const Value::Map* map = value.ok() ? value->As<Value::Map>() : nullptr;
  if (map == nullptr || Field(*map, "persistd") == nullptr) return std::nullopt;
  EventLinks links;
  for (const char* const part : {"context", "aggregate", "entity"}) {
    const Value* name = Field(*map, part);
    const std::string* text = name == nullptr ? nullptr : name->As<std::string>();
    if (text == nullptr) return std::nullopt;
    absl::StrAppend(&links.aggregate, links.aggregate.empty() ? "" : "/", *text);
  }
  const Value* version = Field(*map, "version");
  const uint64_t* number = version == nullptr ? nullptr : version->As<uint64_t>();
  if (number == nullptr || *number == 0) return std::nullopt;
  links.version = *number;
  if (!ReadLink(Field(*map, "prev"), links.previous) || !ReadLink(Field(*map, "data"), links.payload)) {
    return std::nullopt;
  }
  return links;
}

class CarCheck {
 public:
  absl::Status Read(std::istream& in) {
    std::string piece(kPieceBytes, '\0');
    while (in) {
      in.read(piece.data(), static_cast<std::streamsize>(piece.size()));
      reader_.Add(absl::string_view(piece).substr(0, static_cast<size_t>(in.gcount())));
      while (true) {
        absl::StatusOr<std::optional<ipld::CarBlock>> block = reader_.Next();
        if (!block.ok()) return absl::DataLossError(block.status().message());
        if (!block->has_value()) break;
        Take(**block);
      }
    }
    if (in.bad()) return absl::UnavailableError("the file cannot be read to its end");
    if (const absl::Status end = reader_.Finish(); !end.ok()) return absl::DataLossError(end.message());
    return absl::OkStatus();
  }

  absl::StatusOr<CarSummary> Walk(const std::string& expected_root) const {
    if (reader_.roots().size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("a history has one root, not ", reader_.roots().size()));
    }
    const AnyCid& root = reader_.roots().front();
    CarSummary summary{.root = root.ToString()};
    if (!expected_root.empty() && summary.root != expected_root) {
      return absl::DataLossError(absl::StrCat("the root is ", summary.root, ", not ", expected_root));
    }
    const EventLinks* next = nullptr;
    for (std::optional<AnyCid> cid = root; cid.has_value();) {
      const auto found = events_.find(cid->bytes());
      if (found == events_.end()) {
        if (next == nullptr) return absl::InvalidArgumentError("the root is no event that is in the file");
        if (next->version == 1) {
          return absl::DataLossError(
              absl::StrCat("version 1 continues ", cid->ToString(), ", but nothing is before it"));
        }
        summary.before = cid->ToString();
        break;
      }
      const EventLinks& event = found->second;
      if (next == nullptr) {
        summary.aggregate = event.aggregate;
        summary.last_version = event.version;
      } else if (event.aggregate != next->aggregate) {
        return absl::DataLossError(absl::StrCat("version ", next->version, " of ", next->aggregate,
                                                " continues an event of ", event.aggregate));
      } else if (event.version + 1 != next->version) {
        return absl::DataLossError(absl::StrCat("version ", next->version, " continues version ", event.version,
                                                ", which is not the one before"));
      }
      ++summary.events;
      summary.first_version = event.version;
      if (event.payload.has_value()) {
        ++(payloads_.count(event.payload->bytes()) > 0 ? summary.payloads : summary.erased_payloads);
      }
      next = &event;
      cid = event.previous;
    }
    // What lies before a gap is reached by no link.
    if (summary.events < events_.size()) {
      return absl::DataLossError(
          absl::StrCat(events_.size() - summary.events, " events of the file are not before its root; version ",
                       summary.first_version, " continues ", summary.before.empty() ? "none" : summary.before));
    }
    return summary;
  }

 private:
  void Take(const ipld::CarBlock& block) {
    if (block.cid.codec() == ipld::kRawCodec) {
      payloads_.insert(block.cid.bytes());
    } else if (std::optional<EventLinks> event = ReadEvent(block.bytes); event.has_value()) {
      events_.emplace(block.cid.bytes(), *std::move(event));
    }
  }

  ipld::CarReader reader_{kMaxSectionBytes};
  std::map<std::string, EventLinks> events_;  // By the bytes of their CIDs.
  std::set<std::string> payloads_;
};

}  // namespace

absl::StatusOr<CarSummary> CheckCar(std::istream& in, const std::string& expected_root) {
  CarCheck check;
  if (const absl::Status read = check.Read(in); !read.ok()) return read;
  return check.Walk(expected_root);
}

std::string ToJson(const CarSummary& summary) {
  nlohmann::ordered_json json = {{"valid", true},
                                 {"aggregate", summary.aggregate},
                                 {"rootCid", summary.root},
                                 {"firstVersion", std::to_string(summary.first_version)},
                                 {"lastVersion", std::to_string(summary.last_version)},
                                 {"events", std::to_string(summary.events)},
                                 {"payloads", std::to_string(summary.payloads)},
                                 {"erasedPayloads", std::to_string(summary.erased_payloads)}};
  if (!summary.before.empty()) json["continuesCid"] = summary.before;
  return json.dump();
}

}  // namespace persistd::cli
