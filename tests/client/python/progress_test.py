"""Tests of the example's progress bar: the text that people and logs see, to the character."""

import io
import unittest
from unittest import mock

import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class ProgressTest(unittest.TestCase):
    def setUp(self):
        self.now = 100.0
        clock = mock.patch.object(progress.time, "monotonic", lambda: self.now)
        clock.start()
        self.addCleanup(clock.stop)

    def test_a_terminal_gets_one_line_that_is_drawn_over(self):
        stream = Terminal()
        bar = progress.Progress("import", 4000, stream)
        self.now += 1
        bar.add(1000)
        self.now += 1
        bar.add(2000)
        bar.close()
        first, second, last = stream.getvalue().split("\r")[1:]
        self.assertEqual(first, "import [########                      ]  25%  1,000 events  1,000/s\x1b[K")
        self.assertEqual(second, "import [######################        ]  75%  3,000 events  1,500/s\x1b[K")
        self.assertEqual(last, second + "\n")

    def test_a_terminal_is_drawn_at_most_ten_times_a_second(self):
        stream = Terminal()
        bar = progress.Progress("import", 100, stream)
        for _ in range(100):
            self.now += 0.01
            bar.add(1)
        bar.close()
        self.assertLessEqual(stream.getvalue().count("\r"), 12)
        self.assertTrue(stream.getvalue().endswith(f"\rimport [{'#' * 30}] 100%  100 events  100/s\x1b[K\n"))

    def test_a_log_gets_a_line_for_each_tenth(self):
        stream = io.StringIO()
        bar = progress.Progress("reload", 1_000_000, stream)
        self.now += 2
        for _ in range(4):
            bar.add(250_000)
        bar.close()
        self.assertEqual(
            stream.getvalue(),
            "reload  25%  250,000 events  125,000/s\n"
            "reload  50%  500,000 events  250,000/s\n"
            "reload  75%  750,000 events  375,000/s\n"
            "reload 100%  1,000,000 events  500,000/s\n",
        )
        self.assertNotIn("\r", stream.getvalue())

    def test_more_than_the_total_stays_at_a_hundred_percent(self):
        stream = io.StringIO()
        self.now += 1
        bar = progress.Progress("reload", 10, stream)
        self.now += 1
        bar.add(30)
        self.assertEqual(stream.getvalue(), "reload 100%  30 events  30/s\n")

    def test_nothing_to_do_is_no_division_by_zero(self):
        stream = Terminal()
        bar = progress.Progress("import", 0, stream)
        bar.add(0)
        bar.close()
        self.assertTrue(stream.getvalue().endswith(f"\rimport [{' ' * 30}]   0%  0 events  0/s\x1b[K\n"))


if __name__ == "__main__":
    unittest.main()
