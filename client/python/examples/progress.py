"""A progress bar for people, plain lines for logs."""

import sys
import threading
import time
from typing import Optional, TextIO

_WIDTH = 30
_REDRAW_SECONDS = 0.1


class Progress:
    """Counts towards a total and shows it on `stream`. Thread safe."""

    def __init__(self, label: str, total: int, stream: Optional[TextIO] = None):
        self._label = label
        self._total = max(total, 1)
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._done = 0
        self._drawn_at = 0.0
        self._drawn_tenth = 0

    def add(self, count: int) -> None:
        """Counts `count` more."""
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._tty and now - self._drawn_at >= _REDRAW_SECONDS:
                self._drawn_at = now
                self._draw("\r")
            elif not self._tty and self._done * 10 // self._total > self._drawn_tenth:
                self._drawn_tenth = self._done * 10 // self._total
                self._draw("", "\n")

    def close(self) -> None:
        """Shows where it ended. Call it once, at the end."""
        with self._lock:
            if self._tty:
                self._draw("\r", "\n")

    def _draw(self, before: str, after: str = "") -> None:
        share = min(self._done / self._total, 1)
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        bar = ("#" * round(share * _WIDTH)).ljust(_WIDTH)
        bar = f" [{bar}]" if self._tty else ""
        clear = "\x1b[K" if self._tty else ""
        line = f"{self._label}{bar} {share:4.0%}  {self._done:,} events  {rate:,.0f}/s"
        self._stream.write(f"{before}{line}{clear}{after}")
        self._stream.flush()
