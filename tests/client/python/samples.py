"""Makes folders that look like /usr/share/doc, for the tests of the changelog example."""

import gzip
import pathlib
import random
from typing import List

_TESTDATA = pathlib.Path(__file__).parent / "testdata"
_REAL = pathlib.Path("/usr/share/doc")
_MAX_REAL_BYTES = 20_000  # compressed; a few hundred entries at most
_NAMES = ("Żółć Gęślą-Jaźń", "Jörg Müller", "Đặng Thị Hoa", "李小龍", "О. Бендер", "Ann O'Example", "🦉")
_WORDS = ("fix", "naïve", "№", "ταχύς", "\\n", '"quoted"', "tab\there", "ไทย", "(Closes: #1)", "=3D", "%s", "\u2028")


def add(doc_dir: pathlib.Path, name: str, data: bytes) -> None:
    """Adds a package with this changelog."""
    folder = doc_dir / name
    folder.mkdir(parents=True)
    (folder / "changelog.Debian.gz").write_bytes(gzip.compress(data, mtime=0))


def synthetic(name: str, entries: int, seed: int) -> str:
    """Returns a changelog with names and words from many scripts; the same for the same seed."""
    chance = random.Random(f"{seed}/{name}")
    parts = []
    for number in range(entries, 0, -1):
        lines = [" ".join(chance.choices(_WORDS, k=chance.randrange(1, 40))) for _ in range(chance.randrange(1, 8))]
        changes = "\n".join(f"  * {line}" for line in lines)
        maintainer = chance.choice(_NAMES)
        date = f"Mon, {1 + number % 28:02} Mar {1995 + number % 30} {number % 24:02}:07:09 +0530"
        parts.append(
            f"{name} (1:{number}.0-{chance.randrange(1, 9)}) unstable; urgency=medium\n\n{changes}\n\n"
            f" -- {maintainer} <m{number}@example.org>  {date}\n\n"
        )
    return "".join(parts)


def make(doc_dir: pathlib.Path, packages: int, seed: int = 1) -> List[str]:
    """Fills `doc_dir` with that many packages: nasty and synthetic ones, and real ones of this machine.

    Where the machine has too few (small images leave /usr/share/doc out), synthetic ones take their place.
    """
    for path in sorted(_TESTDATA.glob("*.changelog")):
        add(doc_dir, path.stem, path.read_bytes())
    add(doc_dir, "libnames1.0-c++", synthetic("libnames", 250, seed).encode())
    names = [path.name for path in doc_dir.iterdir()]
    real = [
        path
        for path in sorted(_REAL.glob("*/changelog.Debian.gz"))
        if path.is_file() and path.stat().st_size <= _MAX_REAL_BYTES and path.parent.name not in names
    ]
    random.Random(seed).shuffle(real)
    for path in real[: packages - len(names)]:
        add(doc_dir, path.parent.name, gzip.decompress(path.read_bytes()))
        names.append(path.parent.name)
    while len(names) < packages:
        name = f"synthetic-{len(names)}"
        add(doc_dir, name, synthetic(name, 10 + len(names), seed).encode())
        names.append(name)
    return sorted(names)
