"""Every RPC of the API as a person types it: buf curl, JSON, and nothing but the daemon's address.

Usage: buf_curl_test.py PERSISTD NATS_SERVER BUF
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import unittest

from daemon import DaemonTest

import persistd  # The generated messages, to read error details.

_TIMEOUT = 60
_SERVICE = "cim.persistence.v1.AggregateService"
_REF = {"context": "sales", "aggregate": "order", "entityId": "42"}

_CHAINS = "cim.persistence.v1.ChainService"
_READ_MODELS = "cim.persistence.v1.ReadModelService"

# Called by buf curl itself, for every call here.
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class Failure(Exception):
    """A call that failed: its gRPC code as a name, its message, and its ErrorDetail."""

    def __init__(self, output, exit_code):
        super().__init__(f"exit code {exit_code}: {output}")
        error = json.loads(output)
        self.code = error["code"]
        self.message = error["message"]
        self.exit_code = exit_code
        (detail,) = error["details"]
        assert detail["type"] == "cim.persistence.v1.ErrorDetail", detail
        value = detail["value"] + "=" * (-len(detail["value"]) % 4)
        self.detail = persistd.errors_pb2.ErrorDetail.FromString(base64.b64decode(value))


class BufCurlTest(DaemonTest):
    buf = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.called = {_REFLECTION}

    @classmethod
    def command(cls, *arguments):
        environment = {**os.environ, "HOME": cls.folder.name, "BUF_CACHE_DIR": cls.folder.name + "/buf"}
        command = [str(cls.buf), "curl", "--http2-prior-knowledge", "--protocol", "grpc", *arguments]
        return {"args": command, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def curl(self, method, request=None, *arguments):
        """Returns the answers (one, or those of a stream) as a list of dictionaries. Raises Failure."""
        data = ["-d", json.dumps(request)] if request is not None else []
        result = subprocess.run(
            **self.command(*data, *arguments, f"http://{self.daemon.address}/{method}"), timeout=_TIMEOUT, check=False
        )
        self.called.add(method)
        if result.returncode != 0:
            raise Failure(result.stderr, result.returncode)
        return self.documents(result.stdout)

    @staticmethod
    def documents(text):
        decoder = json.JSONDecoder()
        found = []
        text = text.strip()
        while text:
            document, end = decoder.raw_decode(text)
            found.append(document)
            text = text[end:].strip()
        return found

    def save(self, entity, **more):
        ref = {**_REF, "entityId": entity}
        (answer,) = self.curl(f"{_SERVICE}/Save", {"ref": ref, **more})
        return answer

    def fails(self, method, request):
        with self.assertRaises(Failure) as caught:
            self.curl(method, request)
        return caught.exception

    def test_1_save_load_and_conflict(self):
        placed = {"type": "placed", "payload": {"json": {"total": 12, "items": ["a", "ü"], "paid": False}}}
        saved = self.save("42", expectedVersion=0, events=[placed, {"type": "shipped"}], state={"json": {"total": 12}})
        self.assertEqual(saved["metadata"]["version"], "2")
        self.assertEqual([event["version"] for event in saved["events"]], ["1", "2"])
        self.assertEqual(saved["stateResult"], "STATE_RESULT_WRITTEN")
        self.assertEqual(saved["durability"], {"replicas": 1, "fsync": "FSYNC_ALWAYS"})

        conflict = self.fails(f"{_SERVICE}/Save", {"ref": _REF, "expectedVersion": 0, "events": [placed]})
        self.assertEqual((conflict.code, conflict.exit_code), ("aborted", 10 << 3))
        self.assertIn("sales/order/42 is at version 2", conflict.message)
        self.assertEqual(conflict.detail.reason, persistd.errors_pb2.ERROR_REASON_VERSION_CONFLICT)
        self.assertEqual(conflict.detail.version_conflict.expected_version, 0)
        self.assertEqual(conflict.detail.version_conflict.actual_version, 2)

        (loaded,) = self.curl(f"{_SERVICE}/Load", {"ref": _REF, "payloadView": "PAYLOAD_VIEW_JSON"})
        self.assertEqual(loaded["state"]["payload"], {"contentType": "application/json", "json": {"total": 12}})
        self.assertEqual(loaded["state"]["version"], "2")
        self.assertNotIn("events", loaded)
        (raw,) = self.curl(f"{_SERVICE}/Load", {"ref": _REF})
        self.assertEqual(base64.b64decode(raw["state"]["payload"]["data"]), b'{"total":12}')
        (cached,) = self.curl(f"{_SERVICE}/Load", {"ref": _REF, "options": {"consistency": "CONSISTENCY_CACHED"}})
        self.assertEqual(cached["metadata"]["version"], "2")

    def test_2_history(self):
        events = [{"type": "counted", "payload": {"json": {"n": n}}} for n in range(1, 6)]
        self.save("history", events=events)
        ref = {**_REF, "entityId": "history"}
        request = {"ref": ref, "payloadView": "PAYLOAD_VIEW_JSON"}
        history = self.curl(f"{_SERVICE}/GetHistory", request)
        self.assertEqual([event["payload"]["json"]["n"] for event in history], [1, 2, 3, 4, 5])
        self.assertEqual(history[0]["subject"], "cim.events.sales.order.history.counted.v1")
        backwards = self.curl(f"{_SERVICE}/GetHistory", {**request, "reverse": True})
        self.assertEqual(backwards, history[::-1])
        part = self.curl(f"{_SERVICE}/GetHistory", {**request, "fromVersion": 1, "toVersion": 3})
        self.assertEqual(part, history[1:3])
        self.assertEqual(self.curl(f"{_SERVICE}/GetHistory", {**request, "eventTypes": ["other"]}), [])

    def test_3_as_it_was(self):
        self.save("past", events=[{"type": "first"}])
        recorded = self.save("past", events=[{"type": "second"}, {"type": "third"}])["metadata"]["lastModified"]
        self.save("past", events=[{"type": "fourth"}])
        ref = {**_REF, "entityId": "past"}
        (at_version,) = self.curl(f"{_SERVICE}/GetAtVersion", {"ref": ref, "version": 2})
        self.assertEqual([event["type"] for event in at_version["events"]], ["first", "second"])
        (as_of,) = self.curl(f"{_SERVICE}/GetAtVersion", {"ref": ref, "asOf": recorded})
        self.assertEqual([event["type"] for event in as_of["events"]], ["first", "second", "third"])
        before = self.fails(f"{_SERVICE}/GetAtVersion", {"ref": ref, "asOf": "2001-01-01T00:00:00Z"})
        self.assertEqual(before.code, "not_found")
        self.assertIn("2001-01-01T00:00:00Z", before.message)
        (metadata,) = self.curl(f"{_SERVICE}/GetMetadata", {"ref": ref})
        self.assertEqual((metadata["version"], metadata["subject"]), ("4", "cim.events.sales.order.past.>"))

    def test_4_mistakes_are_explained(self):
        no_type = self.fails(f"{_SERVICE}/Save", {"ref": _REF, "events": [{"type": "a"}, {}]})
        self.assertEqual(no_type.code, "invalid_argument")
        self.assertEqual(no_type.detail.field_violation.field, "events[1].type")
        self.assertIn("events[1].type", no_type.message)
        missing = self.fails(f"{_SERVICE}/GetMetadata", {"ref": {**_REF, "entityId": "nobody"}})
        self.assertEqual(missing.code, "not_found")
        self.assertIn("sales/order/nobody does not exist", missing.message)
        empty = self.fails(f"{_SERVICE}/Load", {})
        self.assertEqual(empty.detail.field_violation.field, "ref.context")

    def test_5_operations(self):
        (info,) = self.curl("cim.persistence.v1.AdminService/GetServerInfo")
        self.assertTrue(info["nats"]["connected"])
        self.assertTrue(info["nats"]["embedded"])
        self.assertEqual(info["durability"]["fsync"], "FSYNC_ALWAYS")
        self.assertIn("save", info["features"])
        self.assertEqual(self.curl("grpc.health.v1.Health/Check"), [{"status": "SERVING"}])
        of_service = self.curl("grpc.health.v1.Health/Check", {"service": _SERVICE})
        self.assertEqual(of_service, [{"status": "SERVING"}])
        with self.assertRaises(Failure) as unknown:
            self.curl("grpc.health.v1.Health/Check", {"service": "no.such.Service"})
        self.assertEqual(unknown.exception.code, "not_found")

        # Watch goes on until its client has seen enough.
        watch = subprocess.Popen(**self.command(f"http://{self.daemon.address}/grpc.health.v1.Health/Watch"))
        try:
            self.assertIn("{", watch.stdout.readline())
            self.assertIn("SERVING", watch.stdout.readline())
        finally:
            watch.kill()
            watch.communicate(timeout=_TIMEOUT)
        self.called.add("grpc.health.v1.Health/Watch")

    def test_6_aggregate_types(self):
        admin = "cim.persistence.v1.AdminService"
        name = {"context": "sales", "aggregate": "invoice"}
        create = {**name, "settings": {"compression": "COMPRESSION_S2", "maxBytes": 10 << 20}}
        (created,) = self.curl(f"{admin}/CreateAggregateType", create)
        self.assertTrue(created["created"])
        self.assertEqual(created["type"]["events"]["settings"]["maxBytes"], str(10 << 20))
        (again,) = self.curl(f"{admin}/CreateAggregateType", create)
        self.assertNotIn("created", again)
        exists = self.fails(f"{admin}/CreateAggregateType", name)
        self.assertEqual(exists.code, "already_exists")
        self.assertEqual(exists.detail.reason, persistd.errors_pb2.ERROR_REASON_TYPE_EXISTS)
        (listed,) = self.curl(f"{admin}/ListAggregateTypes", {"context": "sales"})
        self.assertIn("invoice", [found["aggregate"] for found in listed["types"]])
        (described,) = self.curl(f"{admin}/DescribeAggregateType", name)
        self.assertTrue(described["eventTypesKnown"])
        missing = self.fails(f"{admin}/DescribeAggregateType", {**name, "aggregate": "none"})
        self.assertEqual(missing.detail.reason, persistd.errors_pb2.ERROR_REASON_TYPE_NOT_FOUND)

    def test_7_several_aggregates_streams_and_lists(self):
        def save_of(entity, version):
            ref = {**_REF, "aggregate": "basket", "entityId": entity}
            return {"ref": ref, "expectedVersion": version, "events": [{"type": "filled"}]}

        both = {"saves": [save_of("a", 0), save_of("b", 0)], "checks": [{"ref": save_of("c", 0)["ref"], "expectedVersion": 0}]}
        (saved,) = self.curl(f"{_SERVICE}/SaveAll", both)
        self.assertEqual([result["metadata"]["version"] for result in saved["results"]], ["1", "1"])
        refused = self.fails(f"{_SERVICE}/SaveAll", both)
        self.assertEqual(refused.code, "aborted")
        self.assertEqual([check.ref.entity_id for check in refused.detail.failed_checks], ["a", "b"])

        (answer,) = self.curl(f"{_SERVICE}/SaveStream", {"id": "7", "save": save_of("a", 1)})
        self.assertEqual((answer["id"], answer["saved"]["metadata"]["version"]), ("7", "2"))
        (conflict,) = self.curl(f"{_SERVICE}/SaveStream", {"id": "8", "save": save_of("a", 1)})
        self.assertEqual(conflict["error"]["code"], 10)
        (loaded,) = self.curl(f"{_SERVICE}/BatchLoad", {"ref": save_of("a", 0)["ref"]})
        self.assertEqual(loaded["loaded"]["metadata"]["version"], "2")

        position = answer["saved"]["metadata"]["position"]
        (page,) = self.curl(f"{_SERVICE}/ListAggregates", {"aggregate": "basket", "filter": "version > 1", "atLeast": position})
        self.assertEqual([found["ref"]["entityId"] for found in page["aggregates"]], ["a"])

        (deleted,) = self.curl(f"{_SERVICE}/DeleteAggregate", {"ref": save_of("b", 0)["ref"], "expectedVersion": 1})
        self.assertTrue(deleted["metadata"]["deleted"])
        gone = self.fails(f"{_SERVICE}/Load", {"ref": save_of("b", 0)["ref"]})
        self.assertEqual((gone.code, gone.detail.deleted), ("not_found", True))
        self.assertEqual(self.fails(f"{_SERVICE}/Save", save_of("b", 0)).code, "failed_precondition")
        (back,) = self.curl(f"{_SERVICE}/Save", save_of("b", 2))
        self.assertEqual(back["metadata"]["version"], "3")

    def test_8_snapshots(self):
        self.save("kept", events=[{"type": "first"}], state={"json": {"n": 1}})
        ref = {**_REF, "entityId": "kept"}
        (taken,) = self.curl(f"{_SERVICE}/CreateSnapshot", {"ref": ref})
        self.assertEqual((taken["version"], taken["contentType"]), ("1", "application/json"))
        self.save("kept", events=[{"type": "second"}], state={"json": {"n": 2}})
        (listed,) = self.curl(f"{_SERVICE}/ListSnapshots", {"ref": ref})
        self.assertEqual([snapshot["version"] for snapshot in listed["snapshots"]], ["1"])
        (then,) = self.curl(f"{_SERVICE}/GetAtVersion", {"ref": ref, "version": 1, "payloadView": "PAYLOAD_VIEW_JSON"})
        self.assertEqual(then["snapshotVersion"], "1")
        self.assertEqual(then["state"]["payload"]["json"], {"n": 1})
        self.curl(f"{_SERVICE}/DeleteSnapshot", {"ref": ref, "version": 1})
        again = self.fails(f"{_SERVICE}/DeleteSnapshot", {"ref": ref, "version": 1})
        self.assertEqual(again.code, "not_found")
        self.assertEqual(self.curl(f"{_SERVICE}/ListSnapshots", {"ref": ref}), [{}])

    def test_81_chains_and_blocks(self):
        append = {"chain": "audit", "content": {"json": {"seal": 1}}, "expectedSequence": 0}
        append["metadata"] = {"actor": "me"}
        (first,) = self.curl(f"{_CHAINS}/AppendToChain", append)
        self.assertEqual(first["sequence"], "1")
        self.assertNotIn("prevCid", first)
        conflict = self.fails(f"{_CHAINS}/AppendToChain", append)
        self.assertEqual(conflict.code, "aborted")
        self.assertIn("chain audit is at version 1", conflict.message)
        (second,) = self.curl(f"{_CHAINS}/AppendToChain", {**append, "expectedSequence": 1})
        self.assertEqual(second["prevCid"], first["cid"])
        entries = self.curl(f"{_CHAINS}/GetChain", {"chain": "audit", "payloadView": "PAYLOAD_VIEW_JSON"})
        self.assertEqual([entry["cid"] for entry in entries], [first["cid"], second["cid"]])
        self.assertEqual(entries[0]["content"]["json"], {"seal": 1})
        self.assertEqual(entries[0]["metadata"]["actor"], "me")
        unknown = self.fails(f"{_CHAINS}/GetChain", {"chain": "none"})
        self.assertEqual(unknown.detail.reason, persistd.errors_pb2.ERROR_REASON_CHAIN_NOT_FOUND)

        data = base64.b64encode(b"a block").decode()
        (put,) = self.curl(f"{_CHAINS}/PutBlock", {"data": data})
        self.assertNotIn("existed", put)
        (again,) = self.curl(f"{_CHAINS}/PutBlock", {"data": data, "expectedCid": put["cid"]})
        self.assertTrue(again["existed"])
        (block,) = self.curl(f"{_CHAINS}/GetBlock", {"cid": put["cid"]})
        self.assertEqual(block, {"data": data, "source": "SOURCE_BLOCK"})

    def test_82_chains_are_verified_and_exported(self):
        answers = self.curl(f"{_CHAINS}/VerifyChain", {"chain": "audit"})
        result = answers[-1]["result"]
        self.assertTrue(result["valid"])
        self.assertEqual(result["verified"], "2")
        wrong = self.curl(f"{_CHAINS}/VerifyChain", {"chain": "audit", "expectedHeadCid": result["headCid"][:-8] + "aaaaaaaa"})
        self.assertEqual(wrong[-1]["result"]["firstBreak"]["reason"], "REASON_TAIL_CUT")
        file = b"".join(base64.b64decode(part["data"]) for part in self.curl(f"{_CHAINS}/ExportCar", {"chain": "audit"}))
        self.assertIn(b"version", file[:100])

    def test_83_read_models(self):
        key = {"type": "products", "id": "electronics.42"}
        (saved,) = self.curl(f"{_READ_MODELS}/SaveReadModel", {"write": {"key": key, "payload": {"json": {"n": 1}}}})
        self.assertEqual(saved["outcome"], "WRITE_OUTCOME_WRITTEN")
        (got,) = self.curl(f"{_READ_MODELS}/GetReadModel", {"key": key, "payloadView": "PAYLOAD_VIEW_JSON"})
        self.assertEqual(got["readModel"]["payload"]["json"], {"n": 1})
        self.assertEqual(got["readModel"]["revision"], saved["revision"])
        conflict = self.fails(
            f"{_READ_MODELS}/SaveReadModel",
            {"write": {"key": key, "payload": {"json": {}}, "expectedRevision": "0"}},
        )
        self.assertEqual(conflict.detail.reason, persistd.errors_pb2.ERROR_REASON_REVISION_CONFLICT)
        other = {"type": "products", "id": "books.1"}
        writes = [{"key": other, "payload": {"json": {"n": 2}}}, {"key": {**key, "id": "none"}, "delete": True}]
        self.curl(f"{_READ_MODELS}/SaveReadModels", {"writes": writes})
        (listed,) = self.curl(f"{_READ_MODELS}/ListReadModels", {"type": "products"})
        self.assertEqual([model["key"]["id"] for model in listed["readModels"]], ["books.1", "electronics.42"])
        (batch,) = self.curl(f"{_READ_MODELS}/BatchGetReadModels", {"keys": [other, {**key, "id": "none"}]})
        self.assertEqual(["readModel" in result for result in batch["results"]], [True, False])
        (deleted,) = self.curl(f"{_READ_MODELS}/DeleteReadModel", {"key": key})
        self.assertTrue(deleted["existed"])
        gone = self.fails(f"{_READ_MODELS}/GetReadModel", {"key": key})
        self.assertEqual(gone.code, "not_found")
        self.assertTrue(gone.detail.deleted)

    def test_9_every_method_was_called(self):
        """A method that is new must get a call above."""
        listed = subprocess.run(
            **self.command("--list-methods", f"http://{self.daemon.address}"), timeout=_TIMEOUT, check=True
        ).stdout.split()
        self.assertGreaterEqual(len(listed), 9)
        self.assertEqual(sorted(self.called), sorted(listed))


if __name__ == "__main__":
    paths = [pathlib.Path(path).absolute() for path in sys.argv[1:4]]
    BufCurlTest.persistd_binary, BufCurlTest.nats_server, BufCurlTest.buf = paths
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
