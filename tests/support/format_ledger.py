"""A DynamoDB for tests, whose ledger contains only the item with the region's data format."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from metering.adapters.aws.items import to_attributes
from metering.ledger.format_version import FORMAT_KEY, RESTORED_FORMAT, LedgerFormat

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients
    from metering.stores.writes import Item

NEWER = LedgerFormat(number=RESTORED_FORMAT + 1, written_by="0.2.0", usage_generation=2)
REFUSAL = (
    f"The region's data has format {RESTORED_FORMAT + 1}, and this version of metering knows formats up to "
    f"{RESTORED_FORMAT}: use metering 0.2.0 or newer."
)


class FormatLedger:
    """Answers the clients' DynamoDB. Any call other than a read or a write of the format fails the test."""

    def __init__(self, clients: Clients, item: Item | None) -> None:
        self.item = item
        self.asked = 0
        self.throttled = False
        self.put: list[dict[str, Any]] = []
        # The return value of the hook becomes the response, contrary to the type stubs.
        clients.dynamodb.meta.events.register("before-call.dynamodb", self._answer)  # type: ignore[arg-type]  # see above

    def _answer(self, *, model: Any, params: dict[str, Any], **_: object) -> tuple[SimpleNamespace, dict[str, Any]]:
        request = json.loads(params["body"])
        if self.throttled:
            return SimpleNamespace(status_code=400), {"Error": {"Code": "ThrottlingException", "Message": "slow down"}}
        answer: dict[str, Any] = {}
        if model.name == "PutItem":
            self.put.append(request)
        else:
            key = {"pk": {"S": FORMAT_KEY.pk}, "sk": {"S": FORMAT_KEY.sk}}
            assert (model.name, request["Key"], request["ConsistentRead"]) == ("GetItem", key, True)
            self.asked += 1
            answer = {} if self.item is None else {"Item": to_attributes(self.item)}
        return SimpleNamespace(status_code=200), answer
