"""Billing mode of the ledger's table: the stage's own, and on demand while a command reads or writes it in bulk."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, is_denied, translated
from metering.errors import OperationFailedError, ThrottledError, UnavailableError
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import ProvisionedThroughputTypeDef, TableDescriptionTypeDef

    from metering.fleet.stage import Scales

# Codes of a call about a table that does not exist.
MISSING = frozenset({"ResourceNotFoundException", "TableNotFoundException"})
_BUSY = "ResourceInUseException"
_POLL_S = 2
# An update takes minutes if it adds partitions.
_LIMIT_S = 10 * MINUTE_S


class LedgerCapacity:
    """Billing mode of tables that are a ledger.

    Args:
        client: DynamoDB client of the region.
        scales: Capacity of the stage's ledger if it is provisioned; None if it is on demand.
        sleep: Waits that many seconds.
    """

    def __init__(
        self, client: DynamoDBClient, scales: Scales | None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._scales = scales
        self._sleep = sleep

    def bill(self, table: str) -> None:
        """Give a table the billing mode of the stage. A missing table, or one with that mode, stays as it is.

        Capacity begins at its greatest, so the change throttles no call; auto scaling lowers it within half an hour.

        Raises:
            OperationFailedError: AWS refuses the change, or it takes more than ten minutes.
        """
        if refusal := self._change(table, provisioned=self._scales is not None):
            raise OperationFailedError(
                f"The billing mode of table {table} is not that of the stage, and AWS refuses to change it: {refusal}",
                "AWS sets a table on demand four times a day at most; the next deployment tries again.",
            )

    @contextmanager
    def on_demand(self, table: str, say: Callable[[str], None]) -> Iterator[None]:
        """Keep a provisioned table on demand within the block, and give it the stage's billing mode after it.

        AWS sets a table on demand four times a day at most, and the caller may lack the right. The work is then done
        with the capacity that is provisioned, and takes longer.
        """
        if self._scales is None:
            yield
            return
        if refusal := self._change(table, provisioned=False):
            say(f"Table {table} stays at its provisioned capacity, so this takes longer. AWS says: {refusal}")
        try:
            yield
        finally:
            try:
                self.bill(table)
            except (OperationFailedError, UnavailableError) as error:
                say(f"Table {table} stays on demand, which costs more, until the next metering deploy: {error}")

    def _change(self, table: str, *, provisioned: bool) -> str:
        """Change the billing mode, unless the table has it; returns why AWS refuses it."""
        mode = "PROVISIONED" if provisioned else "PAY_PER_REQUEST"
        found = self._settled(table)
        if found is None or found.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED") == mode:
            return ""
        try:
            with translated("dynamodb.UpdateTable"):
                if provisioned and self._scales is not None:
                    reads, writes = (self._scales[kind][1] for kind in ("Read", "Write"))
                    units: ProvisionedThroughputTypeDef = {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes}
                    self._client.update_table(TableName=table, BillingMode="PROVISIONED", ProvisionedThroughput=units)
                else:
                    self._client.update_table(TableName=table, BillingMode="PAY_PER_REQUEST")
        except ThrottledError as error:
            # LimitExceededException: too many changes within a day.
            return error.detail
        except ClientError as error:
            if is_denied(error) or error_code(error) in {"ValidationException", _BUSY}:
                return str(error)
            raise
        self._settled(table)
        return ""

    def _settled(self, table: str) -> TableDescriptionTypeDef | None:
        """Wait until the table can be changed; auto scaling may be changing it. None if there is no such table."""
        for _ in range(_LIMIT_S // _POLL_S):
            found = described(self._client, table)
            if found is None or found.get("TableStatus") == "ACTIVE":
                return found
            self._sleep(_POLL_S)
        raise OperationFailedError(
            f"Table {table} is not active after {_LIMIT_S // MINUTE_S} minutes.", "Run it again."
        )


def described(client: DynamoDBClient, table: str) -> TableDescriptionTypeDef | None:
    """Description of a table; None if there is no such table."""
    try:
        with translated("dynamodb.DescribeTable"):
            return client.describe_table(TableName=table)["Table"]
    except ClientError as error:
        if error_code(error) in MISSING:
            return None
        raise
