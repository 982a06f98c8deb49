"""Any request gets an answer or a problem that explains the error; never a fault, and never a long wait."""

from __future__ import annotations

import random
import string
import time
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest

from metering.api.parameters import Parameter, ProblemError, given_values
from tests.api.world import FIRST
from tests.api.world import at_rest as world

_ODD = [
    "",
    "0",
    "-1",
    "1e3",
    "١٢٣",
    "999999999999999999999999",
    "null",
    "true",
    "TRUE",
    "[]",
    "{}",
    "'",
    '"',
    "\\",
    "\x00",
    "\n",
    "\r\nX-Header: 1",
    "a,b",
    ",",
    ",,",
    "a,",
    "%",
    "%25",
    "../../etc/passwd",
    "<script>",
    "=1+1",
    "a" * 5_000,
    "🙂",
    "\ud7ff",
    "0001-01-01",
    "0127-07-08",
    "9999-12-31",
    "10000-01-01",
    "2026-02-30",
    "2026-13",
    "2026-11-24T24:00:00Z",
    "2026-W48",
    "2026-11-24T13:00:00+01:00",
    "2026-11-24T13:00:00.5Z",
    "2026-11-24 13:00:00Z",
    "20261124",
    "1764000000",
    "now",
    "0h",
    "9999m",
    "000000000000",
    f"{FIRST},{FIRST}",
    "USE1-#-x",
    "K#tokens",
    "day,day,day",
    "bytes:DESC",
    "hour",
    "corrects,corrects",
    "Europe/../UTC",
    "Etc/GMT+12",
    "us-east-1/",
    "mtr_x_y",
    "eyJ",
    "WzEsMiwzXQ",
    "W10",
    "bnVsbA",
    "////",
    "2026-11-24T13",
]


@cache
def documented() -> dict[str, list[dict[str, Any]]]:
    paths = world().get("/openapi.json", None).json()["paths"]
    return {path: told["get"]["parameters"] for path, told in paths.items()}


def check(path: str, who: str | None = "operator") -> int:
    """Send a request, and check the rules of every response."""
    began_s = time.process_time()
    answer = world().get(path, who)
    assert time.process_time() - began_s < 2, path
    assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
    if answer.status_code >= 400:
        told = answer.json()
        assert told["detail"], path
        assert len(answer.content) < 60_000
        assert "\n" not in told["detail"].replace("\\n", "")
        assert all(each["parameter"] and each["detail"] for each in told.get("errors", []))
    return answer.status_code


