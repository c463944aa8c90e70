from __future__ import annotations

import pytest

from profiler_service.printable import file_name, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rack[/gpu]", "rack[/gpu]"),
        ("µs · 1 024 → ü 日本 🙂", "µs · 1 024 → ü 日本 🙂"),
        ("no\u00a0break", "no\u00a0break"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]8;;http://evil\x07link", r"\x1b]8;;http://evil\x07link"),
        ("\x9b2J", r"\x9b2J"),
        ("a\nerror: b\r\tc\x00\x7f", r"a\nerror: b\r\tc\x00\x7f"),
        ("\u2028\u2029\x85", r"\u2028\u2029\x85"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u200bhidden\ufeff", r"\u200bhidden\ufeff"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_characters_that_a_terminal_obeys_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("matmul-c7", "matmul-c7"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a b\n\x1b[31m$(x)`", "a_b_31m_x_"),
        ("C:\\x", "C_x"),
        ("ü", "_"),
        ("", "_"),
        ("a" * 500, "a" * 80),
    ],
)
def test_a_files_name_stays_in_its_directory(text: str, name: str) -> None:
    assert file_name(text) == name
