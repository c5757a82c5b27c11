// Torn saves made by hand: the first few messages of a save, as a power cut in the middle of a commit leaves them.
#pragma once

#include <cstdint>
#include <optional>

#include "server/jetstream/event_codec.h"
#include "tests/server/repository/repository_fixture.h"

namespace persistd::fault {

// Publishes the first `stored` messages of `command` behind what is stored of its aggregate, exactly as a saver would
// have encoded them. The aggregate must be alone in its stream.
void PublishTorn(repository::TestRepository& repository, const repository::SaveCommand& command, size_t stored);

// The last event in the stream that is the last one of its save, with its pointers; nullopt: there is none.
std::optional<jetstream::DecodedEvent> LastComplete(repository::TestRepository& repository,
                                                    const domain::AggregateRef& ref);

}  // namespace persistd::fault
