// Takes apart what a NATS server sends: the text protocol of docs.nats.io/reference/reference-protocols/nats-protocol.
//
// nats.c has a parser of its own, but hands each message to another thread, and has it freed by a third one; that costs
// more than all the rest of a save. Not thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/jetstream/message.h"

namespace persistd::jetstream {

class WireParser {
 public:
  // Where the parts go, in the order in which they came.
  class Sink {
   public:
    virtual ~Sink() = default;
    // What the texts refer to is gone when this returns. headers: as they were sent, or empty.
    virtual void OnMessage(absl::string_view subject, absl::string_view reply, absl::string_view headers,
                           absl::string_view data) = 0;
    virtual void OnPing() = 0;
    // The text of an error, without its quotes.
    virtual void OnError(absl::string_view text) = 0;
  };

  // Bytes as they came, however they were cut. DataLoss: they are not the protocol; nothing more may be fed then.
  absl::Status Feed(absl::string_view bytes, Sink& sink);

 private:
  // Takes one part off the front of `bytes`; false: it is not complete.
  absl::StatusOr<bool> TakeOne(absl::string_view& bytes, Sink& sink);

  std::string rest_;   // The start of a part.
  size_t needed_ = 0;  // So many bytes of it must be there before it is looked at again.
};

// Headers as they are sent: `NATS/1.0`, perhaps with a status, and lines of `name: value`. The status becomes the
// headers `Status` and `Description`.
Headers ParseHeaders(absl::string_view block);

}  // namespace persistd::jetstream
