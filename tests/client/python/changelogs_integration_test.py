"""Imports changelogs into the real daemon, kills it in the middle, and compares everything that comes back.

Usage: changelogs_integration_test.py PERSISTD NATS_SERVER
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import unittest

import debian_changelogs
import persistd
import samples
from daemon import Daemon

_PACKAGES = 40
_WORKERS = 8
_TIMEOUT = 120


class CrashingDaemon:
    """Progress of an import that kills the daemon once, after a third of the events, and starts it again."""

    def __init__(self, daemon, total):
        self._daemon = daemon
        self._total = total
        self._lock = threading.Lock()
        self._saved = 0
        self.saved_at_crash = None

    def add(self, count):
        with self._lock:
            self._saved += count
            if self.saved_at_crash is not None or self._saved < self._total // 3:
                return
            self.saved_at_crash = self._saved
        # Meanwhile the other workers are in the midst of their saves, and repeat them until it is back.
        self._daemon.kill()
        self._daemon.start()


class ChangelogsTest(unittest.TestCase):
    binary = None
    nats_server = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.doc_dir = self.folder / "doc"
        samples.make(self.doc_dir, _PACKAGES)
        self.packages, problems = debian_changelogs.read_packages(self.doc_dir, None)
        self.assertEqual((len(self.packages), problems), (_PACKAGES, []))
        self.total = sum(len(package.entries) for package in self.packages)
        self.daemon = Daemon(self.binary, self.nats_server, self.folder)
        self.addCleanup(self.daemon.stop)
        self.daemon.start()

    def run_example(self, *arguments):
        command = [
            "/usr/bin/python3",
            debian_changelogs.__file__,
            *("--address", self.daemon.address, "--doc-dir", str(self.doc_dir), "--timeout", str(_TIMEOUT)),
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def explain(self, what):
        return f"{what}\nThe daemon's log ends with:\n{self.daemon.log_tail()}"

    def test_an_import_survives_a_crash_of_the_daemon(self):
        with persistd.Client(self.daemon.address, timeout=_TIMEOUT) as client:
            archive = debian_changelogs.Archive(client)
            crash = CrashingDaemon(self.daemon, self.total)
            outcome = debian_changelogs.run(archive.save, self.packages, _WORKERS, crash.add)
            self.assertEqual(outcome.problems, [], self.explain("import"))
            self.assertEqual((outcome.events, outcome.resumed), (self.total, 0))
            self.assertLess(crash.saved_at_crash, self.total, "the daemon was killed too late to prove anything")

        # All of it is there once, told by another process; and all of it is recognised when it is saved again.
        again = self.run_example()
        self.assertEqual(again.returncode, 0, self.explain(again.stdout + again.stderr))
        saves, deduplicated = re.search(r"(\d+) saves \((\d+) deduplicated\), 0 events resumed", again.stdout).groups()
        self.assertEqual(saves, deduplicated)
        self.assertIn(f"reload: {_PACKAGES} aggregates, {self.total} events", again.stdout)

        # The comparison can fail.
        other = self.run_example("--verify-only", "--prefix", "other:")
        self.assertEqual(other.returncode, 1, other.stdout + other.stderr)
        self.assertIn("is not in the store", other.stderr)

        self.assertEqual(self.daemon.stop(), 0, self.explain("SIGTERM"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    ChangelogsTest.binary, ChangelogsTest.nats_server = (pathlib.Path(path).absolute() for path in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
