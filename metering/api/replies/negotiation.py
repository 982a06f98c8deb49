"""What the headers of a request ask for: the form of the answer, its compression, and whether it is known already."""

from __future__ import annotations

from metering.api.vocabulary import FORMATS

MEDIA_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_BY_MEDIA_TYPE = {text.partition(";")[0]: form for form, text in MEDIA_TYPES.items()}


def chosen_form(given: str | None, accept: str) -> str:
    """Form of an answer: the parameter `format`, else the first of the header Accept that is known, else JSON."""
    if given is not None:
        return given
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept.split(",")[:20]):
        media_type, _, rest = part.partition(";")
        form = _BY_MEDIA_TYPE.get(media_type.strip().lower())
        weight = _weight(rest)
        if form is not None and weight > 0:
            ranked.append((-weight, place, form))
    return min(ranked)[2] if ranked else FORMATS[0]


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name.lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def knows(if_none_match: str, tag: str) -> bool:
    """Whether the header If-None-Match names this tag."""
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return tag.removeprefix("W/") in known or "*" in known


def takes_gzip(accept_encoding: str) -> bool:
    """Whether the header Accept-Encoding takes gzip."""
    for part in accept_encoding.split(","):
        coding, _, rest = part.partition(";")
        if coding.strip().lower() in {"gzip", "*"}:
            return _weight(rest) > 0
    return False
