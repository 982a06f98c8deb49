from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.intake.json_values import (
    MAX_DEPTH,
    DepthError,
    JsonError,
    ascii_json,
    canonical_json,
    canonical_number,
    int64_of,
    parse_json,
    readable_number,
)


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (["1000", "1e3", "1000.0", "0.1e4", "1E+3", "1000000e-3"], "1000"),
        (["0", "-0", "0.0", "0e9", "-0.00E-5"], "0"),
        (["1.5", "15e-1", "0.15e1", "1.50"], "15e-1"),
        (["1e400"], "1e400"),
        (["9007199254740993.0"], "9007199254740993"),
        (["NaN"], "NaN"),
    ],
)
def test_a_number_has_one_canonical_text(texts: list[str], canonical: str) -> None:
    assert {canonical_number(text) for text in texts} == {canonical}


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_canonical_numbers_are_equal_just_when_their_values_are(one: Decimal, other: Decimal) -> None:
    assert (canonical_number(f"{one:E}") == canonical_number(f"{other:E}")) == (one == other)
    assert canonical_number(f"{one:E}") == canonical_number(f"{one:f}")


def test_numbers_with_absurd_exponents_cost_nothing() -> None:
    for text in ("1e" + "9" * 500_000, "1" * 500_000, "0." + "0" * 500_000 + "1", "1e999999999999"):
        assert int64_of(canonical_number(text)) is None


def test_only_whole_numbers_of_64_bits_are_integers() -> None:
    assert int64_of("9223372036854775807") == 2**63 - 1
    assert int64_of("-9223372036854775808") == -(2**63)
    assert int64_of("9223372036854775808") is None
    assert int64_of("15e-1") is None
    assert int64_of("NaN") is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_canonical_json_is_the_same_value(value: object) -> None:
    canonical = canonical_json(parse_json(json.dumps(value, indent=1)))
    assert json.loads(canonical) == value
    assert canonical.isascii()


def test_nesting_has_a_fixed_limit_and_brackets_in_strings_are_none() -> None:
    parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    parse_json(json.dumps("[" * 500 + '\\"{' * 500))
    for deep in ("[" * 101 + "]" * 101, "[" * 500_000, '{"a":' * 100_000, '"' + '\\"' * 300_000 + "[" * 200):
        with pytest.raises(JsonError):
            parse_json(deep)
    with pytest.raises(DepthError):
        parse_json("[" * 101 + "]" * 101)


def test_of_keys_that_come_twice_the_last_counts() -> None:
    assert parse_json('{"a":1,"a":2}') == {"a": "2"}


@pytest.mark.parametrize("text", ["", "{", "01", "'a'", '{"a":}', "[1,]", "\ufeff{}", '"\n"', "nul", "{} {}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(JsonError):
        parse_json(text)


def test_evidence_is_printable_ascii_and_still_the_same_json() -> None:
    text = '{"a":\t"é\u202e\U0001f600\x7f"}'
    safe = ascii_json(text)
    assert safe.isascii()
    assert safe.isprintable()
    assert json.loads(safe) == json.loads(text)
    assert ascii_json("\x1b[31m\ud800") == "\\u001b[31m\\ud800"


@pytest.mark.parametrize(("text", "shown"), [
    ("12.5", "12.5"), ("-0.001", "-0.001"), ("1.50", "1.5"), ("7", "7"), ("1e3", "1000"), ("NaN", "NaN"),
    ('"12.5"', '"12.5"'), ("1e-9999", "1e-9999"), ("1.5e300", "15e299"), ("-5e-2", "-0.05"),
])  # fmt: skip
def test_a_number_is_shown_as_people_write_it(text: str, shown: str) -> None:
    assert readable_number(canonical_number(text)) == shown


@given(st.decimals(places=6, allow_nan=False, allow_infinity=False))
def test_a_number_is_shown_with_its_value(value: Decimal) -> None:
    assert Decimal(readable_number(canonical_number(f"{value:E}"))) == value
