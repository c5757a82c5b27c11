#!/bin/sh
# client/python/generate, run in a copy of the folders that it knows, makes the same files as Bazel.
set -eu

root=$(mktemp -d "$TEST_TMPDIR/checkout.XXXXXX")
mkdir -p "$root/client/python"
cp -L client/python/generate "$root/client/python/"
cp -RL proto "$root/"

"$root/client/python/generate"
(cd proto && find . -name '*.py') | sort >"$root/expected"
(cd "$root/client/python/build" && find . -name '*.py') | sort >"$root/made"
test -s "$root/expected"
diff "$root/expected" "$root/made"
while read -r file; do
  diff "proto/$file" "$root/client/python/build/$file"
done <"$root/expected"
