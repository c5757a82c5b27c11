#include "client/cli/help.h"

namespace persistd::cli {
namespace {

constexpr char kMain[] = R"(persistctl saves and loads event-sourced aggregates through persistd.

usage: persistctl [--address HOST:PORT] [--timeout TIME] COMMAND ...

commands:
  save     saves events, and with them a state
  load     prints an aggregate: its state and the events after it
  history  prints the events of an aggregate, one JSON document a line
  info     tells about the daemon: versions, NATS, durability, warnings

flags of every command:
  --address HOST:PORT  the daemon; default: $PERSISTCTL_ADDRESS, else 127.0.0.1:7443
  --timeout TIME       for the call with all its repeats, like 500ms, 5s, 2m; default 30s
  --help, -h           explains a command, with examples

An aggregate is written CONTEXT/AGGREGATE/ENTITY, for example sales/order/42. The entity id may contain slashes.

Output is JSON as protobuf maps it: names in lowerCamelCase, 64-bit numbers as strings, default values left out.
Payloads of JSON appear under "json" exactly as they are stored, all others as base64 under "data".

exit codes: 0 done; 1 the call failed (standard error says why and what to do); 2 the command was typed wrongly
)";

constexpr char kSave[] = R"(persistctl save saves events of one aggregate, all or none, and prints what was saved.

usage: persistctl save CONTEXT/AGGREGATE/ENTITY --event TYPE[@SCHEMA_VERSION][=JSON] ... [flags]
       persistctl save [CONTEXT/AGGREGATE/ENTITY] --file FILE [flags]

what is saved:
  --event TYPE=JSON           an event; may be repeated. JSON is stored byte for byte. =@FILE reads it from a file,
                              TYPE@2=JSON says that it has schema version 2, TYPE alone has no payload
  --state JSON                the aggregate's state after these events; @FILE reads it from a file
  --state-schema-version N    the schema version of the state; default 1
  --file FILE                 a SaveRequest as JSON; - is standard input. Other flags are added to it or replace what
                              it says. "json" of a payload may hold any JSON and is stored byte for byte

what must be there before (default: anything):
  --expected-version N        exactly this version; 0: the aggregate must not exist
  --must-exist                any version but 0
  --any                       anything, whatever the file says

more:
  --tag TEXT                  a tag of the aggregate from now on; may be repeated; together they replace the old ones
  --metadata KEY=VALUE        custom metadata of the aggregate from now on; may be repeated; likewise
  --clear-tags, --clear-metadata
                              remove all that there are
  --actor TEXT, --correlation-id ID, --causation-id ID
                              who made the events and why
  --request-id ID             repeat a save with the same id and it is stored once; default: a fresh UUIDv7

examples:
  persistctl save sales/order/42 --event placed='{"total": 12}' --expected-version 0
  persistctl save sales/order/42 --event paid@2='{"cents": 1200}' --event shipped --must-exist --tag done
  persistctl save sales/order/42 --event paid=@paid.json --state '{"total": 12, "paid": true}' --actor alice
  persistctl save --file - <<< '{"ref": {"context": "sales", "aggregate": "order", "entityId": "43"},
      "events": [{"type": "placed", "payload": {"json": {"total": 9007199254740993}}}]}'
)";

constexpr char kLoad[] =
    R"(persistctl load prints an aggregate: its metadata, its last state, and the events after that state.

usage: persistctl load CONTEXT/AGGREGATE/ENTITY [--version N | --as-of TIME | --cached]

flags:
  --version N   as it was at this version
  --as-of TIME  as it was at this time, like 2024-05-01T12:30:00Z
  --cached      what the daemon remembers will do: faster, may be a little old

examples:
  persistctl load sales/order/42
  persistctl load sales/order/42 --version 3
  persistctl load sales/order/42 | jq .state.payload.json
)";

constexpr char kHistory[] =
    R"(persistctl history prints the events of an aggregate as they arrive, one JSON document a line.

usage: persistctl history CONTEXT/AGGREGATE/ENTITY [flags]

flags:
  --from N     only events after version N
  --to N       only events up to version N, N included
  --reverse    newest first
  --type TYPE  only events of this type; may be repeated
  --limit N    at most N events

The timeout holds for each event, not for the whole history.

examples:
  persistctl history sales/order/42
  persistctl history sales/order/42 --reverse --limit 1
  persistctl history sales/order/42 --type placed --type paid | jq -c .payload.json
)";

constexpr char kInfo[] =
    R"(persistctl info tells about the daemon: its version and features, the NATS server behind it, the streams it
uses, what an acknowledged save survives, and warnings about that.

usage: persistctl info

examples:
  persistctl info
  persistctl --address persistd.internal:7443 info | jq .warnings
)";

}  // namespace

const char* HelpText(const std::string& command) {
  if (command == "save") return kSave;
  if (command == "load") return kLoad;
  if (command == "history") return kHistory;
  if (command == "info") return kInfo;
  return kMain;
}

}  // namespace persistd::cli
