#!/usr/bin/env bash
# The e2e suite against LocalStack. Starts the one whose scripts lie beside this folder (no Docker needed), on a port and
# in a folder of its own; uses the one at LOCALSTACK_ENDPOINT if that is set; says so and passes where there is neither.
# Its arguments are further options of pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
kit=../shared/localstack-host
endpoint=${LOCALSTACK_ENDPOINT:-}
if [ -z "$endpoint" ]; then
  if [ ! -x "$kit/up.sh" ]; then
    echo "no LocalStack here: set LOCALSTACK_ENDPOINT to run this part"
    exit 0
  fi
  export LSKIT_PORT=${LSKIT_PORT:-4599} LSKIT_HOME=${LSKIT_HOME:-$PWD/.local/localstack}
  # Its functions run the project's sources with the project's packages, whichever Python runs LocalStack.
  export LSKIT_PYTHON=$PWD/.venv/bin/python
  trap '"$kit/down.sh" >/dev/null 2>&1 || true' EXIT
  "$kit/up.sh"
  endpoint=http://127.0.0.1:$LSKIT_PORT
fi
# An option may have spaces in it.
options=
if [ $# -gt 0 ]; then options=$(printf '%q ' "$@"); fi
make --no-print-directory e2e ENDPOINT="$endpoint" OPTIONS="$options"
