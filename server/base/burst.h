// A burst: a thread that has several things at hand handles one after the other, and what they want to do once for all
// of them (write a socket's buffer, send a batch) is done at the end.
//
//   Burst::Begin();                       // in the loop of a thread, before it handles what is at hand
//   ...                                   // handlers call Burst::AtEnd(connection)
//   Burst::End();                         // when nothing more is at hand, before the thread waits
//
// State of the calling thread: nothing here is shared. On a thread without a burst, AtEnd does it at once.
#pragma once

#include <memory>

namespace persistd::base {

// Something to be done at the end of a burst.
class Deferred {
 public:
  virtual ~Deferred() = default;
  virtual void RunDeferred() = 0;
};

class Burst {
 public:
  // More things than this are not handled in one burst, so that the first one does not wait for long.
  static constexpr int kMaxThings = 64;

  // Within a burst: nothing.
  static void Begin();
  // Runs what was put off, and what that puts off. Outside of a burst: nothing.
  static void End();
  // Runs what was put off now; the burst goes on.
  static void Now();
  // Runs `what` at the end of this thread's burst, once however often it was asked for.
  static void AtEnd(std::shared_ptr<Deferred> what);
};

}  // namespace persistd::base
