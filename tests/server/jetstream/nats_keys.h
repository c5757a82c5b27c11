// Keys and signed tokens as NATS uses them, made afresh for a test: nkeys (Ed25519 keys as base32 texts) and the JWTs
// of an operator, its accounts and their users.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace persistd::testing {

struct Nkey {
  std::string seed;        // "SU…"
  std::string public_key;  // "U…"
};

// kind: 'O' operator, 'A' account, 'U' user.
Nkey NewNkey(char kind);

// The claim that `subject` is what `nats` says, signed by `issuer`.
std::string SignJwt(const Nkey& issuer, const std::string& subject, const nlohmann::json& nats);

// A server's configuration for one account with JetStream, and the text of a credentials file of a user in it.
struct OperatorSetup {
  std::string server_config;
  std::string creds;
};
OperatorSetup NewOperatorSetup();

}  // namespace persistd::testing
