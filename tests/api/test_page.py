"""The explorer page as it is served: headers, files and their addresses, size, and source."""

from __future__ import annotations

import gzip
import hashlib
import html
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from metering.api.page import (
    CONTENT_SECURITY_POLICY,
    StaticFile,
    digest,
    made_modules,
    scripts,
    static_files,
)
from metering.api.people import GroupGrant, SignIn
from metering.api.serving import HostCheck, LocalServer
from tests.api.world import ApiWorld, WorldRegion
from tests.support.lake_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx
    from starlette.types import Message, Receive, Scope, Send

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "metering" / "api" / "static"
MODULES = ROOT / "tests" / "browser" / "modules"
MOST_LINES, MOST_COLUMNS = 400, 120
MOST_BYTES, MOST_AT_FIRST = 70_000, 50_000
# Number of requests in the first view, including the page itself: all of them count in the gateway's burst.
MOST_FILES = 5
NODE = Path(sys.executable).parent / "node"
# Ways to bypass the content security policy, or to store more in a tab than is allowed.
FORBIDDEN = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage")
_OURS = [path for path in sorted(STATIC.rglob("*")) if path.is_file() and "vendor" not in path.parts]


@pytest.fixture(scope="module")
def api() -> ApiWorld:
    return ApiWorld(World())


def addresses(text: str) -> list[str]:
    """Relative addresses that the page loads."""
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


def test_a_page_of_several_regions_counts_them(api: ApiWorld) -> None:
    several = ApiWorld(api.world)
    several.parts = replace(several.parts, regions=[WorldRegion(api.world), WorldRegion(api.world, region="eu-west-1")])
    text = several.get("/", None).text
    assert 'data-regions="us-east-1,eu-west-1" data-stage="local"' in text
    assert "2 regions" in text


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


PEOPLE = SignIn(
    issuer="https://login.example.com/tenant/",
    audience="metering",
    claim="groups",
    groups=(GroupGrant(group="secret-plans", role="analyst", accounts=None),),
    client="explorer",
    token_endpoint="https://oauth.example.net/token",
    scopes="openid groups",
)


def with_people(api: ApiWorld, people: SignIn | None) -> httpx.Response:
    own = ApiWorld(api.world)
    own.parts = replace(own.parts, people=people)
    return own.get("/", None)


def test_a_page_where_people_sign_in_knows_its_client_and_reaches_the_two_documents_of_the_provider_alone(
    api: ApiWorld,
) -> None:
    response = with_people(api, PEOPLE)
    discovery = "https://login.example.com/tenant/.well-known/openid-configuration"
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY.replace(
        "connect-src 'self'", f"connect-src 'self' {discovery} https://oauth.example.net/token"
    )
    found = re.search(r' data-sign-in="([^"]*)"', response.text)
    assert found is not None
    told = json.loads(html.unescape(found[1]))
    assert told == {
        "issuer": "https://login.example.com/tenant/", "discovery": discovery, "client": "explorer",
        "audience": "metering", "token_endpoint": "https://oauth.example.net/token", "scopes": "openid groups",
    }  # fmt: skip
    assert "secret-plans" not in response.text


def test_a_page_without_a_client_is_the_one_for_tokens_byte_by_byte(api: ApiWorld) -> None:
    plain, tokens_only = api.get("/", None), with_people(api, replace(PEOPLE, client=""))
    assert "data-sign-in" not in plain.text
    assert (plain.content, plain.headers) == (tokens_only.content, tokens_only.headers)
    assert plain.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_every_file_of_the_page_is_there_and_may_be_kept_for_ever(api: ApiWorld) -> None:
    found = addresses(api.get("/", None).text)
    assert 4 <= len(found) <= MOST_FILES, "the page is few calls of the function"
    for address in found:
        response = api.get(f"/{address}", None)
        assert response.status_code == 200, address
        assert "immutable" in response.headers["cache-control"]
        assert "content-security-policy" in response.headers


