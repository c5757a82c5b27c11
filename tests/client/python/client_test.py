"""Tests of the client against a server in the same process: retries, exceptions, continued histories, payloads."""

import datetime
import math
import threading
import time
import unittest
import uuid

import grpc

import persistd
from fake_server import Fault, FakeServer
from persistd import errors_pb2

_REF = ("sales", "order", "4711")
_FAST = persistd.RetryPolicy(initial=0.001, maximum=0.002)


class ClientTestCase(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.client = persistd.Client(self.server.address, timeout=10, retry=_FAST)
        self.addCleanup(self.client.close)

    def save(self, count=1, **options):
        return self.client.save(_REF, [persistd.event("placed", {"n": n}) for n in range(count)], **options)


class SaveTest(ClientTestCase):
    def test_a_save_carries_everything(self):
        when = datetime.datetime(2024, 5, 1, 12, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
        event = persistd.event(
            "placed",
            {"name": "Ünï"},
            schema_version=3,
            event_id="e1",
            time=when,
            actor="ann",
            correlation_id="c",
            causation_id="d",
            custom={"k": "v"},
        )
        self.client.save(
            persistd.ref(*_REF),
            [event],
            expected_version=0,
            state={"total": 2**60},
            state_schema_version=2,
            tags=["a", "b"],
            metadata={"m": "n"},
            request_id="my-id",
        )
        (request,) = self.server.requests["Save"]
        self.assertEqual(request.ref.entity_id, "4711")
        self.assertEqual(request.WhichOneof("expectation"), "expected_version")
        self.assertEqual(request.request_id, "my-id")
        self.assertEqual(request.events[0].payload.data, '{"name":"Ünï"}'.encode())
        self.assertEqual(request.events[0].payload.content_type, "application/json")
        self.assertEqual(request.events[0].time.seconds, int(when.timestamp()))
        self.assertEqual(request.events[0].metadata.custom["k"], "v")
        self.assertEqual(request.events[0].schema_version, 3)
        self.assertEqual(request.state.data, b'{"total":1152921504606846976}')
        self.assertEqual(list(request.options.tags), ["a", "b"])
        self.assertFalse(request.options.clear_tags or request.options.clear_metadata)

    def test_no_expectation_and_must_exist_are_different_requests(self):
        self.save()
        self.save(must_exist=True)
        self.assertEqual(
            [request.WhichOneof("expectation") for request in self.server.requests["Save"]], [None, "must_exist"]
        )
        with self.assertRaises(ValueError):
            self.save(expected_version=1, must_exist=True)

    def test_empty_tags_and_metadata_remove_what_there_is(self):
        self.save(tags=[], metadata={})
        options = self.server.requests["Save"][0].options
        self.assertTrue(options.clear_tags and options.clear_metadata)

    def test_each_save_has_its_own_uuid7(self):
        before = time.time_ns() // 1_000_000
        self.save()
        self.save()
        ids = [uuid.UUID(request.request_id) for request in self.server.requests["Save"]]
        self.assertNotEqual(*ids)
        for request_id in ids:
            self.assertEqual((request_id.version, request_id.variant), (7, uuid.RFC_4122))
            self.assertTrue(before <= request_id.int >> 80 <= time.time_ns() // 1_000_000)

    def test_a_lost_answer_is_repeated_with_the_same_id_and_stored_once(self):
        self.server.faults.extend([None, Fault(grpc.StatusCode.UNAVAILABLE, late=True)])
        self.client.server_info()
        response = self.save(3, expected_version=0)
        self.assertTrue(response.deduplicated)
        first, second = self.server.requests["Save"]
        self.assertEqual(first, second)
        self.assertEqual(self.client.get_metadata(_REF).version, 3)

    def test_every_transient_failure_is_repeated(self):
        self.server.faults.extend(
            [
                Fault(grpc.StatusCode.UNAVAILABLE),
                Fault(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NATS_UNAVAILABLE),
                Fault(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN),
                Fault(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_SHUTTING_DOWN),
                Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED),
            ]
        )
        self.save()
        self.assertEqual(len({request.request_id for request in self.server.requests["Save"]}), 1)
        self.assertEqual(len(self.server.requests["Save"]), 6)

    def test_nothing_else_is_repeated(self):
        for code, reason in (
            (grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_STORAGE_FULL),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, 0),
            (grpc.StatusCode.INTERNAL, errors_pb2.ERROR_REASON_INTERNAL),
            (grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_INVALID_FIELD),
        ):
            self.server.requests.clear()
            self.server.faults.append(Fault(code, reason))
            with self.assertRaises(persistd.PersistdError):
                self.save()
            self.assertEqual(len(self.server.requests["Save"]), 1)

    def test_the_server_s_retry_delay_is_kept(self):
        fault = Fault(
            grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED, retry_delay={"nanos": 200_000_000}
        )
        self.server.faults.append(fault)
        started = time.monotonic()
        self.save()
        self.assertGreaterEqual(time.monotonic() - started, 0.2)

    def test_no_retry_is_made_that_would_end_after_the_deadline(self):
        delay = {"seconds": 60}
        self.server.faults.append(
            Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED, retry_delay=delay)
        )
        with self.assertRaises(persistd.Overloaded) as raised:
            self.save()
        self.assertEqual(raised.exception.retry_delay, 60)


