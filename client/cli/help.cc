#include "client/cli/help.h"

namespace persistd::cli {
namespace {

constexpr char kMain[] = R"(persistctl saves and loads event-sourced aggregates through persistd.

usage: persistctl [--address HOST:PORT] [--timeout TIME] COMMAND ...

commands:
  save         saves events, and with them a state
  save-all     saves several aggregates in one commit
  save-stream  saves many aggregates, one request a line, as fast as the daemon takes them
  load         prints an aggregate: its state and the events after it
  history      prints the events of an aggregate, one JSON document a line
  list         prints aggregates, one JSON document a line
  delete       deletes an aggregate; its history stays
  snapshot     takes, lists and deletes snapshots of an aggregate
  chain        appends to a named chain, prints its entries
  block        stores and prints blocks by their content identifiers (CIDs)
  read-model   saves, prints, deletes and lists read models
  verify       verifies a history or a chain, in the daemon or in a CAR file
  export       writes a history or a chain to a CAR file
  info         tells about the daemon: versions, NATS, durability, warnings
  types        lists, describes and creates aggregate types

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
  --snapshot                  also keep the state after this save as a snapshot
  --request-id ID             repeat a save with the same id and it is stored once; default: a fresh UUIDv7

A deleted aggregate comes back when it is saved with its exact version: --expected-version N.

examples:
  persistctl save sales/order/42 --event placed='{"total": 12}' --expected-version 0
  persistctl save sales/order/42 --event paid@2='{"cents": 1200}' --event shipped --must-exist --tag done
  persistctl save sales/order/42 --event paid=@paid.json --state '{"total": 12, "paid": true}' --actor alice
  persistctl save --file - <<< '{"ref": {"context": "sales", "aggregate": "order", "entityId": "43"},
      "events": [{"type": "placed", "payload": {"json": {"total": 9007199254740993}}}]}'
)";

constexpr char kLoad[] =
    R"(persistctl load prints an aggregate: its metadata, its last state, and the events after that state.

usage: persistctl load CONTEXT/AGGREGATE/ENTITY [--version N | --as-of TIME | --cached | --at-least POSITION] [flags]

flags:
  --version N          as it was at this version
  --as-of TIME         as it was at this time, like 2024-05-01T12:30:00Z
  --cached             what the daemon remembers will do: faster, may be a little old
  --at-least POSITION  it must have seen the save with this position; save prints it as .events[].position.token
  --no-events          without the events after the state
  --events             with the events after the state, also where they were folded into it
  --no-snapshot        from the events alone, without state and snapshots

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

constexpr char kSaveAll[] =
    R"(persistctl save-all saves several aggregates in one commit, all or none, and prints what was saved.

usage: persistctl save-all --file FILE [--request-id ID]

flags:
  --file FILE      a SaveAllRequest as JSON; - is standard input. "json" of a payload may hold any JSON and is stored
                   byte for byte. "checks" name what must be there of aggregates that are not saved
  --request-id ID  repeat the commit with the same id and it is stored once; default: a fresh UUIDv7

example:
  persistctl save-all --file - <<< '{"saves": [
      {"ref": {"context": "bank", "aggregate": "account", "entityId": "1"}, "events": [{"type": "withdrawn"}]},
      {"ref": {"context": "bank", "aggregate": "account", "entityId": "2"}, "events": [{"type": "deposited"}]}]}'
)";

constexpr char kSaveStream[] =
    R"(persistctl save-stream reads saves from standard input, one SaveRequest as JSON a line, and carries them out many at
a time. Saves of one aggregate are carried out in the order of their lines. A save that fails does not stop the others.

usage: persistctl save-stream [--window N]

flags:
  --window N  how many saves are under way at once; default 256

Standard error gets a line for each save that fails and, every second, the progress; standard output gets a summary at
the end. The exit code is 1 when any save failed.

examples:
  persistctl save-stream < saves.ndjson
  jq -c '.orders[] | {ref: {context: "sales", aggregate: "order", entityId: .id}, expectedVersion: 0,
      events: [{type: "imported", payload: {json: .}}]}' orders.json | persistctl save-stream
)";

constexpr char kDelete[] =
    R"(persistctl delete deletes an aggregate: it appends the event _deleted. The history stays readable.

usage: persistctl delete CONTEXT/AGGREGATE/ENTITY [flags]

flags:
  --expected-version N        only at exactly this version; default: any, but it must exist
  --actor TEXT, --correlation-id ID, --causation-id ID
                              who deleted it and why
  --request-id ID             repeat a deletion with the same id and it is stored once; default: a fresh UUIDv7

