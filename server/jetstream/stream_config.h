// The configuration of the streams that hold events and states, as JSON of JetStream: how a new one is made, whether
// one that exists can be used, and what has to change for it to follow the settings. Pure functions; unknown fields of
// a stream's configuration are kept.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace persistd::jetstream {

// The stream of all named chains, whatever the configuration calls the others.
inline constexpr char kChainStream[] = "CIM-CHAINS";

enum class StreamKind {
  kEvents,  // Keeps everything for ever.
  kState,   // Keeps the last message of each subject.
};

struct Placement {
  std::string cluster;
  std::vector<std::string> tags;  // In any order.

  bool operator==(const Placement&) const = default;
};

// What is asked of a stream. Absent: a new stream gets the default, and one that exists keeps what it has.
struct StreamSettings {
  std::optional<int> replicas{};             // Default: 1.
  std::optional<std::string> storage{};      // "file" (the default; one that exists must have it) or "memory".
  std::optional<std::string> compression{};  // "none" (the default) or "s2".
  std::optional<Placement> placement{};      // Default: anywhere.
  std::optional<uint64_t> max_bytes{};       // 0, the default: no limit.

  bool operator==(const StreamSettings&) const = default;
};

struct StreamSpec {
  std::string name;
  std::string subjects;  // One pattern.
  StreamKind kind = StreamKind::kEvents;
  StreamSettings settings{};
  bool purgeable = false;  // Events may be removed from it once a snapshot stands for them.
};

// The body of STREAM.CREATE.
nlohmann::json NewStreamConfig(const StreamSpec& spec);

// Empty when `config`, as STREAM.INFO reports it, suits `spec`; otherwise what is wrong and what to do.
std::string UnsuitableBecause(const nlohmann::json& config, const StreamSpec& spec);

// Whether events can be removed from a stream of this configuration. Once it cannot it never can again.
bool IsPurgeable(const nlohmann::json& config);

// What of `config` differs from the settings and can be changed.
struct StreamChange {
  // One update each, in this order: JetStream does not move and scale a stream in one request.
  struct Step {
    std::string what;  // Such as "replicas 1 -> 3, compression none -> s2".
    nlohmann::json fields;
  };
  std::vector<Step> steps;
  std::string refused;  // What is not changed, and why; or empty.
};

// stored_bytes: what the stream holds now.
StreamChange PlanChange(const nlohmann::json& config, uint64_t stored_bytes, const StreamSettings& settings);
// Adds to `change` what makes the stream purgeable, or why it cannot be.
void PlanPurgeable(const nlohmann::json& config, StreamChange& change);

// The settings that a stream of this configuration has; all are present.
StreamSettings SettingsOf(const nlohmann::json& config);

// Such as "replicas: 3, placement: cluster eu, tags [ssd]"; only what is present.
std::string ToString(const StreamSettings& settings);

}  // namespace persistd::jetstream
