"""Logged lines become a few kinds of errors; what is no error is left out."""

from __future__ import annotations

import json

from metering.operations.logged_errors import LoggedLine, grouped


def line(text: str, at_ms: int = 1_000, *, function: str = "watch", request_id: str = "") -> LoggedLine:
    return LoggedLine(function=function, at_ms=at_ms, text=text, request_id=request_id)


def logged(**fields: object) -> str:
    return json.dumps({"level": "ERROR", "location": "handle:1", "service": "watch", **fields})


def test_errors_that_differ_by_ids_and_numbers_are_one_kind_and_the_newest_is_shown() -> None:
    lines = [
        line("[ERROR] ThrottledError: request 4f0c8b6a-1111-2222-3333-444455556666 after 3 tries\nTraceback", 1_000),
        line("[ERROR] ThrottledError: request 4f0c8b6a-9999-2222-3333-444455556666 after 12 tries\nTraceback", 5_000,
             request_id="r-2"),
    ]  # fmt: skip
    [error] = grouped(lines)
    assert error.text == "ThrottledError: request 4f0c8b6a-9999-2222-3333-444455556666 after 12 tries"
    assert (error.count, error.first_ms, error.last_ms, error.request_id) == (2, 1_000, 5_000, "r-2")


def test_the_kind_that_was_logged_last_comes_first_and_functions_stay_apart() -> None:
    lines = [line("[ERROR] A", 1), line("[ERROR] B", 3), line("[ERROR] A", 2, function="canary")]
    assert [(each.function, each.text) for each in grouped(lines)] == [("watch", "B"), ("canary", "A"), ("watch", "A")]


def test_a_line_of_the_logger_is_an_error_by_its_level_alone() -> None:
    assert grouped([line(logged(level="INFO", message="an ERROR in its text"))]) == []
    [error] = grouped([line(logged(message="ledger corrupt", contradictions=["C#1"], version="0.2.0"))])
    assert error.text == 'ledger corrupt {"contradictions": ["C#1"]}'
    assert error.version == "0.2.0"


def test_an_exception_that_was_logged_is_told_by_its_last_line() -> None:
    [error] = grouped([line(logged(message="failed", exception="Traceback …\n  File …\nValueError: no"))])
    assert error.text == "failed: ValueError: no"


def test_a_timeout_is_one_kind_whatever_its_time_and_request() -> None:
    text = "2026-11-25T10:00:0{}.123Z 4f0c8b6a-1111-2222-3333-44445555666{} Task timed out after 60.00 seconds"
    [error] = grouped([line(text.format(1, 1)), line(text.format(2, 2))])
    assert (error.text, error.count) == ("Task timed out after 60.00 seconds", 2)


def test_what_only_looks_like_json_is_shown_as_it_is() -> None:
    [error] = grouped([line('{"level":"ERROR", cut')])
    assert error.text == '{"level":"ERROR", cut'
