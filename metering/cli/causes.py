"""The answer of `metering ingest --dry-run --who`: whose workloads move the bytes, and to where."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.owners import UNOWNED, Attributes, Owners, Rule
from metering.cli.failures import CommandFailedError
from metering.onramps.rules.causes import FREE
from metering.reports import answer
from metering.reports.operators.ingest_answer import percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.onramps.context.holders import Workloads
    from metering.onramps.ingest.outcomes import Moved, RunTotals

UNATTRIBUTED = "unattributed"
_OTHERS = "others"


class Book(NamedTuple):
    """A book of owners, and the hour in which its rules are asked."""

    owners: Owners
    hour_s: int

    def rule_of(self, moved: Moved, workloads: Workloads) -> Rule | None:
        """The rule that owns a cause. Bytes without a cause have the owner of the gateway, if a rule names that."""
        if not moved.cause:
            found = Attributes(moved.account_id, moved.resource_id, "", "", "", {})
            rule = self.owners.rule_of(found, self.hour_s)
            return rule if rule is not None and rule.names_resource else None
        of, at = workloads.of(moved.cause), workloads.location(moved.cause)
        account_id = at.account_id or moved.account_id
        return self.owners.rule_of(
            Attributes(account_id, of.resource_id, of.workload, at.vpc_id, at.subnet_id, of.tags), self.hour_s
        )


class _Row(NamedTuple):
    usage_type: str
    owner: str
    workload: str
    destination: str
    path: str
    reason: str


def _shape(*first: str) -> answer.ListedRows:
    return answer.ListedRows(
        answer.copied(*first, "workload", "destination", priority=answer.KEEP),
        answer.copied("path"),
        answer.copied("reason", priority=answer.ROOMY, about="why bytes are unattributed"),
        answer.sized("bytes", priority=answer.KEEP),
        answer.number("share", about="of the usage type"),
    )


_SHAPE, _OWNED = _shape("usage_type"), _shape("usage_type", "owner")
_DETAIL = answer.ListedRows(
    answer.copied("usage_type", "account_id", "resource_id", "cause", "workload", "destination", "path", "basis"),
    answer.copied("reason"),
    answer.exact("bytes"),
    answer.integer("lines"),
)


def causes_answer(
    totals: RunTotals, workloads: Workloads, *, top: int, detail: bool, book: Book | None = None
) -> answer.Answer:
    """Bytes by usage type, workload, destination and path, the largest first, and free traffic last.

    `detail` has one row a cause. With a `book`, rows have owners, and unowned bytes come first.

    Processing has the bytes of other rows once more, as on the bill.

    Raises:
        CommandFailedError: The bytes of all causes are not those of the totals, which is a defect.
    """
    attributed, all_bytes = _sum(totals.causes, attributed=True), _sum(totals.causes, attributed=False)
    if all_bytes != totals.balance.batched_bytes:
        raise CommandFailedError(
            f"The causes have {all_bytes:,} bytes, and the files {totals.balance.batched_bytes:,}: this is a defect."
        )
    footer = (
        f"Bytes: {all_bytes:,} = attributed {attributed:,} + unattributed {all_bytes - attributed:,}; "
        f"{totals.balance.processed_bytes:,} of them are processing, a second count of the same bytes.",
        *_reasons(totals.causes, all_bytes),
    )
    meta: dict[str, answer.Json] = {
        "bytes": str(all_bytes),
        "attributed_bytes": str(attributed),
        "processed_bytes": str(totals.balance.processed_bytes),
    }
    if detail:
        rows = [
            (*moved[:4], workloads.of(moved.cause).workload if moved.cause else UNATTRIBUTED, *moved[4:], *size)
            for moved, size in sorted(totals.causes.items())
        ]
        return _DETAIL.answer(rows, meta=meta, footer=footer)
    rules = {} if book is None else {moved: book.rule_of(moved, workloads) for moved in totals.causes}
    found = _grouped(totals.causes, workloads, rules)
    by_type: Counter[str] = Counter()
    for row, size in found.items():
        by_type[row.usage_type] += size
    ordered = sorted(
        found.items(), key=lambda each: (FREE in each[0].usage_type, each[0].owner != UNOWNED, -each[1], each[0])
    )
    shape = _SHAPE if book is None else _OWNED
    shown = ordered[: top or None]
    left = sum(size for _, size in ordered[len(shown) :])
    others = None
    if len(shown) < len(ordered):
        named = (f"{_OTHERS} ({len(ordered) - len(shown)})", *[None] * (len(_Row._fields) - 1), left, None)
        others = shape.row(_cells(named, book))
        meta[_OTHERS] = {"rows": len(ordered) - len(shown), "bytes": str(left)}
    return shape.answer(
        [_cells((*row, size, percent(size, by_type[row.usage_type])), book) for row, size in shown],
        meta=meta,
        title="Whose workloads move the bytes, and to where",
        footer=(*footer, *(_of_owners(totals.causes, workloads, book, rules, all_bytes) if book is not None else ())),
        others=others,
        empty="Nothing in these files would be metered.",
    )


def _cells(values: Sequence[object], book: Book | None) -> Sequence[object]:
    """Values of a row; without a book, there is no owner."""
    return values if book is not None else (values[0], *values[2:])


def _grouped(
    causes: Mapping[Moved, tuple[int, int]], workloads: Workloads, rules: Mapping[Moved, Rule | None]
) -> dict[_Row, int]:
    found: dict[_Row, int] = defaultdict(int)
    for moved, (size, _) in causes.items():
        workload = workloads.of(moved.cause).workload if moved.cause else UNATTRIBUTED
        rule = rules.get(moved)
        # Bytes without a cause and a rule have no owner.
        owner = rule.owner if rule is not None else UNOWNED if rules and moved.cause else ""
        found[_Row(moved.usage_type, owner, workload, moved.destination, moved.path, moved.reason)] += size
    return found


def _of_owners(
    causes: Mapping[Moved, tuple[int, int]],
    workloads: Workloads,
    book: Book,
    rules: Mapping[Moved, Rule | None],
    all_bytes: int,
) -> Iterator[str]:
    """Lines: the share of unowned bytes, with their missing tags, and the rules without bytes."""
    lonely: dict[str, Mapping[str, str]] = {}
    size = 0
    took: set[Rule] = set()
    for moved, (moved_bytes, _) in causes.items():
        rule = rules[moved]
        if rule is not None:
            took.add(rule)
        elif moved.cause:
            size += moved_bytes
            of = workloads.of(moved.cause)
            lonely[of.workload] = of.tags
    if lonely:
        keys = {key for rule in book.owners.rules for key, _ in rule.tags}
        lacks = [(sum(key not in tags for tags in lonely.values()), key) for key in sorted(keys)]
        told = "".join(f"; tag {key} is missing on {count} of {len(lonely)} workloads" for count, key in lacks if count)
        yield f"{UNOWNED.capitalize()}: {percent(size, all_bytes)} of the bytes{told}."
    idle = [f"{number} ({rule.owner})" for number, rule in enumerate(book.owners.rules, 1) if rule not in took]
    if idle:
        yield f"Rules that own nothing here: {', '.join(idle)}."


def _sum(causes: Mapping[Moved, tuple[int, int]], *, attributed: bool) -> int:
    return sum(size for moved, (size, _) in causes.items() if moved.cause or not attributed)


def _reasons(causes: Mapping[Moved, tuple[int, int]], all_bytes: int) -> list[str]:
    reasons: Counter[str] = Counter()
    for moved, (size, _) in causes.items():
        if not moved.cause:
            reasons[moved.reason] += size
    told = [f"{reason} {percent(size, all_bytes)}" for reason, size in reasons.most_common()]
    return [f"Unattributed because: {', '.join(told)}. docs/causes.md says what each reason means."] if told else []
