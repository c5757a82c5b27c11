"""What `persistctl export` writes, read by JavaScript's IPLD packages.

Usage: export_test.py PERSISTD NATS_SERVER PERSISTCTL NODE
"""

import json
import os
import pathlib
import subprocess
import sys
import unittest

from daemon import DaemonTest

_TIMEOUT = 60


class ExportTest(DaemonTest):
    persistctl = None
    node = None

    def run_it(self, program, *arguments):
        environment = {**os.environ, "PERSISTCTL_ADDRESS": self.daemon.address}
        return subprocess.run(
            [str(program), *arguments], env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )

    def does(self, program, *arguments):
        result = self.run_it(program, *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return result.stdout

    def persist(self, *arguments):
        return self.does(self.persistctl, *arguments)

    def read_car(self, car):
        script = pathlib.Path("tests/interop/read_car.mjs").resolve()
        return [json.loads(line) for line in self.does(self.node, str(script), car).splitlines()]

    def walk(self, blocks, root):
        """The events' blocks from the root to the first one."""
        by_cid = {block["cid"]: block for block in blocks}
        events = []
        cid = root
        while cid is not None:
            event = by_cid[cid]["value"]
            events.append(event)
            cid = event["prev"]["/"] if event["prev"] else None
        return events

    def test_a_history(self):
        ref = "sales/order/exported"
        self.persist("save", ref, "--event", 'placed={"total": 12}', "--event", "noted", "--tag", "new", "--actor", "zoë")
        self.persist("save", ref, "--event", "shipped={}")
        head = json.loads(self.persist("load", ref))["metadata"]["headCid"]
        car = os.path.join(self.folder.name, "history.car")
        self.assertEqual(self.persist("export", ref, "-o", car), "")
        blocks = self.read_car(car)
        self.assertEqual(blocks[0]["cid"], head)
        events = self.walk(blocks, head)
        self.assertEqual([event["version"] for event in events], [3, 2, 1])
        self.assertEqual([event["type"] for event in events], ["shipped", "noted", "placed"])
        self.assertEqual(events[1]["labels"]["tags"], ["new"])
        self.assertEqual(events[2]["metadata"]["actor"], "zoë")
        self.assertIsNone(events[1]["data"])
        self.assertEqual(len([block for block in blocks if block["codec"] == "raw"]), 2)
        # Without a daemon.
        summary = json.loads(self.persist("verify", "--car", car, "--expect-root", head))
        self.assertEqual((summary["events"], summary["payloads"], summary["erasedPayloads"]), ("3", "2", "0"))
        self.assertEqual(summary["aggregate"], ref)
        # The same history makes the same bytes.
        again = os.path.join(self.folder.name, "again.car")
        self.persist("export", ref, "-o", again)
        self.assertEqual(pathlib.Path(car).read_bytes(), pathlib.Path(again).read_bytes())
        # One byte is enough.
        spoiled = bytearray(pathlib.Path(car).read_bytes())
        spoiled[-3] ^= 1
        pathlib.Path(again).write_bytes(spoiled)
        self.assertEqual(self.run_it(self.persistctl, "verify", "--car", again).returncode, 1)
        self.assertEqual(self.run_it(self.persistctl, "verify", "--car", car, "--expect-root", "b").returncode, 1)

    def test_a_part_of_a_history(self):
        ref = "sales/order/part"
        self.persist("save", ref, "--event", "placed={}", "--event", "shipped={}")
        second = json.loads(self.persist("save", ref, "--event", "paid={}"))["events"][0]["version"]
        self.assertEqual(second, "3")
        car = os.path.join(self.folder.name, "part.car")
        self.persist("export", ref, "--output", car, "--to", "2")
        blocks = self.read_car(car)
        self.assertEqual([event["version"] for event in self.walk(blocks, blocks[0]["cid"])], [2, 1])

    def test_a_chain_of_many_entries(self):
        for number in range(40):
            text = json.dumps({"number": number, "text": "x" * 20_000})
            appended = json.loads(self.persist("chain", "append", "exported", "--data", text))
        car = os.path.join(self.folder.name, "chain.car")
        self.persist("export", "--chain", "exported", "-o", car)
        self.assertGreater(os.path.getsize(car), 800_000)
        blocks = self.read_car(car)
        events = self.walk(blocks, appended["cid"])
        self.assertEqual([event["version"] for event in events], list(range(40, 0, -1)))
        self.assertEqual(json.loads(self.persist("verify", "--car", car))["events"], "40")
        verified = json.loads(self.persist("verify", "--chain", "exported", "--expect-head", appended["cid"]))
        self.assertEqual((verified["valid"], verified["verified"], verified["headVersion"]), (True, "40", "40"))

    def test_what_is_not_there(self):
        car = os.path.join(self.folder.name, "none.car")
        result = self.run_it(self.persistctl, "export", "sales/order/nobody", "-o", car)
        self.assertEqual(result.returncode, 1)
        self.assertIn("AGGREGATE_NOT_FOUND", result.stderr)
        self.assertFalse(os.path.exists(car) or os.path.exists(car + ".part"))
        result = self.run_it(self.persistctl, "verify", "--chain", "nobody")
        self.assertIn("CHAIN_NOT_FOUND", result.stderr)
        self.assertEqual(self.run_it(self.persistctl, "verify", "--car", "/nonexistent").returncode, 1)
        self.assertEqual(self.run_it(self.persistctl, "verify").returncode, 2)
        self.assertEqual(self.run_it(self.persistctl, "export", "sales/order/1").returncode, 2)


if __name__ == "__main__":
    programs = [pathlib.Path(path).resolve() for path in sys.argv[1:5]]
    ExportTest.persistd_binary, ExportTest.nats_server, ExportTest.persistctl, ExportTest.node = programs
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
