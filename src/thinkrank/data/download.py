"""Official files, fetched once into a cache: resumed after a broken connection, verified before they get their name."""

import hashlib
import http.client
import re
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from thinkrank._files import cache_folder, check_writable
from thinkrank._lock import locked
from thinkrank.errors import ThinkrankError

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30.0
_PIECE_BYTES = 1 << 18


def cached(url: str) -> Path | None:
    """Return the file an earlier `download` left for this address, or None."""
    path = _place(url)
    return path if path.is_file() else None


def download(url: str, *, md5: str | None = None) -> Path:
    """Return the local copy of an official file, fetching it if there is none yet.

    A connection that breaks off is resumed, in this call and in later ones, from the ``.part`` file beside the target.
    Processes of one machine that want the same file fetch it once and the others wait, but on Windows.

    Args:
        url: where it is; also says where in the cache it goes.
        md5: its checksum, where the publisher states one.

    Raises:
        ThinkrankError: if the server cannot be reached, does not have the file, or what came is not what was promised.
    """
    target = _place(url)
    if target.is_file():
        return target
    check_writable(target.parent, otherwise="set THINKRANK_CACHE")
    with locked(target.parent, waits=True):
        if not target.is_file():
            _fetch_whole(url, target, md5)
    return target


def _fetch_whole(url: str, target: Path, md5: str | None) -> None:
    part = target.with_name(target.name + ".part")
    for _ in range(_ATTEMPTS):
        if _fetch(url, part):
            break
    else:
        raise ThinkrankError(f"{url}: the connection broke off {_ATTEMPTS} times. Run again to resume, or use --path.")
    _verify(url, part, md5)
    part.replace(target)


def _place(url: str) -> Path:
    address = urlsplit(url)
    return cache_folder() / "downloads" / re.sub(r"[^\w.-]", "_", address.netloc) / address.path.lstrip("/")


def _fetch(url: str, part: Path) -> bool:
    """Fetch what is missing of the file; False if the connection broke off."""
    have = part.stat().st_size if part.is_file() else 0
    # The addresses are constants of this package, all https, or given by tests.
    request = urllib.request.Request(url, headers={"User-Agent": "thinkrank"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            # A server without Range sends the whole file again, from the start.
            resumes = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            return _receive(response, part, have if resumes else 0)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _is_complete(error, part, have)
        answer = f"the server answers {error.code} {error.reason}"
        raise ThinkrankError(f"{url}: {answer}. Get the file elsewhere and give it with --path.") from error
    except urllib.error.URLError as error:
        way_out = "Download it on another machine and give it with --path."
        raise ThinkrankError(f"{url}: cannot be reached ({error.reason}). {way_out}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        return False
    except OSError as error:
        raise ThinkrankError(f"{part}: cannot be written ({error.strerror}). Set THINKRANK_CACHE.") from error


def _receive(response: http.client.HTTPResponse, part: Path, have: int) -> bool:
    """Write the body behind what is there; True if all that was announced came."""
    announced = response.headers.get("Content-Length")
    total = have + int(announced) if announced else None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with (
        part.open("ab" if have else "wb") as file,
        Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        task = progress.add_task(part.name.removesuffix(".part"), total=total, completed=have)
        while piece := response.read(_PIECE_BYTES):
            file.write(piece)
            progress.update(task, advance=len(piece))
        return total is None or file.tell() == total


def _is_complete(error: urllib.error.HTTPError, part: Path, have: int) -> bool:
    """Tell whether a server that has nothing behind our last byte has exactly what we have; if not, start again."""
    if error.headers.get("Content-Range", "") == f"bytes */{have}":
        return True
    part.unlink(missing_ok=True)
    return False


def _verify(url: str, part: Path, md5: str | None) -> None:
    problem = None
    if md5 is not None:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            problem = f"its MD5 is {found}, not {md5}"
    if problem is None and url.endswith(".zip"):
        try:
            with zipfile.ZipFile(part) as archive:
                broken = archive.testzip()
                problem = f"its member {broken} is damaged" if broken else None
        except zipfile.BadZipFile as error:
            problem = str(error)
    if problem is None and url.endswith(".gz"):
        with part.open("rb") as file:
            problem = None if file.read(2) == b"\x1f\x8b" else "it is not gzip"
    if problem is not None:
        part.unlink()
        raise ThinkrankError(
            f"{url}: what came is not the file ({problem}). Try again, or get it elsewhere and use --path."
        )
