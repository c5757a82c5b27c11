"""Tests of the changelog parser, on what thirty years of changelogs hold."""

import pathlib
import random
import unittest

import changelog_parser
from changelog_parser import decode, parse, render

_TESTDATA = pathlib.Path(__file__).parent / "testdata"


def _lines(text):
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _read(name):
    return decode((_TESTDATA / name).read_bytes())


class WellFormedTest(unittest.TestCase):
    TEXT = (
        "foo (1.0-2) unstable; urgency=medium\n\n  * Second.\n\n"
        " -- Ann Example <ann@example.org>  Wed, 01 May 2024 12:34:56 +0200\n\n"
        "foo (1.0-1) stable stable-security; urgency=low\n\n  * First.\n    More of it.\n\n"
        " -- Bob Example <bob@example.org>  Tue, 30 Apr 2024 00:00:00 +0000\n"
    )

    def test_entries_come_oldest_first_with_all_fields(self):
        self.assertEqual(
            parse(self.TEXT),
            [
                {
                    "package": "foo",
                    "version": "1.0-1",
                    "distributions": ["stable", "stable-security"],
                    "urgency": "low",
                    "changes": "  * First.\n    More of it.",
                    "maintainer": "Bob Example",
                    "email": "bob@example.org",
                    "date": "Tue, 30 Apr 2024 00:00:00 +0000",
                    "date_iso": "2024-04-30T00:00:00+00:00",
                },
                {
                    "package": "foo",
                    "version": "1.0-2",
                    "distributions": ["unstable"],
                    "urgency": "medium",
                    "changes": "  * Second.",
                    "maintainer": "Ann Example",
                    "email": "ann@example.org",
                    "date": "Wed, 01 May 2024 12:34:56 +0200",
                    "date_iso": "2024-05-01T12:34:56+02:00",
                },
            ],
        )

    def test_rendering_gives_the_text_back(self):
        self.assertEqual(_lines(render(parse(self.TEXT))), _lines(self.TEXT))


class NastyTest(unittest.TestCase):
    def setUp(self):
        self.text = _read("nasty.changelog")
        self.entries = {entry["version"]: entry for entry in parse(self.text)}

    def test_no_line_is_lost(self):
        self.assertEqual(_lines(render(parse(self.text))), _lines(self.text))

    def test_each_header_makes_an_entry(self):
        self.assertEqual(
            list(self.entries), ["3.6-1", "3.7-1", "3.8-1", "3.9-1", "3.9-2", "2:4.0~rc1+dfsg-1.1"]
        )

    def test_names_that_are_not_ascii_survive(self):
        entry = self.entries["2:4.0~rc1+dfsg-1.1"]
        self.assertEqual(entry["maintainer"], "Żółć Gęślą-Jaźń")
        self.assertIn("🦉, combining é, Thai ไทย", entry["changes"])
        self.assertEqual(entry["before"], "# This line stands before the first header.")
        self.assertEqual(entry["distributions"], ["unstable", "experimental"])
        self.assertEqual(entry["urgency"], "medium")

    def test_an_entry_without_trailer_ends_at_the_next_header(self):
        entry = self.entries["3.9-2"]
        self.assertEqual(entry["changes"], "  * The trailer of this entry is missing.")
        self.assertEqual((entry["maintainer"], entry["email"], entry["date_iso"]), ("", "", ""))
        self.assertEqual(entry["urgency"], "HIGH")

    def test_indented_dashes_are_no_trailer(self):
        entry = self.entries["3.9-1"]
        self.assertIn("    -- this is no trailer", entry["changes"])
        self.assertEqual(entry["maintainer"], "O'Brien, \"Bob\"")

    def test_a_date_that_does_not_exist_is_kept_as_written(self):
        entry = self.entries["3.9-1"]
        self.assertEqual((entry["date"], entry["date_iso"]), ("Sat, 30 Feb 2019 10:00:00 +0000", ""))

    def test_a_remark_on_the_urgency_is_kept(self):
        entry = self.entries["3.9-1"]
        self.assertEqual(entry["urgency"], "low")
        self.assertEqual(entry["header"], "c++-tools (3.9-1) unstable; urgency=low (HIGH for m68k)")

    def test_text_after_a_trailer_stays_with_its_entry(self):
        self.assertEqual(self.entries["3.8-1"]["rest"], " A note after the trailer, which belongs to nobody.")
        self.assertIn("GNU style of before", self.entries["3.6-1"]["rest"])

    def test_dates_with_full_month_names_and_named_zones_are_understood(self):
        self.assertEqual(self.entries["3.6-1"]["date_iso"], "1998-02-23T13:10:00-07:00")

    def test_headers_of_the_old_style_have_no_distribution(self):
        for version in ("3.7-1", "3.6-1"):
            self.assertEqual(self.entries[version]["distributions"], [])
            self.assertEqual(self.entries[version]["urgency"], "")


class EncodingTest(unittest.TestCase):
    def test_latin_1_is_read_where_utf_8_is_not(self):
        (entry,) = parse(_read("latin1.changelog"))
        self.assertEqual(entry["maintainer"], "Jörg Müller")
        self.assertEqual(entry["changes"], "  * Grüße.")
        self.assertEqual(entry["before"], "café ")

    def test_a_date_that_names_no_zone_has_none(self):
        (entry,) = parse(_read("latin1.changelog"))
        self.assertEqual(entry["date_iso"], "1998-02-03T04:05:06")

    def test_line_ends_of_other_systems_do_not_matter(self):
        text = _read("crlf.changelog")
        (entry,) = parse(text)
        self.assertEqual((entry["version"], entry["email"]), ("1.0-1", "a@example.org"))
        self.assertEqual(entry["date_iso"], "1998-02-03T04:05:06+00:00")
        self.assertEqual(_lines(render([entry])), _lines(text))


class OddFilesTest(unittest.TestCase):
    def test_a_file_without_any_header_is_one_entry(self):
        (entry,) = parse("\nJust a note.\n\nAnd another.\n")
        self.assertEqual(entry["changes"], "Just a note.\n\nAnd another.")
        self.assertEqual(entry["package"], "")

    def test_a_blank_file_has_no_entries(self):
        for text in ("", "\n", "  \n\t\n"):
            self.assertEqual(parse(text), [])

    def test_an_empty_trailer_is_kept(self):
        text = "foo (1) unstable; urgency=low\n\n -- <>  someday\n"
        self.assertEqual(_lines(render(parse(text))), _lines(text))

    def test_dates_never_raise(self):
        for date in ("", "x", "Mon, 99 Foo 2024 99:99:99 +9999", "Tue, 01 Jan 99999 00:00:00 +0000", ",,,", "\0"):
            self.assertIsNone(changelog_parser.parse_date(date), date)

    def test_whatever_the_lines_are_and_in_whatever_order_none_is_lost(self):
        lines = _read("nasty.changelog").split("\n")
        lines += ["", "foo (1)", "foo (1) a b;", " -- <>", "--", ")(", "\f", "\x85"]
        seed = 20240501
        chance = random.Random(seed)
        for round_number in range(500):
            text = "\n".join(chance.choice(lines) for _ in range(chance.randrange(40)))
            with self.subTest(seed=seed, round=round_number):
                self.assertEqual(_lines(render(parse(text))), _lines(text))


if __name__ == "__main__":
    unittest.main()
