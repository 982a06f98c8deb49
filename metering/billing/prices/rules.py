"""What is not sold here, as every new price book has it: usage types of this service that AWS sells nothing under."""

from __future__ import annotations

from metering.billing.prices.book import NotSold

NOT_SOLD = (
    NotSold(
        pattern="Unclassified-(In|Out|Regional)-Bytes",
        why="The log does not say where the bytes went or came from, so no product is known.",
    ),
    NotSold(
        pattern="C3DataTransfer-(In|Out)-Bytes",
        why="Traffic within one zone is free.",
    ),
    NotSold(
        pattern="CloudFront-(In|Out)-Bytes",
        why="Traffic between a region and CloudFront is free; CloudFront bills what leaves its edges.",
    ),
)
