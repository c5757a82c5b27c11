#!/usr/bin/python3
"""Puts the history of every Debian package of this machine into persistd, and proves that it comes back unchanged.

Each /usr/share/doc/<name>/changelog.Debian.gz becomes the aggregate debian.package.<name>: each changelog entry is an
event `uploaded`, oldest first, and the state says what the last upload was. The events are saved in steps of varying
size, each on the exact version that the step before made. Then everything is loaded again and compared field by field,
with the files and with what the saves answered: ids, positions, metadata. (With --verify-only there are no answers.)

The ids of the saves follow from their content: run it again, after a crash or just so, and what is stored is recognised
and stored only once. Exits with 1 when anything differs from the files.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import hashlib
import pathlib
import random
import sys
import threading
import time
import uuid
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from google.protobuf import json_format

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import persistd  # noqa: E402, found through the line above
from changelog_parser import Entry, read_file  # noqa: E402
from progress import Progress  # noqa: E402

_SIZES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 100)
_MAX_ACTOR_BYTES = 256
_REQUEST_SHARE = 0.75  # of the server's limit, so that the rest of the request fits in any case
_STATE_ATTEMPTS = 10
_SHOWN_DIFFERENCES = 3  # of one package
_SHOWN_PROBLEMS = 20
_CONTENT_TYPE = "application/json"


@dataclasses.dataclass(frozen=True)
class Package:
    """The changelog of one package, oldest entry first."""

    name: str
    entries: Sequence[Entry]


@dataclasses.dataclass
class Outcome:
    """What was done, and what went wrong. Outcomes add up."""

    events: int = 0
    saves: int = 0
    deduplicated: int = 0  # saves that an earlier run had stored
    resumed: int = 0  # events that another cut of the same history had stored
    problems: List[str] = dataclasses.field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Adds what another outcome counted."""
        self.events += other.events
        self.saves += other.saves
        self.deduplicated += other.deduplicated
        self.resumed += other.resumed
        self.problems += other.problems


@dataclasses.dataclass(frozen=True)
class SavedEvent:
    """What a save answered about one of its events."""

    event_id: str
    commit_id: str
    position: str
    cid: str


@dataclasses.dataclass
class Answers:
    """What the saves of one package answered."""

    events: Dict[int, SavedEvent] = dataclasses.field(default_factory=dict)  # By version; without resumed ones.
    metadata: Optional[persistd.types_pb2.AggregateMetadata] = None  # After the last save.


def read_packages(doc_dir: pathlib.Path, limit: Optional[int]) -> Tuple[List[Package], List[str]]:
    """Returns the packages below `doc_dir` that have a changelog, by name, and what could not be read."""
    packages, problems = [], []
    for path in sorted(doc_dir.glob("*/changelog.Debian.gz"))[:limit]:
        try:
            entries = read_file(path)
        except (OSError, EOFError) as error:
            problems.append(f"{path}: cannot be read: {error}")
            continue
        if entries:
            packages.append(Package(path.parent.name, entries))
    return packages, problems


def state_after(package: Package, version: int) -> Dict[str, Any]:
    """Returns the state of a package after its first `version` entries."""
    first, last = package.entries[0], package.entries[version - 1]
    return {
        "package": package.name,
        "last_version": last["version"],
        "last_uploader": last["maintainer"],
        "uploads": version,
        "first_date": first["date_iso"],
        "last_date": last["date_iso"],
    }


def actor_of(entry: Entry) -> str:
    """Returns `Name <mail>` as an event's actor may be: one line of at most 256 bytes."""
    if not entry["maintainer"] and not entry["email"]:
        return ""
    text = f"{entry['maintainer']} <{entry['email']}>".strip()
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return text.encode()[:_MAX_ACTOR_BYTES].decode(errors="ignore")


def time_of(entry: Entry) -> Optional[datetime.datetime]:
    """Returns when the upload happened; a date without a known time zone counts as UTC."""
    if not entry["date_iso"]:
        return None
    date = datetime.datetime.fromisoformat(entry["date_iso"])
    return date if date.tzinfo else date.replace(tzinfo=datetime.timezone.utc)