def test_every_module_is_in_one_of_the_scripts_and_both_run(tmp_path: Path) -> None:
    modules = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in _OURS if path.suffix == ".js"}
    modules |= made_modules()
    served, more = (static_files()[name].content for name in ("page.js", "more.js"))
    assert (served, more) == scripts(modules)
    for code in modules.values():
        names = re.findall(rb"^export (?:const|class|function|async function) (\w+)", code, flags=re.MULTILINE)
        assert all(re.search(rb"\b(?:const|class|function) " + name + rb"\b", served + more) for name in names)
        # The code uses only forms of import and export that the bundler handles.
        for line in code.decode().splitlines():
            if line.startswith(("import ", "export ", "} from ")):
                assert re.match(r"import \{|\} from \"|export (const|class|function|async function) ", line), line
                assert " as " not in line
                assert "default" not in line
            # Ends of lines are left out, so no text may go over several.
            assert line.count("`") % 2 == 0, line
    assert not re.search(rb"^(import|export) ", served, flags=re.MULTILINE)
    for name, text in (("page.js", served), ("more.mjs", more)):
        (tmp_path / name).write_bytes(text)
        done = subprocess.run([NODE, "--check", tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_modules_are_put_together_in_the_order_of_their_imports() -> None:
    modules = {
        "app.js": b'import {\n  two,\n} from "./views/two.js";\n// Why.\nglobalThis.found = two() + 1;\n',
        "views/two.js": b'import { ONE } from "../one.js";\n/** Two. */\nexport const two = () => 2 * ONE;\n',
        "one.js": b"export const ONE = 1;\n",
        "unused.js": b"never();\n",
    }
    first, more = scripts(modules)
    text = first.decode() + "console.log(globalThis.found);"
    assert b"two" not in more
    done = subprocess.run([NODE, "-e", text], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
    assert "never" not in text
    assert "//" not in text


def test_texts_and_regular_expressions_keep_their_spaces(tmp_path: Path) -> None:
    lines = r"""
    const some = [1, 2];
    const texts = ["a , \" : b", `c ? ${some.length ? `, ${some[0] + 1} = d` : " : "} ; e`, `1 ${ "x" } 2`];
    const half = some.length / 2 / 1;
    const found = ["x , y".replace(/ , /, "-"), "( \" )".replace(/[" /]+ ?/g, "_"), / ; /.test(" ; ")];
    function split(text) {
      return / : [?] /.test(text) && !/ & /.test(text);
    }
    console.log(JSON.stringify([texts, half, found, split(" : ? ")]));
    """
    first, _ = scripts({"app.js": "\n".join(line.strip() for line in lines.split("\n")).encode()})
    (tmp_path / "page.cjs").write_bytes(first)
    done = subprocess.run([NODE, tmp_path / "page.cjs"], capture_output=True, text=True, check=True)
    texts = ['a , " : b', "c ? , 2 = d ; e", "1 x 2"]
    assert json.loads(done.stdout) == [texts, 1, ["x-y", "(_)", True], True]
    assert b"constsome" not in first
    assert b"some=[1,2]" in first


@pytest.mark.parametrize("target", ["./page.js", "./nowhere.js"])
def test_a_circle_of_modules_and_one_that_is_missing_are_found(target: str) -> None:
    modules = {"app.js": b'import { one } from "./one.js";\n', "one.js": f'import {{ a }} from "{target}";\n'.encode()}
    with pytest.raises(ValueError, match="in a circle, or is not there"):
        scripts(modules)


def test_what_is_imported_later_comes_in_a_script_of_its_own_with_what_it_needs(tmp_path: Path) -> None:
    modules = {
        "app.js": b'import { ONE } from "./one.js";\nimport("./two.js").then(({ two }) => console.log(two(ONE)));\n',
        "two.js": b'import { double } from "./one.js";\nexport const two = (value) => double(value);\n',
        "one.js": b"export const ONE = 1;\nexport function double(value) {\n  return 2 * value;\n}\n",
    }
    first, more = scripts(modules)
    assert b"double(value)" not in more.replace(b"=>double(value)", b"")
    (tmp_path / "page.cjs").write_bytes(first.replace(b"more.js", b"more.mjs"))
    (tmp_path / "more.mjs").write_bytes(more)
    done = subprocess.run([NODE, tmp_path / "page.cjs"], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


def test_modules_that_share_a_name_are_found() -> None:
    modules = {"app.js": b'import { one } from "./one.js";\nconst two = one;\n', "one.js": b"export const one = 1;\n"}
    scripts(modules)
    modules["one.js"] += b"const two = 2;\n"
    with pytest.raises(ValueError, match="several modules have these names: two"):
        scripts(modules)


def test_a_file_of_another_version_or_outside_of_the_page_is_not_found(api: ApiWorld) -> None:
    outside = ("nothing.js", "vendor/README.md", "../page.py", "..%2Fpage.py", "/etc/passwd", "")
    for path in ("0123456789abcdef/page.js", *(f"{digest()}/{each}" for each in outside)):
        response = api.get(f"/static/{path}", None)
        assert response.status_code == 404, path
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["cache-control"] == "no-store"


def test_a_changed_file_changes_the_address_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    files = static_files()
    before = digest()
    changed = StaticFile.of("page.js", files["page.js"].content + b"\n")
    monkeypatch.setattr("metering.api.page.static_files", lambda: {**files, "page.js": changed})
    assert digest.__wrapped__() != before


def test_compressed_and_plain_are_the_same(api: ApiWorld) -> None:
    address = f"/static/{digest()}/page.js"
    plain, packed = (api.send("GET", address, {"Accept-Encoding": form}) for form in ("identity", "gzip"))
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding"
    # httpx has unpacked it.
    assert packed.content == plain.content


def test_head_says_the_same_without_a_body(api: ApiWorld) -> None:
    for path in ("/", f"/static/{digest()}/page.js"):
        response = api.send("HEAD", path, {})
        assert (response.status_code, response.content) == (200, b"")
        assert "content-security-policy" in response.headers


def overweight(sizes: Mapping[str, int]) -> list[str]:
    """Parts of the page with more compressed bytes than their bar: the whole page, its first view."""
    first = {"the page": (sum(sizes.values()), MOST_BYTES)}
    all_ = {"its first view": (sum(sizes.values()) - sizes["more.js"], MOST_AT_FIRST)}
    return [f"{name} has {size:,} bytes of {most:,}" for name, (size, most) in (first | all_).items() if size > most]


def test_the_whole_page_is_at_most_70_kb_on_the_wire_and_its_first_view_50() -> None:
    sizes = {name: len(file.compressed) for name, file in static_files().items() if name != "vendor/LICENSE"}
    assert overweight(sizes) == []
    assert all(gzip.decompress(file.compressed) == file.content for file in static_files().values())
    # A view that would come with the first script, and one that is too large, are found.
    at_first = overweight({**sizes, "page.js": sizes["page.js"] + 1_000})
    assert [text.split(" has ")[0] for text in at_first] == ["its first view"]
    assert overweight({**sizes, "more.js": sizes["more.js"] + 5_000})[0].startswith("the page has ")


def test_every_reason_of_the_docs_has_its_words_on_the_page() -> None:
    section = (ROOT / "docs" / "causes.md").read_text().partition("## What is never guessed")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    words = (STATIC / "views" / "who.js").read_text().partition("const WHY = {")[2].partition("};")[0]
    known = [name.replace("[OTHER_USAGE]", "other_usage") for name in re.findall(r"^  (\S+): \[", words, re.MULTILINE)]
    assert len(told) >= 12
    assert sorted(known) == sorted(told)


@pytest.mark.parametrize("path", _OURS, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_no_file_of_the_page_goes_around_the_policy_or_grows_too_long(path: Path) -> None:
    text = path.read_text()
    assert not [word for word in FORBIDDEN if word in text]
    # The SVG namespace is a URL that is never requested.
    hosts = re.findall(r"https?://[^\"'\s]+", text.replace("http://www.w3.org/2000/svg", ""))
    assert not hosts
    if path.suffix == ".js":
        lines = text.splitlines()
        assert len(lines) <= MOST_LINES
        assert max(map(len, lines)) <= MOST_COLUMNS


def test_code_of_others_is_as_it_was_published() -> None:
    readme = (STATIC / "vendor" / "README.md").read_text()
    stated = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", readme, flags=re.MULTILINE))
    others = (path for path in (STATIC / "vendor").iterdir() if path.name != "README.md")
    assert stated == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in others}
    assert "1.6.32" in readme


def test_the_modules_of_the_page_count_exactly_in_any_zone(tmp_path: Path) -> None:
    """Figures, ranges, addresses and layers of the page, tested without a browser."""
    static = shutil.copytree(STATIC, tmp_path / STATIC.relative_to(ROOT))
    for name, content in made_modules().items():
        (static / name).write_bytes(content)
    copied = shutil.copytree(MODULES, tmp_path / MODULES.relative_to(ROOT))
    tests = sorted(str(path) for path in copied.glob("*.test.mjs"))
    done = subprocess.run(
        [NODE, "--no-warnings", "--test", "--test-isolation=none", *tests], capture_output=True, text=True, check=False,
        env={**os.environ, "TZ": "Asia/Kolkata", "NODE_OPTIONS": ""}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    counted = re.search(r"tests (\d+)", done.stdout)
    assert counted is not None
    assert int(counted[1]) >= len(tests) > 0


# The local server listens only on 127.0.0.1, refuses requests for other hosts, and explains if its port is in use.
PATHS = ("/v1/health", "/v1/usage", "/openapi.json", "/", "/nothing")


@contextmanager
def serving() -> Iterator[LocalServer]:
    server = LocalServer(app=ApiWorld().app, port=0)
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
    assert not thread.is_alive()


def get(server: LocalServer, path: str, host: str | None, who: str = "analyst") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in (("Host", host), ("Authorization", f"Bearer {who}")):
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_answers_its_own_hosts_and_refuses_others_at_every_path() -> None:
    with serving() as server:
        port = server.port
        for own in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
            assert get(server, "/v1/health", own)[0] == 200
            assert get(server, "/v1/usage", own)[0] == 200
        strange = [
            f"evil.example:{port}", "evil.example", "127.0.0.1", f"127.0.0.1:{port + 1}", "",
            f"127.0.0.1.evil.example:{port}",
            f"localhost:{port}.evil.example", f"0.0.0.0:{port}", f"[::1]:{port}", f"localhost.:{port}",
        ]  # fmt: skip
        for host in strange:
            assert {get(server, path, host)[0] for path in PATHS} == {421}, host
        status, body = get(server, "/v1/usage", "evil.example", who="nobody")
        assert status == 421
        assert b"evil" not in body


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    with serving() as server:
        for lines in (b"GET /v1/health HTTP/1.0", b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(lines + b"\r\nConnection: close\r\n\r\n")
                assert connection.recv(64).split()[1] in {b"400", b"421"}


def test_it_listens_at_the_loopback_address_only_and_a_port_that_is_taken_is_refused_at_once() -> None:
    with serving() as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        assert server._socket.getsockname() == ("127.0.0.1", server.port)
        with pytest.raises(OSError, match="in use"):
            LocalServer(app=ApiWorld().app, port=server.port)


@pytest.mark.parametrize(
    ("port", "host", "let_in"),
    [
        (80, b"localhost", True),
        (80, b"127.0.0.1:80", True),
        (8080, b"localhost", False),
        (8080, b"localhost:80", False),
    ],
)
def test_only_the_port_of_http_may_be_left_out(port: int, host: bytes, let_in: bool) -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        reached.append(scope["type"])

    async def send(message: Message) -> None:
        del message

    scope: Scope = {"type": "http", "headers": [(b"host", host)]}
    with pytest.raises(StopIteration):
        HostCheck(app, port=port)(scope, _nothing, send).__await__().__next__()
    assert reached == (["http"] if let_in else [])


async def _nothing() -> Message:
    return {}
