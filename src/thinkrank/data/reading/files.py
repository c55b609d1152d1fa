"""The files of a data set, in a folder or a zip archive, opened as streams and never unpacked."""

import gzip
import json
import shlex
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from typing import cast

from thinkrank.data._nearest import did_you_mean
from thinkrank.data.reading.intake import STAND, note, setting
from thinkrank.errors import ThinkrankError

_TABLES = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".ndjson", ".json", ".gz")
BLOCK_BYTES = 1 << 24
"""Files are read in blocks of about this size, so memory does not grow with the text around the columns we keep."""


@dataclass(frozen=True)
class DataFile:
    """Hold the name of one file, and how to open it.

    Attributes:
        name: its base name, for messages and to tell its format.
        open: opens it for reading bytes as they are stored.
        inside: its path inside the folder or archive it was found in.
    """

    name: str
    open: Callable[[], BufferedIOBase]
    inside: PurePosixPath = field(default_factory=PurePosixPath)

    @classmethod
    def at(cls, path: Path, folder: Path | None = None) -> "DataFile":
        """Build a data file from a path on the disk, found in a folder."""
        inside = PurePosixPath(path.name if folder is None else path.relative_to(folder).as_posix())
        return cls(path.name, lambda: path.open("rb"), inside)

    def pieces(self, size: int = BLOCK_BYTES) -> Iterator[bytes]:
        """Yield the contents, decompressed if gzip, in pieces of at most `size` bytes.

        Raises:
            ThinkrankError: if the file cannot be read, or is truncated, damaged or not what its name says.
        """
        try:
            with self.open() as raw, self._decompressed(raw) as stream:
                while piece := stream.read(size):
                    yield piece
        except EOFError as error:
            raise ThinkrankError(
                f"{self.name}: truncated, the compressed data ends too early. Fetch it again."
            ) from error
        except (gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
            raise ThinkrankError(f"{self.name}: damaged ({error}). Fetch it again.") from error
        except (OSError, RuntimeError, NotImplementedError) as error:  # the last two: encrypted or exotic zip members
            raise ThinkrankError(f"{self.name}: cannot be read ({error})") from error

    def read(self) -> bytes:
        """Read the whole contents, decompressed."""
        return b"".join(self.pieces())

    def _decompressed(self, raw: BufferedIOBase) -> BufferedIOBase:
        buffered = BufferedReader(cast("RawIOBase", raw))  # any readable will do
        if buffered.peek(2)[:2] == b"\x1f\x8b":
            return gzip.GzipFile(fileobj=buffered)
        if self.name.lower().endswith(".gz"):
            raise ThinkrankError(f"{self.name}: is not gzip, whatever its name says. Fetch it again or rename it.")
        return buffered


@dataclass(frozen=True)
class Files:
    """Hold the files of a folder (with its direct subfolders) or a zip archive.

    Attributes:
        where: the path, for messages.
        members: the files, shallow ones first, in order of name.
    """

    where: Path
    members: tuple[DataFile, ...]

    @classmethod
    def at(cls, path: str | Path) -> "Files":
        """List a folder or a zip archive.

        Raises:
            ThinkrankError: if there is nothing at this path, or a file that is no zip archive.
        """
        path = Path(path).expanduser()
        if path.is_dir():
            inside = sorted({*path.glob("*"), *path.glob("*/*")}, key=lambda file: (len(file.parts), file.name, file))
            return cls(path, tuple(DataFile.at(file, path) for file in inside if file.is_file()))
        if not path.exists():
            raise ThinkrankError(f"{path}: no such file or folder")
        refuse_spreadsheet(path.name)
        if path.suffix.lower() in _TABLES and not zipfile.is_zipfile(path):
            raise ThinkrankError(f"{path}: is one file. Give the folder it is in: {_naming(path)}.")
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
        except (zipfile.BadZipFile, OSError) as error:
            raise ThinkrankError(f"{path}: neither a folder nor a readable zip file ({error})") from error
        names.sort(key=lambda name: (name.count("/"), name))
        return cls(path, tuple(_zip_member(path, name) for name in names))

    def find(self, *patterns: str) -> list[DataFile]:
        """Find the files whose base name matches a pattern (as in a shell, any case), in the order of the patterns."""
        return [
            file for pattern in patterns for file in self.members if fnmatch(file.name.casefold(), pattern.casefold())
        ]

    def one(self, *patterns: str) -> DataFile | None:
        """Find the file that is meant: by the first pattern that any fits, and nearest to the top; None without one.

        Raises:
            ThinkrankError: if that leaves several.
        """
        for pattern in patterns:
            found = self.find(pattern)
            nearest = [file for file in found if len(file.inside.parts) == len(found[0].inside.parts)]
            if len(nearest) > 1:
                names = ", ".join(str(file.inside) for file in nearest[:5])
                raise ThinkrankError(
                    f"{self.where}: holds {len(nearest)} files for {pattern} ({names}). Leave one there."
                )
            others = [str(file.inside) for file in self.find(*patterns) if found and file is not found[0]]
            if others:
                note(f"{self.where}: {found[0].inside} was read, and not {', '.join(others[:5])}")
            if found:
                return found[0]
        return None

    def named(self, name: str) -> list[DataFile]:
        """Find the files that a user names: by the path inside, else by the base name, else as a pattern of paths.

        Raises:
            ThinkrankError: if nothing has that name, or several files have that base name.
        """
        exact = [file for file in self.members if file.inside == PurePosixPath(name)]
        if exact:
            return exact
        same = [file for file in self.members if file.name == name]
        if len(same) > 1:
            names = ", ".join(str(file.inside) for file in same)
            raise ThinkrankError(f"{self.where}: holds {len(same)} files called {name}: {names}. Name one by its path.")
        found = same or [file for file in self.members if fnmatch(str(file.inside), name)]
        if not found:
            near = did_you_mean(name, [str(file.inside) for file in self.members], n=3)
            raise ThinkrankError(f"{self.where}: holds no {name}{near}")
        return found

    def require(self, *patterns: str) -> DataFile:
        """Return the file that matches; see `one`.

        Raises:
            ThinkrankError: if there is none or there are several; names the nearest files there are.
        """
        return self.one(*patterns) or self.require_all(*patterns)[0]

    def require_all(self, *patterns: str) -> list[DataFile]:
        """Return the files that match, at least one.

        Raises:
            ThinkrankError: if there is none; names the nearest files there are.
        """
        found = self.find(*patterns)
        if not found:
            near = did_you_mean(patterns[0], [file.name for file in self.members], n=3)
            raise ThinkrankError(f"{self.where}: holds no {' or '.join(patterns)}{near}")
        return found


def refuse_spreadsheet(name: str) -> None:
    """Refuse what Excel or LibreOffice keeps.

    Raises:
        ThinkrankError: with the way out.
    """
    if name.lower().endswith((".xlsx", ".xlsm", ".xls", ".ods")):
        raise ThinkrankError(
            f"{name}: is a spreadsheet, which is not read. Save each sheet as CSV, and give their folder."
        )


def _naming(path: Path) -> str:
    """Say how one table of a folder is named."""
    role = "items" if path.stem.casefold().startswith(("item", "product", "movie", "catalog")) else "interactions"
    named = setting(role, path.name)
    if STAND.get() == "command line":
        return f"--path {shlex.quote(str(path.parent))} {named}"
    return f"path = {json.dumps(str(path.parent))}, {named}"


def _zip_member(path: Path, name: str) -> DataFile:
    def open_member() -> BufferedIOBase:
        # The archive's file stays open until the member is closed.
        with zipfile.ZipFile(path) as archive:
            return cast("BufferedIOBase", archive.open(name))

    inside = PurePosixPath(name)
    return DataFile(inside.name, open_member, inside)
