// Asks a repository to verify a history. For tests of one thread.
#pragma once

#include <chrono>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "server/ipld/chain_verifier.h"
#include "tests/server/repository/repository_fixture.h"
#include "tests/testing/must.h"

namespace persistd::ipld {

inline std::ostream& operator<<(std::ostream& out, BreakReason reason) { return out << std::string(ToString(reason)); }

}  // namespace persistd::ipld

namespace persistd::repository {

// told: all that is said of the progress.
inline absl::StatusOr<Verification> TryVerify(TestRepository& repository, VerifyCommand command,
                                              std::vector<VerifyProgress>* told = nullptr,
                                              std::chrono::milliseconds timeout = 60s) {
  const VerifyProgressSink sink = [told](VerifyProgress progress) -> base::Task<bool> {
    if (told != nullptr) told->push_back(progress);
    co_return true;
  };
  return base::BlockOn(repository.repository().VerifyChain(std::move(command), sink, TestRepository::In(timeout)));
}

inline ipld::ChainResult Verify(TestRepository& repository, VerifyCommand command) {
  return testing::Must(TryVerify(repository, std::move(command))).chain;
}

}  // namespace persistd::repository
