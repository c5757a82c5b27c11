// One TCP connection to NATS with its inbox: RAII over nats.c, without reconnecting. See connection.h for the living
// one.
//
// What is published leaves at the end of the calling thread's burst (base/burst.h), or at once outside of one. The
// thread in Serve, or SyncRequest, moves the bytes; answers come on a thread of nats.c, in bursts as well. Thread-safe,
// except Serve and SyncRequest, which belong to one thread.
#pragma once

#include <nats/nats.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/base/burst.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/jetstream/message.h"
#include "server/jetstream/wire_parser.h"

namespace persistd::jetstream {

struct ConnectOptions {
  std::vector<std::string> urls;
  // At most one of user (with password), token, nkey_seed_file and creds_file is set.
  std::string user;
  std::string password;
  std::string token;
  std::string nkey_seed_file;
  std::string creds_file;
  // TLS with the server's certificate checked against ca_file, or the system's authorities when that is empty.
  bool tls = false;
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string name = "persistd";  // Shown by the NATS server's monitoring.
  std::chrono::milliseconds connect_timeout{2000};
  std::chrono::milliseconds ping_interval{10000};
  // Read and write through nats.c, as TLS needs it, in place of our own shorter way.
  bool through_library = false;
};

// A message that came to the inbox, as an answer to the request numbered `token`, or from a consumer whose name ends
// with that number (reply_token.h).
struct Reply {
  uint64_t token = 0;
  bool no_responders = false;  // Nobody listens on the request's subject: it was not delivered.
  Message message;
};

// Not OK when this machine's nats.c must not be used with TLS: before 3.11 its reader and writers use one SSL object
// without a lock, which OpenSSL forbids (nats.c pull request 913).
absl::Status CheckTlsUsable();

class RawConnection final : public base::Deferred, public std::enable_shared_from_this<RawConnection> {
 public:
  using ReplyHandler = std::function<void(Reply reply)>;

  // Blocks for at most the connect timeout per server. Unauthenticated when the server refuses the credentials.
  static absl::StatusOr<std::shared_ptr<RawConnection>> Connect(const ConnectOptions& options);
  ~RawConnection() override;
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  // OK when `message` can be sent at all. OutOfRange: it is over the server's max_payload. InvalidArgument: its subject
  // or a header would break the protocol's lines, which nats.c does not check.
  absl::Status CheckSendable(const OutgoingMessage& message, bool in_batch = false) const;

  // Hands the message, which CheckSendable accepts, to the connection's buffer. reply_token 0: no answer is asked for.
  // place: nullptr outside of a batch.
  // Unavailable: it was not sent and never will be. Unknown: it may or may not have been sent.
  absl::Status Publish(const OutgoingMessage& message, uint64_t reply_token, const BatchPlace* place = nullptr);

  // The subject whose messages come as answers to the request numbered `token`.
  std::string ReplySubject(uint64_t token) const { return absl::StrCat(inbox_prefix_, token); }

  // Moves bytes until the connection is closed, by whomever; answers go to `on_reply`, in their order, on one thread.
  // When it returns no further one comes.
  void Serve(ReplyHandler on_reply);

  // A request and its answer; for the first moments of a connection, before Serve. PermissionDenied when no answer came
  // and the server has complained about permissions.
  absl::StatusOr<Message> SyncRequest(const OutgoingMessage& message, std::chrono::milliseconds timeout);

  // Makes Serve and SyncRequest return, now and later.
  void Close();

  // Without credentials.
  std::string server_url() const;

  // Writes what is buffered.
  void RunDeferred() override;

 private:
  class Inbox;
  class Receiver;
  struct Socket;

  RawConnection(bool through_library, std::chrono::milliseconds ping_interval);

  absl::Status SubscribeInbox();
  absl::Status PublishThroughLibrary(const OutgoingMessage& message, uint64_t reply_token, const BatchPlace* place);
  // What the socket has, taken apart.
  void Read();
  // Closes a connection whose server has been silent for long, and asks whether it still is there.
  void CheckAlive();

  // Reads and writes what the socket is ready for, after waiting for that, or for Wake, for at most `timeout`.
  void MoveBytes(std::chrono::milliseconds timeout);
  absl::Status CheckWritable() const REQUIRES(write_mutex_);
  // Adds to what is to be written.
  absl::Status Append(absl::string_view bytes) EXCLUDES(write_mutex_);
  // Writes what is buffered, as far as the socket takes it.
  void Write() EXCLUDES(write_mutex_);
  // The same for what nats.c has buffered: its pings and subscriptions. False when some is left.
  bool WriteOfNats() REQUIRES(write_mutex_);

  const bool through_library_;
  const std::chrono::milliseconds ping_interval_;
  const std::shared_ptr<Socket> socket_;
  const std::shared_ptr<Inbox> inbox_;
  natsConnection* connection_ = nullptr;
  natsSubscription* subscription_ = nullptr;
  std::string inbox_prefix_;  // Ends with a dot; the token follows.
  base::Mutex write_mutex_;
  std::string out_ GUARDED_BY(write_mutex_);  // Published, not yet written from out_written_ on.
  size_t out_written_ GUARDED_BY(write_mutex_) = 0;
  // Of the thread in Serve or SyncRequest.
  std::string read_buffer_;
  WireParser parser_;
  base::SteadyTime last_read_;
  int pings_out_ = 0;
};

}  // namespace persistd::jetstream
