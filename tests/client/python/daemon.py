"""Runs the real daemon, with its embedded nats-server, for a test."""

import os
import pathlib
import subprocess
import tempfile
import time
import unittest
from typing import List, Optional

_START_SECONDS = 60
_STOP_SECONDS = 30


class Daemon:
    """One persistd with its own data folder. It may be killed and started again: same data, same address."""

    def __init__(self, binary: pathlib.Path, nats_server: pathlib.Path, folder: pathlib.Path):
        self._binary = binary
        self._nats_server = nats_server
        self._folder = folder
        self._process: Optional[subprocess.Popen] = None
        self.address = "127.0.0.1:0"  # of the real port, once it has started
        self.log = folder / "persistd.log"
        (folder / "persistd.yaml").write_text("log:\n  level: info\n")

    def start(self) -> None:
        """Returns when the daemon says that it is ready. Raises AssertionError with its log when it does not."""
        ready_file = self._folder / "ready"
        ready_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(ready_file), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                code = self._process.wait(timeout=0.02)
                raise AssertionError(f"persistd ended with {code} before it was ready:\n{self.log_tail()}")
            except subprocess.TimeoutExpired:
                pass
            lines = ready_file.read_text().split("\n") if ready_file.exists() else []
            if lines and ":" in lines[0]:
                self.address = lines[0].strip()
                return
            if time.monotonic() > end:
                raise AssertionError(f"persistd was not ready after {_START_SECONDS} s:\n{self.log_tail()}")

    def kill(self) -> None:
        """Ends the daemon as a crash would."""
        self._process.kill()
        self._process.wait(_STOP_SECONDS)

    def stop(self) -> int:
        """Asks the daemon to stop and returns its exit code. Kills it when it does not in time, or was not running."""
        if self._process is None or self._process.poll() is not None:
            return -1
        self._process.terminate()
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1

    def log_tail(self) -> str:
        """Returns the last lines of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").split("\n")[-60:])

    def _command(self, ready_file: pathlib.Path) -> List[str]:
        settings = {
            "data_dir": self._folder / "data",
            "server.listen_address": self.address,
            "nats.embedded.enabled": "true",
            "nats.embedded.binary": self._nats_server,
        }
        command = [str(self._binary), "--config", str(self._folder / "persistd.yaml"), "--ready-file", str(ready_file)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return command


class DaemonTest(unittest.TestCase):
    """Test cases over one daemon, in a folder that goes with them. The main() of the test sets both programs."""

    persistd_binary = None
    nats_server = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(dir=os.environ.get("TEST_TMPDIR"))
        cls.daemon = Daemon(cls.persistd_binary, cls.nats_server, pathlib.Path(cls.folder.name))
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls):
        cls.daemon.stop()
        cls.folder.cleanup()
