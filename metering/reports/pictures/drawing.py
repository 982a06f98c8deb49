"""Draws a picture: with vl-convert, which is an extra of its own, and never from the network."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

# Pixels for each unit of the layout: sharp on paper and on fine screens.
_SCALE = 2.0
_VEGA_LITE = "6.1"


class DrawingUnavailableError(OperationFailedError):
    """What draws pictures is not installed."""


class PictureForm(StrEnum):
    """Forms of a picture, by the suffix of their files."""

    SVG = ".svg"
    PNG = ".png"
    PDF = ".pdf"
    SPECIFICATION = ".vl.json"


def form_of(name: str) -> PictureForm | None:
    """The form that the name of a file says; None if it says none."""
    return next((form for form in PictureForm if name.lower().endswith(form)), None)


def check_drawing(form: PictureForm) -> None:
    """Refuse a form that cannot be drawn here.

    Raises:
        DrawingUnavailableError: vl-convert is not installed.
    """
    if form is not PictureForm.SPECIFICATION:
        _vl_convert()


def drawn(specification: Mapping[str, object], form: PictureForm) -> bytes:
    """A picture as the content of a file.

    Raises:
        DrawingUnavailableError: vl-convert is not installed.
    """
    if form is PictureForm.SPECIFICATION:
        return (json.dumps(specification, indent=2, ensure_ascii=False) + "\n").encode()
    vl_convert = _vl_convert()
    spec = dict(specification)
    offline: list[str] = []
    if form is PictureForm.SVG:
        svg: str = vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE, allowed_base_urls=offline)
        return svg.encode()
    if form is PictureForm.PNG:
        return bytes(vl_convert.vegalite_to_png(spec, vl_version=_VEGA_LITE, scale=_SCALE, allowed_base_urls=offline))
    return bytes(vl_convert.vegalite_to_pdf(spec, vl_version=_VEGA_LITE, allowed_base_urls=offline))


def _vl_convert() -> ModuleType:
    """The package that draws; it is large, and imported when a picture is drawn.

    Raises:
        DrawingUnavailableError: It is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise DrawingUnavailableError(
            "Pictures are drawn by vl-convert, which is not installed.",
            "Install it: pip install 'transfer-metering[cli,plot]'. "
            "A file that ends in .vl.json needs no installation.",
        ) from error
    return vl_convert
