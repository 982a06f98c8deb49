"""Whom the lines of a log file may bill: the account that the file's name states, and who else is trusted beside it.

Whoever can put an object below the prefix of a log source can name any account in its lines. Its name is held against
its folder, which bucket policies are about, and its lines against its name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.onramps.reasons import LineReason
from metering.onramps.traffic import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.onramps.context.document import Context
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.names import FileName
    from metering.onramps.traffic import Classified

GIVE_ACCOUNT = 'give its account: --accounts ID (of a log source: accounts = ["ID"])'
"""The cure of a log that does not say whose it is, for people."""
# Rules of what transit gateways carry begin with it.
_TRANSIT = "transit_gateway_"
# `AWSLogs/<account>/`, in an organization's bucket `AWSLogs/<organization>/<account>/`, or as Hive writes it.
_FOLDER = re.compile(r"(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?(?:aws-account-id=)?([0-9]{12})(?=/)")


class BilledAs(StrEnum):
    """What says whom a line may bill. Plans keep it.

    `named`: the file's name. `shared-subnets`: the name, and the context shows others in the subnets of that account.
    `listed`: a list. `any`: nothing, each line bills the account that it states.
    """

    NAMED = "named"
    SHARED_SUBNETS = "shared-subnets"
    LISTED = "listed"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bills:
    """Whom the lines of files may bill.

    Attributes:
        billed_as: What says it.
        accounts: The list, if it is one.
    """

    billed_as: BilledAs
    accounts: frozenset[str] = frozenset()

    @staticmethod
    def listed(accounts: Iterable[str]) -> Bills:
        """Only these accounts."""
        return Bills(billed_as=BilledAs.LISTED, accounts=frozenset(accounts))

    @property
    def only(self) -> str:
        """The account of a list of one; else empty."""
        return next(iter(self.accounts)) if len(self.accounts) == 1 else ""

    def as_planned(self, billed_as: str) -> Bills:
        """What a plan was judged by, so that a file that comes again becomes the same records.

        Args:
            billed_as: What the plan says of it; empty for a plan of before, when only lists were held against lines.
        """
        if billed_as in (BilledAs.NAMED, BilledAs.SHARED_SUBNETS):
            return Bills(billed_as=BilledAs(billed_as))
        # A plan does not keep the list: it may have thousands of accounts.
        return self if self.billed_as == BilledAs.LISTED and billed_as != BilledAs.ANY else ANY


NAMED = Bills(billed_as=BilledAs.NAMED)
SHARED_SUBNETS = Bills(billed_as=BilledAs.SHARED_SUBNETS)
ANY = Bills(billed_as=BilledAs.ANY)


class Billable:
    """Says of the lines of one file whom they may bill.

    Args:
        bills: Whom lines may bill.
        name: What the file's name says.
        timeline: Contexts that judge the file.
    """

    def __init__(self, bills: Bills, name: FileName, timeline: Timeline) -> None:
        self._bills = bills
        self._owner = name.account_id
        self._timeline = timeline
        # By the name of the context, which is that of its content.
        self._beside: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

    def is_other(self, account_id: str) -> bool:
        """Whether an account is another one than the file's name states. A name that states none says nothing."""
        return bool(self._owner) and account_id != self._owner

    def refused(self, found: Classified, hour_s: int) -> Refused | None:
        """Why a line may not bill its account; None if it may."""
        account_id, bills = found.traffic.account_id, self._bills
        if bills.billed_as == BilledAs.LISTED and account_id not in bills.accounts:
            detail = f"account {account_id} is none of those that this log may bill"
            return Refused(LineReason.ACCOUNT_NOT_ALLOWED, detail)
        if bills.billed_as in (BilledAs.LISTED, BilledAs.ANY) or not self.is_other(account_id):
            return None
        if bills.billed_as == BilledAs.SHARED_SUBNETS:
            inside, attached = self._known(hour_s)
            transit = found.rule.startswith(_TRANSIT)
            if account_id in (attached if transit else inside):
                return None
            where = "at a transit gateway" if transit else "in a subnet"
            detail = f"the context shows account {account_id} nowhere {where} of account {self._owner}"
            return Refused(LineReason.OTHER_ACCOUNT, detail)
        return Refused(LineReason.OTHER_ACCOUNT, f"the line is of account {account_id}, and the file of {self._owner}")

    def _known(self, hour_s: int) -> tuple[frozenset[str], frozenset[str]]:
        """Accounts with interfaces in the subnets of the file's account, and those at its transit gateways."""
        context = self._timeline.at(hour_s)
        if context is None:
            return frozenset(), frozenset()
        found = self._beside.get(context.sha256)
        if found is None:
            found = self._beside[context.sha256] = _beside(context, self._owner)
        return found


def _beside(context: Context, owner: str) -> tuple[frozenset[str], frozenset[str]]:
    own_vpcs = {vpc.id for vpc in context.vpcs if vpc.account_id == owner}
    subnets = {subnet.id for subnet in context.subnets if subnet.vpc_id in own_vpcs}
    inside = frozenset(each.account_id for each in context.interfaces if each.subnet_id in subnets)
    # A gateway is that of its owner, and of who is attached to it: the policy of either may charge the others.
    own = {each.gateway_id for each in context.attachments if owner in (each.owner_id, each.gateway_owner_id)}
    attached = [each for each in context.attachments if each.gateway_id in own]
    return inside, frozenset(account_id for each in attached for account_id in (each.owner_id, each.gateway_owner_id))


def folder_contradicts(key: str, name: FileName) -> str:
    """Why a file's name and its folder are of two accounts; empty if they are not.

    Every `AWSLogs/<account>/` of the key counts: a bucket policy may be about any of them.
    """
    for account_id in _FOLDER.findall(key) if name.account_id else ():
        if account_id != name.account_id:
            return f"its name is of account {name.account_id}, and it lies below AWSLogs/{account_id}/"
    return ""
