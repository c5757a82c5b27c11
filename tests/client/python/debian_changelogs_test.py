"""Tests of the changelog example against a store in memory: that it imports all, and that it notices every change."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import grpc

import debian_changelogs
import persistd
import samples
from fake_server import Fault, FakeServer
from persistd import aggregates_pb2, errors_pb2


class ExampleTest(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.doc_dir = pathlib.Path(folder.name)

    def run_example(self, *arguments):
        """Runs the example; returns its exit code, and what it printed on stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = debian_changelogs.main(
                ["--address", self.server.address, "--doc-dir", str(self.doc_dir), "--workers", "4", *arguments]
            )
        return code, out.getvalue(), err.getvalue()

    def assert_finds(self, difference, tamper, *arguments, where="tamper"):
        """Runs the example with a change in what the server sends, which it must report, and again without."""
        untouched = getattr(self.server, where)
        setattr(self.server, where, tamper)
        code, _, err = self.run_example(*arguments)
        setattr(self.server, where, untouched)
        self.assertEqual(code, 1, difference)
        self.assertIn(difference, err)
        self.assertEqual(self.run_example(*arguments)[0], 0)

    def test_everything_comes_back(self):
        names = samples.make(self.doc_dir, 12)
        code, out, err = self.run_example()
        self.assertEqual(code, 0, err)
        self.assertRegex(out, r"import: 12 aggregates, \d+ events, [\d.]+ s, \d+ events/s, \d+ saves \(0 dedup")
        self.assertRegex(out, r"reload: 12 aggregates, \d+ events, [\d.]+ s, \d+ events/s, 0 problems")
        self.assertEqual({request.ref.entity_id for request in self.server.requests["Save"]}, set(names))
        sizes = {len(request.events) for request in self.server.requests["Save"]}
        self.assertGreater(len(sizes), 3)
        self.assertTrue(all(request.HasField("expected_version") for request in self.server.requests["Save"]))

    def test_a_second_run_stores_nothing_again(self):
        samples.make(self.doc_dir, 8)
        self.run_example()
        saves = len(self.server.requests["Save"])
        code, out, err = self.run_example()
        self.assertEqual(code, 0, err)
        self.assertIn(f"{saves} saves ({saves} deduplicated), 0 events resumed", out)

    def test_prefixes_keep_imports_apart(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 5, 1).encode())
        self.assertEqual(self.run_example("--prefix", "a:")[0], 0)
        self.assertEqual(self.run_example("--prefix", "b:", "--verify-only")[0], 1)
        self.assertEqual(self.run_example("--prefix", "a:", "--verify-only")[0], 0)

    def test_a_changelog_that_grew_is_continued(self):
        old = samples.synthetic("foo", 30, 1)
        samples.add(self.doc_dir / "old", "foo", old.encode())
        samples.add(self.doc_dir / "new", "foo", (samples.synthetic("bar", 40, 1) + old).encode())
        self.assertEqual(self.run_example("--doc-dir", str(self.doc_dir / "old"))[0], 0)
        code, out, err = self.run_example("--doc-dir", str(self.doc_dir / "new"))
        self.assertEqual(code, 0, err)
        self.assertIn("reload: 1 aggregates, 70 events", out)
        self.assertRegex(out, r", [1-9]\d* events resumed")

    def test_a_changelog_that_was_rewritten_is_reported(self):
        old = samples.synthetic("foo", 30, 1)
        samples.add(self.doc_dir / "old", "foo", old.encode())
        samples.add(self.doc_dir / "new", "foo", samples.synthetic("foo", 30, 2).encode())
        samples.add(self.doc_dir / "cut", "foo", old[old.index("foo (1:20.0") :].encode())
        self.assertEqual(self.run_example("--doc-dir", str(self.doc_dir / "old"))[0], 0)
        code, _, err = self.run_example("--doc-dir", str(self.doc_dir / "new"))
        self.assertEqual(code, 1)
        self.assertIn("foo event 1: changes is", err)
        code, _, err = self.run_example("--doc-dir", str(self.doc_dir / "cut"))
        self.assertEqual(code, 1)
        self.assertIn("more events than the 20 of the changelog", err)

    def test_each_changed_field_is_found(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 5, 1).encode())
        self.assertEqual(self.run_example()[0], 0)

        def data(event):
            event.payload.data = event.payload.data.replace(b"example.org", b"example.com")

        def finds(field, tamper):
            self.assert_finds(f"foo event 1: {field} is ", tamper, "--verify-only")

        self.assert_finds("foo event 1: email is 'm1@example.com', should be 'm1@example.org'", data, "--verify-only")
        finds("(type)", lambda event: setattr(event, "type", "other"))
        finds("(schema version)", lambda event: setattr(event, "schema_version", 2))
        finds("(time)", lambda event: setattr(event.time, "nanos", 1_000_000))
        finds("(actor)", lambda event: setattr(event.metadata, "actor", ""))
        finds("(causation_id)", lambda event: setattr(event.metadata, "causation_id", "c"))
        finds("(ref)", lambda event: setattr(event.ref, "entity_id", "bar"))
        finds("(version)", lambda event: setattr(event, "version", event.version + 1))
        finds("(payload)", lambda event: setattr(event.payload, "data", b"[1]"))
        finds("(payload)", lambda event: setattr(event.payload, "data", b"{"))
        finds("(content type)", lambda event: event.payload.ClearField("content_type"))

    def test_each_difference_from_the_answer_of_a_save_is_found(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 5, 1).encode())
        self.assertEqual(self.run_example()[0], 0)

        def finds(field, tamper):
            self.assert_finds(f"foo event 1: {field} is ", tamper)

        finds("(event_id)", lambda event: setattr(event, "event_id", "other"))
        finds("(commit_id)", lambda event: setattr(event, "commit_id", "other"))
        finds("(position)", lambda event: setattr(event.position, "token", "foo:9"))
        finds("(cid)", lambda event: setattr(event, "cid", "b"))

        # The same where the answers are wrong, or incomplete.
        def answers(difference, tamper):
            self.assert_finds(difference, tamper, where="tamper_save")

        answers("foo event 1: (event_id) is ", lambda response: setattr(response.events[0], "event_id", "other"))
        answers("foo event 1: (commit_id) is ", lambda response: setattr(response, "commit_id", "other"))
        answers(": (versions) is ", lambda response: response.events.pop())
        answers(": (versions) is ", lambda response: setattr(response.events[0], "version", 9))
        answers(": (version) is ", lambda response: setattr(response.metadata, "version", 9))

    def test_each_changed_field_of_the_state_is_found(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 5, 1).encode())
        self.assertEqual(self.run_example()[0], 0)

        def finds(field, tamper, *arguments):
            self.assert_finds(f"foo state: {field} is ", tamper, *arguments, where="tamper_load")

        def data(loaded):
            loaded.state.payload.data = loaded.state.payload.data.replace(b"1:5.0", b"1:6.0")

        finds("last_version", data, "--verify-only")
        finds("(content type)", lambda load: setattr(load.state.payload, "content_type", "a/b+json"), "--verify-only")
        finds("(schema version)", lambda loaded: setattr(loaded.state, "schema_version", 2), "--verify-only")
        finds("(state version)", lambda loaded: setattr(loaded.state, "version", 4), "--verify-only")
        finds("(state version)", lambda loaded: loaded.ClearField("state"), "--verify-only")
        finds("(version)", lambda loaded: setattr(loaded.metadata, "version", 6), "--verify-only")
        finds("(ref)", lambda loaded: setattr(loaded.metadata.ref, "entity_id", "bar"), "--verify-only")
        # Of these only the answer of the last save tells what they must be.
        finds("(metadata position)", lambda loaded: setattr(loaded.metadata.position, "token", "foo:9"))
        finds("(metadata last_modified)", lambda loaded: setattr(loaded.metadata.last_modified, "nanos", 1_000_000))
        finds("(metadata state_schema_version)", lambda loaded: setattr(loaded.metadata, "state_schema_version", 2))
        finds("(metadata tags)", lambda loaded: loaded.metadata.tags.append("tag"))

    def test_missing_and_surplus_events_are_found(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 5, 1).encode())
        self.assertEqual(self.run_example()[0], 0)
        ref = ("debian", "package", "foo")
        with persistd.Client(self.server.address) as client:
            client.save(ref, [persistd.event("uploaded", {})], expected_version=5)
        code, _, err = self.run_example("--verify-only")
        self.assertEqual(code, 1)
        self.assertIn("foo: more events than the 5 of the changelog", err)
        self.assertIn("foo state: (events after it) is 1, should be 0", err)
        code, _, err = self.run_example("--verify-only", "--prefix", "lib")
        self.assertIn("foo: is not in the store", err)

    def test_an_import_that_cannot_go_on_is_an_error(self):
        samples.make(self.doc_dir, 6)
        full = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_STORAGE_FULL)
        self.server.faults.extend([None, full])
        code, _, err = self.run_example()
        self.assertEqual(code, 1)
        self.assertIn("STORAGE_FULL", err)

    def test_lost_answers_do_not_matter(self):
        samples.make(self.doc_dir, 6)
        self.server.faults.append(None)
        for _ in range(10):
            self.server.faults.extend([Fault(grpc.StatusCode.UNAVAILABLE, late=True), None])
        code, out, err = self.run_example()
        self.assertEqual(code, 0, err)
        self.assertNotIn("(0 deduplicated)", out)

    def test_a_state_that_is_pending_is_written_by_repeating_the_save(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 1, 1).encode())
        self.server.state_results.append(aggregates_pb2.STATE_RESULT_PENDING)
        code, _, err = self.run_example()
        self.assertEqual(code, 0, err)
        self.assertEqual(len(self.server.requests["Save"]), 2)

    def test_an_entry_that_is_too_large_is_reported_and_not_cut(self):
        samples.add(self.doc_dir, "foo", samples.synthetic("foo", 5, 1).encode())
        self.server.max_event_bytes = 100
        code, _, err = self.run_example()
        self.assertEqual(code, 1)
        self.assertIn("bytes, the server takes 100", err)
        self.assertEqual(self.server.requests["Save"], [])

    def test_a_file_that_cannot_be_read_is_reported(self):
        samples.add(self.doc_dir, "good", samples.synthetic("good", 5, 1).encode())
        samples.add(self.doc_dir, "cut", samples.synthetic("cut", 5, 1).encode())
        path = self.doc_dir / "cut" / "changelog.Debian.gz"
        path.write_bytes(path.read_bytes()[:100])
        code, out, err = self.run_example()
        self.assertEqual(code, 1)
        self.assertIn("import: 1 aggregates, 5 events", out)
        self.assertIn(f"{path}: cannot be read", err)

    def test_a_folder_without_changelogs_is_an_error(self):
        self.assertEqual(self.run_example()[0], 1)


class ActorTest(unittest.TestCase):
    def test_an_actor_is_one_line_of_at_most_256_bytes(self):
        self.assertEqual(debian_changelogs.actor_of({"maintainer": "A", "email": "a@b"}), "A <a@b>")
        self.assertEqual(debian_changelogs.actor_of({"maintainer": "", "email": ""}), "")
        self.assertEqual(debian_changelogs.actor_of({"maintainer": "A\tB\x85", "email": ""}), "A B  <>")
        long = debian_changelogs.actor_of({"maintainer": "é" * 300, "email": "a@b"})
        self.assertEqual(long, "é" * 128)


if __name__ == "__main__":
    unittest.main()
