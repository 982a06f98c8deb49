"""Answers about log files that were ingested or only measured: totals by usage type, or a balance for each file."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from metering.hours import hour_label, rfc3339
from metering.onramps.context.document import Authorities, Context
from metering.onramps.ingest.outcomes import VERDICTS, FileOutcome, RunTotals, advice_of
from metering.onramps.reading import OUTCOMES, Balance
from metering.reports import answer
from metering.units import counted, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.onramps.ingest import trial


T = TypeVar("T")
_BYTES = ("stated_bytes", "metered_bytes", "rejected_bytes", "shadowed_bytes", "refused_bytes")
# A sentence names at most this many causes.
_MOST_CAUSES = 3
_USAGE = answer.ListedRows(
    answer.copied("usage_type", priority=answer.KEEP),
    answer.copied("unclassified_because", title="unclassified because", priority=answer.KEEP),
    answer.sized("bytes", priority=answer.KEEP),
    answer.number("share", about="of the metered bytes"),
    answer.integer("lines", priority=answer.ROOMY),
)
_GUESSED = "by addresses alone it looks like"
_LOOKED = answer.ListedRows([*_USAGE.fields, *answer.prose("looks_like", title=_GUESSED, about="no metering")])
_GUESS = (
    "This is a guess about unclassified bytes by private and public ranges (RFC 1918, 6598, 4193), and no metering: no "
    "byte is counted by it. A context says what the addresses are."
)
_FILES = answer.ListedRows(
    answer.copied("file", "verdict", priority=answer.KEEP),
    answer.copied("kind", priority=answer.ROOMY + 1),
    answer.integer("lines", priority=answer.KEEP),
    answer.integer(*OUTCOMES, priority=answer.ROOMY),
    answer.exact("stated_bytes", priority=answer.ROOMY),
    answer.exact("metered_bytes"),
    answer.exact(*_BYTES[2:], priority=answer.ROOMY + 1),
    answer.prose("problem", priority=answer.ROOMY),
    answer.exact("processed_bytes", priority=answer.ROOMY + 1, about="metered a second time, as processing"),
)


def totals_answer(
    totals: RunTotals,
    *,
    dry_run: bool,
    with_context: bool,
    overlap: trial.Overlap | None = None,
    looks: trial.Looks | None = None,
) -> answer.Answer:
    """Usage that a run metered, or would meter: one row per usage type, and per reason of unclassified bytes.

    `overlap` is traffic that two flow logs record, and `looks` are guesses; None if a context judged.
    """
    rows: list[tuple[object, ...]] = [*_rows(totals)]
    told = hint(totals, with_context=with_context, dry_run=dry_run)
    guesses = [looks.of(usage_type, reason) if looks and reason else {} for usage_type, reason, *_ in _rows(totals)]
    shape, guess = _USAGE, _guess(sum(map(Counter, guesses), Counter()))
    if guess:
        shape, rows = _LOOKED, [(*row, _guess(found) or None) for row, found in zip(rows, guesses, strict=True)]
    return shape.answer(
        rows,
        document={
            "dry_run": dry_run,
            **_document(totals, map(shape.document, rows), told=told),
            **({} if overlap is None else {"overlap": _overlap_document(overlap)}),
        },
        empty=f"Nothing in these files {'would be' if dry_run else 'is'} metered.",
        title="What these files would be metered as" if dry_run else "What these files are metered as",
        footer=(*([f"{_GUESSED.capitalize()}: {guess}. {_GUESS}"] if guess else []), *_footer(totals, dry_run=dry_run)),
    )


def _guess(found: Mapping[trial.Look, int]) -> str:
    """A row's guesses, such as `internet 62.3 %, private 37.7 %`."""
    ordered = sorted(found.items(), key=lambda each: -each[1])
    return ", ".join(f"{look} {percent(size, sum(found.values()))}" for look, size in ordered)


