#include "tests/bench/load_workload.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace persistd::bench {

namespace pb = cim::persistence::v1;

Loads::Loads(std::shared_ptr<grpc::Channel> channel, uint32_t slots, Options options)
    : options_(std::move(options)), calls_(std::move(channel), "/cim.persistence.v1.AggregateService/Load", slots) {
  request_.mutable_ref()->set_context(kContext);
  request_.mutable_ref()->set_aggregate(options_.aggregate);
}

bool Loads::Start(uint32_t slot) {
  if (next_ == options_.ids.size()) return false;
  request_.mutable_ref()->set_entity_id(options_.ids[next_++]);
  calls_.Start(slot, ToBytes(request_));
  return true;
}

Done Loads::Wait() {
  Done done = calls_.Wait();
  if (!done.failure.empty() || answers_++ % kLookAtEvery != 0) return done;
  pb::LoadResponse response;
  FromBytes(calls_.response(done.slot), response);
  if (response.events_size() != options_.events || response.has_state() != options_.state) {
    done.failure = absl::StrCat("a load of ", response.events_size(), " events, ",
                                response.has_state() ? "with state" : "without state");
  }
  return done;
}

}  // namespace persistd::bench
