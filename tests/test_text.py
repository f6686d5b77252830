"""A stranger's texts: cut, cleaned, and still told apart."""

from bilevelbench.store.text import MOST_NAME, MOST_TRACEBACK, apart, clean, lines, tidy


def test_a_text_is_cut_at_its_bound_and_not_before():
    assert clean("abc", 3) == "abc"
    assert clean("abcd", 3) == "ab…"
    assert clean("x" * (MOST_NAME + 1)) == "x" * (MOST_NAME - 1) + "…"
    assert clean("x" * MOST_NAME) == "x" * MOST_NAME


def test_what_is_not_printed_is_replaced():
    assert clean("a\tb\x00c\u202ed\ud800") == "a b\ufffdc\ufffdd\ufffd"


def test_of_several_lines_the_end_counts():
    assert lines("a\nb\x00") == "a\nb\ufffd"
    assert lines("abcde", 5) == "abcde"
    assert lines("abcdef", 5) == "…cdef"
    assert lines("x" * (MOST_TRACEBACK + 1)).startswith("…x")
    assert len(lines("x" * (MOST_TRACEBACK + 1), 100)) == 100


def test_a_header_is_cleaned_all_through():
    given = {"a\x00": ["b\x00", {"c": "d\x00"}], "n": [1.0, 2.0], "i": [1], "e": [], "k": 3}
    assert tidy(given) == {"a\ufffd": ["b\ufffd", {"c": "d\ufffd"}], "n": [1.0, 2.0], "i": [1], "e": [], "k": 3}


def test_what_is_different_is_shown_differently():
    shown = apart({"one": "abcdef", "two": "abcdeg", "three": "abc…", "four": "", "five": "ok"}, 4)
    assert shown["three"] == "abc…"  # what needs no change keeps its name
    assert shown["five"] == "ok"
    assert len({*shown.values()}) == 5
    assert all(shown.values())
    long = apart({"one": "x" * 400, "two": "x" * 401})
    assert len({*long.values()}) == 2
    assert max(map(len, long.values())) <= MOST_NAME
    assert len({*apart({"a": " x ", "b": "x"}).values()}) == 2
