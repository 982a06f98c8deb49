"""Runs one validator inside the validators' environment, without any network access.

    python offline.py official ARGUMENTS…     the command of focus-validator, as it is
    python offline.py bundle COSTS INVOICES PERIODS
                                              the checks of focus-data-toolkit on the three files of FOCUS 1.4, as JSON

This module imports nothing from the project, because the environment lacks the project's packages.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys

_NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"})


def close_the_network(event: str, _arguments: tuple[object, ...]) -> None:
    """Audit hook that refuses every connection."""
    if event in _NETWORK:
        raise OSError(f"{event}: validators run without a network")


def official(arguments: list[str]) -> int:
    """The command of focus-validator. The exit code is 0, whatever the command found."""
    from focus_validator.main import main

    sys.argv = ["focus-validator", *arguments]
    main()
    return 0


def bundle(costs: str, invoices: str, periods: str) -> int:
    """Run all checks of focus-data-toolkit; print exit codes and findings of its commands."""
    from focus_data_toolkit.cli import main
    from focus_data_toolkit.validate.reconciliation import reconcile_invoice_detail

    codes, said = {}, io.StringIO()
    with contextlib.redirect_stdout(said):
        for dataset, path in (("cost-and-usage", costs), ("invoice-detail", invoices), ("billing-period", periods)):
            codes[dataset] = main(["validate", "--dataset", dataset, path])
        files = ["--cost-and-usage", costs, "--invoice-detail", invoices, "--billing-period", periods]
        codes["bundle"] = main(["validate-bundle", *files])
    with open(costs, newline="") as cost_rows, open(invoices, newline="") as invoice_rows:  # noqa: PTH123
        found = reconcile_invoice_detail(csv.DictReader(cost_rows), csv.DictReader(invoice_rows))
    answer = {"codes": codes, "said": said.getvalue(), "reconciled": [f"{each.code} {each.message}" for each in found]}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.addaudithook(close_the_network)
    sys.exit(official(sys.argv[2:]) if sys.argv[1] == "official" else bundle(*sys.argv[2:]))