class Archive:
    """The packages in one store, and what their saves answered. Threads may share it, each with packages of its own."""

    def __init__(self, client: persistd.Client, prefix: str = "", seed: int = 1):
        """`prefix` is put before each entity id; `seed` chooses the sizes of the saves."""
        self._client = client
        self._prefix = prefix
        self._seed = seed
        self._answers: Dict[str, Answers] = {}
        info = client.server_info()
        self._max_event_bytes = info.max_event_bytes
        self._max_save_bytes = int(info.max_request_bytes * _REQUEST_SHARE)

    def save(self, package: Package, on_saved: Callable[[int], None]) -> Outcome:
        """Saves all entries of a package. Calls `on_saved` with the number of events after each save."""
        ref = self._ref(package)
        payloads = [persistd.json_bytes(entry) for entry in package.entries]
        outcome = Outcome()
        for entry, payload in zip(package.entries, payloads):
            if len(payload) > self._max_event_bytes:
                outcome.problems.append(
                    f"{package.name} {entry['version']}: {len(payload)} bytes, the server takes {self._max_event_bytes}"
                )
        if outcome.problems:
            return outcome
        answers = self._answers[package.name] = Answers()
        version = 0
        for end in self._steps(package.name, [len(payload) for payload in payloads]):
            while version < end:
                try:
                    response = self._save_step(ref, package, payloads, version, end)
                except persistd.VersionConflict as conflict:
                    # Other saves than these made those versions, say of a changelog that has grown since. What they
                    # hold is compared later anyway.
                    if not version < conflict.actual <= len(payloads):
                        outcome.problems.append(f"{package.name}: {conflict}")
                        return outcome
                    outcome.resumed += conflict.actual - version
                    on_saved(conflict.actual - version)
                    version = conflict.actual
                    answers.metadata = None
                    continue
                outcome.problems += _note_answer(answers, package.name, response, version, end)
                outcome.saves += 1
                outcome.deduplicated += response.deduplicated
                outcome.events += end - version
                on_saved(end - version)
                version = end
        return outcome

    def verify(self, package: Package, on_compared: Callable[[int], None]) -> Outcome:
        """Loads a package again and compares every field. Calls `on_compared` with the number of events as it goes."""
        ref = self._ref(package)
        answers = self._answers.get(package.name, Answers())
        outcome = Outcome()
        differences = outcome.problems
        try:
            for recorded in self._client.history(ref):
                outcome.events += 1
                if outcome.events > len(package.entries):
                    differences.append(f"{package.name}: more events than the {len(package.entries)} of the changelog")
                    break
                entry = package.entries[outcome.events - 1]
                saved = answers.events.get(outcome.events)
                differences += _compare_event(package.name, entry, recorded, ref, outcome.events, saved)
                if len(differences) >= _SHOWN_DIFFERENCES:
                    return outcome
                if outcome.events % 100 == 0:
                    on_compared(100)
            on_compared(outcome.events % 100)
            if outcome.events < len(package.entries):
                differences.append(f"{package.name}: {outcome.events} events, the changelog has {len(package.entries)}")
            differences += _compare_state(package, ref, self._client.load(ref), answers.metadata)
        except persistd.NotFound:
            differences.append(f"{package.name}: is not in the store")
        return outcome

    def _ref(self, package: Package) -> persistd.types_pb2.AggregateRef:
        return persistd.ref("debian", "package", self._prefix + package.name)

    def _steps(self, name: str, sizes: Sequence[int]) -> Iterator[int]:
        """Yields the versions at which saves end: chosen by the seed, within the server's limit on a request."""
        chance = random.Random(f"{self._seed}/{name}")
        end = 0
        while end < len(sizes):
            start, step_bytes = end, 0
            for _ in range(chance.choice(_SIZES)):
                if end == len(sizes) or (end > start and step_bytes + sizes[end] > self._max_save_bytes):
                    break
                step_bytes += sizes[end]
                end += 1
            yield end

    def _save_step(
        self, ref: persistd.types_pb2.AggregateRef, package: Package, payloads: Sequence[bytes], version: int, end: int
    ) -> persistd.aggregates_pb2.SaveResponse:
        digest = hashlib.sha256(f"{ref.entity_id}/{version}/{end}\n".encode())
        for payload in payloads[version:end]:
            digest.update(payload)
        request_id = str(uuid.UUID(bytes=digest.digest()[:16], version=5))
        events = [
            persistd.event(
                "uploaded",
                persistd.types_pb2.Payload(content_type=_CONTENT_TYPE, data=payloads[index]),
                event_id=f"{request_id}-{index - version}",
                time=time_of(package.entries[index]),
                actor=actor_of(package.entries[index]),
            )
            for index in range(version, end)
        ]
        for attempt in range(_STATE_ATTEMPTS):
            response = self._client.save(
                ref, events, expected_version=version, state=state_after(package, end), request_id=request_id
            )
            if response.state_result != persistd.aggregates_pb2.STATE_RESULT_PENDING:
                break
            time.sleep(0.1 * (attempt + 1))  # The events are stored; repeating the save writes the state.
        return response


