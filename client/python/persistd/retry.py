"""When to try again."""

import dataclasses
import random
import time
from typing import Iterator


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter: each wait is drawn evenly from 0 to a bound that doubles up to `maximum`.

    The jitter keeps the clients of a daemon that comes back from calling it all at once.
    """

    initial: float = 0.05
    maximum: float = 2.0

    def delays(self) -> Iterator[float]:
        """Yields the seconds to wait before each retry, without end."""
        bound = self.initial
        while True:
            yield random.uniform(0, bound)
            bound = min(bound * 2, self.maximum)


class Deadline:
    """A point in time that a call must not pass."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Returns the seconds that are left; negative when it has passed."""
        return self._end - time.monotonic()