class OutcomeTest(ClientTestCase):
    def assert_outcome(self, unknown, kind, *faults):
        self.server.faults.extend(faults)
        with self.assertRaises(kind) as raised:
            self.save(timeout=0.3)
        self.assertIs(raised.exception.outcome_unknown, unknown)
        self.assertEqual("outcome unknown" in str(raised.exception), unknown)

    def test_a_save_that_persistd_refused_is_known_not_to_be_stored(self):
        refusal = Fault(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NATS_UNAVAILABLE)
        self.assert_outcome(False, persistd.Unavailable, *[refusal] * 1000)

    def test_a_save_that_nobody_answered_may_be_stored(self):
        self.assert_outcome(True, persistd.Unavailable, *[Fault(grpc.StatusCode.UNAVAILABLE)] * 1000)

    def test_one_lost_answer_leaves_the_outcome_unknown_whatever_comes_after(self):
        lost = Fault(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN)
        full = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_STORAGE_FULL)
        self.assert_outcome(True, persistd.StorageFull, lost, full)

    def test_a_conflict_after_a_lost_answer_is_certain(self):
        self.save(2)
        self.server.faults.extend([Fault(grpc.StatusCode.UNAVAILABLE)])
        with self.assertRaises(persistd.VersionConflict) as raised:
            self.save(expected_version=1)
        self.assertFalse(raised.exception.outcome_unknown)

    def test_a_save_that_ran_into_the_deadline_may_be_stored(self):
        release = threading.Event()
        self.addCleanup(release.set)
        self.server._begin = lambda *_: release.wait(30)
        with self.assertRaises(persistd.DeadlineExceeded) as raised:
            self.save(timeout=0.1)
        self.assertTrue(raised.exception.outcome_unknown)
        self.assertIsInstance(raised.exception, persistd.Unavailable)

    def test_a_read_has_no_unknown_outcome(self):
        self.server.faults.extend([Fault(grpc.StatusCode.UNAVAILABLE)] * 1000)
        with self.assertRaises(persistd.Unavailable) as raised:
            self.client.load(_REF, timeout=0.1)
        self.assertFalse(raised.exception.outcome_unknown)

    def test_a_server_that_is_not_there_is_unavailable(self):
        self.server.stop()
        with self.assertRaises(persistd.Unavailable):
            self.save(timeout=0.3)