A save with the exact version brings it back: persistctl save ... --expected-version N, where N is the version that
delete printed.

examples:
  persistctl delete sales/order/42
  persistctl delete sales/order/42 --expected-version 7 --actor alice
)";

constexpr char kSnapshot[] =
    R"(persistctl snapshot takes, lists and deletes snapshots: states of an aggregate that are kept, so that loads of that
version and those after it are quick.

usage: persistctl snapshot create CONTEXT/AGGREGATE/ENTITY [--version N] [--state JSON [--state-schema-version N]]
       persistctl snapshot list CONTEXT/AGGREGATE/ENTITY
       persistctl snapshot delete CONTEXT/AGGREGATE/ENTITY --version N

flags:
  --version N               of which version; create takes the current one when it is left out
  --state JSON              the state of that version; @FILE reads it from a file. Default: the one that is stored, or
                            folded from the events
  --state-schema-version N  the schema version of the state; default 1

examples:
  persistctl snapshot create sales/order/42
  persistctl snapshot list sales/order/42
  persistctl snapshot delete sales/order/42 --version 7
)";

constexpr char kList[] =
    R"(persistctl list prints what is known of aggregates, one JSON document a line.

usage: persistctl list [flags]

flags:
  --context TEXT, --aggregate TEXT
                       only of this context, of this aggregate type
  --tag TEXT           only those with this tag; may be repeated: those with all of them
  --filter TEXT        only those that match, over context, aggregate, entity_id, version, last_modified, tags, deleted
  --order-by TEXT      entity_id (the default), last_modified or version; with " desc" for descending
  --limit N            at most N; default: all
  --deleted            deleted ones as well
  --at-least POSITION  wait until the daemon's index has seen the save with this position

examples:
  persistctl list --context sales --aggregate order --limit 10
  persistctl list --filter 'version > 10 AND tags:"vip"' --order-by 'last_modified desc' | jq -r .ref.entityId
)";

constexpr char kChain[] =
    R"(persistctl chain keeps chains of any content under a name. Each entry has a content identifier (CID) that follows
from its content and from the entry before it.

usage: persistctl chain append NAME [--data JSON | --file FILE [--content-type TYPE]] [flags]
       persistctl chain get NAME [--from N] [--to N] [--reverse] [--limit N]

append:
  --data JSON            the content, stored byte for byte; @FILE reads it from a file
  --file FILE            the content is the bytes of this file; - is standard input
  --content-type TYPE    what they are; default: application/octet-stream
  --expected-sequence N  only onto exactly N entries; 0: the chain must not exist
  --actor TEXT, --correlation-id ID, --causation-id ID
                         who appends and why
  --request-id ID        repeat an append with the same id and it is stored once; default: a fresh UUIDv7

get prints one JSON document a line:
  --from N     only entries after entry N
  --to N       only entries up to entry N, N included
  --reverse    newest first
  --limit N    at most N entries

examples:
  persistctl chain append audit --data '{"checked": true}' --actor alice
  persistctl chain append releases --file v1.tar.gz --content-type application/gzip
  persistctl chain get audit --reverse --limit 1 | jq -r .cid
)";

constexpr char kReadModel[] =
    R"(persistctl read-model keeps documents made for reading. The id may have several tokens joined by dots, by which
patterns select.

usage: persistctl read-model save TYPE/ID --data JSON | --file FILE [--content-type TYPE] [flags]
       persistctl read-model get TYPE/ID [--schema-version N]
       persistctl read-model delete TYPE/ID [--source POSITION] [--expected-revision N] [--request-id ID]
       persistctl read-model list TYPE [--prefix TEXT] [--pattern PATTERN] [--limit N]

save:
  --data JSON            the content, stored byte for byte; @FILE reads it from a file
  --file FILE            the content is the bytes of this file; - is standard input
  --content-type TYPE    what they are; default: application/octet-stream
  --schema-version N     the version of its schema; default 1
  --source POSITION      what it was made from, as a save returned it; what is from an older one does not replace it
  --expected-revision N  only when it has this revision; 0: only when there is none
  --ttl TIME             how long it stays, like 90s, 5m or 24h; default: until it is deleted
  --request-id ID        repeat a write with the same id and it is stored once; default: a fresh UUIDv7

get prints the document; with --schema-version only one of that version. list prints one JSON document a line:
  --prefix TEXT      only ids that begin with this
  --pattern PATTERN  only ids that match: * is one token, > one or more at the end
  --limit N          at most N

