import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclip_jax.errors import UserError, say, tell
from fsclip_jax.printable import escaped, printable, printable_tree, unescaped

# Any character, and often those that matter: escapes, what is escaped, and backslashes.
ANY = st.characters(exclude_categories=())
ODD = st.sampled_from(
    ["\\", "x", "0", "d", "u2028", "\r", "\x1b[31m", "\udce9", "\u202e", "\ufeff"]
)
TEXT = st.lists(ANY | ODD, max_size=12).map("".join)
XML = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


@given(TEXT)
def test_what_is_written_is_utf8_in_one_line_and_may_stand_in_xml(text):
    written = printable(text)
    written.encode("utf-8")
    assert len(written.splitlines()) <= 1
    assert XML.fullmatch(written)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]", written)
    assert printable(written) == written


@given(TEXT)
def test_an_escaped_name_is_found_again(text):
    assert printable(escaped(text)) == escaped(text)
    assert unescaped(escaped(text)) == text


@given(TEXT, TEXT)
def test_two_names_are_never_written_alike(one, other):
    assert (escaped(one) == escaped(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["hot dog", "Käse/été.jpg", "日本.png", "a\\b", "👩\u200d🚀", "x\u00a0y"]
)
def test_names_that_can_be_printed_stay_as_they_are(name):
    assert printable(name) == escaped(name) == unescaped(name) == name


def test_a_tree_has_its_fields_and_values_made_printable():
    assert printable_tree({"a\r": ["\udcff", 1, None, ("\x1b",)]}) == {
        "a\\x0d": ["\\xff", 1, None, ["\\x1b"]]
    }


def test_errors_and_lines_are_printable(capsys):
    error = UserError("no file \x1b[31mcaf\udce9\r\nhere")
    say("wrote \x1b[2J")
    tell(["passed over \u202egpj.\udce9"])
    out, err = capsys.readouterr()
    assert str(error) == "no file \\x1b[31mcaf\\xe9 here"
    assert (out, err) == ("wrote \\x1b[2J\n", "note: passed over \\u202egpj.\\xe9\n")
