"""`--plot FILE`: the answer of a report also as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.printing.output import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.reports.answer import Answer
    from metering.reports.pictures.drawing import PictureForm
    from metering.reports.pictures.series import Layout

PLOT_GROUPS = "day,usage_type"
"""What a report with a picture is grouped by, if nothing is named."""

PlotOption = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw it: bars over time, stacked by one more column. FILE ends in .svg, .png, .pdf or .vl.json. "
        f"Default of --group-by: {PLOT_GROUPS}.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPicture:
    """A picture that can be drawn: its file can be written, and the answer has the columns."""

    target: Path
    form: PictureForm
    layout: Layout

    def write(self, answer: Answer) -> str:
        """Draw an answer into the file, which is complete, or as it was before; returns what to tell of it.

        Raises:
            CommandFailedError: There is nothing to draw, or the disk is full.
            InvalidParametersError: There are too many times to draw.
        """
        from metering.reports.pictures.drawing import drawn
        from metering.reports.pictures.series import bars_of
        from metering.reports.pictures.specification import specification

        bars = bars_of(answer, self.layout)
        if not bars.sums:
            raise CommandFailedError(
                f"{self.target} was not written: {answer.empty} There is nothing to draw.",
                "Ask for another time, or for other names.",
            )
        write_whole(self.target, [drawn(specification(bars, answer), self.form)])
        rest = f" and the sum of {bars.rest:,} others" if bars.rest else ""
        of = f", by {len(bars.series) - bool(bars.rest)} of {self.layout.series}{rest}" if self.layout.series else ""
        count = "1 bar" if len(bars.sums) == 1 else f"{len(bars.sums):,} bars"
        return f"Wrote {self.target}: {count} by {self.layout.time}{of}."


def planned_picture(plot: Path | None, columns: Sequence[str], *, value: str, top: int | None) -> PlannedPicture | None:
    """The picture of a report; None if none is asked for. Everything is checked before the report is read.

    Args:
        plot: `--plot`.
        columns: Columns that name the rows of the report.
        value: The column of figures that is drawn.
        top: `--top`.

    Raises:
        WrongUsageError: The file cannot be written, its suffix names no picture, `--top` was given, or what draws it
            is not installed.
        InvalidParametersError: The columns are no picture.
    """
    if plot is None:
        return None
    from metering.reports.pictures.drawing import DrawingUnavailableError, PictureForm, check_drawing, form_of
    from metering.reports.pictures.series import MOST_SERIES, layout_of

    form = form_of(plot.name)
    if form is None:
        suffixes = ", ".join(PictureForm)
        raise WrongUsageError(f"The suffix of {plot} names no picture.", f"Use one of {suffixes}.")
    if not plot.parent.is_dir() or plot.is_dir():
        raise WrongUsageError(f"Cannot write {plot}: it is no file in a folder that exists.", "Name another --plot.")
    if top is not None:
        raise WrongUsageError(
            "--plot does not take --top: a picture of a part of the rows would look like the whole.",
            f"It shows the {MOST_SERIES} largest, and the sum of the others as one more.",
        )
    layout = layout_of(columns, value=value)
    try:
        check_drawing(form)
    except DrawingUnavailableError as error:
        raise WrongUsageError(error.reason, error.advice) from error
    return PlannedPicture(target=plot, form=form, layout=layout)
