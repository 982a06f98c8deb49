"""Settings of a stage in an organisation: every one of them is given."""

from typing import Any

KEY = "arn:aws:kms:us-east-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab"
TAGS = {"cost-centre": "4711", "owner": "metering"}
PATH = "/metering/"
BOUNDARY = "org-boundary"
NETWORK: dict[str, Any] = {
    "region": "us-east-1",
    "subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "security_groups": ["sg-0123456789abcdef0"],
}
SETTINGS: dict[str, Any] = {
    "tags": TAGS,
    "permissions_boundary": BOUNDARY,
    "role_path": PATH,
    "vpc": [NETWORK],
    "kms_key_arn": KEY,
    "drop_identity": "checksum",
    "replicate_to": "acme-copy-{region}",
    "replicate_key_arn": KEY,
    "operator_principals": ["arn:aws:iam::123456789012:role/ops-*"],
    "org_id": "o-a1b2c3d4e5",
    "external_id": "metering-4711",
    "trusted_accounts": ["210987654321"],
    "api": True,
    "log_sources": [
        {
            "name": "flows",
            "bucket": "acme-logs",
            "region": "us-east-1",
            "prefix": "AWSLogs/",
            "accounts": ["111122223333"],
            "context_role_arns": ["arn:aws:iam::111122223333:role/metering-context"],
        }
    ],
}

# Everything else that adds resources, too.
_CHANNEL = {"region": "us-east-1", "channel_id": "C012AB3CD"}
_TEAM = {"team_id": "01234567-89ab-cdef-0123-456789abcdef", "tenant_id": "01234567-89ab-cdef-0123-456789abcdef"}
_PAGER = "us-east-1:123456789012:pager"
EVERYTHING: dict[str, Any] = {
    **SETTINGS,
    "rollout_project": True,
    "rollout": {"opt_in": True},
    "billing": "provisioned",
    "tracing": True,
    "producers": "registered",
    "lake_retention_days": 800,
    "bill_exports": [
        {"bucket": "acme-billing", "region": "us-east-1", "prefix": "exports/metering", "format": "cur2"},
    ],
    "chat": [
        {**_CHANNEL, "name": "oncall", "kind": "slack", "workspace_id": "T012AB3CD"},
        {**_CHANNEL, **_TEAM, "name": "bills", "kind": "teams", "channel_id": "19%3aab6ef35e73e54b6c%40thread.tacv2"},
    ],
    "subscriptions": [
        {"severity": "page", "protocol": "sqs", "endpoint": f"arn:aws:sqs:{_PAGER}"},
        {
            "severity": "page",
            "protocol": "lambda",
            "endpoint": f"arn:aws:lambda:{_PAGER.replace(':pager', ':function:pager')}",
        },
    ],
    "api_domain": "usage.{region}.example.com",
    "api_zone_id": "Z0123456789ABC",
    "api_issuer": "https://login.example.com/tenant",
    "api_audience": "metering",
    "api_groups": [{"group": "finops", "role": "analyst"}],
}