class ErrorTest(ClientTestCase):
    def test_a_conflict_names_both_versions(self):
        self.save(3)
        with self.assertRaises(persistd.VersionConflict) as raised:
            self.save(expected_version=1)
        self.assertEqual((raised.exception.expected, raised.exception.actual), (1, 3))
        self.assertEqual(raised.exception.reason, errors_pb2.ERROR_REASON_VERSION_CONFLICT)
        self.assertEqual(str(raised.exception), "VERSION_CONFLICT: made by a test")

    def test_a_conflict_of_must_exist_expected_no_version(self):
        self.server.faults.append(
            Fault(grpc.StatusCode.ABORTED, errors_pb2.ERROR_REASON_VERSION_CONFLICT, version_conflict={})
        )
        with self.assertRaises(persistd.VersionConflict) as raised:
            self.save(must_exist=True)
        self.assertIsNone(raised.exception.expected)

    def test_what_is_missing_is_not_found(self):
        for call in (self.client.load, self.client.get_metadata, lambda ref: next(self.client.history(ref))):
            with self.assertRaises(persistd.NotFound) as raised:
                call(_REF)
            self.assertFalse(raised.exception.deleted)

    def test_a_missing_version_says_which_there_is(self):
        self.save(2)
        with self.assertRaises(persistd.VersionNotFound) as raised:
            self.client.get_at_version(_REF, 5)
        self.assertEqual(raised.exception.actual, 2)

    def test_each_reason_has_its_exception(self):
        code = grpc.StatusCode
        for status, reason, kind in (
            (code.INVALID_ARGUMENT, "INVALID_FIELD", persistd.InvalidArgument),
            (code.INVALID_ARGUMENT, "REQUEST_ID_REUSED", persistd.RequestIdReused),
            (code.NOT_FOUND, "AGGREGATE_NOT_FOUND", persistd.NotFound),
            (code.RESOURCE_EXHAUSTED, "TOO_LARGE", persistd.TooLarge),
            (code.RESOURCE_EXHAUSTED, "STORAGE_FULL", persistd.StorageFull),
            (code.FAILED_PRECONDITION, "FOREIGN_MESSAGE", persistd.FailedPrecondition),
            (code.FAILED_PRECONDITION, "TYPE_NOT_DECLARED", persistd.FailedPrecondition),
            (code.FAILED_PRECONDITION, "STORAGE_UNSUITABLE", persistd.FailedPrecondition),
            (code.FAILED_PRECONDITION, "HISTORY_REMOVED", persistd.FailedPrecondition),
            (code.DATA_LOSS, "CORRUPT_DATA", persistd.DataLoss),
            (code.INTERNAL, "INTERNAL", persistd.PersistdError),
        ):
            with self.subTest(reason=reason):
                self.server.faults.append(Fault(status, errors_pb2.ErrorReason.Value("ERROR_REASON_" + reason)))
                with self.assertRaises(persistd.PersistdError) as raised:
                    self.client.server_info()
                self.assertIs(type(raised.exception), kind)
                self.assertEqual(raised.exception.reason_name, reason)
                self.assertEqual(raised.exception.code, status)

    def test_a_reason_from_the_future_keeps_its_number(self):
        self.server.faults.append(Fault(grpc.StatusCode.FAILED_PRECONDITION, 999))
        with self.assertRaises(persistd.FailedPrecondition) as raised:
            self.client.server_info()
        self.assertEqual(raised.exception.reason_name, "REASON_999")

    def test_details_that_are_not_ours_do_not_hide_the_error(self):
        for trailer in (b"\xff\xff", errors_pb2.Status(code=3).SerializeToString(), b""):
            self.server.faults.append(Fault(grpc.StatusCode.INVALID_ARGUMENT, trailer=trailer))
            with self.assertRaises(persistd.InvalidArgument) as raised:
                self.client.server_info()
            self.assertEqual((raised.exception.reason, raised.exception.field), (0, ""))

    def test_a_wrong_field_is_named(self):
        violation = {"field": "events[2].type", "description": "must not be empty"}
        self.server.faults.append(
            Fault(grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_INVALID_FIELD, field_violation=violation)
        )
        with self.assertRaises(persistd.InvalidArgument) as raised:
            self.save()
        self.assertEqual(raised.exception.field, "events[2].type")


class ReadTest(ClientTestCase):
    def test_load_returns_the_state_and_the_events_after_it(self):
        self.save(2, state={"n": 2})
        self.save(1)
        loaded = self.client.load(_REF, persistd.Consistency.CACHED)
        self.assertEqual(persistd.from_payload(loaded.state.payload), {"n": 2})
        self.assertEqual([event.version for event in loaded.events], [3])
        self.assertEqual(self.server.requests["Load"][0].options.consistency, persistd.Consistency.CACHED)

    def test_get_at_version_takes_a_version_or_a_time(self):
        self.save(3)
        self.assertEqual(self.client.get_at_version(_REF, 2).metadata.version, 2)
        self.client.get_at_version(_REF, as_of=datetime.datetime.fromtimestamp(1_000_000, datetime.timezone.utc))
        self.assertEqual(self.server.requests["GetAtVersion"][1].as_of.seconds, 1_000_000)
        with self.assertRaises(ValueError):
            self.client.get_at_version(_REF)

    def test_reads_are_repeated_too(self):
        self.save()
        self.server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE))
        self.assertEqual(self.client.get_metadata(_REF).version, 1)