def _note_answer(
    answers: Answers, name: str, response: persistd.aggregates_pb2.SaveResponse, version: int, end: int
) -> List[str]:
    """Keeps what the save of the versions after `version` up to `end` answered. Returns what is wrong with it."""
    for event in response.events:
        answers.events[event.version] = SavedEvent(event.event_id, response.commit_id, event.position.token, event.cid)
    answers.metadata = response.metadata
    wanted = {"(versions)": list(range(version + 1, end + 1)), "(version)": end}
    found = {"(versions)": [event.version for event in response.events], "(version)": response.metadata.version}
    return _differences(f"{name} save of {version + 1} to {end}", wanted, found)


def _bracketed(prefix: str, message: Any) -> Dict[str, Any]:
    """Returns the fields of a message that are set; in brackets, so that none is mistaken for a field of an entry."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {f"({prefix}{name})": value for name, value in fields.items()}


def _fields(payload: persistd.types_pb2.Payload) -> Dict[str, Any]:
    try:
        fields = persistd.from_payload(payload)
    except ValueError:
        fields = payload.data
    return fields if isinstance(fields, dict) else {"(payload)": fields}


def _compare_event(
    name: str,
    entry: Entry,
    recorded: persistd.types_pb2.RecordedEvent,
    ref: persistd.types_pb2.AggregateRef,
    version: int,
    saved: Optional[SavedEvent],
) -> List[str]:
    # An upload without a date got the time of its import, which the file cannot tell.
    when = time_of(entry)
    wanted = {
        **entry,
        "(ref)": ref,
        "(version)": version,
        "(type)": "uploaded",
        "(schema version)": 1,
        "(content type)": _CONTENT_TYPE,
        **_bracketed("", persistd.types_pb2.EventMetadata(actor=actor_of(entry))),
        "(time)": when.timestamp() if when else None,
    }
    found = {
        **_fields(recorded.payload),
        "(ref)": recorded.ref,
        "(version)": recorded.version,
        "(type)": recorded.type,
        "(schema version)": recorded.schema_version,
        "(content type)": recorded.payload.content_type,
        **_bracketed("", recorded.metadata),
        "(time)": recorded.time.seconds + recorded.time.nanos / 1e9 if when else None,
    }
    if saved:
        wanted.update({f"({field})": value for field, value in dataclasses.asdict(saved).items()})
        found.update(
            {
                "(event_id)": recorded.event_id,
                "(commit_id)": recorded.commit_id,
                "(position)": recorded.position.token,
                "(cid)": recorded.cid,
            }
        )
    return [] if found == wanted else _differences(f"{name} event {version}", wanted, found)


def _compare_state(
    package: Package,
    ref: persistd.types_pb2.AggregateRef,
    loaded: persistd.aggregates_pb2.LoadResponse,
    answered: Optional[persistd.types_pb2.AggregateMetadata],
) -> List[str]:
    version = len(package.entries)
    wanted = {
        **state_after(package, version),
        "(ref)": ref,
        "(version)": version,
        "(content type)": _CONTENT_TYPE,
        "(schema version)": 1,
        "(state version)": version,
        "(events after it)": 0,
    }
    found = {
        "(ref)": loaded.metadata.ref,
        "(version)": loaded.metadata.version,
        "(events after it)": len(loaded.events),
    }
    if loaded.HasField("state"):
        found.update(_fields(loaded.state.payload))
        found["(content type)"] = loaded.state.payload.content_type
        found["(schema version)"] = loaded.state.schema_version
        found["(state version)"] = loaded.state.version
    if answered:
        wanted.update(_bracketed("metadata ", answered))
        found.update(_bracketed("metadata ", loaded.metadata))
    return [] if found == wanted else _differences(f"{package.name} state", wanted, found)


def _differences(what: str, wanted: Dict[str, Any], found: Dict[str, Any]) -> List[str]:
    return [
        f"{what}: {field} is {found.get(field)!r}, should be {wanted.get(field)!r}"
        for field in sorted(wanted.keys() | found.keys())
        if found.get(field) != wanted.get(field) or (field in found) != (field in wanted)
    ]


def run(
    work: Callable[[Package, Callable[[int], None]], Outcome],
    packages: Sequence[Package],
    workers: int,
    progress: Callable[[int], None],
) -> Outcome:
    """Does `work` on all packages with that many threads; the long ones first, so that none is left for the end."""
    total, stop = Outcome(), threading.Event()

    def one(package: Package) -> Outcome:
        if stop.is_set():
            return Outcome()
        try:
            return work(package, progress)
        except persistd.PersistdError as error:
            return Outcome(problems=[f"{package.name}: {error}"])

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        try:
            for outcome in pool.map(one, sorted(packages, key=lambda package: -len(package.entries))):
                total.add(outcome)
        finally:
            stop.set()
    return total


def report(what: str, packages: Sequence[Package], outcome: Outcome, seconds: float) -> None:
    """Prints the summary line of a phase."""
    rate = outcome.events / max(seconds, 1e-9)
    line = f"{what}: {len(packages)} aggregates, {outcome.events} events, {seconds:.2f} s, {rate:.0f} events/s"
    if outcome.saves or outcome.resumed:
        line += f", {outcome.saves} saves ({outcome.deduplicated} deduplicated), {outcome.resumed} events resumed"
    print(f"{line}, {len(outcome.problems)} problems", flush=True)


def parse_arguments(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """Reads the command line."""

    def positive(text: str) -> int:
        number = int(text)
        if number < 1:
            raise argparse.ArgumentTypeError("must be at least 1")
        return number

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--address", default="127.0.0.1:7443", help="the daemon (default: %(default)s)")
    add("--timeout", type=float, default=60, help="seconds for each call with its retries (default: %(default)s)")
    add("--limit", type=positive, metavar="N", help="only the first N packages by name")
    add("--workers", type=positive, default=8, help="threads (default: %(default)s)")
    add("--prefix", default="", help="put before each entity id, for another import into the same store")
    add("--seed", type=int, default=1, help="chooses the sizes of the saves (default: %(default)s)")
    add("--verify-only", action="store_true", help="only load and compare")
    add("--doc-dir", type=pathlib.Path, default=pathlib.Path("/usr/share/doc"), help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Imports and verifies; returns the exit code."""
    options = parse_arguments(arguments)
    packages, problems = read_packages(options.doc_dir, options.limit)
    if not packages:
        problems.append(f"{options.doc_dir}: no package has a changelog.Debian.gz with entries")
    total = sum(len(package.entries) for package in packages)
    print(f"read: {len(packages)} packages, {total} changelog entries", flush=True)
    try:
        with persistd.Client(options.address, options.timeout) as client:
            archive = Archive(client, options.prefix, options.seed)
            phases = [("import", archive.save), ("reload", archive.verify)]
            for what, work in phases[options.verify_only :]:
                progress = Progress(what, total)
                started = time.monotonic()
                outcome = run(work, packages, options.workers, progress.add)
                progress.close()
                report(what, packages, outcome, time.monotonic() - started)
                problems += outcome.problems
    except persistd.PersistdError as error:
        problems.append(f"{options.address}: {error}")
    for problem in problems[:_SHOWN_PROBLEMS]:
        print(problem, file=sys.stderr)
    if len(problems) > _SHOWN_PROBLEMS:
        print(f"... and {len(problems) - _SHOWN_PROBLEMS} more", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