def files_answer(outcomes: Sequence[FileOutcome], totals: RunTotals, *, dry_run: bool = False) -> answer.Answer:
    """Outcome of each file: one row for each file, in which the lines and the bytes add up."""
    return _FILES.answer(
        [_of_file(outcome) for outcome in outcomes],
        meta={"files": _files(totals), "balance": _balance(totals.balance)},
        empty="There were no files.",
        footer=tuple(_footer(totals, dry_run=dry_run)),
    )


def _rows(totals: RunTotals) -> list[tuple[str, str, int, str, int]]:
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for (usage_type, _, reason), (lines, size) in totals.metered.items():
        before = sums.get((usage_type, reason), (0, 0))
        sums[usage_type, reason] = (before[0] + lines, before[1] + size)
    return [
        (usage_type, reason, size, percent(size, totals.balance.metered_bytes), lines)
        for (usage_type, reason), (lines, size) in sorted(sums.items())
    ]


def percent(part: int, whole: int) -> str:
    """A share as text, `12.3 %`, rounded half up, but never rounded to 0 or 100; empty if the whole is 0."""
    if not whole:
        return ""
    tenths = (2_000 * part + whole) // (2 * whole)
    if part and not tenths:
        return "<0.1 %"
    if part < whole and tenths == 1_000:
        return ">99.9 %"
    return f"{tenths // 10}.{tenths % 10} %"


def unclassified(totals: RunTotals) -> dict[str, tuple[int, int]]:
    """Lines and bytes that are metered but not classified, by reason, sorted by most bytes."""
    sums: dict[str, tuple[int, int]] = {}
    for (_, _, reason), (lines, size) in totals.metered.items():
        if reason:
            before = sums.get(reason, (0, 0))
            sums[reason] = (before[0] + lines, before[1] + size)
    return dict(sorted(sums.items(), key=lambda each: (-each[1][1], each[0])))


def hint(totals: RunTotals, *, with_context: bool, dry_run: bool = False) -> str:
    """Advice on classifying unclassified bytes, in one or two sentences; empty without unclassified bytes.

    If a context already judged these bytes, no other context would help.
    """
    reasons = {reason: size for reason, (_, size) in unclassified(totals).items() if size}
    if not reasons:
        return ""
    whole = totals.balance.metered_bytes
    causes = [f"{advice_of(reason).why} ({percent(size, whole)})" for reason, size in reasons.items()]
    rest = percent(sum(list(reasons.values())[_MOST_CAUSES:]), whole)
    metered = "bytes that would be metered" if dry_run else "metered bytes"
    more = [f"of other causes ({rest})"] if len(causes) > _MOST_CAUSES else []
    sentence = (
        f"{percent(sum(reasons.values()), whole)} of the {metered} are not classified, because "
        f"{'; '.join([*causes[:_MOST_CAUSES], *more])}."
    )
    adds = []
    if not with_context and any(advice_of(reason).context for reason in reasons):
        adds.append("a context (metering context capture)")
    had = totals.fields or frozenset()
    fields = dict.fromkeys(name for reason in reasons for name in advice_of(reason).fields if name not in had)
    if fields:
        adds.append(f"to flow logs that lack them, these fields: {' '.join(fields)}")
    return f"{sentence} To know more, add {'; and '.join(adds)}." if adds else sentence


def overlap_sentence(overlap: trial.Overlap) -> str:
    """Text about traffic in two flow logs, which the totals count twice; empty without such traffic."""
    if overlap.example is None:
        return ""
    interface_id, hour_s, first, other = overlap.example
    return (
        f"Counted twice in these totals: {overlap.interface_hours:,} interface-hours are in two flow logs, such as "
        f"{interface_id} at {hour_label(hour_s)} in {first} and {other}. A context tells which one counts: --context."
    )


def _overlap_document(overlap: trial.Overlap) -> dict[str, answer.Json]:
    if overlap.example is None:
        return {"interface_hours": 0}
    interface_id, hour_s, first, other = overlap.example
    return {
        "interface_hours": overlap.interface_hours,
        "example": {"interface_id": interface_id, "hour": rfc3339(hour_s), "flow_logs": [first, other]},
    }


