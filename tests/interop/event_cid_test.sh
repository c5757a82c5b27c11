#!/bin/sh
# The CIDs of the golden messages, computed by JavaScript from what the READMEs say. Usage: event_cid_test.sh NODE MESSAGE...
set -eu

node=$1
shift
script=$(readlink -f tests/interop/event_cid.mjs)
"$node" "$script" "$@"

# It would notice a difference.
for message in "$@"; do
  sed 's/^ce-id: ./ce-id: #/' "$message" > "$TEST_TMPDIR/other"
  if "$node" "$script" "$TEST_TMPDIR/other"; then
    echo "$message with another id has the same CID" >&2
    exit 1
  fi
done
