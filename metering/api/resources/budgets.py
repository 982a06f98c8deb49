"""`/v1/budgets` and `/v1/organization`: budgets with their forecasts, and payers with their accounts, for staff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.api import authentication
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.openapi import BYTES, TIME, array, each, integer, maybe, record, text
from metering.api.parameters import problem
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from metering.wiring.answers.costs import BillingRegions


def _budgets(asked: Asked) -> Reply:
    from metering.reports.budgets import standings_answer
    from metering.wiring.answers.budgets import judged
    from metering.wiring.biller import build_budgets

    billing = _billing(asked)
    budgets = build_budgets(billing.home).list()
    asked.reading.afford(len(billing.regions))
    found = judged(billing.home, billing.regions, budgets, now_s=asked.now_s, most_accounts=_MOST_ACCOUNTS)
    return Reply(answer=standings_answer(found.standings, found.alerts, found.counted))


def _organization(asked: Asked) -> Reply:
    from metering.reports.prices import organization_answer
    from metering.wiring.billing import build_organization

    return Reply(answer=organization_answer(build_organization(_billing(asked).home).newest()))


def _billing(asked: Asked) -> BillingRegions:
    if not asked.sees_all:
        raise problem("not-granted", "This is about all accounts, and this token sees some of them.")
    if asked.parts.billing is None:
        raise OperationFailedError(
            "Payers and budgets are not known here: only some regions of the stage are read here.",
            "Ask on the command line.",
        )
    return asked.parts.billing()


# Two months of each account are read in about five seconds.
_MOST_ACCOUNTS = 500
_FIGURE = maybe(text(64))
BUDGETS = Resource(
    path="/v1/budgets",
    name="budgets",
    about="Budgets in their current periods: actual, forecast, crossed thresholds, and alerts. Figures are as of now; "
    "with more than 500 accounts in a region, as of the biller's last run.",
    answer=_budgets,
    roles=authentication.STAFF,
    parameters=(words.FORMAT,),
    schema=record(
        {
            **each(text(25), "as_of complete_through"),
            "now": {"type": "boolean"},
            "prices": text(80),
            "left_out": array(text(64), 100),
            "unpriced": array(record({"usage_type": text(128), "bytes": BYTES})),
            "rows": array(
                record(
                    {
                        **each(text(256), "budget scope"),
                        **each(text(16), "period unit"),
                        "amount": text(64),
                        **each(_FIGURE, "actual used_percent forecast forecast_low forecast_high"),
                        **each(text(1024), "crossed alerts"),
                        "processed_bytes": maybe(BYTES),
                    }
                ),
                10_000,
            ),
        },
        counted_through=maybe(TIME),
        not_counted=record({"bytes": BYTES, "records": integer(), "at_least": {"type": "boolean"}}),
    ),
)
ORGANIZATION = Resource(
    path="/v1/organization",
    name="organization",
    about="Payers and their accounts with names, one row for each time in which an account belongs to a payer.",
    answer=_organization,
    roles=authentication.STAFF,
    parameters=(words.FORMAT,),
    schema=record(
        {
            "version": integer(),
            "sha256": text(64),
            "rows": array(
                record(
                    {
                        "payer": text(64),
                        **each(text(200), "payer_name issuer"),
                        **each(maybe(text(200)), "account account_name"),
                        **each(maybe(TIME), "from to"),
                    }
                ),
                20_000,
            ),
        }
    ),
)
RESOURCES = (BUDGETS, ORGANIZATION)
