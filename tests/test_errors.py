"""Text that is shown: nothing in it acts."""

import pytest

from atmviz.errors import describe, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("写真 café हिन्दी 🙂 × – [red]", "写真 café हिन्दी 🙂 × – [red]"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\x9b31m\x7f\0\r\n\t\b", r"\x9b31m\x7f\x00\r\n\t\x08"),
        ("a\u202egpj.exe\u2066\u200f", r"a\u202egpj.exe\u2066\u200f"),
        ("\udcff\ud800", r"\udcff\ud800"),
        ("\u2028\ufeff\U000e0041", r"\u2028\ufeff\U000e0041"),
    ],
)
def test_what_acts_or_has_no_sign_is_escaped(text, shown):
    assert printable(text) == shown


def test_no_sign_that_is_left_is_a_control():
    assert printable("".join(map(chr, range(0x110000)))).isprintable()


class Long:
    def __repr__(self):
        return "Long(\n  inside\n)"


@pytest.mark.parametrize("value", [Long(), [Long()], {"a": Long()}, "x" * 500, list(range(500)), ("a\nb",)])
def test_a_value_is_described_in_one_short_line(value):
    assert len(describe(value)) < 120
    assert describe(value).isprintable()