class HistoryTest(ClientTestCase):
    def versions(self, **options):
        return [event.version for event in self.client.history(_REF, **options)]

    def test_a_history_comes_in_both_directions_and_in_parts(self):
        self.save(6)
        self.assertEqual(self.versions(), [1, 2, 3, 4, 5, 6])
        self.assertEqual(self.versions(reverse=True), [6, 5, 4, 3, 2, 1])
        self.assertEqual(self.versions(from_version=1, to_version=4), [2, 3, 4])
        self.assertEqual(self.versions(event_types=["other"]), [])

    def test_a_broken_stream_is_continued_after_the_last_event(self):
        self.save(10)
        self.server.break_history_after.extend([3, 0, 4])
        self.assertEqual(self.versions(), list(range(1, 11)))
        self.assertEqual([request.from_version for request in self.server.requests["GetHistory"]], [0, 3, 3, 7])

    def test_a_broken_reverse_stream_is_continued_before_the_last_event(self):
        self.save(10)
        self.server.break_history_after.extend([3, 0, 4])
        self.assertEqual(self.versions(reverse=True, from_version=1), list(range(10, 1, -1)))
        self.assertEqual([request.to_version for request in self.server.requests["GetHistory"]], [0, 7, 7, 3])

    def test_nothing_is_asked_for_when_the_stream_broke_at_its_very_end(self):
        self.save(4)
        for options in ({"to_version": 4}, {"reverse": True}):
            self.server.requests.clear()
            self.server.break_history_after.append(4)
            self.assertEqual(len(self.versions(**options)), 4)
            self.assertEqual(len(self.server.requests["GetHistory"]), 1)

    def test_a_slow_reader_outlives_the_deadline_of_its_stream(self):
        # More than what gRPC buffers on the way, so that the stream is still open when its deadline passes.
        payload = persistd.types_pb2.Payload(data=bytes(300_000))
        for _ in range(4):
            self.client.save(_REF, [persistd.event("placed", payload) for _ in range(10)])
        versions = []
        for event in self.client.history(_REF, timeout=0.5):
            versions.append(event.version)
            if event.version in (1, 20):
                threading.Event().wait(0.6)  # The reader's own work; only real time moves a gRPC deadline.
        self.assertEqual(versions, list(range(1, 41)))
        self.assertGreater(len(self.server.requests["GetHistory"]), 1)

    def test_a_stream_that_never_gives_anything_ends_at_the_deadline(self):
        self.save()
        self.server.break_history_after.extend([0] * 10000)
        with self.assertRaises(persistd.Unavailable):
            self.versions(timeout=0.2)

    def test_a_reader_that_stops_early_ends_the_call(self):
        self.save(100)
        history = self.client.history(_REF)
        self.assertEqual(next(history).version, 1)
        history.close()
        self.assertEqual(self.client.get_metadata(_REF).version, 100)


class PayloadTest(unittest.TestCase):
    def test_json_comes_back_as_it_was(self):
        for value in ({"ä": [1, 2.5, None, True]}, 2**70, "🦉", [], "lone \ud800 surrogate", "\0"):
            self.assertEqual(persistd.from_payload(persistd.json_payload(value)), value)

    def test_json_is_compact_utf_8(self):
        self.assertEqual(persistd.json_bytes({"a": [1, "é"]}), '{"a":[1,"é"]}'.encode())

    def test_numbers_that_json_lacks_are_refused(self):
        for value in (math.nan, math.inf):
            with self.assertRaises(ValueError):
                persistd.json_payload(value)

    def test_bytes_stay_bytes(self):
        payload = persistd.to_payload(b"\x00\xff")
        self.assertEqual(payload.content_type, "application/octet-stream")
        self.assertEqual(persistd.from_payload(payload), b"\x00\xff")
        self.assertIs(persistd.to_payload(payload), payload)

    def test_json_is_known_by_its_media_type(self):
        for content_type in ("application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"):
            payload = persistd.types_pb2.Payload(content_type=content_type, data=b"[1]")
            self.assertEqual(persistd.from_payload(payload), [1])
        with self.assertRaises(ValueError):
            persistd.from_payload(persistd.types_pb2.Payload(content_type="application/json", data=b"{"))

    def test_an_event_may_have_no_content(self):
        self.assertFalse(persistd.event("closed").HasField("payload"))
        self.assertTrue(persistd.event("closed", {}).HasField("payload"))


class RetryPolicyTest(unittest.TestCase):
    def test_the_wait_grows_to_its_bound(self):
        for _ in range(20):
            delays = persistd.RetryPolicy(initial=1, maximum=4).delays()
            for bound in (1, 2, 4, 4, 4):
                self.assertTrue(0 <= next(delays) <= bound)