def _footer(totals: RunTotals, *, dry_run: bool) -> Iterator[str]:
    balance = totals.balance
    metered = "would be metered" if dry_run else "metered"
    words = {"metered": metered, "empty": "with nothing to meter", "left_out": "left out"}
    files = ", ".join(f"{count:,} {words.get(verdict, verdict)}" for verdict, count in _files(totals).items() if count)
    yield f"Files: {files or 'none'}."
    lines = " + ".join(f"{words.get(name, name)} {getattr(balance, name):,}" for name in OUTCOMES)
    yield f"Lines: {balance.lines:,} = {lines}."
    outcomes = {name: name.removesuffix("_bytes") for name in _BYTES[1:]}
    sizes = " + ".join(f"{words.get(word, word)} {getattr(balance, name):,}" for name, word in outcomes.items())
    yield f"Bytes: {balance.stated_bytes:,} = {sizes}."
    if balance.processed:
        counts = "would count" if dry_run else "count"
        yield (
            f"Processed: {counted(balance.processed, 'metered line')} with {exact_and_size(balance.processed_bytes)} "
            f"{counts} a second time, as processing by NAT gateways and endpoints."
        )
    yield from _left_out(totals)


def _left_out(totals: RunTotals) -> Iterator[str]:
    balance = totals.balance
    if balance.skipdata:
        yield f"Missing: records that the log itself lost, as {counted(balance.skipdata, 'line')} of it say (SKIPDATA)."
    for log, (lines, size) in sorted(totals.shadowed.items()):
        yield f"Shadowed: {counted(lines, 'line')} with {exact_and_size(size)}, which {log} logs, too, and counts."
    if totals.others.lines:
        yield _others(totals)
    for reason, (lines, size) in sorted(totals.refusals.items()):
        yield f"Refused: {counted(lines, 'line')} with {exact_and_size(size)}, {reason}."
    for reason, count in sorted(totals.problems.items()):
        place, detail = totals.examples[reason]
        yield f"Not in these totals: {counted(count, 'file')}, {reason}, such as {place}: {detail}."


def _others(totals: RunTotals) -> str:
    others = totals.others
    return (
        f"Of other accounts than the files' names state: {counted(others.lines, 'line')} with "
        f"{exact_and_size(others.bytes)}; {counted(others.billed_lines, 'line')} of them with "
        f"{exact_and_size(others.billed_bytes)} {'bills' if others.billed_lines == 1 else 'bill'} those accounts."
    )


def _document(totals: RunTotals, rows: Iterable[answer.Json], *, told: str) -> dict[str, answer.Json]:
    reasons = unclassified(totals)
    size = sum(each for _, each in reasons.values())
    return {
        "files": _files(totals),
        "stored_bytes": str(totals.stored_bytes),
        "balance": _balance(totals.balance),
        "rows": [*rows],
        "unclassified": {
            "bytes": str(size),
            "share": percent(size, totals.balance.metered_bytes),
            "reasons": [
                {"reason": reason, "bytes": str(each), "lines": lines, "because": advice_of(reason).why}
                for reason, (lines, each) in reasons.items()
            ],
            "hint": told,
        },
        "rules": [
            {"usage_type": usage_type, "rule": rule, "reason": reason, "bytes": str(each), "lines": lines}
            for (usage_type, rule, reason), (lines, each) in sorted(totals.metered.items())
        ],
        "shadowed": [{"by": log, "lines": n, "bytes": str(each)} for log, (n, each) in sorted(totals.shadowed.items())],
        "other_accounts": {
            "lines": totals.others.lines,
            "bytes": str(totals.others.bytes),
            "billed_lines": totals.others.billed_lines,
            "billed_bytes": str(totals.others.billed_bytes),
        },
        "refused": [{"reason": r, "lines": n, "bytes": str(each)} for r, (n, each) in sorted(totals.refusals.items())],
        "problems": [
            {"reason": reason, "files": count, "example": place, "detail": detail}
            for reason, count in sorted(totals.problems.items())
            for place, detail in (totals.examples[reason],)
        ],
    }


