"""Planning: a file's plan is put once, with the contexts that judged it. Whoever comes second follows it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metering.errors import LogFileRefusedError, ObjectMissingError
from metering.onramps.context.timeline import Timeline
from metering.onramps.ingest.parts import parts_of
from metering.onramps.names import CONTENT_SCHEME, identity_by_content
from metering.onramps.plans import Plan, plan_key
from metering.onramps.reasons import FileReason, LineReason
from metering.stores.bucket import CONTEXT_PREFIX
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.onramps.ingest.files import LogFile
    from metering.onramps.ingest.totals import Measured
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectStore


_UNOWNED = frozenset({
    LineReason.INVALID_ACCOUNT, LineReason.NO_REGION, LineReason.ACCOUNT_NOT_ALLOWED, LineReason.OTHER_ACCOUNT
})  # fmt: skip


class Contexts(Protocol):
    """Versions of the context; `metering.onramps.context.store.ContextStore`."""

    def timeline(self) -> Timeline:
        """The newest versions."""
        ...

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        """The versions that a plan names, by the hour that each holds from.

        Raises:
            ObjectMissingError: One of them is not there any more.
        """
        ...


class Planned(NamedTuple):
    """A plan, and what the file was measured as under it.

    Attributes:
        plan: The plan that is stored.
        measured: What the file is now, judged by the plan's contexts.
        new: Whether the plan was put now.
    """

    plan: Plan
    measured: Measured
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Puts plans, and reads those that are there.

    Attributes:
        objects: The region's data bucket.
        contexts: Versions of the context.
        clock: Tells when a file was planned.
        window_s: Age from which the service refuses records; None if it is not asked here.
    """

    objects: ObjectStore
    contexts: Contexts
    clock: Clock
    window_s: int | None

    def found(self, file: LogFile) -> Plan | None:
        """The plan of a file, or None if it has none."""
        key = plan_key(file.kind.name, file.name.source, file.name.slot_s, file.name.identity)
        try:
            return Plan.decode(self.objects.get(key), key)
        except ObjectMissingError:
            return None

    def planned(self, file: LogFile, *, overlap_known: bool) -> Planned:
        """Measure a file that has no plan, and put its plan; if another process puts one meanwhile, follow that.

        Args:
            file: The file, with its identity.
            overlap_known: Whether a person said that no other log sees the same traffic, so that a context that lists
                the flow logs is not needed.

        Raises:
            LogFileRefusedError: It cannot be metered as a whole, or the contexts of that plan are gone.
        """
        with _missing_context_named():
            timeline = self.contexts.timeline()
            if not overlap_known:
                _check_context(file, timeline)
            measured = _measured(file, timeline)
        self._check_age(measured)
        check_owner(file, measured)
        plan = self._plan_of(file, measured, timeline)
        if self.objects.put(plan.key, plan.encode(), if_absent=True):
            return Planned(plan, measured, new=True)
        # Another process was faster, and its contexts may be other ones.
        return self.followed(file, Plan.decode(self.objects.get(plan.key), plan.key))

    def followed(self, file: LogFile, plan: Plan) -> Planned:
        """Measure a file as its plan says, whomever its lines may bill by now.

        Raises:
            LogFileRefusedError: A context that the plan names is not there any more.
        """
        with _missing_context_named():
            timeline = self.contexts.pinned(plan.contexts) if plan.contexts else Timeline()
            measured = _measured(replace(file, bills=file.bills.as_planned(plan.billed_as)), timeline)
            return Planned(plan, measured, new=False)

    def _check_age(self, measured: Measured) -> None:
        newest_s = max(measured.hours, default=None)
        if self.window_s is None or newest_s is None:
            return
        age_s = self.clock.now_ms() // 1000 - newest_s
        if age_s > self.window_s:
            raise LogFileRefusedError(
                FileReason.TOO_OLD,
                f"its newest hour is {age_s // DAY_S} days old, and this stage takes "
                f"{self.window_s // DAY_S}; report it with --dry-run, or ingest it into a stage with a wider "
                "admission_window_s",
            )

    def _plan_of(self, file: LogFile, measured: Measured, timeline: Timeline) -> Plan:
        name = file.name
        return Plan(
            identity=name.identity,
            kind=file.kind.name,
            source=name.source,
            account_id=name.account_id,
            region=name.region,
            slot_s=name.slot_s,
            place=file.place,
            etag=file.etag,
            content_sha256=measured.content_sha256,
            contexts=timeline.pins(measured.hours),
            rules=file.kind.rules,
            parts=tuple(part for part, _ in parts_of(name.identity, measured.totals)),
            balance=measured.balance,
            shares=measured.shares,
            shadowed=measured.shadowed,
            refusals=measured.refusals,
            planned_s=self.clock.now_ms() // 1000,
            billed_as=file.bills.billed_as,
            others=measured.others,
        )


def check_owner(file: LogFile, measured: Measured) -> None:
    """Refuse a file as a whole if nothing of it is metered because nobody said whose it is, or said it wrongly.

    Its plan would hold for good, and what is said the next time would change nothing. A flow log states its account, so
    its files have plans all the same: its slots are not missing.

    Raises:
        LogFileRefusedError: It is such a file.
    """
    unowned = [reason for reason, _, _ in measured.refusals if reason in _UNOWNED]
    slotted = file.kind.needs_context and file.name.slot_s is not None
    if not unowned or measured.totals or slotted:
        return
    detail = next((line.detail for line in measured.refused if line.reason in _UNOWNED), unowned[0])
    raise LogFileRefusedError(FileReason.NOT_ALLOWED, f"no line of it can be billed: {detail}")


def _measured(file: LogFile, timeline: Timeline) -> Measured:
    measured = file.measured(timeline)
    identity = file.name.identity
    if identity.startswith(CONTENT_SCHEME) and identity != identity_by_content(measured.content_sha256):
        # It was read once before, for its identity.
        raise LogFileRefusedError(FileReason.CHANGED_WHILE_READ, "it was written to while it was read")
    return measured


@contextmanager
def _missing_context_named() -> Iterator[None]:
    """Turn a context that is gone into a refusal. Contexts are read when an hour needs them."""
    try:
        yield
    except ObjectMissingError as error:
        if not error.key.startswith(CONTEXT_PREFIX):
            raise
        raise LogFileRefusedError(
            FileReason.NO_CONTEXT,
            f"the context that its plan names is not there any more ({error.key}), and another one could judge it "
            "otherwise; put that context back",
        ) from error


def _check_context(file: LogFile, timeline: Timeline) -> None:
    """Refuse a file whose kind needs a context that knows more: its plan would hold for good."""
    newest_s = timeline.versions[-1][0] if timeline.versions else 0
    context = timeline.at(newest_s if file.name.slot_s is None else file.name.slot_s)
    lacking = file.kind.lacks(context)
    if lacking and file.kind.needs_context:
        raise LogFileRefusedError(
            FileReason.NO_CONTEXT,
            "no context lists the flow logs, so whether another one logs the same traffic cannot be seen; capture one "
            f"(metering context capture), or say that none does: --no-context {file.name.source or 'FLOW_LOG_ID'}",
        )
    if lacking:
        raise LogFileRefusedError(
            FileReason.NO_CONTEXT,
            f"no context {lacking}, and what left AWS could not be told from what did not; capture one "
            "(metering context capture)",
        )