class StreamTest(ClientTestCase):
    def requests(self, count, **fields):
        for n in range(count):
            ref = persistd.ref("sales", "order", str(n))
            yield persistd.aggregates_pb2.SaveRequest(ref=ref, events=[persistd.event("placed")], **fields)

    def test_a_stream_saves_everything_within_its_window(self):
        answers = list(self.client.save_stream(self.requests(50), window=4))
        self.assertEqual({request.ref.entity_id for request, _ in answers}, {str(n) for n in range(50)})
        for request, answer in answers:
            self.assertEqual(answer.commit_id, request.request_id)
            self.assertEqual(answer.metadata.ref.entity_id, request.ref.entity_id)

    def test_a_save_that_fails_leaves_its_neighbours_alone(self):
        self.client.save(("sales", "order", "1"), [persistd.event("placed")])
        answers = dict(
            (request.ref.entity_id, answer) for request, answer in self.client.save_stream(self.requests(3, expected_version=0))
        )
        self.assertIsInstance(answers["1"], persistd.VersionConflict)
        self.assertEqual(answers["1"].actual, 1)
        self.assertEqual(answers["0"].metadata.version, 1)
        self.assertEqual(answers["2"].metadata.version, 1)

    def test_a_stream_that_breaks_raises(self):
        self.server.faults.extend([None, Fault(grpc.StatusCode.UNAVAILABLE)])
        with self.assertRaises(persistd.Unavailable) as raised:
            list(self.client.save_stream(self.requests(10)))
        self.assertTrue(raised.exception.outcome_unknown)

    def test_a_caller_that_stops_early_ends_the_stream(self):
        stream = self.client.save_stream(self.requests(1000), window=2)
        next(stream)
        stream.close()
        self.assertLess(len(self.server.requests["Save"]), 1000)

    def test_a_batch_is_loaded_in_order_errors_among_it(self):
        self.save()
        answers = list(self.client.batch_load([_REF, ("sales", "order", "none"), _REF]))
        self.assertEqual(answers[0].metadata.version, 1)
        self.assertIsInstance(answers[1], persistd.NotFound)
        self.assertEqual(answers[2].metadata.version, 1)


class RepositoryTest(ClientTestCase):
    def test_a_commit_and_a_deletion_get_ids_and_keep_them_when_repeated(self):
        self.server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE))
        commit = self.client.save_all(persistd.aggregates_pb2.SaveAllRequest())
        sent = self.server.requests["SaveAll"]
        self.assertEqual([request.request_id for request in sent], [commit.commit_id] * 2)
        self.assertEqual(len(commit.commit_id), 36)
        deleted = self.client.delete(_REF, 3, request_id="mine")
        self.assertEqual(deleted.commit_id, "mine")
        self.assertEqual(self.server.requests["DeleteAggregate"][0].expected_version, 3)

    def test_the_options_of_a_load_arrive(self):
        self.save()
        position = persistd.types_pb2.Position(token="p")
        self.client.load(_REF, at_least=position, include_events=False, use_snapshot=False)
        options = self.server.requests["Load"][0].options
        self.assertEqual(options.consistency, persistd.Consistency.AT_LEAST)
        self.assertEqual(options.at_least.token, "p")
        self.assertTrue(options.HasField("include_events"))
        self.assertFalse(options.include_events)
        self.assertTrue(options.HasField("use_snapshot"))
        self.client.load(_REF, version=1)
        options = self.server.requests["Load"][1].options
        self.assertEqual(options.version, 1)
        self.assertFalse(options.HasField("include_events"))
        self.assertEqual(options.consistency, 0)
        with self.assertRaises(ValueError):
            self.client.load(_REF, version=1, as_of=datetime.datetime.now())

    def test_a_list_comes_page_by_page(self):
        listed = list(self.client.list_aggregates(context="sales", tags=["vip"], page_size=1))
        self.assertEqual([aggregate.version for aggregate in listed], [1, 2, 3])
        self.assertEqual([request.page_token for request in self.server.requests["ListAggregates"]], ["", "1", "2"])
        self.assertEqual(self.server.requests["ListAggregates"][2].context, "sales")

    def test_snapshots_are_taken_listed_and_deleted(self):
        self.assertEqual(self.client.create_snapshot(_REF, 4, {"n": 1}).version, 4)
        self.assertEqual(self.server.requests["CreateSnapshot"][0].state.content_type, "application/json")
        self.assertEqual([snapshot.version for snapshot in self.client.list_snapshots(_REF)], [3])
        self.client.delete_snapshot(_REF, 3)
        self.assertEqual(self.server.requests["DeleteSnapshot"][0].version, 3)

    def test_aggregate_types_are_made_listed_and_described(self):
        settings = persistd.admin_pb2.StreamSettings(replicas=3)
        self.server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE))
        created = self.client.create_aggregate_type("sales", "order", settings)
        self.assertTrue(created.created)
        self.assertEqual(created.type.aggregate, "order")
        self.assertEqual([sent.settings.replicas for sent in self.server.requests["CreateAggregateType"]], [3, 3])
        self.client.create_aggregate_type("sales", "order")
        self.assertFalse(self.server.requests["CreateAggregateType"][2].HasField("settings"))
        listed = list(self.client.list_aggregate_types("sales", page_size=1))
        self.assertEqual([one.aggregate for one in listed], ["type0", "type1", "type2"])
        sent = self.server.requests["ListAggregateTypes"]
        self.assertEqual([request.page_token for request in sent], ["", "1", "2"])
        self.assertEqual((sent[2].context, sent[2].page_size), ("sales", 1))
        self.assertEqual(self.client.describe_aggregate_type("sales", "order").aggregates, 7)
        with self.assertRaises(persistd.NotFound):
            self.client.describe_aggregate_type("sales", "none")