def test_each_odd_value_of_each_parameter_is_an_answer_or_a_problem() -> None:
    chance = random.Random(3)
    for path, parameters in documented().items():
        for each in parameters:
            for text in chance.sample(_ODD, 9):
                needed = [other for other in parameters if other["required"] and other is not each]
                asked = path
                for other in needed:
                    if other["in"] == "path":
                        asked = asked.replace(f"{{{other['name']}}}", str(other["example"]))
                query = [f"{other['name']}={other['example']}" for other in needed if other["in"] == "query"]
                if each["in"] == "path":
                    asked = asked.replace(f"{{{each['name']}}}", quote(text.encode("utf-8", "surrogatepass"), safe=""))
                else:
                    query.append(f"{each['name']}={quote(text.encode('utf-8', 'surrogatepass'), safe=',:/')}")
                check(f"{asked}?{'&'.join(query)}")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_many_odd_requests(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(700):
        path = chance.choice(list(documented()))
        parts = []
        for _ in range(chance.randint(0, 5)):
            names = [each["name"] for each in documented()[path]] or ["x"]
            name = chance.choice([*names, *names, "x", "", "account[]", chance.choice(string.printable)])
            text = chance.choice([*_ODD, "".join(chance.choices(string.printable, k=chance.randint(1, 30)))])
            parts.append(f"{quote(name)}={quote(text.encode('utf-8', 'surrogatepass'), safe=',:/')}")
        check(f"{path.replace('{hour}', quote(chance.choice(_ODD) or 'x', safe=''))}?{'&'.join(parts)}")


@pytest.mark.parametrize(
    "query",
    [
        "from=%ff",
        "%ff=1",
        "from=%",
        "from=%zz",
        "from",
        "=",
        "&&&",
        "from=2026-11&from=2026-10",
        "account[]=1",
        "account=1&account=2",
        "a=1;b=2",
        "x" * 9_000,
        "&".join(f"p{n}=1" for n in range(200)),
        "group_by=day&Group_By=day",
        "from=2026-11-24T13:00:00+01:00",
        "from=2026-11-24T13%3A00%3A00%2B01%3A30",
        "from=2026-11-24T13%3A30%3A00Z",
    ],
)
def test_odd_queries_are_problems_and_none_is_taken_for_a_smaller_question(query: str) -> None:
    assert check(f"/v1/usage?{query}") in ({400, 422} if query != "&&&" else {200})


def test_a_query_says_every_problem_at_once_in_the_words_of_the_command_line() -> None:
    answer = world().get("/v1/usage?account=123&acount=1&to=&limit=0&group_by=1&group_by=day")
    assert answer.status_code == 400
    told = {each["parameter"]: each["detail"] for each in answer.json()["errors"]}
    assert told["account"] == "123 is not an account: an account has 12 digits."
    assert told["acount"].startswith("There is no parameter acount. Nearest: account.")
    assert told["to"] == "to is empty. Leave it out, or give it a value."
    assert told["limit"] == "0 is not a whole number from 1 to 20000."
    assert "is given twice" in told["group_by"] or "column" in told["group_by"]
    plus = world().get("/v1/usage?from=2026-11-24T13:00:00+01:00").json()["errors"][0]["detail"]
    assert plus.endswith("Write + as %2B in a URL.")


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/V1/usage",
        "//v1/usage",
        "/v1//usage",
        "/v1/usage%2F",
        "/v1/usage/../usage/x",
        "/v2/usage",
        "/%00",
        "/v1/hours/",
        "/v1/hours/%2e%2e",
        "/v1/hours/2026-11-24T13%2Fx",
        "/docs",
        "/redoc",
        "/openapi.yaml",
        "/v1/%F0%9F%99%82",
    ],
)
def test_other_paths_are_nothing(path: str) -> None:
    assert check(path) in {400, 404}


@pytest.mark.parametrize(
    "headers",
    [
        {"If-None-Match": "*"},
        {"If-None-Match": 'W/"' + "x" * 5_000},
        {"If-None-Match": "\xff,,,"},
        {"Accept-Encoding": "gzip;q=nan, *;q=1e400"},
        {"Accept": "text/csv;q=inf"},
        {"Range": "bytes=0-1"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Forwarded-Host": "evil.example"},
        {"Content-Length": "-1"},
    ],
)
def test_odd_headers_change_nothing(headers: dict[str, str]) -> None:
    answer = world().send("GET", "/v1/usage?from=2026-11", {"Authorization": "Bearer operator", **headers})
    assert answer.status_code in {200, 304}
    assert "evil.example" not in str(answer.headers)


def test_a_body_of_a_request_is_not_read() -> None:
    answer = world().send("GET", "/v1/usage?from=2026-11", {"Authorization": "Bearer operator", "Content-Type": "a/b"})
    assert answer.status_code == 200


def test_given_values_are_as_they_are_declared_or_none_at_all() -> None:
    declared = (
        Parameter(name="one", about="One.", pattern="[a-c]{1,3}", most_chars=3, most_values=2),
        Parameter(name="number", about="A number.", kind="integer", minimum=2, maximum=30),
    )
    assert given_values(declared, b"one=a,bc&number=030").number("number") == 30
    for query in (
        b"one=a,b,c",
        b"one=abcd",
        b"one=a,",
        b"one=a\n",
        b"number=1",
        b"number=31",
        b"number=+3",
        b"number=3.0",
    ):
        with pytest.raises(ProblemError) as caught:
            given_values(declared, query)
        assert caught.value.status == 400
