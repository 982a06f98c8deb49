"""The explorer page: files of this package, served with headers that allow requests only to its own origin.

There is no build step. Our own modules are served as two scripts, in the order of their imports, without comments and
indentation: what the first view needs, and what other views import later. If the page had 20 script files, it would
need 20 concurrent invocations and be a fifth larger.

All URLs of the page are relative, so it works below any path. Its files are served below a digest of all files and may
be cached forever. The page itself contains this digest and is requested anew each time.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from metering.api import parameters
from metering.reports.query import COST_FILTERS
from metering.wiring.answers.operators import KINDS, REASONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from importlib.resources.abc import Traversable

    from metering.api.parts import ApiParts
    from metering.api.people import SignIn

PAGE = "index.html"
SCRIPT = "page.js"
LATER = "more.js"
FILTERS_MODULE = "filters.js"
REASONS_MODULE = "reasons.js"
STYLE = "style.css"
MEDIA_TYPES: Mapping[str, str] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}
"""Media type by the ending of a file's name. A file of no such ending is not served."""

# The policy allows no inline code, no other origins, no frames, and no text that becomes markup or code.
CONNECT = "connect-src 'self'"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        CONNECT,
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Vary": "Accept-Encoding",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_API = "/v1/"
_VENDOR = "vendor/"
# Comments that fill whole lines.
_COMMENT = re.compile(rb"^[ ]*(?://[^\n]*|/\*\*.*?\*/)\n", re.MULTILINE | re.DOTALL)
# Matches `import { one, other } from "./there.js";`, also over several lines, and the keyword before an exported name.
_IMPORT = re.compile(rb'^import \{([^}]*)\} from "([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(rb"^export (?:const|class|function|async function) (\w+)", re.MULTILINE)
_EXPORT_WORD = re.compile(rb"^export ", re.MULTILINE)
# Matches `import("./there.js")`, which loads the second script.
_IMPORT_LATER = re.compile(rb'\bimport\("([^"]+)"\)')
_INDENTATION = re.compile(rb"^ +", re.MULTILINE)
# What stays as it is (texts, templates with templates in them, regular expressions), or signs with spaces around them.
_TEXT = rb'"(?:[^"\\\n]|\\.)*"'
_TEMPLATE = rb"`(?:[^`$]|\$(?!\{)|\$\{(?:[^`}]|`[^`]*`)*\})*`"
_REGULAR = rb"(?:(?<=[(,=:?&|] )|(?<=[(!])|(?<=return ))/(?:[^/\\\n[]|\\.|\[(?:[^]\\]|\\.)*\])+/"
_SCRIPT_SPACE = re.compile(b"(%b|%b|%b)| ?([{}(),:;=<>?*&|!]+) ?" % (_TEXT, _TEMPLATE, _REGULAR))
# Names of a module's own scope.
_NAMED = re.compile(rb"^(?:export )?(?:const|let|class|function|async function) (\w+)", re.MULTILINE)
# Ends of lines that say nothing, and a comma or semicolon before a bracket. No text of a module has several lines.
_LINE_END = re.compile(rb"(?<=[;{(\[])\n|[,;]?\n(?=[})\]])|(?<=,)\n|\n(?=[?:&|.])|(?<=\})\n(?=[a-z])")
_BLANK = re.compile(rb"\n+")
# Spaces of a style that only people need.
_STYLE_SPACE = re.compile(rb"/\*.*?\*/|\n|(?<=[:,]) +| +(?=\{)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """A file of the page: its name below `static/`, its media type, and its bytes plain and compressed."""

    name: str
    media_type: str
    content: bytes
    compressed: bytes

    @classmethod
    def of(cls, name: str, content: bytes) -> StaticFile:
        """The compressed bytes are deterministic."""
        ending = name.rpartition("/")[2].partition(".")[2].rpartition(".")[2]
        return cls(
            name=name,
            media_type=MEDIA_TYPES[ending],
            content=content,
            compressed=gzip.compress(content, compresslevel=9, mtime=0),
        )

    def response(self, request: Request, *, cache_control: str, **more: str) -> Response:
        headers = {**HEADERS, "Cache-Control": cache_control, **more}
        content = self.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = self.compressed, "gzip"
        return Response(content=content, media_type=self.media_type, headers=headers)


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Files of the page by their name below `static/`. The files are read at the first request, and cached."""
    found = dict(_read(files("metering.api") / "static"))
    modules = {name: found.pop(name) for name in list(found) if name.endswith(".js") and not name.startswith(_VENDOR)}
    found[SCRIPT], found[LATER] = scripts({**modules, **made_modules()})
    found[STYLE] = _STYLE_SPACE.sub(b"", _INDENTATION.sub(b"", found[STYLE]))
    return {name: StaticFile.of(name, content) for name, content in sorted(found.items())}


def made_modules() -> Mapping[str, bytes]:
    """JavaScript modules that are made of declarations: the page's filters, and the reasons and kinds of refusals."""
    declared = {
        name: {"label": each.label, "hint": each.hint, "all": each.all, "group": each.group}
        for name, each in COST_FILTERS.items()
    }
    kinds = f"export const REASONS = {json.dumps(REASONS)};\nexport const KINDS = {json.dumps(KINDS)};\n"
    return {
        FILTERS_MODULE: f"export const DECLARED = {json.dumps(declared, indent=2)};\n".encode(),
        REASONS_MODULE: kinds.encode(),
    }


@cache
def digest() -> str:
    """A digest of the content of all files, which is part of their URLs."""
    content = hashlib.sha256()
    for name, file in static_files().items():
        content.update(f"{name} {len(file.content)} ".encode() + file.content)
    return content.hexdigest()[:16]


def router(parts: ApiParts) -> APIRouter:
    """Routes of the page and its files. The routes need no store and no token, as no file is secret."""
    routes = APIRouter(include_in_schema=False)

    @routes.api_route("/", methods=["GET", "HEAD"])
    def page(request: Request) -> Response:
        """The page."""
        people = parts.people if parts.people is not None and parts.people.client else None
        more = {} if people is None else {"Content-Security-Policy": policy_with(people)}
        return _page(parts, people, _offered(request)).response(request, cache_control="no-cache", **more)

    @routes.api_route("/static/{version}/{name:path}", methods=["GET", "HEAD"])
    def static(request: Request, version: str, name: str) -> Response:
        """A file of the page in the deployed version."""
        file = static_files().get(name)
        if file is None or version != digest():
            raise parameters.problem("not-found", "The page has no such file now. Load the page again.")
        return file.response(request, cache_control=_FOR_EVER)

    return routes


def policy_with(people: SignIn) -> str:
    """The policy of a page with sign-in. Two addresses of the provider are added."""
    return CONTENT_SECURITY_POLICY.replace(CONNECT, " ".join((CONNECT, people.discovery, people.token_endpoint)))


def _page(parts: ApiParts, people: SignIn | None, offered: str) -> StaticFile:
    regions = ",".join(region.region for region in parts.regions)
    stages = ",".join(dict.fromkeys(region.stage for region in parts.regions))
    return _filled(regions, stages, offered, "" if people is None else people.client_text())


@cache
def _filled(regions: str, stages: str, offered: str, sign_in: str) -> StaticFile:
    """The page, filled with the values of this server."""
    text = static_files()[PAGE].content.decode()
    where = f"{regions.count(',') + 1} regions" if "," in regions else regions
    values = {"DIGEST": digest(), "REGIONS": regions, "WHERE": where, "STAGE": stages, "OFFERED": offered}
    values["SIGNIN"] = sign_in
    for name, value in values.items():
        text = text.replace(f"@{name}@", html.escape(value))
    return StaticFile.of(PAGE, text.replace(' data-sign-in=""', "").encode())


def _offered(request: Request) -> str:
    """Names of the resources that this API answers, separated by spaces. The page shows a view for each known name."""
    paths: Iterable[str] = [resource.path for resource in request.app.state.resources]
    return " ".join(sorted({path.removeprefix(_API).partition("/")[0] for path in paths if path.startswith(_API)}))


def _read(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        name = f"{above}{each.name}"
        if each.is_dir():
            yield from _read(each, f"{name}/")
        elif not each.name.endswith(".md"):
            yield name, each.read_bytes()


def scripts(modules: Mapping[str, bytes], entry: str = "app.js") -> tuple[bytes, bytes]:
    """Modules as two scripts. In each, all modules share one scope, so that nothing is written for its borders.

    The first script has all that `entry` imports. The second has what `import("./there.js")` loads at its first call:
    it gets the names that it needs from the first, and returns its own.

    Args:
        modules: By name. All imports and exports are by name, without default exports or renaming.
        entry: The entry module; modules that nothing imports are left out.

    Raises:
        ValueError: Modules have a circular import, import a module that does not exist, or share a name.
    """
    ended: dict[str, bytes] = {}
    begun: list[str] = []
    later: list[str] = []

    def add(name: str) -> None:
        if name in ended:
            return
        if name in begun or name not in modules:
            raise ValueError(f"{name} is imported in a circle, or is not there: {begun}")
        begun.append(name)
        later.extend(_target(name, each) for each in _IMPORT_LATER.findall(modules[name]))
        for _, target in _IMPORT.findall(modules[name]):
            add(_target(name, target))
        ended[name] = modules[name]

    add(entry)
    first = list(ended.values())
    for name in later:
        add(name)
    second = list(ended.values())[len(first) :]
    shared = [name for name, count in Counter(_NAMED.findall(b"\n".join(ended.values()))).items() if count > 1]
    if shared:
        raise ValueError(f"several modules have these names: {b', '.join(shared).decode()}")
    own = set(_EXPORT.findall(b"\n".join(second)))
    given = b", ".join(sorted({name for code in second for name in _imported(code)} - own))
    return (
        b"(() => {\n" + _BEGINNING.replace(b"@GIVEN@", given) + _joined(first) + b"})();\n",
        b"export function add({ " + given + b" }) {\n" + _joined(second)
        + b"return { " + b", ".join(sorted(own)) + b" };\n}\n",
    )  # fmt: skip


_BEGINNING = b"""\
"use strict";
let more = null;
const later = () => {
more ??= import("./more.js").then((all) => all.add({ @GIVEN@ }));
return more.catch((failure) => { more = null; throw failure; });
};
"""


def _target(name: str, target: bytes) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target.decode()))


def _imported(code: bytes) -> Iterator[bytes]:
    for names, _ in _IMPORT.findall(code):
        yield from (name.strip() for name in names.split(b",") if name.strip())


def _joined(modules: Sequence[bytes]) -> bytes:
    """Modules below each other, without imports, exports, and what only people need."""
    code = _slim(_IMPORT_LATER.sub(b"later()", _EXPORT_WORD.sub(b"", _IMPORT.sub(b"", b"\n".join(modules)))))
    return _SCRIPT_SPACE.sub(rb"\1\2", _LINE_END.sub(b"", _BLANK.sub(b"\n", code)))


def _slim(content: bytes) -> bytes:
    """Source code of this project without comments and indentation."""
    return _INDENTATION.sub(b"", _COMMENT.sub(b"", content))