class ChainTest(ClientTestCase):
    def test_an_append_is_repeated_with_the_same_id(self):
        self.server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE, late=True))
        when = datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc)
        metadata = persistd.types_pb2.EventMetadata(actor="ann")
        answer = self.client.append_to_chain("audit", {"n": 1}, 4, metadata=metadata, time=when)
        self.assertEqual(answer.sequence, 5)
        first, second = self.server.requests["AppendToChain"]
        self.assertEqual(first, second)
        self.assertEqual((first.chain, first.content.data, first.metadata.actor), ("audit", b'{"n":1}', "ann"))
        self.assertEqual(first.time.seconds, int(when.timestamp()))
        self.client.append_to_chain("audit")
        third = self.server.requests["AppendToChain"][-1]
        self.assertFalse(third.HasField("expected_sequence") or third.HasField("content"))
        self.assertNotEqual(third.request_id, first.request_id)

    def test_a_chain_that_breaks_is_read_on(self):
        for reverse in (False, True):
            self.server.break_history_after.extend([2, 0, 1])
            sequences = [entry.sequence for entry in self.client.chain("audit", reverse=reverse)]
            self.assertEqual(sequences, [5, 4, 3, 2, 1] if reverse else [1, 2, 3, 4, 5])

    def test_a_verification_is_repeated_when_it_breaks(self):
        self.server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE, late=True))
        told = []
        result = self.client.verify_chain(
            ("sales", "order", "1"), to_version=9, expected_head_cid="c", on_progress=lambda p: told.append(p.verified)
        )
        self.assertTrue(result.valid)
        self.assertEqual(told, [3, 3])
        request = self.server.requests["VerifyChain"][1]
        self.assertEqual((request.aggregate.entity_id, request.to_version), ("1", 9))
        self.assertEqual(request.expected_head_cid, "c")
        self.assertTrue(self.client.verify_chain(chain="audit").valid)
        self.assertEqual(self.server.requests["VerifyChain"][2].chain, "audit")
        with self.assertRaises(ValueError):
            self.client.verify_chain()

    def test_an_export_is_not_repeated(self):
        self.assertEqual(list(self.client.export_car(("sales", "order", "1"), to_version=3)), [b"one", b"two"])
        self.server.faults.append(Fault(grpc.StatusCode.UNAVAILABLE, late=True))
        pieces = self.client.export_car(chain="audit")
        self.assertEqual(next(pieces), b"one")
        with self.assertRaises(persistd.Unavailable):
            next(pieces)
        self.assertEqual(len(self.server.requests["ExportCar"]), 2)

    def test_blocks(self):
        self.assertEqual(self.client.put_block(b"bytes").cid, "cid-of-bytes")
        self.assertEqual(self.server.requests["PutBlock"][0].codec, persistd.chains_pb2.BLOCK_CODEC_RAW)
        self.assertEqual(self.client.get_block("cid-of-bytes").data, b"bytes")
        with self.assertRaises(persistd.NotFound):
            self.client.get_block("other")


if __name__ == "__main__":
    unittest.main()
