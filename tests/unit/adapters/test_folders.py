"""A folder as an object store passes the contract suite, and has behaviour that only folders have."""

import json
import os
import uuid
from pathlib import Path

import pytest

from metering.adapters import description_files
from metering.adapters.description_files import fetched_ip_ranges
from metering.adapters.folders import FolderLogStore
from metering.errors import (
    ObjectChangedError,
    ObjectMissingError,
    ObjectUnreadableError,
    OperationFailedError,
    UnavailableError,
)
from metering.onramps.context.description import DescriptionError
from metering.onramps.sources import LogStore
from metering.stores.objects import ObjectStore
from tests.contract.test_object_store import *  # noqa: F403 - the same tests, over the fixture below
from tests.support.describing import ranges

_NAMES = ["a", "a-b/x", "a.b", "a/b", "a/b-c", "a/c/d e", "a/ü/😀", "a0", "b/\N{ROMAN NUMERAL TEN}", "c%2F", "z+1"]


_UNFIT = {
    "thousand": "a thousand files are no news to a folder",
    "never_mixes": "an open file stays the one that was opened, also when another takes its name",
    "was_deleted": "an open file can be read to its end",
    "key_order": "a file and a folder cannot have one name",
}


@pytest.fixture
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    for test, why in _UNFIT.items():
        if test in request.node.name:
            pytest.skip(why)
    return FolderLogStore(tmp_path, page_names=2)


@pytest.fixture
def prefix() -> str:
    return f"t/{uuid.uuid4().hex}/"


def written(root: Path, *names: str) -> FolderLogStore:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return FolderLogStore(root, page_names=2)


def keys_of(store: LogStore, prefix: str = "", after: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, after=after)]


# A file and a folder cannot have the same name.
_FILES = [name for name in _NAMES if name != "a"]


def test_files_are_listed_in_the_order_of_keys_as_s3_does(tmp_path: Path) -> None:
    store = written(tmp_path, *_FILES)
    assert keys_of(store) == sorted(_FILES, key=str.encode)
    for after in ("", *_NAMES, "a/", "a/c", "zz"):
        assert keys_of(store, after=after) == [name for name in sorted(_FILES) if name > after]
        for prefix in ("", "a", "a/", "a/c/", "a/b", "x", "b/"):
            assert keys_of(store, prefix, after) == [
                name for name in sorted(_FILES) if name > after and name.startswith(prefix)
            ]


def test_the_place_and_the_key_are_the_path(tmp_path: Path) -> None:
    store = written(tmp_path, "a/b")
    assert store.place + "a/b" == str(tmp_path / "a" / "b")
    info = store.head("a/b")
    assert info is not None
    assert (info.key, info.size_bytes) == ("a/b", 3)
    assert [info] == list(store.list(""))


@pytest.mark.parametrize("key", ["..", "../x", "/etc/passwd", "a/../../x", "", "a/", "a//b", "a/./b", "a\0b", "a"])
def test_keys_that_name_no_file_of_the_folder_are_missing(tmp_path: Path, key: str) -> None:
    (tmp_path / "x").write_bytes(b"secret")
    store = written(tmp_path / "logs", "a/b")
    assert store.head(key) is None
    with pytest.raises(ObjectMissingError):
        store.open(key)


def test_a_file_that_grows_while_it_is_read_has_changed(tmp_path: Path) -> None:
    store = written(tmp_path, "log")
    info = store.head("log")
    assert info is not None
    with store.open("log", if_match=info.etag.strip('"')) as stream:
        assert stream.read(1) == b"l"
        with (tmp_path / "log").open("ab") as file:
            file.write(b" more")
        with pytest.raises(ObjectChangedError):
            stream.read()
    with pytest.raises(ObjectChangedError):
        store.open("log", if_match=info.etag)


def test_a_file_that_is_replaced_has_another_etag_even_if_it_looks_alike(tmp_path: Path) -> None:
    store = written(tmp_path, "log")
    before = store.head("log")
    status = (tmp_path / "log").stat()
    (tmp_path / "other").write_bytes(b"gol")
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "other").replace(tmp_path / "log")
    after = store.head("log")
    assert before is not None
    assert after is not None
    assert before.modified_s == after.modified_s
    assert before.size_bytes == after.size_bytes
    assert before.etag != after.etag


def test_links_to_folders_and_special_files_are_left_out(tmp_path: Path) -> None:
    store = written(tmp_path, "a/b")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert keys_of(store) == ["a/b", "linked"]
    with store.open("linked") as stream:
        assert stream.read() == b"a/b"
    with pytest.raises(ObjectMissingError):
        store.open("pipe")


def test_a_folder_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(OperationFailedError, match="There is no folder"):
        keys_of(FolderLogStore(tmp_path / "none"))


def test_a_name_that_is_no_text_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"x")
    with pytest.raises(OperationFailedError, match="no UTF-8"):
        keys_of(FolderLogStore(tmp_path))


def test_whoever_is_told_of_names_that_are_no_text_gets_all_others(tmp_path: Path) -> None:
    for name in (b"a", b"b\xff", b"c"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"d\xff")).mkdir()
    told: list[str] = []
    assert keys_of(FolderLogStore(tmp_path, unnamed=told.append)) == ["a", "c"]
    assert {each.rstrip("/").rpartition("/")[2] for each in told} == {os.fsdecode(b"b\xff"), os.fsdecode(b"d\xff")}


def test_a_key_that_leads_out_of_the_folder_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ObjectUnreadableError):
        FolderLogStore(tmp_path / "in").put("../out", b"x", if_absent=False)
    assert not (tmp_path / "out").exists()


def test_a_folder_has_the_key_already(tmp_path: Path) -> None:
    with pytest.raises(ObjectUnreadableError, match="a folder of that name"):
        written(tmp_path, "a/b").put("a", b"x", if_absent=True)


# The list of AWS's address ranges, from a file or over https, checked and limited.

PUBLISHED = ranges(("52.32.0.0/11", "us-west-2", "EC2"), ("2600:1f14::/36", "us-west-2", "EC2"))


def test_a_file_is_read_as_aws_publishes_it(tmp_path: Path) -> None:
    path = tmp_path / "ip-ranges.json"
    path.write_text(json.dumps(PUBLISHED))
    assert fetched_ip_ranges(str(path)) == PUBLISHED


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ip-ranges.json"
    path.write_text("<html>sign in</html>")
    with pytest.raises(DescriptionError, match="address ranges"):
        fetched_ip_ranges(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperationFailedError, match=r"ranges\.json cannot be read: No such file"):
        fetched_ip_ranges(str(tmp_path / "ranges.json"))


def test_what_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description_files, "_IP_RANGES_MAX_BYTES", 10)
    path = tmp_path / "ip-ranges.json"
    path.write_text(json.dumps(PUBLISHED))
    with pytest.raises(OperationFailedError, match="more than 10 bytes"):
        fetched_ip_ranges(str(path))


@pytest.mark.parametrize("place", ["http://ip-ranges.amazonaws.com/ip-ranges.json", "ftp://x/y", "file:///etc/hosts"])
def test_only_https_is_asked(place: str) -> None:
    with pytest.raises(OperationFailedError, match="are not read over"):
        fetched_ip_ranges(place)


def test_an_address_that_does_not_answer_is_transient() -> None:
    with pytest.raises(UnavailableError, match=r"GET https://127\.0\.0\.1:9/"):
        fetched_ip_ranges("https://127.0.0.1:9/ip-ranges.json")
