"""Seeded bugs: one-line changes of production code, each of which the suites must find.

Most come from the traps of docs/protocol.md: each was tried by somebody, and fails.
"""

from __future__ import annotations

from dataclasses import dataclass

WORLD = ("tests/unit/commit", "tests/simulation/test_simulation.py", "tests/simulation/test_matrix.py")
LAKE = (
    "tests/simulation/test_interleavings.py",
    "tests/simulation/test_repair.py",
    "tests/simulation/test_simulation.py",
    "tests/simulation/test_matrix.py",
)
STORED = ("tests/property/test_stored_items.py",)
WORK = ("tests/unit/intake/test_work.py",)
SOURCES = ("tests/unit/audit/test_source_keeping.py",)
UNDECIDED = ("tests/unit/audit/test_undecided.py",)
_ANSWERS = ("tests/property/test_answers_agree.py",)
RELEASES = ("tests/unit/fleet/test_versions.py", "tests/unit/fleet/test_upgrade_and_uninstall.py")
CONTENT = ("tests/property/test_content_identity.py",)
NETWORKS = ("tests/networks/test_acceptance.py",)
KNOWLEDGE = ("tests/networks/test_knowledge.py",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One seeded bug.

    Attributes:
        old: Text that is there exactly once in `path`.
        suites: Where it is looked for, in this order.
    """

    name: str
    path: str
    old: str
    new: str
    suites: tuple[str, ...] = WORLD


_PRODUCER = ("tests/unit/producer",)
_RATING = ("tests/unit/billing/rating",)
_PRICES = ("tests/unit/billing/prices/test_offer_files.py",)
_RATING_LAWS = ("tests/property/test_rating.py",)
_BUDGETS = ("tests/unit/billing/budgets",)
_INVOICES = ("tests/unit/billing/invoices", "tests/property/test_invoices_add_up.py")
_EXPORTS = ("tests/unit/reports/exports",)
_WHOLE_MONTHS = ("tests/unit/reports/costs/test_whole_months.py",)
_COSTS = ("tests/property/test_costs_agree.py", "tests/unit/cli/test_cost.py")
_ACCOUNTS = ("tests/unit/billing/day_sums/test_accounts.py",)
_PAGE = ("tests/api/test_page.py",)
_GRANTS = ("tests/infra/test_grants.py",)
_MONTH_CHECK = ("tests/unit/audit/test_month_check.py",)
_FROZEN = ("tests/unit/billing/test_freezing.py",)
_S3_LOGS = ("tests/unit/onramps/test_s3_access.py",)
_EDGE_LOGS = ("tests/unit/onramps/test_cloudfront.py",)
_TRANSIT_LOGS = ("tests/unit/onramps/test_transit_gateway.py",)
_MAPPED_LOGS = ("tests/unit/onramps/test_mapped.py::test_units_are_exact",)

_TRACE = ("tests/unit/reports/trace",)
_DOORS_TRACE = ("tests/unit/reports/batches", "tests/api/test_trace.py")
_DOORS_OPERATORS = ("tests/api/test_operators.py",)

MUTANTS = (
    Mutant(
        name="threads of Arrow read the file of a process that may end",
        path="metering/lake/parquet/row_groups.py",
        old="pre_buffer=False",
        new="pre_buffer=True",
        suites=("tests/unit/lake/test_row_groups.py",),
    ),
    Mutant(
        name="a row's cost is the sum of rounded lines",
        path="metering/reports/costs/rows.py",
        old="exact = size * rated.price",
        new="exact = rated.cost * 2**30",
        suites=_COSTS,
    ),
    Mutant(
        name="usage without a price costs 0",
        path="metering/reports/costs/rows.py",
        old="return self.priced or not self.unpriced",
        new="return True",
        suites=_COSTS,
    ),
    Mutant(
        name="an account has tiers of its own",
        path="metering/reports/costs/source.py",
        old="positions(prices, whole) if kept is None",
        new="positions(prices, whole.of_accounts(self.query.usage.accounts or whole.accounts)) if kept is None",
        suites=_COSTS,
    ),
    Mutant(
        name="a cut is rated with the price of its hour",
        path="metering/reports/costs/columns/tables.py",
        old="number = LINES",
        new="number = 0",
        suites=_COSTS,
    ),
    Mutant(
        name="an account's free bytes are whichever come first in a sum",
        path="metering/reports/costs/columns/whole_months.py",
        old="return len(rows) == 1",
        new="return True",
        suites=_WHOLE_MONTHS,
    ),
    Mutant(
        name="a report that ends within a month is about all of it",
        path="metering/reports/costs/columns/whole_months.py",
        old="return after_s <= query.usage.to_s or not any(",
        new="return True or not any(",
        suites=_WHOLE_MONTHS,
    ),
    Mutant(
        name="sums say which bytes came first",
        path="metering/billing/rating/whole_months.py",
        old="size > allowance.bytes",
        new="size > 2 * allowance.bytes",
        suites=("tests/unit/billing/rating/test_whole_months.py",),
    ),
    Mutant(
        name="GovCloud is the internet",
        path="metering/usage/usage_types.py",
        old='_BILLED_TOGETHER = {"aws", "aws-us-gov"}',
        new='_BILLED_TOGETHER = {"aws"}',
        suites=("tests/unit/usage/test_usage_types.py",),
    ),
    Mutant(
        name="a completed multipart upload brings its object in again",
        path="metering/onramps/s3_access/lines.py",
        old='"REST.PUT.PART", "REST.POST.OBJECT"})',
        new='"REST.PUT.PART", "REST.POST.OBJECT", "REST.POST.UPLOAD"})',
        suites=_S3_LOGS,
    ),
    Mutant(
        name="lines of S3 with one request id are one line",
        path="metering/onramps/s3_access/reader.py",
        old="self._repeats.seen(line)",
        new='self._repeats.seen(line.split(" ")[6])',
        suites=_S3_LOGS,
    ),
    Mutant(
        name="the egress side of a transit gateway is metered, too",
        path="metering/onramps/transit_gateway/rows.py",
        old='if direction == "egress":',
        new='if direction == "egress" and not size_bytes:',
        suites=_TRANSIT_LOGS,
    ),
    Mutant(
        name="an edge that nobody knows bills in the United States",
        path="metering/onramps/cloudfront/rules.py",
        old='areas_by_airport().get(subject.airport, "")',
        new='areas_by_airport().get(subject.airport, "US")',
        suites=_EDGE_LOGS,
    ),
    Mutant(
        name="both logs of a distribution are metered",
        path="metering/onramps/cloudfront/rules.py",
        old='known.log not in ("", subject.version)',
        new='known.log not in ("", "legacy", "v2")',
        suites=_EDGE_LOGS,
    ),
    Mutant(
        name="bytes of a mapped row are cut to whole ones",
        path="metering/onramps/mapped/values.py",
        old="if number != number.to_integral_value():",
        new="if number < 0:",
        suites=_MAPPED_LOGS,
    ),
    Mutant(
        name="bare ADD: markers are put whatever is there",
        path="metering/commit/transaction.py",
        old="item=marker.to_item(), condition=ABSENT_OR_REJECTED)",
        new="item=marker.to_item())",
    ),
    Mutant(
        name="a marker of a refused batch cannot be replaced",
        path="metering/ledger/markers.py",
        old='AnyOf((Absent(), Equals(attribute="verdict", value="rejected")))',
        new="AnyOf((Absent(), Absent()))",
    ),
    Mutant(
        name="the commit item is put whatever is there",
        path="metering/commit/transaction.py",
        old="return Put(table=Table.LEDGER, item=record.to_item(), condition=_NOT_THERE)",
        new="return Put(table=Table.LEDGER, item=record.to_item())",
    ),
    Mutant(
        name="a fenced commit counts as landed",
        path="metering/commit/transaction.py",
        old='landed=_state(item) != "aborted"',
        new="landed=True",
    ),
    Mutant(
        name="commit without asking whether the month is closed",
        path="metering/commit/transaction.py",
        old="for month in self._months]",
        new="for month in ()]",
    ),
    Mutant(
        name="acknowledge what has no verdict",
        path="metering/commit/aggregator.py",
        old="retry=invocation.tally.close()",
        new="retry=()",
    ),
    Mutant(
        name="other content is decided although the first has no verdict",
        path="metering/commit/aggregator.py",
        old="undecided |= {content.group for content in ready if content.verdict is Verdict.PUT_BACK}",
        new="undecided |= set()",
        suites=("tests/unit/commit/test_aggregate.py", *WORLD),
    ),
    Mutant(
        name="objects are written after the transaction",
        path="metering/commit/committer.py",
        old="""            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)
        except LedgerCorruptError as error:
            # The number of shards cannot be read. Batches that need no commit still get their verdict.
            invocation.tally.corrupt(error)
            return _put_back(plan, invocation)
        reply = self._send(body, invocation.deadline)""",
        new="""            reply = self._send(body, invocation.deadline)
            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)
        except LedgerCorruptError as error:
            invocation.tally.corrupt(error)
            return _put_back(plan, invocation)""",
    ),
    Mutant(
        name="swallow a failed write and go on",
        path="metering/commit/committer.py",
        old="""            self._write_objects(body)
        except UnavailableError:
            return _put_back(plan, invocation)""",
        new="""            self._write_objects(body)
        except UnavailableError:
            pass""",
    ),
    Mutant(
        name="an unknown outcome is a success",
        path="metering/commit/committer.py",
        old="        except UnavailableError:\n            return _Reply.UNKNOWN\n",
        new="        except UnavailableError:\n            return _Reply.LANDED\n",
    ),
    Mutant(
        name="commit ids follow from content",
        path="metering/commit/committer.py",
        old="build_commit(plan, self._entropy.token(), settings",
        new="build_commit(plan, plan.batches[0].batch.content_hash, settings",
    ),
    Mutant(
        name="no write-ahead object before the claim",
        path="metering/commit/committer.py",
        old="        if body.write_ahead is not None:\n            self._put(",
        new="        if body.write_ahead is None:\n            self._put(",
    ),
    Mutant(
        name="content dropped without a word",
        path="metering/commit/aggregator.py",
        old="        if candidates:\n            self._committer.commit(candidates, invocation)",
        new="        if candidates[1:]:\n            self._committer.commit(candidates[1:], invocation)",
        suites=("tests/unit/commit/test_aggregate.py",),
    ),
    Mutant(
        name="what nobody mentions is acknowledged",
        path="metering/commit/tally.py",
        old="for ticket in list(self._waiting):",
        new="for ticket in ():",
        suites=("tests/unit/commit/test_verdicts.py",),
    ),
    Mutant(
        name="a retry that does not ask for the verdict of the original",
        path="metering/commit/originals.py",
        old='    if marker is None or marker.verdict != "accepted":\n        return _refused(',
        new='    if marker is None or marker.verdict != "accepted":\n        return candidate\n    if marker is None:\n'
        "        return _refused(",
        suites=("tests/unit/commit/test_retry_orders.py",),
    ),
    Mutant(
        name="a message rewritten through floats",
        path="metering/intake/json_spans.py",
        old="    spans = field_spans(text)\n    for span in reversed(spans):",
        new="    text = json.dumps(json.loads(text))\n    spans = field_spans(text)\n    for span in reversed(spans):",
        suites=("tests/unit/commit/test_retry_orders.py", "tests/property/test_renamed.py"),
    ),
    Mutant(
        name="alias without its condition",
        path="metering/commit/transaction.py",
        old="return Put(table=Table.LEDGER, item=alias.to_item(), condition=_NOT_THERE)",
        new="return Put(table=Table.LEDGER, item=alias.to_item())",
        suites=("tests/unit/commit/test_retry_orders.py",),
    ),
    Mutant(
        name="the original's marker dies before its retry's",
        path="metering/commit/transaction.py",
        old="max(original.expires_at_s, self._marker_expires_at_s)",
        new="original.expires_at_s",
        suites=("tests/unit/commit/test_retry_orders.py",),
    ),
    Mutant(
        name="two times a plan",
        path="metering/commit/committer.py",
        old="        body = build_commit(plan, ",
        new="        plan = CommitPlan(shape=plan.shape, now_ms=self._clock.now_ms(), batches=plan.batches)\n"
        "        body = build_commit(plan, ",
        suites=("tests/unit/commit/test_aggregate.py",),
    ),
    Mutant(
        name="messageId as identity",
        path="metering/commit/deduplication.py",
        old="groups.setdefault(fresh.group, {})",
        new='groups.setdefault((copy.delivery.message_id, ""), {})',
    ),
    Mutant(
        name="a correction does not name what it corrects",
        path="metering/commit/booking.py",
        old="return key._replace(hour_s=now_hour_s, corrects_s=key.hour_s)",
        new="return key._replace(hour_s=now_hour_s)",
    ),
    Mutant(
        name="usage counts in the hour of the worker's clock",
        path="metering/commit/booking.py",
        old="if month_of(hour_s) in closed} if closed else {}",
        new="if hour_s != now_hour_s}",
    ),
    Mutant(
        name="a chunk is applied without its condition",
        path="metering/commit/finisher.py",
        old='AllOf((Equals(attribute="state", value="open"), Equals(attribute="next", value=number)))',
        new='AllOf((Equals(attribute="chunks", value=work.ahead.chunks),))',
    ),
    Mutant(
        name="a commit is applied before its last chunk",
        path="metering/commit/finisher.py",
        old='({"state": "applied"} if number + 1 == work.ahead.chunks else {})',
        new='({"state": "applied"} if number + 2 >= work.ahead.chunks else {})',
    ),
    Mutant(
        name="a refusal overwrites the marker",
        path="metering/commit/verdict_writer.py",
        old="put = Put(table=Table.LEDGER, item=marker.to_item(), condition=Absent())",
        new="put = Put(table=Table.LEDGER, item=marker.to_item())",
    ),
    Mutant(
        name="other content under a known id is a duplicate",
        path="metering/commit/verdicts.py",
        old="return Match.SAME if marker.content_hash == batch.content_hash else Match.OTHER",
        new="return Match.SAME",
    ),
    Mutant(
        name="markers live shorter than the window",
        path="metering/fleet/stage.py",
        old="marker_life_s: int = Field(50 * DAY_S",
        new="marker_life_s: int = Field(9 * DAY_S",
        suites=LAKE,
    ),
    Mutant(
        name="the window is widened without a floor",
        path="metering/intake/admission.py",
        old="max(sent_at_s - self.window_s, self.floor_s)",
        new="sent_at_s - self.window_s",
        suites=("tests/unit/intake",),
    ),
    Mutant(
        name="int64 totals",
        path="metering/usage/totals.py",
        old="return Total(self.bytes + other.bytes,",
        new="return Total((self.bytes + other.bytes + 2**63) % 2**64 - 2**63,",
    ),
    Mutant(
        name="float totals",
        path="metering/usage/totals.py",
        old="return Total(self.bytes + other.bytes,",
        new="return Total(int(float(self.bytes) + float(other.bytes)),",
    ),
    Mutant(
        name="hash of the decodable values only",
        path="metering/intake/content_hash.py",
        old="self._streams[7].update(",
        new="self._streams[7].copy().update(",
        suites=CONTENT,
    ),
    Mutant(
        name="hash of the raw body",
        path="metering/intake/reader.py",
        old="            content_hash=self.assembly.content_hash(),",
        new="            content_hash=body_hash(self.delivery.body),",
        suites=CONTENT,
    ),
    Mutant(
        name="hash without the bytes",
        path="metering/intake/content_hash.py",
        old="columns = (head_index, lengths, resource_ids, sizes, starts, ends)",
        new="columns = (head_index, lengths, resource_ids, starts, starts, ends)",
        suites=CONTENT,
    ),
    Mutant(
        name="two compactors announce the same run",
        path="metering/lake/compactor.py",
        old="put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())",
        new="put = Put(table=Table.LEDGER, item=run.to_item())",
        suites=LAKE,
    ),
    Mutant(
        name="an hour of a commit is planned twice: pending is listed before the newest run is read",
        path="metering/lake/compactor.py",
        old="        self._announce(plan, 1 if latest is None else latest.run + 1)",
        new="        latest = newest_run(self.items, shard)\n"
        "        self._announce(plan, 1 if latest is None else latest.run + 1)",
        suites=LAKE,
    ),
    Mutant(
        name="open commits are planned",
        path="metering/lake/compactor.py",
        old="            if not open_commits:",
        new="            if True:",
        suites=("tests/unit/lake/test_compaction.py", *LAKE),
    ),
    Mutant(
        name="publish without marking",
        path="metering/lake/run_work.py",
        old='            set={"run": run_name(',
        new='            set={"seen": run_name(',
        suites=LAKE,
    ),
    Mutant(
        name="publish before the file is written",
        path="metering/lake/run_work.py",
        old="if self.retrier.call(lambda: self.objects.head(key)) is not None:",
        new="if self.retrier.call(lambda: self.objects.head(key)) is None:",
        suites=LAKE,
    ),
    Mutant(
        name="pending is updated whether it is there or not",
        path="metering/lake/run_work.py",
        old="            condition=_THERE,\n",
        new="",
        suites=LAKE,
    ),
    Mutant(
        name="pending is deleted with hours left",
        path="metering/lake/run_work.py",
        old='        if "hours" in left:\n            return\n        emptied = '
        "Delete(table=Table.LEDGER, key=key, condition=_NO_HOURS)",
        new="        emptied = Delete(table=Table.LEDGER, key=key)",
        suites=LAKE,
    ),
    Mutant(
        name="staging is deleted when one hour of a commit is done",
        path="metering/lake/plan.py",
        old="in taken.items() if len(taken_hours) == left[commit_id]))",
        new="in taken.items() if len(taken_hours) <= left[commit_id]))",
        suites=LAKE,
    ),
    Mutant(
        name="an orphan is removed while its transaction may still land",
        path="metering/lake/orphans.py",
        old="        except (ConditionFailedError, UnavailableError):\n            return False",
        new="        except (ConditionFailedError, UnavailableError):\n            return True",
        suites=LAKE,
    ),
    Mutant(
        name="an orphan is removed by its age alone",
        path="metering/lake/orphans.py",
        old="return [*found.staged, *found.quarantined] if self._fence(commit_id) else []",
        new="return [*found.staged, *found.quarantined]",
        suites=LAKE,
    ),
    Mutant(
        name="a reader reads pointers before published hours",
        path="metering/lake/view.py",
        old="""            published = self._published(hour_s)
            pointers = self._pointers(hour_s)
            look""",
        new="""            pointers = self._pointers(hour_s)
            published = self._published(hour_s)
            look""",
        suites=LAKE,
    ),
    Mutant(
        name="a reader takes a marked pointer as published",
        path="metering/lake/view.py",
        old="        if pointer.run not in runs",
        new="        if not pointer.run",
        suites=LAKE,
    ),
    Mutant(
        name="a repair does not look at rev",
        path="metering/audit/rebuild.py",
        old="Equals(attribute=attribute, value=rev)",
        new='Absent(attribute="nothing")',
        suites=LAKE,
    ),
    Mutant(
        name="hours of one usage item overwrite each other in a commit",
        path="metering/commit/write_ahead.py",
        old="items.setdefault(usage_key(key, suffix), {})[key.hour_s] = total",
        new="items[usage_key(key, suffix)] = {key.hour_s: total}",
    ),
    Mutant(
        name="all hours of a day count in its first",
        path="metering/ledger/usage_items.py",
        old="return _NAMES_OF_HOUR[hour_s % DAY_S // HOUR_S]",
        new="return _NAMES_OF_HOUR[0]",
    ),
    Mutant(
        name="markers are made anew whatever is there",
        path="metering/audit/rebuild.py",
        old="condition=ABSENT_OR_REJECTED",
        new="condition=None",
        suites=LAKE,
    ),
    Mutant(
        name="markers are rebuilt while a commit is open",
        path="metering/audit/rebuild.py",
        old="unstable = self._open_hours()",
        new="unstable: set[int] = set()",
        suites=LAKE,
    ),
    Mutant(
        name="an hour is settled while a commit has booked a part of it",
        path="metering/audit/reconcile/reconciler.py",
        old="stable=same and not unfinished,",
        new="stable=same,",
        suites=("tests/unit/audit/test_reconcile_tick.py",),
    ),
    Mutant(
        name="a month has several names",
        path="metering/hours.py",
        old='if first.strftime("%Y-%m") != month:',
        new="if not month:",
        suites=("tests/unit/test_hours.py",),
    ),
    Mutant(
        name="an unknown commit state reads as aborted",
        path="metering/ledger/commits.py",
        old='state = fields.one_of("state", _COMMIT_STATES)',
        new='state = fields.one_of("state", _COMMIT_STATES) if item.get("state") in _COMMIT_STATES else "aborted"',
        suites=("tests/unit/ledger/test_corrupt_items.py", *STORED),
    ),
    Mutant(
        name="a missing number reads as 0",
        path="metering/stores/fields.py",
        old='return self._absent(name, absent, f"a whole number from {least}")',
        new="return 0",
        suites=STORED,
    ),
    Mutant(
        name="a truth value is a number",
        path="metering/stores/fields.py",
        old="if type(value) is int and value >= least:",
        new="if isinstance(value, int) and value >= least:",
        suites=STORED,
    ),
    Mutant(
        name="a marker that cannot be read takes its whole commit back to the queue",
        path="metering/commit/transaction.py",
        old="            corrupt[meaning.place] = error",
        new="            raise error",
        suites=("tests/unit/ledger/test_corrupt_items.py",),
    ),
    Mutant(
        name="shards lowered: the old ones are not listed",
        path="metering/ledger/shards.py",
        old="return range(max(shards, _used(items)))",
        new="return range(shards)",
        suites=("tests/unit/ledger/test_shards.py", "tests/simulation/test_simulation.py"),
    ),
    Mutant(
        name="the number of shards is remembered by nobody",
        path="metering/ledger/shards.py",
        old="self._known = shards == 1",
        new="self._known = True",
        suites=("tests/unit/ledger/test_shards.py", "tests/simulation/test_simulation.py"),
    ),
    Mutant(
        name="a late write lowers the number of shards",
        path="metering/ledger/shards.py",
        old='condition = Absent() if item is None else Equals(attribute="number", value=used)',
        new="condition = None",
        suites=("tests/unit/ledger/test_shards.py",),
    ),
    Mutant(
        name="a number of shards that cannot be read stops the whole invocation",
        path="metering/commit/committer.py",
        old="        except LedgerCorruptError as error:\n            # The number of shards cannot be read.",
        new="        except ZeroDivisionError as error:\n            # The number of shards cannot be read.",
        suites=("tests/unit/commit/test_aggregate.py",),
    ),
    Mutant(
        name="a remembered one is written as if there were none",
        path="metering/ledger/shards.py",
        old="Absent() if item is None else Equals",
        new="Absent() if used == 1 else Equals",
        suites=("tests/unit/ledger/test_shards.py",),
    ),
    Mutant(
        name="notes take the time of verdicts",
        path="metering/commit/held.py",
        old="if until.remaining_ms() > 0:",
        new="if until.remaining_ms() > -(10**9):",
        suites=("tests/unit/commit/test_aggregate.py",),
    ),
    Mutant(
        name="the first watch takes the queue for empty",
        path="metering/operations/watch.py",
        old="queue_empty_s=0)",
        new="queue_empty_s=self._now_s())",
        suites=("tests/unit/operations/test_watch.py",),
    ),
    Mutant(
        name="settings not read: commands use defaults",
        path="metering/wiring/connection.py",
        old="published = read_settings(self.clients, self.stage)",
        new="published = __import__('metering.fleet.stage').config.StageConfig.load(self.stage).published()",
        suites=("tests/unit/adapters/aws/test_stage_settings.py",),
    ),
    Mutant(
        name="a redeployment forgets what --set gave",
        path="metering/fleet/settings/layers.py",
        old="return by_file, {**earlier, **asked.options}",
        new="return by_file, {**asked.options}",
        suites=("tests/unit/fleet/settings/test_layers.py",),
    ),
    Mutant(
        name="an earlier --set wins over the file",
        path="metering/fleet/settings/layers.py",
        old="in held.by_option.items() if name not in named}",
        new="in held.by_option.items()}",
        suites=("tests/unit/fleet/settings/test_layers.py",),
    ),
    Mutant(
        name="another subscription stops every command",
        path="metering/stage_settings.py",
        old='return self.model_copy(update={"given": None}).sha256',
        new="return self.sha256",
        suites=("tests/unit/adapters/aws/test_stage_settings.py",),
    ),
    Mutant(
        name="settings whose hash differs are worked with",
        path="metering/stage_settings.py",
        old="if document_sha256(text) != sha256:\n            raise SettingsError",
        new="if False:\n            raise SettingsError",
        suites=("tests/unit/adapters/aws/test_stage_settings.py",),
    ),
    Mutant(
        name="one pass of verify is enough for counted twice",
        path="metering/audit/verify/equality.py",
        old="                doubtful[hour_s] = seen.doubt()\n",
        new="                parts.append(_named(seen))\n",
        suites=("tests/simulation/test_verify.py",),
    ),
    Mutant(
        name="verify asks only before whether all is settled",
        path="metering/audit/verify/verifier.py",
        old="at_rest = at_rest and self._rest()[1] and not",
        new="at_rest = at_rest and not",
        suites=("tests/simulation/test_verify.py",),
    ),
    Mutant(
        name="verify does not look again at a batch without a verdict",
        path="metering/audit/verify/verifier.py",
        old="        facts.look_again(self.items, sorted(names))\n",
        new="",
        suites=("tests/simulation/test_verify.py",),
    ),
    Mutant(
        name="verify says something of hours that have an open commit",
        path="metering/audit/verify/equality.py",
        old="stable=found.stable and hour_s not in unfinished | earlier",
        new="stable=found.stable",
        suites=("tests/simulation/test_verify.py",),
    ),
    Mutant(
        name="a range off the hour is cut without a word",
        path="metering/reports/time_range.py",
        old="if text and moment_s % HOUR_S:",
        new="if text and moment_s < 0:",
        suites=("tests/unit/reports/test_ranges.py",),
    ),
    Mutant(
        name="the rest of a report's first rows is left out",
        path="metering/reports/ranking.py",
        old="    rest = [] if query.top is None else rows[query.top :]\n",
        new="    rest = rows[:0]\n",
        suites=_ANSWERS,
    ),
    Mutant(
        name="a day of a zone is the day of UTC that the usage table keeps",
        path="metering/reports/query.py",
        old='"hour" in self.group_by or (self.zone is not UTC and not _BUCKETS.isdisjoint(self.group_by))',
        new='"hour" in self.group_by',
        suites=_ANSWERS,
    ),
    Mutant(
        name="SQL counts the canary and reports do not",
        path="metering/reports/sql/scan.py",
        old="hides = not self.with_canary and group.may_have_canary",
        new="hides = False",
        suites=_ANSWERS,
    ),
    Mutant(
        name="days that begin within an hour are summed of hours",
        path="metering/reports/query.py",
        old="not _BUCKETS.isdisjoint(columns) and splits_an_hour(from_s, to_s, zone)",
        new="not _BUCKETS.isdisjoint(columns) and from_s > to_s",
        suites=("tests/unit/reports/test_times.py",),
    ),
    Mutant(
        name="a name without usage is a quiet 0",
        path="metering/reports/names.py",
        old="    if seen.complete:\n",
        new="    if seen is not None:\n",
        suites=("tests/unit/cli/test_questions.py",),
    ),
    Mutant(
        name="details of an hour that a range cuts are all of its rows",
        path="metering/lake/parquet/reader.py",
        old="table if times is None else table.filter(taken(times, source.hour_s))",
        new="table",
        suites=("tests/unit/reports/test_ranges.py",),
    ),
    Mutant(
        name="a listing goes on by the last key",
        path="metering/adapters/aws/s3/objects.py",
        old='            place = {"ContinuationToken": token}',
        new='            place = {"StartAfter": entry["Key"]}',
        suites=("tests/unit/adapters/aws/test_objects.py",),
    ),
    Mutant(
        name="an offset may have 60 minutes and more",
        path="metering/intake/instants.py",
        old='    f"([Zz]|[+-]{_TO_23}:{_TO_59})"',
        new='    f"([Zz]|[+-]{_TO_23}:[0-9][0-9])"',
        suites=("tests/unit/intake/test_instants.py",),
    ),
    Mutant(
        name="the filter of a query is left to nobody",
        path="metering/reports/sql/scan.py",
        old="            table = table.filter(self.where)\n",
        new="            pass\n",
        suites=("tests/unit/reports/test_scan.py",),
    ),
    Mutant(
        name="row groups are judged as if all of them were of one hour",
        path="metering/reports/sql/scan.py",
        old='(ds.field("hour") == instant(part.hour_s))',
        new='(ds.field("hour") == instant(1_795_525_200))',
        suites=("tests/unit/reports/test_scan_filters.py",),
    ),
    Mutant(
        name="zeros behind a gzip stream end with the step that they begin in",
        path="metering/intake/formats/compression.py",
        old="            if not begun:\n",
        new="            if not begun and rest is not step:\n",
        suites=("tests/unit/intake/test_objects.py",),
    ),
    Mutant(
        name="a query waits for a read as long as it takes",
        path="metering/reports/sql/query.py",
        old="answer.result(timeout=min(timeout_s, TIMEOUT_MAX))",
        new="answer.result(timeout=20)",
        suites=("tests/unit/reports/test_scan.py",),
    ),
    Mutant(
        name="a month is frozen without asking usage and markers for its hours",
        path="metering/billing/closing/closer.py",
        old="        if not wrong:\n            return\n",
        new="        return\n",
        suites=("tests/unit/billing/test_months.py",),
    ),
    Mutant(
        name="the manifest of a month is put before the objects that it names",
        path="metering/billing/closing/freezing.py",
        old="                self._put(month, accounts, made.accounts)\n",
        new="                self._put_manifest(closed)\n                self._put(month, accounts, made.accounts)\n",
        suites=_FROZEN,
    ),
    Mutant(
        name="an hour that is there already is not compared",
        path="metering/billing/closing/freezing.py",
        old="        if (found.rows, found.digest) != (rows.rows, rows.digest):",
        new="        if found.rows < 0:",
        suites=_FROZEN,
    ),
    Mutant(
        name="other rows than the compared ones are frozen",
        path="metering/billing/closing/freezing.py",
        old="        if file.digest != compared:",
        new="        if not compared and file.digest:",
        suites=_FROZEN,
    ),
    Mutant(
        name="the check of a month does not compare markers batch by batch",
        path="metering/audit/reconcile/month_check.py",
        old="if with_markers and fingerprint(batches.items()) != markers:",
        new="if with_markers and fingerprint(batches.items()).total != markers.total:",
        suites=_MONTH_CHECK,
    ),
    Mutant(
        name="the check of a month does not ask whether usage changed meanwhile",
        path="metering/audit/reconcile/month_check.py",
        old="            and booked[hour_s].revisions == again[hour_s].revisions\n",
        new="",
        suites=_MONTH_CHECK,
    ),
    Mutant(
        name="totals beside a file leave corrections out",
        path="metering/lake/parquet/summaries.py",
        old="    return sorted_usage(pa.table(columns, schema=USAGE_SCHEMA))",
        new="    own = pa.table(columns, schema=USAGE_SCHEMA)\n"
        '    return sorted_usage(own.filter(pc.is_null(own.column("corrects"))))',
        suites=("tests/unit/lake/test_totals.py",),
    ),
    Mutant(
        name="a lake file is put before its totals",
        path="metering/lake/run_work.py",
        old="            self.objects.put(summary_key(planned.key), merged.summary, if_absent=True)\n"
        "            self.objects.put(planned.key, merged.content, if_absent=True)\n",
        new="            self.objects.put(planned.key, merged.content, if_absent=True)\n"
        "            self.objects.put(summary_key(planned.key), merged.summary, if_absent=True)\n",
        suites=("tests/unit/lake/test_totals.py",),
    ),
    Mutant(
        name="the aggregator may delete markers",
        path="infra/stacks/pipeline.py",
        old="    data.ledger.grant_change(role)\n    # A commit checks",
        new="    data.ledger.grant_read_write(role)\n    # A commit checks",
        suites=_GRANTS,
    ),
    Mutant(
        name="who only looks may put markers",
        path="infra/stacks/pipeline.py",
        old='_NOTES = f"{partitions.NOTE}*"',
        new='_NOTES = "*"',
        suites=_GRANTS,
    ),
    Mutant(
        name="a call that names no partition may delete",
        path="infra/components/tables.py",
        old='{**held, "Null": {_LEADING_KEYS: "false"}}',
        new="held",
        suites=_GRANTS,
    ),
    Mutant(
        name="a missing key is forbidden",
        path="infra/components/bucket.py",
        old='operator="StringLikeIfExists"',
        new='operator="StringLike"',
        suites=_GRANTS,
    ),
    Mutant(
        name="the bucket refuses its own default encryption",
        path="infra/components/bucket.py",
        old='{"Null": {_ENCRYPTION: "false"}, "StringNotEquals": {_ENCRYPTION: "AES256"}}',
        new='{"StringNotEquals": {_ENCRYPTION: "AES256"}}',
        suites=("tests/infra/test_bucket.py",),
    ),
    Mutant(
        name="Lambda runs a failed tick again",
        path="infra/components/functions.py",
        old="configure_async_invoke(retry_attempts=0,",
        new="configure_async_invoke(retry_attempts=2,",
        suites=("tests/infra/test_stacks.py",),
    ),
    Mutant(
        name="a partition without the account API is asked",
        path="metering/adapters/aws/fleet/account.py",
        old="custom_endpoint or has_account_api(client.meta.partition)",
        new="True",
        suites=("tests/unit/adapters/aws/test_account.py",),
    ),
    Mutant(
        name="an object that is denied is put back without a word",
        path="metering/adapters/aws/s3/ranges.py",
        old="_LOG.error(",
        new="_LOG.debug(",
        suites=("tests/unit/adapters/aws/test_objects.py",),
    ),
    Mutant(
        name="head text is kept before it is judged",
        path="metering/intake/content_hash.py",
        old="default=0) <= MAX_HEAD_CHARS:",
        new="default=0) <= MAX_HEAD_CHARS * 2**20:",
        suites=WORK,
    ),
    Mutant(
        name="times of any length are kept",
        path="metering/intake/formats/json_records.py",
        old="        return instant_of(value)\n",
        new="        instant = self[value] = instant_of(value)\n        return instant\n",
        suites=WORK,
    ),
    Mutant(
        name="no deadline in decompression",
        path="metering/intake/formats/compression.py",
        old="            if offset % _LOOK_EVERY_BYTES == 0:\n                work.look()\n",
        new="",
        suites=WORK,
    ),
    Mutant(
        name="no deadline in the patient parser",
        path="metering/intake/work.py",
        old="            self._looked_at_bytes = self._patient_bytes\n            self.look()\n",
        new="            self._looked_at_bytes = self._patient_bytes\n",
        suites=WORK,
    ),
    Mutant(
        name="blank lines are free",
        path="metering/intake/formats/ndjson.py",
        old="        work.skip(len(lines) - len(found))\n",
        new="",
        suites=WORK,
    ),
    Mutant(
        name="members are free",
        path="metering/intake/work.py",
        old="        self._members += 1\n",
        new="",
        suites=WORK,
    ),
    Mutant(
        name="a dictionary of long resource ids unfolds at once",
        path="metering/intake/formats/arrow_records.py",
        old="if size and size + length > _PIECE_BYTES:",
        new="if not size and size + length > _PIECE_BYTES:",
        suites=WORK,
    ),
    Mutant(
        name="the first time out of time refuses",
        path="metering/commit/shares.py",
        old="final=delivery.receive_count >= REFUSED_FROM_RECEIVE and",
        new="final=",
        suites=("tests/unit/commit/test_aggregate.py",),
    ),
    Mutant(
        name="a slow message takes all the time there is",
        path="metering/commit/shares.py",
        old="share_ms = usable_ms // (_ALONE_PARTS if suspect else _TOGETHER_PARTS)",
        new="share_ms = usable_ms // (_ALONE_PARTS if suspect else 1)",
        suites=("tests/unit/commit/test_aggregate.py",),
    ),
    Mutant(
        name="listing dead letters parses whatever they hold",
        path="metering/intake/glance.py",
        old="if len(text) <= _SHORT_BYTES:",
        new="if text:",
        suites=("tests/unit/operations/test_dead_letters.py",),
    ),
    Mutant(
        name="dead letters hold nothing back",
        path="metering/audit/undecided.py",
        old="unseen=dead > 0 or len(held) > NOTES_READ,",
        new="unseen=len(held) > NOTES_READ,",
        suites=UNDECIDED,
    ),
    Mutant(
        name="a message holds nothing back once the queue's age leaves it out",
        path="metering/ledger/notes/queue_memory.py",
        old="decided_s = _least(min(least_s, before_s), look.held_s)",
        new="decided_s = _least(look.left_s, look.held_s)",
        suites=UNDECIDED,
    ),
    Mutant(
        name="a redriven batch holds nothing back until it dies again",
        path="metering/ledger/notes/queue_memory.py",
        old="unseen_s = look.ended_s if look.unseen or self.unseen else self.unseen_s",
        new="unseen_s = 0",
        suites=UNDECIDED,
    ),
    Mutant(
        name="gap list unbounded",
        path="metering/audit/sequences.py",
        old="        dropped = self.gaps[:-GAPS_KEPT]",
        new="        return self",
        suites=SOURCES,
    ),
    Mutant(
        name="one source's error ends the pass",
        path="metering/audit/source_keeping.py",
        old="        except MeteringError:\n            tally.miss(source_id)",
        new="        except MeteringError:\n            raise",
        suites=SOURCES,
    ),
    Mutant(
        name="a jump of any size is a gap",
        path="metering/audit/sequences.py",
        old="if sequence - last - 1 > largest_jump:",
        new="if sequence - last - 1 > largest_jump**9:",
        suites=SOURCES,
    ),
    Mutant(
        name="a forgotten source is derived from its old markers again",
        path="metering/audit/source_keeping.py",
        old="found = found.after(memory.forgotten_ms)",
        new="found = found.after(0)",
        suites=SOURCES,
    ),
    Mutant(
        name="a pass that left something has finished",
        path="metering/audit/reconcile/state.py",
        old="last.finished_s if check.skipped else",
        new="last.finished_s if False else",
        suites=("tests/unit/audit/test_reconcile_tick.py",),
    ),
    Mutant(
        name="the sweep of each minute is told of no open commit",
        path="metering/ledger/waiting_commits.py",
        old="for commit in oldest[:_OPEN_NAMED])",
        new="for commit in oldest[:0])",
        suites=("tests/unit/commit/test_finish.py", "tests/unit/audit/test_freshness.py"),
    ),
    Mutant(
        name="a long text that is to be copied stays in its field, beyond the window",
        path="metering/cli/printing/layout.py",
        old="if field.is_copied and cell_len(text) > room:",
        new="if field.is_copied and cell_len(text) > room + 1_000:",
        suites=("tests/unit/cli/test_layout.py", "tests/cli/test_formats.py"),
    ),
    Mutant(
        name="a number is shortened like a text",
        path="metering/cli/printing/fields.py",
        old='return self._is_text and self.column.text == "short"',
        new='return self.column.text == "short"',
        suites=("tests/unit/cli/test_layout.py", "tests/cli/test_formats.py"),
    ),
    Mutant(
        name="a column whose texts stand below the rows keeps an empty field",
        path="metering/cli/printing/fields.py",
        old="if field.is_outside(room)]",
        new="if field.is_outside(room + 1_000)]",
        suites=("tests/unit/cli/test_layout.py",),
    ),
    Mutant(
        name="columns that were left out are not named",
        path="metering/cli/printing/layout.py",
        old="    if not names:\n        return []",
        new="    if names:\n        return []",
        suites=("tests/unit/cli/test_layout.py", "tests/cli/test_formats.py"),
    ),
    Mutant(
        name="code deploys over data of a format that it does not know",
        path="metering/fleet/versions.py",
        old="if own.data_format < data_format:",
        new="if own.data_format < 0:",
        suites=RELEASES,
    ),
    Mutant(
        name="an older version is told as an upgrade",
        path="metering/fleet/versions.py",
        old="return Direction.UPGRADE if order(own.version) > order(deployed.version) else Direction.ROLLBACK",
        new="return Direction.UPGRADE",
        suites=RELEASES,
    ),
    Mutant(
        name="an uninstall deletes the objects that the stage retains",
        path="metering/fleet/uninstall.py",
        old='if any(each.kind == "AWS::S3::Bucket" and not each.retained for each in data):',
        new='if any(each.kind == "AWS::S3::Bucket" for each in data):',
        suites=RELEASES,
    ),
    Mutant(
        name="the home region leaves before the regions whose states it keeps",
        path="metering/fleet/uninstall.py",
        old="return sorted(there, key=lambda name: name == home)",
        new="return sorted(there, key=lambda name: name != home)",
        suites=RELEASES,
    ),
    Mutant(
        name="messages out of sight are not among what holds reports back",
        path="metering/audit/undecided.py",
        old="        if not memory.calm:\n",
        new="        if False:\n",
        suites=("tests/unit/audit/test_freshness.py", *UNDECIDED),
    ),
    Mutant(
        name="held back, and nothing is named",
        path="metering/audit/freshness.py",
        old="held_by=tuple(holds),",
        new="held_by=(),",
        suites=("tests/unit/audit/test_freshness.py", *UNDECIDED),
    ),
    Mutant(
        name="an old measurement is given as a fresh one",
        path="metering/audit/held_back.py",
        old="elif now_s - known.measured_s > STALE_S:",
        new="elif now_s - known.measured_s > STALE_S**9:",
        suites=("tests/unit/audit/test_freshness.py",),
    ),
    Mutant(
        name="a close ignores its checklist",
        path="metering/billing/closing/checklist.py",
        old="        self.look(checklist.month).demand(accepted)\n        return self.closer",
        new="        return self.closer",
        suites=("tests/unit/billing/test_checklist.py",),
    ),
    Mutant(
        name="the byte at a boundary belongs to the upper tier",
        path="metering/billing/rating/positions.py",
        old="Cut(*line[:6], free + bound - paid))",
        new="Cut(*line[:6], free + bound - paid - 1))",
        suites=_RATING,
    ),
    Mutant(
        name="half of a line's last decimal goes to the even digit",
        path="metering/billing/money.py",
        old="(quantity * price + _HALF_UNITS) //",
        new="(quantity * price + _HALF_UNITS - 1 + (quantity * price // UNITS_A_USD & 1)) //",
        suites=("tests/unit/billing/test_money.py",),
    ),
    Mutant(
        name="an allowance goes to the earliest bytes, whatever the book says",
        path="metering/billing/rating/allowances.py",
        old="""if allowance.order == "chronological":""",
        new="if allowance.order:",
        suites=_RATING,
    ),
    Mutant(
        name="an allowance goes to the cheapest product first",
        path="metering/billing/rating/allowances.py",
        old="return -prices.price_of(",
        new="return prices.price_of(",
        suites=_RATING,
    ),
    Mutant(
        name="the prices at the end of a month are those of all its hours",
        path="metering/billing/rating/scales.py",
        old="version = product.version_at(hour_s)",
        new="version = product.versions[-1]",
        suites=_RATING,
    ),
    Mutant(
        name="an account with a price of its own begins at tier 0",
        path="metering/billing/rating/rater.py",
        old="cuts = self._positions.skus.get(product.sku, SkuPositions())",
        new="cuts = SkuPositions() if account_id else self._positions.skus.get(product.sku, SkuPositions())",
        suites=_RATING,
    ),
    Mutant(
        name="a correction begins at tier 0",
        path="metering/billing/rating/corrections.py",
        old="(stretch.span.from_s, stretch.late, stretch.from_s)",
        new="(stretch.span.from_s, not stretch.late, stretch.from_s)",
        suites=_RATING,
    ),
    Mutant(
        name="what late usage moves is not adjusted",
        path="metering/billing/rating/corrections.py",
        old="        if was[1:] != now[1:]:",
        new="        if was[1:] != now[1:] and not was.allowance:",
        suites=_RATING,
    ),
    Mutant(
        name="free bytes take positions in the tiers",
        path="metering/billing/rating/positions.py",
        old="self.paid_bytes + stretch.bytes - free",
        new="self.paid_bytes + stretch.bytes",
        suites=_RATING,
    ),
    Mutant(
        name="an override of a payer beats that of its account",
        path="metering/billing/rating/payer_prices.py",
        old="for overrides in (self._of_account.get(account_id, ()), self._of_payer):",
        new="for overrides in (self._of_payer, self._of_account.get(account_id, ())):",
        suites=("tests/unit/billing/rating/test_payer_prices.py",),
    ),
    Mutant(
        name="a day in which an override of an account ends is priced as one",
        path="metering/billing/rating/rater.py",
        old="scales += (self._scale_of_one(sold, account_id) for account_id in self.accounts_apart(sold))",
        new="scales += ()",
        suites=("tests/unit/billing/rating/test_positions.py",),
    ),
    Mutant(
        name="a log file that comes again is judged by the newest context",
        path="metering/onramps/ingest/planning.py",
        old="timeline = self.contexts.pinned(plan.contexts) if plan.contexts else Timeline()",
        new="timeline = self.contexts.timeline() if plan.contexts else Timeline()",
        suites=NETWORKS,
    ),
    Mutant(
        name="a log file's identity follows from where it lies",
        path="metering/onramps/names.py",
        old="""        identity=identity_of("flow", unpacked_name(name)),""",
        new="""        identity=identity_of("flow", unpacked_name(key)),""",
        suites=NETWORKS,
    ),
    Mutant(
        name="equal lines of a flow log are counted once",
        path="metering/onramps/formats/flows/sums.py",
        old="""        table = table.filter(judge.live)
