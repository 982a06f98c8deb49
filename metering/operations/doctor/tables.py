"""Checks of DynamoDB: why a transaction is canceled, what a conflict and a throttle look like, what a table takes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from metering.errors import ThrottledError, TransactionCanceledError, UnavailableError
from metering.ledger.notes.checks import doctor_item, doctor_key
from metering.operations.doctor.checks import differs, ok, unknown
from metering.stores.writes import Absent, Delete, Put, Table, Update, key_of
from metering.units import HOUR_S, KIB

if TYPE_CHECKING:
    from metering.operations.doctor.bench import Bench
    from metering.operations.doctor.checks import Observation
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Key

# Both tables that a stage writes to.
_TABLES = (Table.LEDGER, Table.USAGE)
_THREADS = 8
_ROUNDS = 25
CONFLICT = "TransactionConflict"
_THROTTLED = "throttled"
_PUTS = 10
_NO_THROTTLE = "The service would take this throttle for a conflict, and write more while it is short. Report it."
_REPORT = "Commits, and the checks of what was committed, rest on it: do not run the service at this endpoint."


def cancel_reasons(bench: Bench) -> Observation:
    """Cancel a transaction by its second action: each action must have its reason, in order, with the item found."""
    there, other = (_item(bench, name) for name in ("there", "other"))
    keys = [key_of(item) for item in (there, other)]
    bench.items.put(Put(table=Table.LEDGER, item=there))
    try:
        bench.items.transact(
            [
                Put(table=Table.LEDGER, item=other),
                Put(table=Table.LEDGER, item=there, condition=Absent()),
            ]
        )
    except TransactionCanceledError as error:
        reasons = error.reasons
    else:
        return differs("a transaction with a condition that does not hold was applied", _REPORT)
    finally:
        written = bench.items.get(Table.LEDGER, keys[1])
        _delete(bench.items, keys)
    if written is not None:
        return differs("the other action of a canceled transaction was applied", _REPORT)
    if len(reasons) != 2 or reasons[0] is not None or reasons[1] is None or reasons[1][0] != "ConditionalCheckFailed":
        return differs(f"the reasons are {_said(reasons)}, not none and ConditionalCheckFailed", _REPORT)
    if reasons[1][1] != there:
        return differs("a failed condition came without the item that was found", _REPORT)
    return ok("one reason an action, in order, with the item that was found")


def racing(bench: Bench) -> Observation:
    """Let transactions meet on one item: what was applied is there once, and what was not says that they met."""
    keys = [doctor_key(f"race-{bench.token}-{half}") for half in ("a", "b")]

    def worker(_number: int) -> list[str]:
        return [_raced(bench, keys) for _ in range(_ROUNDS)]

    try:
        with ThreadPoolExecutor(_THREADS) as threads:
            outcomes = [outcome for each in threads.map(worker, range(_THREADS)) for outcome in each]
        counts = [int(str((bench.items.get(Table.LEDGER, key) or {}).get("n", 0))) for key in keys]
    finally:
        _delete(bench.items, keys)
    applied, unsure = outcomes.count("applied"), outcomes.count("unsure")
    met = outcomes.count(CONFLICT)
    others = sorted(set(outcomes) - {"applied", "unsure", CONFLICT, _THROTTLED})
    saw = (
        f"{len(outcomes)} transactions of {_THREADS} threads: {applied} applied, {met} met another one, {unsure} unsure"
    )
    if counts[0] != counts[1] or not applied <= counts[0] <= applied + unsure:
        return differs(f"{saw}; the two items counted {counts[0]} and {counts[1]}", _REPORT)
    if others:
        return differs(f"{saw}; canceled for {', '.join(others)}", "The service takes this for a conflict. Report it.")
    return ok(saw) if met else unknown(f"{saw}: this endpoint showed no conflict")


def _raced(bench: Bench, keys: list[Key]) -> str:
    expires_s = bench.now_s + HOUR_S
    try:
        bench.items.transact(
            [Update(table=Table.LEDGER, key=key, add={"n": 1}, set={"expires_at": expires_s}) for key in keys]
        )
    except TransactionCanceledError as error:
        if error.throttled:
            return _THROTTLED
        return next((reason[0] for reason in error.reasons if reason is not None), "no reason")
    except ThrottledError as error:
        return "unsure" if error.may_have_applied else _THROTTLED
    except UnavailableError as error:
        return "unsure" if error.may_have_applied else CONFLICT
    return "applied"


def throttled(bench: Bench) -> Observation:
    """Write to a table that takes one write unit a second until it refuses, and see what the refusal looks like."""
    end_s = bench.now_s + bench.effort.throttle_s
    tries = 0
    with bench.scratch.slow_table() as table:
        while bench.now_s < end_s:
            tries += 1
            try:
                table.transact([_filler(bench, tries, n) for n in range(_PUTS)])
            except TransactionCanceledError as error:
                return _judged(error, tries)
            except ThrottledError as error:
                return ok(f"refused after {tries} transactions as a throttle: {error.detail}")
            except UnavailableError as error:
                if not error.may_have_applied:
                    return differs(f"refused after {tries} transactions: {error.detail}", _NO_THROTTLE)
    return unknown(
        f"{tries} transactions of {_PUTS} KB to a table that takes 1 KB a second, and none was refused: this endpoint "
        "showed no throttle"
    )


def _judged(error: TransactionCanceledError, tries: int) -> Observation:
    codes = sorted({reason[0] for reason in error.reasons if reason is not None})
    saw = f"canceled after {tries} transactions: {', '.join(codes) or 'no reason'}"
    return ok(f"{saw}, which the service takes for a throttle") if error.throttled else differs(saw, _NO_THROTTLE)


def warm(bench: Bench) -> Observation:
    """Compare what the tables take at once with what the stage asks for."""
    found = {table: bench.facts.writes_per_s(table) for table in _TABLES}
    saw = ", ".join(f"{table.value} {found[table]:,}" for table in _TABLES) + " write units a second"
    short = [table for table in _TABLES if found[table] < bench.needed_writes_per_s[table]]
    if short:
        needed = ", ".join(f"{table.value} {bench.needed_writes_per_s[table]:,}" for table in short)
        return differs(
            f"{saw}; the stage asks for {needed}",
            "Deploy the stage again; AWS raises it within minutes. Until then the table throttles at its first peak.",
        )
    return ok(saw)


def table_quota(bench: Bench) -> Observation:
    """Compare the account's quota of a table with the stage's own peak."""
    quota, needed = bench.facts.table_quota_per_s(), max(bench.needed_writes_per_s.values())
    saw = f"{quota:,} write units a second, needed {needed:,}"
    if quota < needed:
        return differs(saw, "Ask for more in Service Quotas: DynamoDB, L-AB614373.")
    return ok(saw)


def _item(bench: Bench, name: str, *, filler: str = "") -> Item:
    return doctor_item(f"{name}-{bench.token}", expires_s=bench.now_s + HOUR_S, filler=filler)


def _filler(bench: Bench, number: int, n: int) -> Put:
    return Put(table=Table.LEDGER, item=_item(bench, f"{number}-{n}", filler="x" * (KIB - 200)))


def _delete(items: ItemStore, keys: list[Key]) -> None:
    for key in keys:
        items.delete(Delete(table=Table.LEDGER, key=key))


def _said(reasons: tuple[tuple[str, object] | None, ...]) -> str:
    return " and ".join("none" if reason is None else reason[0] for reason in reasons) or "missing"
