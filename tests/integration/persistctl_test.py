"""persistctl against a real daemon, as a person and as a script use it.

Usage: persistctl_test.py PERSISTD NATS_SERVER PERSISTCTL
"""

import json
import os
import pathlib
import subprocess
import sys
import unittest

from daemon import DaemonTest

_TIMEOUT = 60


class PersistctlTest(DaemonTest):
    persistctl = None

    def run_it(self, *arguments, stdin=None, address=None):
        environment = {**os.environ, "PERSISTCTL_ADDRESS": address or self.daemon.address}
        return subprocess.run(
            [str(self.persistctl), *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )

    def does(self, *arguments, stdin=None):
        result = self.run_it(*arguments, stdin=stdin)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return result.stdout

    def fails(self, code, *arguments, **more):
        result = self.run_it(*arguments, **more)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def test_chains_and_blocks(self):
        first = json.loads(self.does("chain", "append", "audit", "--data", '{"n": 1}', "--expected-sequence", "0"))
        second = json.loads(self.does("chain", "append", "audit", "--file", "-", "--actor", "me", stdin="text"))
        self.assertEqual((first["sequence"], second["sequence"]), ("1", "2"))
        self.assertEqual(second["prevCid"], first["cid"])
        entries = [json.loads(line) for line in self.does("chain", "get", "audit").splitlines()]
        self.assertEqual([entry["cid"] for entry in entries], [first["cid"], second["cid"]])
        self.assertEqual(entries[0]["content"]["json"], {"n": 1})
        self.assertEqual(entries[1]["content"]["contentType"], "application/octet-stream")
        newest = json.loads(self.does("chain", "get", "audit", "--reverse", "--limit", "1"))
        self.assertEqual(newest, entries[1])
        conflict = self.fails(1, "chain", "append", "audit", "--expected-sequence", "0")
        self.assertIn("chain audit is at version 2", conflict)
        self.assertIn("CHAIN_NOT_FOUND", self.fails(1, "chain", "get", "none"))
        self.fails(2, "chain", "get", "audit", "--data", "{}")

        verified = json.loads(self.does("verify", "--chain", "audit", "--expect-head", second["cid"]))
        self.assertEqual((verified["valid"], verified["verified"]), (True, "2"))
        cut = self.run_it("verify", "--chain", "audit", "--to", "1", "--expect-head", second["cid"])
        self.assertEqual(cut.returncode, 1)
        self.assertEqual(json.loads(cut.stdout)["firstBreak"]["reason"], "REASON_TAIL_CUT")

        put = json.loads(self.does("block", "put", "-", stdin="bytes\n"))
        self.assertEqual(self.does("block", "get", put["cid"]), "bytes\n")
        again = json.loads(self.does("block", "put", "-", "--expected-cid", put["cid"], stdin="bytes\n"))
        self.assertTrue(again["existed"])
        self.fails(1, "block", "put", "-", "--codec", "dag-cbor", stdin="no cbor")
        self.fails(2, "block", "get")

    def test_read_models(self):
        saved = json.loads(self.does("read-model", "save", "products/a.1", "--data", '{"n": 1}'))
        self.does("read-model", "save", "products/b.2", "--file", "-", "--schema-version", "2", stdin="text")
        got = json.loads(self.does("read-model", "get", "products/a.1"))
        self.assertEqual((got["payload"]["json"], got["revision"]), ({"n": 1}, saved["revision"]))
        listed = [json.loads(line)["key"]["id"] for line in self.does("read-model", "list", "products").splitlines()]
        self.assertEqual(listed, ["a.1", "b.2"])
        self.assertEqual(len(self.does("read-model", "list", "products", "--limit", "1").splitlines()), 1)
        self.assertIn('"b.2"', self.does("read-model", "list", "products", "--pattern", "b.*"))
        conflict = self.fails(1, "read-model", "save", "products/a.1", "--data", "{}", "--expected-revision", "0")
        self.assertIn("REVISION_CONFLICT", conflict)
        self.assertIn("SCHEMA_VERSION_DIFFERS", self.fails(1, "read-model", "get", "products/b.2", "--schema-version", "1"))
        self.assertTrue(json.loads(self.does("read-model", "delete", "products/a.1"))["existed"])
        self.assertIn("READ_MODEL_NOT_FOUND", self.fails(1, "read-model", "get", "products/a.1"))
        self.fails(2, "read-model", "save", "products/a.1")
        self.fails(2, "read-model", "get", "products/a.1", "--data", "{}")
        self.fails(2, "read-model", "save", "products/a.1", "--data", "{}", "--request-id", "")

    def test_save_load_history(self):
        saved = json.loads(
            self.does(
                *("save", "sales/order/a/b 42", "--event", 'placed={"total": 12}', "--event", "shipped"),
                *("--expected-version", "0", "--tag", "new", "--state", '{"n": 9007199254740993}', "--actor", "zoë"),
            )
        )
        self.assertEqual(saved["metadata"]["version"], "2")
        self.assertEqual(saved["stateResult"], "STATE_RESULT_WRITTEN")
        text = self.does("load", "sales/order/a/b 42")
        self.assertIn("9007199254740993", text)  # Digit for digit.
        loaded = json.loads(text)
        self.assertEqual(loaded["metadata"]["tags"], ["new"])
        self.assertEqual(loaded["metadata"]["ref"]["entityId"], "a/b 42")
        history = [json.loads(line) for line in self.does("history", "sales/order/a/b 42").splitlines()]
        self.assertEqual([event["type"] for event in history], ["placed", "shipped"])
        self.assertEqual(history[0]["payload"]["json"], {"total": 12})
        self.assertEqual(history[0]["metadata"]["actor"], "zoë")
        newest = self.does("history", "sales/order/a/b 42", "--reverse", "--limit", "1").splitlines()
        self.assertEqual([json.loads(line)["version"] for line in newest], ["2"])
        first = json.loads(self.does("load", "sales/order/a/b 42", "--version", "1"))
        self.assertEqual([event["type"] for event in first["events"]], ["placed"])

    def test_a_request_from_standard_input_and_a_repeated_one(self):
        request = json.dumps(
            {
                "ref": {"context": "sales", "aggregate": "order", "entityId": "stdin"},
                "requestId": "my-request",
                "events": [{"type": "placed", "payload": {"json": {"total": 1}}}],
            }
        )
        first = json.loads(self.does("save", "--file", "-", stdin=request))
        again = json.loads(self.does("save", "--file", "-", stdin=request))
        self.assertNotIn("deduplicated", first)
        self.assertTrue(again["deduplicated"])
        self.assertEqual(again["events"], first["events"])
        self.assertEqual(len(self.does("history", "sales/order/stdin").splitlines()), 1)

    def test_info(self):
        info = json.loads(self.does("info"))
        self.assertTrue(info["nats"]["connected"])
        self.assertEqual(info["durability"]["fsync"], "FSYNC_ALWAYS")

    def test_failed_calls_end_with_1_and_say_why(self):
        self.does("save", "sales/order/twice", "--event", "placed", "--expected-version", "0")
        conflict = self.fails(1, "save", "sales/order/twice", "--event", "placed", "--expected-version", "0")
        self.assertIn("version 1", conflict)
        self.assertIn("sales/order/nobody", self.fails(1, "load", "sales/order/nobody"))
        self.assertIn("events[0].type", self.fails(1, "save", "sales/order/x", "--event", "a b"))
        away = self.fails(1, "--timeout", "500ms", "info", address="127.0.0.1:1")
        self.assertIn("127.0.0.1:1", away)

    def test_wrong_commands_end_with_2(self):
        for arguments in [[], ["explode"], ["load"], ["load", "sales/order"], ["save", "sales/order/1", "--bogus", "1"]]:
            self.assertIn("persistctl", self.fails(2, *arguments))

    def test_help(self):
        for arguments in [["--help"], ["save", "--help"], ["load", "-h"], ["history", "--help"], ["info", "--help"]]:
            self.assertIn("usage: persistctl", self.does(*arguments))


if __name__ == "__main__":
    paths = [pathlib.Path(path).absolute() for path in sys.argv[1:4]]
    PersistctlTest.persistd_binary, PersistctlTest.nats_server, PersistctlTest.persistctl = paths
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
