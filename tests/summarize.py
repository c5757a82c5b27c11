"""Prints the result of `bazel test`; the last line is `N passed, M failed`.

Usage: summarize.py TESTS EVENTS STATUS

TESTS: file with the labels of all tests that were asked for, one a line. EVENTS: what bazel wrote for
--build_event_json_file. STATUS: bazel's exit code. The exit code is 0 only if something passed and nothing failed.

Whether a test program passed is Bazel's verdict alone. Its log only tells how many test cases it stands for.
"""

import json
import re
import sys
import urllib.parse

# The last lines of Catch2 (versions 2 and 3) and of Python's unittest.
CATCH_ALL_PASSED = re.compile(r"^All tests passed \(\d+ assertions? in (\d+) test cases?\)", re.MULTILINE)
CATCH_TOTALS = re.compile(r"^test cases: .*$", re.MULTILINE)
UNITTEST_TOTALS = re.compile(r"^Ran (\d+) tests? in .*\n\n(.*)$", re.MULTILINE)

# How much of a failed test's log is repeated at the end, where it is found even in a log that kept only its end.
TAIL_LINES = 60


def read_events(path):
    """Returns the summary of each test, by label. A run that was cut off leaves a cut-off last line."""
    summaries = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                if "testSummary" in event:
                    summaries[event["id"]["testSummary"]["label"]] = event["testSummary"]
    except (OSError, ValueError):
        pass
    return summaries


def log_path(summary):
    """Returns the path of a test's log (of a failed attempt, if there is one), or None."""
    for output in summary.get("failed", []) + summary.get("passed", []):
        uri = urllib.parse.urlparse(output["uri"])
        if uri.scheme == "file":
            return urllib.parse.unquote(uri.path)
    return None


def read_log(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read()
    except (OSError, TypeError):
        return ""


def last(pattern, text):
    """Returns the last match: earlier ones may be output of programs that the test ran."""
    match = None
    for match in pattern.finditer(text):
        pass
    return match


def add_up(pattern, text):
    return sum(map(int, re.findall(pattern, text)))


def count_cases(log):
    """Returns how many test cases passed and failed as the test program's log tells it, or None when it does not."""
    if match := last(CATCH_ALL_PASSED, log):
        return int(match[1]), 0
    if match := last(CATCH_TOTALS, log):
        return add_up(r"(\d+) (?:passed|failed as expected)", match[0]), add_up(r"(\d+) failed(?! as expected)", match[0])
    if match := last(UNITTEST_TOTALS, log):
        failed = add_up(r"(?:failures|errors)=(\d+)", match[2])
        return int(match[1]) - failed - add_up(r"skipped=(\d+)", match[2]), failed
    return None


def main(tests_path, events_path, status):
    with open(tests_path, encoding="utf-8") as lines:
        labels = lines.read().split()
    summaries = read_events(events_path)

    passed = failed = 0
    for label in labels:
        summary = summaries.get(label, {})
        verdict = summary.get("overallStatus", "NOT RUN")
        path = log_path(summary)
        counts = count_cases(read_log(path))
        if verdict in ("PASSED", "FLAKY"):
            passed += counts[0] if counts else 1
            continue
        # A crash or a timeout is at least one failure, whatever the log says.
        passed += counts[0] if counts else 0
        failed += max(counts[1], 1) if counts else 1
        print(f"\n{verdict}: {label}" + (f", see {path}" if path else ""))
        print(*read_log(path).splitlines()[-TAIL_LINES:], sep="\n")

    if status != 0 and failed == 0:
        print(f"bazel ended with exit code {status}")
        failed = 1
    print(f"test programs: {len(labels)}")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed > 0 and failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
