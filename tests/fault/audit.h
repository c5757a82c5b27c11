// Holds what is stored of one aggregate against what its writers were told. Stateless.
#pragma once

#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "tests/fault/ledger.h"

namespace persistd::fault {

// The payloads of event `index` of `count` of a save, and of a state saved with it.
std::string EventText(const std::string& request_id, int index, int count);
std::string StateText(const std::string& request_id);

struct Audit {
  std::vector<std::string> problems;
  std::string history;  // All of it as bytes, to be compared with what others see.
};

// `records`: all saves of the aggregate that were settled. A save that is stored must be among the acknowledged ones.
Audit AuditAggregate(const client::Client& client, const cim::persistence::v1::AggregateRef& ref,
                     const std::vector<SaveRecord>& records);

}  // namespace persistd::fault
