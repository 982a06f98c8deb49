"""The environment variables that the command line reads, with what each does. A test compares them with the code."""

from __future__ import annotations

VARIABLES: dict[str, str] = {
    "METERING_STAGE": "The stage, if --stage does not name one. Without either it is local.",
    "METERING_SETTINGS": "The settings file, if --settings does not name one. Default: metering.toml in this folder or "
    "those around it.",
    "METERING_LOCAL_DIR": "Folder of the local emulator: its state, and what it needs to deploy. Default: .local in "
    "the checkout.",
    "METERING_TOKEN": "Token of the HTTP API, for metering.connect(url=…) of Python programs. No command reads it.",
    "AWS_ENDPOINT_URL": "The endpoint of all services, if --endpoint does not name one, such as http://127.0.0.1:4566.",
    "AWS_REGION": "The region, if --region does not name one.",
    "AWS_DEFAULT_REGION": "The region, if neither --region nor AWS_REGION names one. Without any it is the home region "
    "of the stage: by metering.toml, or by what is deployed.",
    "AWS_PROFILE": "The profile of ~/.aws/config whose credentials are used.",
    "AWS_ACCESS_KEY_ID": "Credentials, together with the next. An emulator takes any, and needs none from you.",
    "AWS_SECRET_ACCESS_KEY": "Credentials, with AWS_ACCESS_KEY_ID; those of a role also have AWS_SESSION_TOKEN.",
    "AWS_CA_BUNDLE": "File of certificates to trust.",
    "LOCALSTACK_HOST": "Host and port of LocalStack, if no endpoint is named.",
    "NO_COLOR": "If it is set, to whatever, nothing is printed in colour or bold.",
    "TERM": "The kind of terminal; with dumb nothing is printed in colour or bold.",
    "COLUMNS": "Characters in a line, if the terminal does not tell.",
    "TMPDIR": "Folder for scratch files of compaction and queries.",
}
"""What else the AWS SDK reads, such as AWS_MAX_ATTEMPTS, works too."""