""",
        new="""        table = table.filter(judge.live)
    table = table.group_by(table.column_names, use_threads=False).aggregate([])
""",
        suites=NETWORKS,
    ),
    Mutant(
        name="rejected lines of a flow log are metered",
        path="metering/onramps/formats/flows/judging.py",
        old="""        found = self._take(rows_with(action, lambda word: word == "REJECT"))""",
        new="""        found = self._take(rows_with(action, lambda word: word == "DROP"))""",
        suites=NETWORKS,
    ),
    Mutant(
        name="the journey is metered and not the hop: what an instance has from a NAT gateway comes from the internet",
        path="metering/onramps/rules/hop.py",
        old="            return self.own.public is True",
        new="            return self.own.public is not None",
        suites=KNOWLEDGE,
    ),
    Mutant(
        name="accounts of flow logs are numbers",
        path="metering/onramps/formats/flows/texts.py",
        old="""        return self._account_id if word in ("", _UNKNOWN) else word""",
        new="""        return self._account_id if word in ("", _UNKNOWN) else str(int(word))""",
        suites=NETWORKS,
    ),
    Mutant(
        name="a new flow log gets the authority inside an hour",
        path="metering/onramps/context/authority.py",
        old="[log for log in seen if log.created_s <= hour_s]",
        new="[log for log in seen if log.created_s <= hour_s + 3_599]",
        suites=NETWORKS,
    ),
    Mutant(
        name="of nested address ranges the widest decides",
        path="metering/onramps/context/address_ranges.py",
        old="        narrowest = values[-1]",
        new="        narrowest = values[0]",
        suites=KNOWLEDGE,
    ),
    Mutant(
        name="a prefix of S3 and EC2 is one of instances",
        path="metering/onramps/rules/conditions.py",
        old="""("EC2" in hop.peer.services and _INSTANCES.issuperset(hop.peer.services))""",
        new="""("EC2" in hop.peer.services)""",
        suites=KNOWLEDGE,
    ),
    Mutant(
        name="targets of a load balancer in another zone are charged",
        path="metering/onramps/rules/hop_rules.json",
        old="""    "ipv4": ["application_load_balancer", "classic_load_balancer"]
  },
  "charged_across_zones": [""",
        new="""    "ipv4": ["classic_load_balancer"]
  },
  "charged_across_zones": ["application_load_balancer", """,
        suites=KNOWLEDGE,
    ),
    Mutant(
        name="two flow logs of one interface both count",
        path="metering/onramps/rules/flow_classifier.py",
        old="        return None if authority is None or authority.id == self._log_id else Shadowed(authority.id)",
        new="        return None if authority is None or self._log_id else Shadowed(authority.id)",
        suites=NETWORKS,
    ),
    Mutant(
        name="an interface of unknown kind is an instance",
        path="metering/onramps/rules/hop.py",
        old="""        return self.peer.kind if self.by_address and self.peer is not None else \"\"
""",
        new="""        return (self.peer.kind or "interface") if self.by_address and self.peer is not None else ""
""",
        suites=KNOWLEDGE,
    ),
    Mutant(
        name="the allowance of the whole world is a price of 0",
        path="metering/billing/prices/offers/products.py",
        old="product.attributes.usagetype.startswith(GLOBAL)",
        new="product.attributes.usagetype == GLOBAL",
        suites=_PRICES,
    ),
    Mutant(
        name="where a range of prices begins is not read",
        path="metering/billing/prices/offers/products.py",
        old='self._read(bytes_of_gb, dimension.begin_range, f"{where}, beginRange")',
        new="0",
        suites=_PRICES,
    ),
    Mutant(
        name="a price is what its description says",
        path="metering/billing/prices/offers/file.py",
        old="        terms = tuple(msgspec.convert(value, dict[str, Term]).values())",
        new="""        for term in value.values():
            for one in term["priceDimensions"].values():
                one["pricePerUnit"]["USD"] = one["description"].split(" ")[0].lstrip("$")
        terms = tuple(msgspec.convert(value, dict[str, Term]).values())""",
        suites=_PRICES,
    ),
    Mutant(
        name="a usage type is found by its end",
        path="metering/billing/prices/matching.py",
        old="for product in book.by_usage_type.get(sold.usage_type, ()):",
        new="for product in (each for each in book.products if sold.usage_type.endswith(each.usage_type)):",
        suites=_PRICES,
    ),
    Mutant(
        name="of two price books at once, the second one takes the number of the first",
        path="metering/billing/documents/versions.py",
        old="self._objects.put(made.key, made.body, if_absent=True)",
        new="self._objects.put(made.key, made.body, if_absent=False)",
        suites=("tests/unit/billing/test_versions.py",),
    ),
    Mutant(
        name="an alert without its condition",
        path="metering/billing/budgets/alerts.py",
        old="item=alert.to_item(), condition=Absent()))",
        new="item=alert.to_item()))",
        suites=_BUDGETS,
    ),
    Mutant(
        name="an alert is marked as sent before it is sent",
        path="metering/billing/budgets/alerts.py",
        old="""                self.alerts.send(alert.severity, alert.subject, {"id": alert.id, **alert.fields})
                self._mark(alert)
""",
        new="""                self._mark(alert)
                self.alerts.send(alert.severity, alert.subject, {"id": alert.id, **alert.fields})
""",
        suites=_BUDGETS,
    ),
    Mutant(
        name="a forecast that is linear in cost",
        path="metering/billing/budgets/forecasts.py",
        old="        rater = Rater(prices, positions(prices, usage))",
        new="""        rater = Rater(prices, positions(prices, ExpectedUsage(self.month, {}, {}, "", self.shares)))""",
        suites=_BUDGETS,
    ),
    Mutant(
        name="a threshold is crossed only beyond its amount",
        path="metering/billing/budgets/budget.py",
        old="        return value * _WHOLE >= amount * self.percent",
        new="        return value * _WHOLE > amount * self.percent",
        suites=_BUDGETS,
    ),
    Mutant(
        name="the mean of earlier weeks is what is usual",
        path="metering/billing/budgets/anomalies.py",
        old="""    usual = median(before)
    above = size - usual
    deviation""",
        new="""    usual = sum(before) / len(before)
    above = size - usual
    deviation""",
        suites=_BUDGETS,
    ),
    Mutant(
        name="a budget of a closed month is evaluated",
        path="metering/billing/budgets/turn.py",
        old="                if self.months.is_closed(period.month) or (ended",
        new="                if (ended",
        suites=_BUDGETS,
    ),
    Mutant(
        name="an invoice is the cents of its exact sum",
        path="metering/billing/invoices/document.py",
        old="""        return sum(line.cents for line in self.all_lines)""",
        new="""        return self.exact * 100 // EXACT_A_USD""",
        suites=_INVOICES,
    ),
    Mutant(
        name="a credit note is the difference to the invoice alone",
        path="metering/billing/invoices/credits.py",
        old="        return difference(target, [each.invoice for each in billed], note)",
        new="        return difference(target, [billed[0].invoice], note)",
        suites=_INVOICES,
    ),
    Mutant(
        name="a correction is priced at the positions of the month that books it",
        path="metering/billing/invoices/composing.py",
        old="        frozen = self.booked_in(corrects, rates).of(subject.payer_id)",
        new="        frozen = self.booked_in(subject.month, rates).of(subject.payer_id)",
        suites=_INVOICES,
    ),
    Mutant(
        name="a correction forgets those before it",
        path="metering/billing/invoices/composing.py",
        old="        billed = Together(frozen, LateUsage(corrects, before))",
        new="        billed = Together(frozen, LateUsage(corrects, [] and before))",
        suites=_INVOICES,
    ),
    Mutant(
        name="an invoice is issued although a region is open",
        path="metering/billing/invoices/readiness.py",
        old="sorted(set(among or self.usage.regions) - closed.keys() - self.usage.left_out.keys())",
        new="sorted(set(among or closed) - closed.keys() - self.usage.left_out.keys())",
        suites=_INVOICES,
    ),
    Mutant(
        name="inputs of a month are replaced by whoever issues next",
        path="metering/billing/invoices/store.py",
        old="        if self.objects.put(key, _inputs_body(inputs, month), if_absent=True):",
        new="        if self.objects.put(key, _inputs_body(inputs, month), if_absent=False):",
        suites=_INVOICES,
    ),
    Mutant(
        name="an invoice replaces the one that stands",
        path="metering/billing/invoices/store.py",
        old="        if self.objects.put(key, body, if_absent=True):",
        new="        if self.objects.put(key, body, if_absent=False):",
        suites=_INVOICES,
    ),
    Mutant(
        name="a correction is exported in a month of its own booking",
        path="metering/reports/exports/batches.py",
        old="            starts.append(start_s)",
        new="            starts.append(start_s + 30 * 86_400 * later)",
        suites=_EXPORTS,
    ),
    Mutant(
        name="FOCUS gets GB for 2^30 bytes",
        path="metering/reports/exports/datasets/focus.py",
        old='UNIT = "GiB"',
        new='UNIT = "GB"',
        suites=_EXPORTS,
    ),
    Mutant(
        name="an export lacks a line",
        path="metering/reports/exports/exporting.py",
        old="            yield table\n",
        new="            yield table.slice(1)\n",
        suites=_EXPORTS,
    ),
    Mutant(
        name="an export ties out by the tolerance of FOCUS",
        path="metering/reports/exports/manifest.py",
        old="            elif (line.bytes, line.exact) != (sums.bytes, sums.exact):",
        new="            elif abs(line.exact - sums.exact) > focus_tolerance(sums.rows) * 2**30:",
        suites=_EXPORTS,
    ),
    Mutant(
        name="accounts that are summed together get the price of before their hour",
        path="metering/billing/rating/rater.py",
        old="        after = bisect_right(scale.marks, (hour_s, account_id or _ANYBODY))",
        new="        after = bisect_right(scale.marks, (hour_s, account_id))",
        suites=("tests/unit/billing/budgets/test_costs.py",),
    ),
    Mutant(
        name="late rows of a former payer are not in an account's costs",
        path="metering/reports/costs/late.py",
        old="                asked = payers_asked(self.query, organization, corrects)",
        new="                asked = payers_asked(self.query, organization, self.month)",
        suites=("tests/unit/cli/test_cost_of_moves.py",),
    ),
    Mutant(
        name="what late usage moves between accounts is lost",
        path="metering/billing/invoices/tally.py",
        old="        kept = [line for line in made if line.parts or line.key in shared]",
        new="        kept = [line for line in made if line.parts]",
        suites=_INVOICES,
    ),
    Mutant(
        name="trace: a customer is told all rows of a batch",
        path="metering/reports/batches/story.py",
        old="    own = {account: total for account, total in hour.accounts.items() if account in accounts}",
        new="    own = dict(hour.accounts)",
        suites=_DOORS_TRACE,
    ),
    Mutant(
        name="trace: errors that cancel out in the sum are not seen",
        path="metering/reports/trace/tracing.py",
        old="        return not any(hour.differences for hour in self.hours) and not any(",
        new="        return self.usage == self.rows and not any(",
        suites=_TRACE,
    ),
    Mutant(
        name="trace: rows of the batch on other lines count for this one",
        path="metering/reports/trace/tracing.py",
        old="            marked=sum_totals(marks).minus(others),",
        new="            marked=sum_totals(marks),",
        suites=_TRACE,
    ),
    Mutant(
        name="trace: a lost marker is taken for an expired one by its oldest hour",
        path="metering/reports/trace/tracing.py",
        old="    return max(hours) - HOUR_S + marker_life_s <= now_s",
        new="    return min(hours) - HOUR_S + marker_life_s <= now_s",
        suites=_TRACE,
    ),
    Mutant(
        name="trace: an hour that changed while it was read is not read again",
        path="metering/reports/trace/tracing.py",
        old="        for hour_s in figures.differing()[-self.reread :]:",
        new="        for hour_s in figures.differing()[-self.reread : 0]:",
        suites=_TRACE,
    ),
    Mutant(
        name="api: a page of quarantine that a filter empties is the last one",
        path="metering/api/resources/operators.py",
        old="        last = entry\n        if query.takes(entry.entry):\n",
        new="        if query.takes(entry.entry):\n            last = entry\n",
        suites=_DOORS_OPERATORS,
    ),
    Mutant(
        name="api: who sees some accounts is told figures of all",
        path="metering/api/resources/operators.py",
        old="    if not asked.sees_all:",
        new='    if asked.grant.role == "customer":',
        suites=_DOORS_OPERATORS,
    ),
    Mutant(
        name="api: a trace reads any number of hours",
        path="metering/api/resources/trace.py",
        old="    if not problems and hours > budget.hours:",
        new="    if not problems and hours > 100 * budget.hours:",
        suites=_DOORS_TRACE,
    ),
    Mutant(
        name="a producer's journal is not synced before it sends",
        path="metering/producer/journal.py",
        old='    "synchronous=FULL",',
        new='    "synchronous=OFF",',
        suites=_PRODUCER,
    ),
    Mutant(
        name="a producer gives a number away for a key without records",
        path="metering/producer/journal.py",
        old='self._note("next_sequence", str(first + count))',
        new='self._note("next_sequence", str(first + max(count, 1)))',
        suites=_PRODUCER,
    ),
    Mutant(
        name="a producer forgets what it could not send",
        path="metering/producer/producer.py",
        old="            except UnavailableError as error:\n",
        new="            except UnavailableError as error:\n                journal.sent(batches)\n",
        suites=_PRODUCER,
    ),
    Mutant(
        name="a producer takes a key for other records",
        path="metering/producer/producer.py",
        old="if known is not None and _digest(records) != known.digest:",
        new="if known is not None and _digest(records) == '':",
        suites=_PRODUCER,
    ),
    Mutant(
        name="a producer forgets keys that are not sent",
        path="metering/producer/journal.py",
        old="COALESCE((SELECT MIN(sequence) FROM unsent), ?)",
        new="COALESCE(NULL, ?)",
        suites=_PRODUCER,
    ),
    Mutant(
        name="a token follows a redirect to another host",
        path="metering/client/http.py",
        old="build_opener(_NoRedirects(), HTTPSHandler(), *own)",
        new="build_opener(HTTPSHandler(), *own)",
        suites=("tests/unit/client/test_connect.py",),
    ),
    Mutant(
        name="a trace whose sums differ is a table like any other",
        path="metering/client/connection.py",
        old='        if not told.get("equal"):',
        new='        if told.get("equal") is None:',
        suites=("tests/unit/client/test_connect.py",),
    ),
    Mutant(
        name="accounts of a month count a file again that the sums of its day have",
        path="metering/billing/day_sums/keeper.py",
        old="                addition.add(hour_s, file, accounts.counting(hour_s, self.totals.of(file)))",
        new="                addition.add(hour_s, file, accounts.counting(hour_s, self.totals.of(file)))\n"
        "            list(accounts.counting(hour_s, self.totals.of(file)))",
        suites=_ACCOUNTS,
    ),
    Mutant(
        name="accounts of a month take a file of a day that they do not cover",
        path="metering/billing/day_sums/account_turn.py",
        old="        return _told(month, hour_s, totals) if day_s in month.days else totals",
        new="        return _told(month, hour_s, totals)",
        suites=_ACCOUNTS,
    ),
    Mutant(
        name="the reconciler believes an account that another one makes up for",
        path="metering/billing/day_sums/account_check.py",
        old="            if one != other:",
        new="            if False:",
        suites=_ACCOUNTS,
    ),
    Mutant(
        name="a list of accounts is believed to be of a closed month",
        path="metering/reports/accounts/source.py",
        old="        if reader is not None and sum_totals(reader.hours.values()) == closed.total:",
        new="        if reader is not None:",
        suites=("tests/unit/reports/accounts",),
    ),
    Mutant(
        name="a list of accounts shows a customer those of others",
        path="metering/api/resources/accounts.py",
        old="        accounts=sorted(accounts),",
        new='        accounts=sorted(given.names("account")),',
        suites=("tests/api/test_accounts.py",),
    ),
    Mutant(
        name="a picture drops what is small",
        path="metering/reports/pictures/series.py",
        old="        place = name if name in shown else other\n",
        new="        place = name if name in shown else other\n        if name not in shown:\n            continue\n",
        suites=("tests/unit/reports/pictures",),
    ),
    Mutant(
        name="the page lets code of others in",
        path="metering/api/page.py",
        old="        \"script-src 'self'\",",
        new="        \"script-src 'self' 'unsafe-inline'\",",
        suites=_PAGE,
    ),
    Mutant(
        name="the page serves what an old page asks for",
        path="metering/api/page.py",
        old="        if file is None or version != digest():",
        new="        if file is None:",
        suites=_PAGE,
    ),
    Mutant(
        name="the page adds totals as floating-point numbers",
        path="metering/api/static/figures.js",
        old="  return values.reduce((total, each) => total + each, 0n);",
        new="  return BigInt(values.reduce((total, each) => total + Number(each), 0));",
        suites=_PAGE,
    ),
    Mutant(
        name="the page reads long integers as floating-point numbers",
        path="metering/api/static/figures.js",
        old="  return JSON.parse(text.replace(",
        new="  return JSON.parse(text) || JSON.parse(text.replace(",
        suites=_PAGE,
    ),
    Mutant(
        name="the page reads its ranges in the zone of the machine",
        path="metering/api/static/times.js",
        old="  const value = Date.UTC(year, month - 1, day, hour, minute, second) / 1000;",
        new="  const value = new Date(year, month - 1, day, hour, minute, second).getTime() / 1000;",
        suites=_PAGE,
    ),
    Mutant(
        name="the picture of the page loses the small layers",
        path="metering/api/static/stack.js",
        old="    layer.values.forEach((value, index) => (other.values[index] += value));",
        new="    layer.values.forEach((value, index) => (other.values[index] = value));",
        suites=_PAGE,
    ),
)
