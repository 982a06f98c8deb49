"""The price book `sample` against the bill lines that it is made of."""

from __future__ import annotations

from metering.billing.prices.book import NotSold, Product
from metering.billing.prices.document import problems_of
from metering.billing.prices.store import sample_book, sample_versions
from metering.billing.rating.payer_prices import find
from metering.billing.usage.months import Sold
from metering.usage.totals import Service, UsageType
from tests.support import sample_book as maker

# Invoices pin a book by its digest.
FIRST_SHA256 = "41baa0a44498f470a87b0e1c059d540ebdffdeedf7ac082665d68b05b953220a"


def test_the_book_is_what_the_bill_lines_give() -> None:
    assert maker.BOOK.read_bytes() == maker.written(), "write it anew: python -m tests.support.sample_book"


def test_no_version_of_the_book_has_a_problem() -> None:
    assert [problems_of(sample_book(version)) for version in sample_versions()] == [[], []]


def test_the_version_of_earlier_invoices_is_still_here_and_unchanged() -> None:
    assert sample_versions() == [sample_book().version, 1]
    assert sample_book(1).sha256 == FIRST_SHA256
    assert sample_book(1).by_sku.items() < sample_book().by_sku.items()


def test_each_bill_line_finds_its_sku_and_the_book_has_its_rate_code() -> None:
    book = sample_book()
    free = {rate for allowance in book.allowances for rate in allowance.rate_codes.values()}
    lines = maker.bill_lines()
    found = 0
    for line in lines:
        product = find(book, Sold(line.service, line.usage_type))
        assert isinstance(product, Product), line
        assert product.sku == line.sku
        rates = {tier.rate_code for version in product.versions for tier in version.tiers}
        assert line.rate_code in rates | free
        found += 1
    assert found == len(lines) == 338


def test_what_is_free_elsewhere_is_not_sold_and_what_is_unknown_is_unpriced() -> None:
    book = sample_book()
    assert isinstance(find(book, Sold(Service("AmazonEC2"), UsageType("EUW2-Unclassified-Out-Bytes"))), NotSold)
    assert isinstance(find(book, Sold(Service("AmazonEC2"), UsageType("Unclassified-Regional-Bytes"))), NotSold)
    assert isinstance(find(book, Sold(Service("AmazonEC2"), UsageType("C3DataTransfer-In-Bytes"))), NotSold)
    assert isinstance(find(book, Sold(Service("AmazonEC2"), UsageType("xx-north-9-CloudFront-In-Bytes"))), NotSold)
    assert find(book, Sold(Service("AmazonEC2"), UsageType("EUW3-DataTransfer-Out-Bytes"))) is None
    assert find(book, Sold(Service("AmazonCloudFront"), UsageType("DataTransfer-Out-Bytes"))) is None
