"""The explorer page as it is served: its headers, its files and their addresses, its size, and what it is made of."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest

from metering.api.page import CONTENT_SECURITY_POLICY, digest, static_files
from tests.api.world import ApiWorld
from tests.support.lake_world import World

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "metering" / "api" / "static"
MODULES = ROOT / "tests" / "browser" / "modules"
MOST_LINES, MOST_COLUMNS = 400, 120
MOST_BYTES = 60_000
# Ways around the policy of content, or to keep more than a tab should.
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage")
_OURS = [path for path in sorted(STATIC.rglob("*")) if path.is_file() and "vendor" not in path.parts]


@pytest.fixture(scope="module")
def api() -> ApiWorld:
    return ApiWorld(World())


def addresses(text: str) -> list[str]:
    """What the page loads, by its relative address."""
    return re.findall(r'(?:src|href)="(static/[^"]+)"', text)


def test_the_page_needs_no_token_and_names_its_region_and_what_is_offered(api: ApiWorld) -> None:
    response = api.get("/", None)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.headers["cache-control"] == "no-cache"
    assert 'data-regions="us-east-1" data-stage="local"' in response.text
    offered = re.search(r'data-offered="([^"]*)"', response.text)
    assert offered is not None
    assert {"usage", "health"} <= set(offered[1].split())
    assert not re.findall("@[A-Z]+@", response.text)


def test_the_policy_lets_in_nothing_inline_and_nothing_of_others(api: ApiWorld) -> None:
    response = api.get("/", None)
    policy = dict(part.partition(" ")[::2] for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[f"{name}-src"] for name in ("script", "style", "connect")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<style|\sstyle=|<script>|\son[a-z]+=|javascript:", response.text)


def test_every_file_of_the_page_is_there_and_may_be_kept_for_ever(api: ApiWorld) -> None:
    found = addresses(api.get("/", None).text)
    assert len(found) >= 5
    for address in found:
        response = api.get(f"/{address}", None)
        assert response.status_code == 200, address
        assert "immutable" in response.headers["cache-control"]
        assert "content-security-policy" in response.headers


def test_every_import_of_a_module_is_a_file_of_the_page(api: ApiWorld) -> None:
    modules = {name: file.content.decode() for name, file in static_files().items() if name.endswith(".js")}
    imported = {
        urljoin(name, target)
        for name, text in modules.items()
        if not name.startswith("vendor/")
        for target in re.findall(r'from "([^"]+)"', text)
    }
    assert "views/usage.js" in imported
    assert imported <= set(modules)
    for name in imported:
        response = api.get(f"/static/{digest()}/{name}", None)
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"


def test_a_file_of_another_version_or_outside_of_the_page_is_not_found(api: ApiWorld) -> None:
    version = digest()
    for path in (
        "/static/0123456789abcdef/app.js",
        f"/static/{version}/nothing.js",
        f"/static/{version}/vendor/README.md",
        f"/static/{version}/../page.py",
        f"/static/{version}/..%2Fpage.py",
        f"/static/{version}//etc/passwd",
        f"/static/{version}/",
    ):
        response = api.get(path, None)
        assert response.status_code == 404, path
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["cache-control"] == "no-store"


def test_a_changed_file_changes_the_address_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    files = static_files()
    before = digest.__wrapped__()
    changed = files["app.js"].__class__.of("app.js", files["app.js"].content + b"\n")
    monkeypatch.setattr("metering.api.page.static_files", lambda: {**files, "app.js": changed})
    assert before == digest()
    assert digest.__wrapped__() != before


def test_compressed_and_plain_are_the_same(api: ApiWorld) -> None:
    address = f"/static/{digest()}/app.js"
    plain = api.send("GET", address, {"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = api.send("GET", address, {"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    # httpx has unpacked it.
    assert packed.content == plain.content


def test_code_is_served_without_comments_and_indentation_in_the_same_lines() -> None:
    for name, file in static_files().items():
        source, served = (STATIC / name).read_bytes(), file.content
        if not name.endswith((".js", ".css")) or name.startswith("vendor/"):
            assert served == source, name
            continue
        lines = list(zip(source.decode().split("\n"), served.decode().split("\n"), strict=True))
        left_out = [before.strip() for before, after in lines if before.strip() != after]
        assert all(not after for before, after in lines if before.strip() != after)
        assert all(line.startswith(("//", "/**", "*")) for line in left_out), name
        # A text over several lines would lose what its lines begin with.
        assert all(before.count("`") % 2 == 0 for before, after in lines if after), name


def test_head_says_the_same_without_a_body(api: ApiWorld) -> None:
    for path in ("/", f"/static/{digest()}/app.js"):
        response = api.send("HEAD", path, {})
        assert (response.status_code, response.content) == (200, b"")
        assert "content-security-policy" in response.headers


def test_the_whole_page_is_at_most_60_kb_on_the_wire() -> None:
    sizes = {name: len(file.compressed) for name, file in static_files().items() if name != "vendor/LICENSE"}
    assert sum(sizes.values()) <= MOST_BYTES, sizes
    assert all(gzip.decompress(file.compressed) == file.content for file in static_files().values())


@pytest.mark.parametrize("path", _OURS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_no_file_of_the_page_goes_around_the_policy_or_grows_too_long(path: Path) -> None:
    text = path.read_text()
    assert not [word for word in FORBIDDEN if word in text]
    # The name of SVG itself is an address that nobody asks.
    hosts = re.findall(r"https?://[^\"'\s]+", text.replace("http://www.w3.org/2000/svg", ""))
    assert not hosts
    if path.suffix == ".js":
        lines = text.splitlines()
        assert len(lines) <= MOST_LINES
        assert max(map(len, lines)) <= MOST_COLUMNS


def test_code_of_others_is_as_it_was_published() -> None:
    readme = (STATIC / "vendor" / "README.md").read_text()
    stated = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", readme, flags=re.MULTILINE))
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (STATIC / "vendor").iterdir()
        if path.name != "README.md"
    }
    assert stated == found
    assert "1.6.32" in readme


def test_the_modules_of_the_page_count_exactly_in_any_zone() -> None:
    """Its figures, ranges, addresses and layers, each without a browser."""
    tests = sorted(str(path) for path in MODULES.glob("*.test.mjs"))
    done = subprocess.run(
        [Path(sys.executable).parent / "node", "--no-warnings", "--test", "--test-isolation=none", *tests],
        env={**os.environ, "TZ": "Asia/Kolkata", "NODE_OPTIONS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    counted = re.search(r"tests (\d+)", done.stdout)
    assert counted is not None
    assert int(counted[1]) >= len(tests) > 0
