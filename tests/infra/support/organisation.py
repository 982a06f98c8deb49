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