examples:
  persistctl read-model save products/electronics.42 --data '{"name": "Radio", "stock": 3}'
  persistctl read-model list products --pattern 'electronics.*' | jq -r .key.id
)";

constexpr char kVerify[] =
    R"(persistctl verify computes every content identifier (CID) of a history anew and follows every link. It prints what it
came to as JSON, its progress on standard error, and exits with 1 when something is wrong.

usage: persistctl verify CONTEXT/AGGREGATE/ENTITY | --chain NAME [flags]
       persistctl verify --car FILE [--expect-root CID]

flags:
  --from N, --to N       only what comes after version (or entry) N, only up to N
  --expect-head CID      some event must have this CID; without it a history that was cut at its end looks whole
  --expect-previous CID  the event of --from must have this one
  --car FILE             a file that `persistctl export` wrote, without a daemon; - is standard input. Payloads that are
                         not in it count as erased, which is no error
  --expect-root CID      the last event of the file must have this CID

examples:
  persistctl verify sales/order/42 --expect-head bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje
  persistctl verify --chain audit --from 1000 --timeout 1h
  persistctl verify --car order-42.car
)";

constexpr char kExport[] =
    R"(persistctl export writes a history, or a named chain, to a CAR file (version 1), which other IPLD tools read: its root
is the CID of the last event. Everything is verified before it is written.

usage: persistctl export CONTEXT/AGGREGATE/ENTITY | --chain NAME -o FILE [--to N]

flags:
  --output FILE, -o FILE  the file; - is standard output
  --to N                  only up to version (or entry) N, which is then the root

examples:
  persistctl export sales/order/42 -o order-42.car
  persistctl export --chain audit -o - | persistctl verify --car -
)";

constexpr char kBlock[] =
    R"(persistctl block stores blocks under the content identifiers (CIDs) of their bytes, and prints the bytes that a CID
names: those of a block, and, as far as the daemon's index knows them, the block or the payload of an event.

usage: persistctl block put FILE [--codec raw | dag-cbor] [--expected-cid CID]
       persistctl block get CID

flags:
  --codec WORD        what the bytes are; default: raw. Part of the CID; of dag-cbor only its canonical form is taken
  --expected-cid CID  refuse bytes that have another one

FILE is - for standard input. get prints the bytes as they are, and nothing else.

examples:
  persistctl block put photo.jpg | jq -r .cid
  persistctl block get bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku > photo.jpg
)";

constexpr char kInfo[] =
    R"(persistctl info tells about the daemon: its version and features, the NATS server behind it, the streams it
uses, what an acknowledged save survives, and warnings about that.

usage: persistctl info

examples:
  persistctl info
  persistctl --address persistd.internal:7443 info | jq .warnings
)";

constexpr char kTypes[] =
    R"help(persistctl types tells about aggregate types and their streams, and creates types with settings of their own.

usage: persistctl types list [--context NAME] [--page-size N] [--page-token TOKEN]
       persistctl types describe CONTEXT/AGGREGATE
       persistctl types create CONTEXT/AGGREGATE [settings]

settings (left out: as repository.stream of the daemon's configuration says):
  --replicas N           how many servers keep a copy, 1 to 5
  --storage WORD         file, or memory: lost when NATS restarts
  --compression WORD     none or s2
  --cluster NAME         which cluster of a super-cluster
  --server-tag TAG       a tag that the servers must have; may be repeated
  --max-bytes SIZE       the most that each stream may hold, like 10GiB; 0: no limit

examples:
  persistctl types list | jq -r '.types[] | "\(.context)/\(.aggregate) \(.events.messages)"'
  persistctl types describe sales/order
  persistctl types create sales/order --replicas 3 --server-tag ssd
)help";

}  // namespace

const char* HelpText(const std::string& command) {
  if (command == "save") return kSave;
  if (command == "load") return kLoad;
  if (command == "history") return kHistory;
  if (command == "info") return kInfo;
  if (command == "save-all") return kSaveAll;
  if (command == "save-stream") return kSaveStream;
  if (command == "delete") return kDelete;
  if (command == "snapshot") return kSnapshot;
  if (command == "list") return kList;
  if (command == "types") return kTypes;
  if (command == "chain") return kChain;
  if (command == "block") return kBlock;
  if (command == "read-model") return kReadModel;
  if (command == "verify") return kVerify;
  if (command == "export") return kExport;
  return kMain;
}

}  // namespace persistd::cli
