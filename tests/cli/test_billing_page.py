"""The worked example of docs/billing.md equals its commands' output, in its order, in one in-memory region."""

from __future__ import annotations

from tests.cli.billing_page import PAGE, played, steps

TEXT = PAGE.read_text(encoding="utf-8")


def test_each_command_of_the_example_prints_what_the_page_says() -> None:
    """If it does not: After a change, run `python -m tests.cli.billing_page`, and review the diff."""
    now = list(played(TEXT))
    assert [step.line for step in now] == [step.line for step in steps(TEXT)]
    for said, found in zip(steps(TEXT), now, strict=True):
        assert said.output == found.output, said.line


def test_the_example_goes_from_payers_to_a_correction_of_an_invoice() -> None:
    lines = [step.line for step in steps(TEXT)]
    assert [line.split()[1] for line in lines] == [
        "organization", "cost", "cost", "invoice", "period", "invoice", "invoice", "invoice",
    ]  # fmt: skip
    assert "1062.70" in steps(TEXT)[3].output
    assert "8.50" in steps(TEXT)[-1].output
    assert TEXT.count("```text\n") == len(lines)


def test_other_figures_are_noticed() -> None:
    wrong = TEXT.replace("Total 8.50 USD", "Total 8.51 USD")
    assert [step.line for step in steps(wrong) if step not in steps(TEXT)] == [steps(TEXT)[-1].line]
