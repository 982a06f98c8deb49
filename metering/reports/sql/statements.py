"""Statements as people write them, and what DuckDB says of the wrong ones."""

from __future__ import annotations

import re

import duckdb

from metering.errors import OperationFailedError

# These quote the statement and the names of the views, but no data.
_OF_THE_STATEMENT = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
# The end of a message: the line of the statement, and a caret below the place.
_PLACE = re.compile(r"\n\nLINE \d+: [^\n]*\n *\^+\s*\Z")
_UNKNOWN_NAME = re.compile(r"Referenced (column|table)|Table with name|does not have a column|No matching columns")
_NAMES = 'The views are transfers and usage. To see the columns of one: metering query "DESCRIBE transfers".'


class QueryError(OperationFailedError):
    """DuckDB refuses a query. The message has the lines that DuckDB prints; data in it stays in its line."""


def refusal(error: duckdb.Error) -> QueryError:
    """DuckDB's error as one of ours; it advises about names only where a name is wrong."""
    text = str(error)
    if isinstance(error, _OF_THE_STATEMENT):
        return QueryError(text, _NAMES if _UNKNOWN_NAME.search(text.partition("LINE ")[0]) else "")
    place = _PLACE.search(text)
    head, end = (text, "") if place is None else (text[: place.start()], place[0])
    # A value that is quoted may hold line ends of its own, and would look like another message.
    return QueryError(head.replace("\r", "\\r").replace("\n", "\\n") + end)


def expect_one_statement(sql: str) -> None:
    """Refuse several statements, of which DuckDB would answer only the last.

    Raises:
        QueryError: It is not one statement, or none that DuckDB can read.
    """
    try:
        statements = len(duckdb.extract_statements(sql))
    except duckdb.Error as error:
        raise refusal(error) from error
    if statements != 1:
        raise QueryError(f"The query has {statements or 'no'} statement{'s' * (statements > 1)}.", "Write exactly one.")
