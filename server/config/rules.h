// The rules between keys, applied once all sources are read: which NATS, how to authenticate, which sizes fit into
// which. Also reads the files that hold secrets, and checks that every other file named can be read.
#pragma once

#include "server/config/draft.h"

namespace persistd::config {

// Completes draft.config and adds a problem for each rule that does not hold. A rule about a key whose value was
// refused already is left out: its message would only confuse.
void ApplyRules(Draft& draft);

}  // namespace persistd::config
