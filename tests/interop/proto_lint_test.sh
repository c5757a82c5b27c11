#!/usr/bin/env bash
# Lints the API's protos with buf, by the rules of proto/buf.yaml.
# Usage: proto_lint_test.sh BUF (in the runfiles folder, which has proto/)
set -euo pipefail

buf=$PWD/$1
export HOME=$TEST_TMPDIR BUF_CACHE_DIR=$TEST_TMPDIR/cache

# Bazel hands over symlinks, which buf does not always follow; the copy is also what the second check spoils.
protos=$TEST_TMPDIR/proto
cp -RL proto "$protos"

echo "buf $("$buf" --version) lint proto"
"$buf" lint "$protos"

# The lint can fail: otherwise a wrong folder, or a buf.yaml without rules, would pass for ever.
cat >>"$protos/cim/persistence/v1/types.proto" <<'END'

message badly_named {
  string BadField = 1;
}
END
if findings=$("$buf" lint "$protos"); then
  echo "buf lint accepted a badly named message" >&2
  exit 1
fi
for rule in 'should be PascalCase' 'should be lower_snake_case' 'should have a non-empty comment'; do
  grep -q "$rule" <<<"$findings" || { echo "buf lint did not report: $rule; it said: $findings" >&2 && exit 1; }
done
