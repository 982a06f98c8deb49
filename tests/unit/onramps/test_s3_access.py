"""S3 server access logs: file names, lines, transferred bytes, and the destination of the bytes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.context.document import Context, Prefix, PublicAddress, Vpc
from metering.onramps.kinds import recognised
from metering.onramps.s3_access import Misfit, Repeats, Request, parse
from tests.unit.onramps.readers import Row, gzipped, log_of, measured, reasons, records

ACCOUNT = "123456789012"
PARTITIONED = f"logs/{ACCOUNT}/us-west-2/acme-data/2026/11/24/2026-11-24-13-05-00-0123456789ABCDEF"
SIMPLE = "logs/2026-11-24-13-05-00-0123456789ABCDEF"
CONTEXT = Context(
    sha256="0" * 64,
    effective_s=0,
    accounts=frozenset({ACCOUNT}),
    buckets={"acme-data": "us-west-2"},
    vpcs=(Vpc("vpc-1", ACCOUNT, "us-west-2", ("10.0.0.0/16", "203.0.113.0/28")),),
    public_addresses=(PublicAddress("198.51.100.7", "eu-west-1"),),
    prefixes=(
        Prefix("3.0.0.0/8", "us-west-2", ("AMAZON", "EC2")),
        Prefix("3.5.0.0/16", "eu-west-1", ("AMAZON", "EC2")),
        Prefix("13.32.0.0/15", "GLOBAL", ("AMAZON", "CLOUDFRONT")),
        Prefix("15.197.0.0/16", "GLOBAL", ("AMAZON", "GLOBALACCELERATOR")),
    ),
)


def line(
    *,
    operation: str = "REST.GET.OBJECT",
    sent: str = "1000",
    size: str = "1000",
    remote_ip: str = "8.8.8.8",
    status: str = "200",
    time: str = "24/Nov/2026:12:59:59 +0000",
    uri: str = '"GET /a HTTP/1.1"',
    agent: str = '"curl/8"',
    appended: str = " HOSTID= SigV4 CIPHER AuthHeader acme-data.s3.us-west-2.amazonaws.com TLSv1.3 - -",
) -> str:
    return (
        f"79a5 acme-data [{time}] {remote_ip} arn:aws:iam::{ACCOUNT}:user/a 3E57427F3EXAMPLE {operation} a {uri} "
        f'{status} - {sent} {size} 7 6 "-" {agent} -{appended}'
    )


@pytest.mark.parametrize("key", [
    PARTITIONED, SIMPLE, SIMPLE + ".gz", PARTITIONED + ".zst", SIMPLE.replace("logs/", "logs-"),
    SIMPLE.replace("logs/", ""),
])  # fmt: skip
def test_the_identity_of_a_file_is_its_name_whatever_stands_before_it(key: str) -> None:
    found = log_of(key)
    assert found[0].name == "s3-access"
    assert found[1].identity == "s3:2026-11-24-13-05-00-0123456789ABCDEF"


def test_a_partitioned_key_says_account_region_and_bucket_and_other_names_are_no_logs() -> None:
    found = log_of(PARTITIONED)
    assert (found[1].account_id, found[1].region, found[1].source) == (ACCOUNT, "us-west-2", "acme-data")
    for key in ("2026-13-24-13-05-00-0123456789ABCDEF", "2026-11-24-13-05-00-0123456789abcdef", "x.txt"):
        assert recognised(key) is None
    assert recognised(f"{SIMPLE}.txt") is None


def test_what_was_sent_goes_out_and_what_was_put_comes_in() -> None:
    put = line(operation="REST.PUT.OBJECT", sent="-", size="2000")
    part = line(operation="REST.PUT.PART", sent="-", size="300", status="200")
    posted = line(operation="REST.POST.OBJECT", sent="-", size="40", status="204")
    text = "\n".join([line(sent="1500"), put, part, posted])
    result = measured(text, PARTITIONED, context=CONTEXT)
    assert records(result) == [
        Row(ACCOUNT, "acme-data", "in", "internet", "us-west-2", "", 2340),
        Row(ACCOUNT, "acme-data", "out", "us-west-2", "internet", "", 1500),
    ]
    shares = {share.usage_type: share.bytes for share in result.shares}
    assert shares == {"USW2-DataTransfer-In-Bytes": 2340, "USW2-DataTransfer-Out-Bytes": 1500}
    # A line with bytes in both directions counts as one line.
    result = measured(line(operation="REST.PUT.OBJECT", sent="250", size="2000"), PARTITIONED, context=CONTEXT)
    assert (result.balance.lines, result.balance.metered, result.balance.metered_bytes) == (1, 1, 2250)


@pytest.mark.parametrize(
    ("operation", "status"),
    [("REST.PUT.OBJECT", "403"), ("REST.POST.UPLOAD", "200"), ("REST.HEAD.OBJECT", "200"), ("REST.PUT.ACL", "200")],
)
def test_the_size_of_an_object_that_did_not_come_in_is_not_metered(operation: str, status: str) -> None:
    """The line that completes a multipart upload has the size of the whole object, but each part also has a line."""
    result = measured(line(operation=operation, sent="-", size="5000", status=status), PARTITIONED, context=CONTEXT)
    assert result.balance.nodata == 1
    assert not result.totals


@pytest.mark.parametrize(
    "operation", ["REST.COPY.OBJECT", "REST.COPY.OBJECT_GET", "REST.COPY.PART", "REST.COPY.PART_GET"]
)
def test_copies_move_nothing_over_the_boundary(operation: str) -> None:
    text = "\n".join([line(operation=operation, sent="236"), line(operation=operation, sent="-")])
    result = measured(text, PARTITIONED, context=CONTEXT)
    assert (result.balance.rejected, result.balance.rejected_bytes, result.balance.metered) == (2, 236, 0)


@pytest.mark.parametrize(("remote_ip", "peer", "usage_type"), [
    ("8.8.8.8", "internet", "USW2-DataTransfer-Out-Bytes"),
    ("2001:4860:4860::8888", "internet", "USW2-DataTransfer-Out-Bytes"),
    ("3.1.2.3", "us-west-2", "USW2-C3DataTransfer-Out-Bytes"),
    ("3.5.2.3", "eu-west-1", "USW2-EU-AWS-Out-Bytes"),
    ("13.32.0.9", "cloudfront", "USW2-CloudFront-Out-Bytes"),
    ("15.197.0.9", "unknown", "USW2-Unclassified-Out-Bytes"),
    ("10.0.0.9", "us-west-2", "USW2-C3DataTransfer-Out-Bytes"),
    ("100.64.0.9", "us-west-2", "USW2-C3DataTransfer-Out-Bytes"),
    ("-", "us-west-2", "USW2-C3DataTransfer-Out-Bytes"),
    ("203.0.113.5", "us-west-2", "USW2-C3DataTransfer-Out-Bytes"),
    ("198.51.100.7", "eu-west-1", "USW2-EU-AWS-Out-Bytes"),
])  # fmt: skip
def test_the_address_of_the_client_says_where_it_is(remote_ip: str, peer: str, usage_type: str) -> None:
    result = measured(line(remote_ip=remote_ip), PARTITIONED, context=CONTEXT)
    assert [(row.from_location, row.to_location) for row in records(result)] == [("us-west-2", peer)]
    assert [share.usage_type for share in result.shares] == [usage_type]


def test_without_address_ranges_a_public_client_is_unclassified_with_the_reason() -> None:
    [share] = measured(line(), PARTITIONED).shares
    assert (share.usage_type, share.reason) == ("USW2-Unclassified-Out-Bytes", "ranges_unknown")


def test_the_region_comes_from_the_key_then_from_the_host_then_from_the_context() -> None:
    elsewhere = line(appended=" H S C A acme-data.s3.dualstack.eu-west-1.amazonaws.com T - -")
    nowhere = line(appended="")
    regions = [
        records(measured(text, key, context=CONTEXT))[0].from_location
        for text, key in ((elsewhere, PARTITIONED), (elsewhere, SIMPLE), (nowhere, SIMPLE))
    ]
    assert regions == ["us-west-2", "eu-west-1", "us-west-2"]


def test_a_bucket_of_unknown_region_or_owner_and_an_address_that_is_none_are_refused_with_the_reason() -> None:
    assert reasons(measured(line(remote_ip="999.1.1.1"), PARTITIONED, context=CONTEXT)) == {"invalid_address": 1}
    assert reasons(measured(line(appended=""), SIMPLE)) == {"no_region": 1}
    assert reasons(measured(line(), SIMPLE)) == {"invalid_account": 1}
    assert measured(line(), SIMPLE).balance.refused_bytes == 1000


def test_the_owner_of_a_bucket_may_stand_in_the_context() -> None:
    owned = replace(CONTEXT, accounts=frozenset({ACCOUNT, "111111111111"}), bucket_owners={"acme-data": "111111111111"})
    assert [row.account for row in records(measured(line(), SIMPLE, context=owned))] == ["111111111111"]


@pytest.mark.parametrize(("host", "region"), [
    ("acme.s3.us-west-1.amazonaws.com", "us-west-1"),
    ("s3-us-west-2.amazonaws.com", "us-west-2"),
    ("acme.s3-website-eu-west-1.amazonaws.com", "eu-west-1"),
    ("acme.s3-website.eu-central-1.amazonaws.com:443", "eu-central-1"),
    ("acme.s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
    ("ap-123456789012.s3-accesspoint.us-west-1.amazonaws.com", "us-west-1"),
    ("acme.bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", "us-east-1"),
    ("acme.s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ("acme.s3.amazonaws.com", ""),
    ("acme.s3-accelerate.amazonaws.com", ""),
    ("static.example.com", ""),
    ("-", ""),
])  # fmt: skip
def test_the_host_header_names_the_region_if_it_names_one(host: str, region: str) -> None:
    found = parse(line(appended=f" H S C A {host} T - -"))
    assert isinstance(found, Request)
    assert found.region == region


@pytest.mark.parametrize("fields", [18, 19, 23, 26, 27, 30])
def test_a_line_may_have_eighteen_fields_or_more(fields: int) -> None:
    assert isinstance(parse(line(appended=" x" * (fields - 18))), Request)


@pytest.mark.parametrize(("uri", "agent"), [
    ('"GET /a?q="quoted" HTTP/1.1"', '"curl/8"'),
    ("-", "-"),
    ('"-"', '"Mozilla/5.0 ("x" 200 y) "Z""'),
    ('"GET /a" 20 b HTTP/1.1"', '"a \\"b\\" c"'),
])  # fmt: skip
def test_quotes_inside_quoted_fields_do_not_move_the_others(uri: str, agent: str) -> None:
    found = parse(line(uri=uri, agent=agent))
    assert isinstance(found, Request)
    assert (found.sent_bytes, found.region) == (1000, "us-west-2")


@pytest.mark.parametrize(("text", "reason"), [
    ("", "field_count"),
    ("79a5 acme-data [24/Nov/2026:12:59:59 +0000] 8.8.8.8", "field_count"),
    (line().replace("79a5 ", "79a5  "), "field_count"),
    (line(sent="1e3"), "invalid_number"),
    (line(sent="-5"), "invalid_number"),
    (line(sent=str(2**63)), "invalid_number"),
    (line(size="99999999999999999999"), "invalid_number"),
    (line(time="31/Feb/2026:00:00:00 +0000"), "invalid_time"),
    (line(time="-"), "invalid_time"),
    (line(time="24/Nov/2026:12:59:59 +0100"), "invalid_time"),
])  # fmt: skip
def test_a_line_that_cannot_be_read_is_a_misfit_with_its_reason(text: str, reason: str) -> None:
    found = parse(text)
    assert isinstance(found, Misfit)
    assert found.reason == reason


def test_only_a_whole_line_that_repeats_is_dropped_and_counted() -> None:
    """Lines of one request share the request id: a multi-object delete has one line per object."""
    text = "\n".join([line(sent="10"), line(sent="11"), line(sent="10")])
    result = measured(text, PARTITIONED, context=CONTEXT)
    assert (result.balance.metered_bytes, result.balance.refused_bytes) == (21, 10)
    assert reasons(result) == {"repeated_line": 1}


def test_the_memory_of_repeats_is_bounded_and_forgets_the_oldest() -> None:
    repeats = Repeats(remembered_lines=2)
    assert [repeats.seen(text) for text in "abab"] == [False, False, True, True]
    assert [repeats.seen(text) for text in "cdefa"] == [False] * 5


def test_a_file_that_was_compressed_by_a_copy_is_the_same_file() -> None:
    plain, packed = (measured(body, PARTITIONED, context=CONTEXT) for body in (line(), gzipped(line())))
    assert plain == packed


def test_a_file_that_is_no_text_has_verdicts_only_and_one_without_bytes_is_refused() -> None:
    result = measured(bytes(range(256)) * 100, PARTITIONED, context=CONTEXT)
    assert result.balance.lines == result.balance.refused + result.balance.header
    with pytest.raises(LogFileRefusedError, match="truncated"):
        measured(b"", PARTITIONED, context=CONTEXT)


@pytest.mark.parametrize("text", ['"', '" -', '" "', ' "'])
@pytest.mark.parametrize("end", ["", "  "])
def test_a_user_agent_of_thousands_of_quotes_is_read_at_once(text: str, end: str) -> None:
    """Any requester of an object can choose the user agent. A backtracking regex would take hours."""
    began = time.monotonic()
    for _ in range(10):
        parse(line(agent=f'"{text * 8_000}"') + end)
    assert time.monotonic() - began < 5
