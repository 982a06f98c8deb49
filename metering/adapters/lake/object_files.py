"""The data bucket as an Arrow file system that only reads, by ranges, through the `ObjectStore` port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSystemHandler, FileType, PyFileSystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ports import ObjectStore


def object_files(objects: ObjectStore) -> PyFileSystem:
    """File system whose paths are object keys."""
    return PyFileSystem(_ObjectFiles(objects))


class _ReadOnlyError(OSError):
    """Nothing is written through this file system."""


class _ObjectFiles(FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ObjectFiles) and other._objects is self._objects

    def __hash__(self) -> int:
        return id(self._objects)

    def get_type_name(self) -> str:
        return "metering"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(self._objects.open(path), mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def get_file_info(self, paths: Sequence[str]) -> list[FileInfo]:
        infos = [self._objects.head(path) for path in paths]
        return [
            FileInfo(path, FileType.NotFound) if info is None else FileInfo(path, FileType.File, size=info.size_bytes)
            for path, info in zip(paths, infos, strict=True)
        ]

    def get_file_info_selector(self, selector: object) -> list[FileInfo]:
        raise _ReadOnlyError("the files are named one by one")

    def create_dir(self, path: str, recursive: bool) -> None:
        raise _ReadOnlyError(path)

    def delete_dir(self, path: str) -> None:
        raise _ReadOnlyError(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        raise _ReadOnlyError(path)

    def delete_root_dir_contents(self) -> None:
        raise _ReadOnlyError("/")

    def delete_file(self, path: str) -> None:
        raise _ReadOnlyError(path)

    def move(self, src: str, dest: str) -> None:
        raise _ReadOnlyError(src)

    def copy_file(self, src: str, dest: str) -> None:
        raise _ReadOnlyError(src)

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        raise _ReadOnlyError(path)

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        raise _ReadOnlyError(path)