def _files(totals: RunTotals) -> dict[str, int]:
    return {verdict: totals.files[verdict] for verdict in VERDICTS}


def _balance(balance: Balance) -> dict[str, answer.Json]:
    lines: dict[str, answer.Json] = {name: getattr(balance, name) for name in ("lines", *OUTCOMES)}
    sizes: dict[str, answer.Json] = {name: str(getattr(balance, name)) for name in (*_BYTES, "processed_bytes")}
    return {**lines, "processed": balance.processed, **sizes, "holds": balance.holds}


def _of_file(outcome: FileOutcome) -> tuple[str | int, ...]:
    counts = [getattr(outcome.balance, name) for name in ("lines", *OUTCOMES, *_BYTES)]
    problem = "" if outcome.problem is None else f"{outcome.problem[0]}: {outcome.problem[1]}"
    return (outcome.place, outcome.verdict, outcome.kind, *counts, problem, outcome.balance.processed_bytes)


def _count(name: str, members: str = "", *, about: str = "") -> answer.Fields[Context]:
    return answer.integer(name, of=lambda it: len(getattr(it, members or name)), about=about)


def _kinds(context: Context) -> list[str]:
    return [f"{count} {kind}" for kind, count in sorted(Counter(each.kind for each in context.interfaces).items())]


def _overlaps(context: Context) -> str:
    found = Authorities(context).overlaps(context.effective_s)
    return "; ".join(f"{each.authority} before {', '.join(each.shadowed)}" for each in found)


def _networks(context: Context) -> list[str]:
    return [each.name for each in context.networks]


def _named(effective_s: Callable[[T], int], sha256: Callable[[T], str]) -> answer.Fields[T]:
    return (
        *answer.timed("effective", of=effective_s, priority=answer.KEEP, about="the hour from which it holds"),
        *answer.copied("context", of=sha256, priority=answer.KEEP, about="SHA-256 of its JSON"),
    )


_NAMES: answer.RowType[tuple[int, str]] = answer.RowType(_named(lambda it: it[0], lambda it: it[1]))
_NAMED: answer.Fields[Context] = _named(lambda it: it.effective_s, lambda it: it.sha256)
_KNOWN: answer.Fields[Context] = (
    *answer.prose("accounts", of=lambda it: sorted(it.accounts), about="that were captured"),
    *answer.prose("places", of=lambda it: list(map("/".join, it.places)), about="account and region of each capture"),
    *_count("vpcs"),
    *_count("subnets"),
    *_count("interfaces"),
    *answer.prose("kinds", of=_kinds, about="what interfaces belong to"),
    *_count("public_addresses"),
    *_count("peerings"),
    *_count("transit_vpcs", about="VPCs with a transit gateway"),
    *_count("transit_attachments", "attachments", about="of transit gateways, whose types are known"),
    *answer.integer(
        "metering_policies",
        of=lambda it: len(it.metering_policies) if it.policy_places else None,
        about="of transit gateways; none if nobody could ask for them",
    ),
    *_count("flow_logs"),
    *answer.prose("overlaps", of=_overlaps, about="flow logs that count, and those that see the same and do not"),
    *_count("address_ranges", "prefixes", about="prefixes of AWS; without them the internet is unclassified"),
    *_count("buckets", about="whose region is known"),
    *answer.prose("networks", of=_networks, about="that people named"),
    *answer.prose("notes", of=lambda it: "; ".join(it.notes), priority=answer.ROOMY, about="what was left out"),
)


def contexts_answer(names: Iterable[tuple[int, str]]) -> answer.Answer:
    """Stored contexts, newest first."""
    return _NAMES.answer(sorted(names, reverse=True), empty="No context is kept.")


def context_answer(context: Context) -> answer.Answer:
    """Content of a context."""
    return answer.RowType(_NAMED, _KNOWN).one(context)


def captured_answer(context: Context, *, kept: bool) -> answer.Answer:
    """The captured context; `kept` says whether the context is new."""
    return answer.RowType(_NAMED, answer.flag("kept", of=lambda _: kept), _KNOWN).one(context)
