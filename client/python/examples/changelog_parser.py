"""Reads Debian changelogs (Debian Policy, section 4.4) without losing a word of them.

Thirty years of hand-written files hold more than the format allows: headers without urgency, trailers without a date,
notes between the entries, whole changelogs of an older style at the end. The parser never refuses a file. Whatever does
not fit a field is kept as text in the entry that stands before it, so that `render` can give back every line.
"""

import datetime
import email.utils
import gzip
import pathlib
import re
from typing import Dict, List, Optional, Union

# The fields of an entry, all of them text but `distributions`, a list:
#   package, version, distributions, urgency   from the header line
#   changes                                    everything between header and trailer
#   maintainer, email, date                    from the trailer, as written
#   date_iso                                   the date in ISO 8601; empty where it cannot be understood
# and only where they say more than that:
#   before, rest                               text before the first header, text after the trailer
#   header, trailer                            the line itself, where it is not what the fields would make of it
Entry = Dict[str, Union[str, List[str]]]

_HEADER = re.compile(
    r"^(?P<package>[A-Za-z0-9][A-Za-z0-9+.-]*)[ \t]+\((?P<version>[^()\s]*[0-9][^()\s]*)\)"
    r"(?:(?P<distributions>(?:[ \t]+[A-Za-z0-9+.-]+)*)[ \t]*;(?P<keywords>.*)"  # since 1996
    r"|[ \t]*(?:[:-].*)?)$",  # before: `gmp (1.3.2-2) - dcs`, `binutils (2.7-3):`
    re.MULTILINE,
)
_TRAILER = re.compile(
    r"^[ \t]{0,2}--[ \t]*(?P<maintainer>[^<\n]*?)[ \t]*<(?P<email>[^>\n]*)>[ \t]*(?P<date>.*?)[ \t\r]*$", re.MULTILINE
)
_URGENCY = re.compile(r"urgency[ \t]*=[ \t]*([A-Za-z0-9-]+)", re.IGNORECASE)


def decode(data: bytes) -> str:
    """Returns the text of a file: UTF-8 as policy wants it, or Latin-1 as it was before (which every byte is)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_file(path: pathlib.Path) -> List[Entry]:
    """Returns the entries of a gzipped changelog, oldest first. Raises OSError or EOFError when it cannot be read."""
    with gzip.open(path) as file:
        return parse(decode(file.read()))


def parse(text: str) -> List[Entry]:
    """Returns the entries of a changelog, oldest first: the other way round than they are written.

    Text without any header is one entry without a package. Text without anything but blank lines has no entries.
    """
    headers = list(_HEADER.finditer(text))
    if not headers:
        return [_headless(text)] if text.strip() else []
    entries = []
    end = len(text)
    for header in reversed(headers):
        entries.append(_entry(text, header, end))
        end = header.start()
    before = _trim(text[:end])
    if before:
        entries[-1]["before"] = before
    return entries


def parse_date(date: str) -> Optional[datetime.datetime]:
    """Returns the date of a trailer, or None. It has no time zone when the trailer names none that is known."""
    try:
        return email.utils.parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def render(entries: List[Entry]) -> str:
    """Returns the text that `entries` were parsed from, but for the number of blank lines between its parts."""
    parts: List[str] = []
    for entry in reversed(entries):
        parts += [
            entry.get("before", ""),
            entry.get("header", _header_line(entry)) if entry["package"] else "",
            entry["changes"],
            entry.get("trailer", _trailer_line(entry) if entry["maintainer"] or entry["email"] else ""),
            entry.get("rest", ""),
        ]
    return "".join(part + "\n\n" for part in parts if part)


def _trim(text: str) -> str:
    """Drops blank lines before and after, and leaves every line as it is."""
    return re.sub(r"\A(?:[ \t\r]*\n)+|(?:\n[ \t\r]*)+\Z", "", text) if text.strip() else ""


def _header_line(entry: Entry) -> str:
    return f"{entry['package']} ({entry['version']}) {' '.join(entry['distributions'])}; urgency={entry['urgency']}"


def _trailer_line(entry: Entry) -> str:
    return f" -- {entry['maintainer']} <{entry['email']}>  {entry['date']}"


def _headless(text: str) -> Entry:
    return {
        "package": "",
        "version": "",
        "distributions": [],
        "urgency": "",
        "changes": _trim(text),
        "maintainer": "",
        "email": "",
        "date": "",
        "date_iso": "",
    }


def _entry(text: str, header: "re.Match[str]", end: int) -> Entry:
    trailer = _TRAILER.search(text, header.end(), end)
    urgency = _URGENCY.search(header["keywords"] or "")
    date = parse_date(trailer["date"]) if trailer else None
    entry: Entry = {
        "package": header["package"],
        "version": header["version"],
        "distributions": (header["distributions"] or "").split(),
        "urgency": urgency[1] if urgency else "",
        "changes": _trim(text[header.end() : trailer.start() if trailer else end]),
        "maintainer": trailer["maintainer"] if trailer else "",
        "email": trailer["email"] if trailer else "",
        "date": trailer["date"] if trailer else "",
        "date_iso": date.isoformat() if date else "",
    }
    if header[0] != _header_line(entry):
        entry["header"] = header[0]
    if trailer:
        if trailer[0] != _trailer_line(entry) or not (entry["maintainer"] or entry["email"]):
            entry["trailer"] = trailer[0]
        rest = _trim(text[trailer.end() : end])
        if rest:
            entry["rest"] = rest
    return entry
