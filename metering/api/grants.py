"""What a token may see. One function decides which accounts a request may see: `effective_accounts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from metering.api.problems import ParameterFault, ProblemError
from metering.ledger.notes.tokens import Role as Role

if TYPE_CHECKING:
    from collections.abc import Collection


EVERYONE = frozenset(Role)
STAFF = frozenset({Role.ANALYST, Role.OPERATOR})
OPERATORS = frozenset({Role.OPERATOR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the holder of a token may see.

    Attributes:
        token_id: Public part of the token, for logs.
        role: What kinds of answers it gets.
        accounts: The accounts that it may see; None for all. A customer always has a set.
        costs: It may see costs at tiers that its accounts share with accounts that it does not see.
    """

    token_id: str
    role: Role
    accounts: frozenset[str] | None = None
    costs: bool = False


class Tokens(Protocol):
    """Knows tokens."""

    def grant_of(self, token: str) -> Grant | None:
        """What the holder of a token may see; None for a token that is unknown, expired or revoked.

        Raises:
            UnavailableError: The ledger gave no answer.
        """
        ...


def effective_accounts(grant: Grant, asked: Collection[str], *, parameter: str = "account") -> frozenset[str]:
    """The accounts that a request reads; the empty set means all, and only a grant without a set gives it.

    Args:
        grant: What the holder may see.
        asked: The accounts that the request names; empty if it names none.
        parameter: The parameter that names them.

    Raises:
        ProblemError: 403, if one of them is not granted. It is raised before any look-up, so that the answer is the
            same whether the account exists or not.
    """
    if grant.accounts is None:
        return frozenset(asked)
    foreign = sorted(set(asked) - grant.accounts)
    if foreign or not grant.accounts:
        raise ProblemError(
            kind="not-granted",
            status=403,
            title="Not granted",
            detail="This token does not see that account.",
            faults=[ParameterFault(parameter=parameter, detail=f"{each} is not granted.") for each in foreign],
        )
    return frozenset(asked) or grant.accounts
