#!/usr/bin/env bash
# The e2e suite against LocalStack. Starts the one of tests/support/localstack (no Docker needed) on PORT, or uses the one
# at LOCALSTACK_ENDPOINT. A machine that cannot have it says why and passes, and is red where CI is set.
# Its arguments are further options of pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
endpoint=${LOCALSTACK_ENDPOINT:-}
if [ -z "$endpoint" ]; then
  port=${PORT:-4599} server=".venv/bin/python -m tests.support.localstack.server" code=0
  endpoint=$($server up "$port") || code=$?
  if [ "$code" -eq 3 ]; then exit 0; fi
  if [ "$code" -ne 0 ]; then exit "$code"; fi
  trap '$server down "$port"' EXIT
fi
# An option may have spaces in it.
options=
if [ $# -gt 0 ]; then options=$(printf '%q ' "$@"); fi
make --no-print-directory e2e ENDPOINT="$endpoint" OPTIONS="$options"
