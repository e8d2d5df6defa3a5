"""Public data sets from the DANDI archive: listed, downloaded with resume, verified.

The archive's interface is described at https://api.dandiarchive.org/swagger/; data sets are those
of the Neural Latents Benchmark 2021 (Pei et al., NeurIPS Datasets and Benchmarks 2021).
"""

from __future__ import annotations

import http.client
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stream.errors import ConfigError, InnervateError
from stream.files import file_sha256

SERVER = "https://api.dandiarchive.org/api"
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 20
TRIES = 5
MAX_LISTING_BYTES = 64 * 2**20
MAX_PAGES = 100


class FetchError(InnervateError):
    """A data set that cannot be fetched."""


@dataclass(frozen=True)
class DataSet:
    """A public data set: its number in the DANDI archive, and what it is."""

    name: str
    dandiset: str
    what: str


DATA_SETS = {
    data.name: data
    for data in (
        DataSet("mc_maze", "000128", "monkey motor cortex, delayed reaches in a maze"),
        DataSet("mc_maze_large", "000138", "another session of the maze task, 500 trials"),
        DataSet("mc_maze_medium", "000139", "another session of the maze task, 250 trials"),
        DataSet("mc_maze_small", "000140", "another session of the maze task, 100 trials"),
        DataSet("mc_rtt", "000129", "monkey motor cortex, self-paced reaches to random targets"),
        DataSet("area2_bump", "000127", "monkey somatosensory area 2, reaches with perturbations"),
        DataSet("dmfc_rsg", "000130", "monkey dorsomedial frontal cortex, interval reproduction"),
    )
}


@dataclass(frozen=True)
class Asset:
    """One file of a data set.

    `path` is relative to the data set; `sha256` is None where the archive states none.
    """

    path: str
    size: int
    url: str
    sha256: str | None


Progress = Callable[[int], None]
"""Called with the number of bytes of a file that are there."""


def find_data_set(name: str) -> DataSet:
    """Return the data set of a name.

    Raises
    ------
    ConfigError
        There is none.
    """
    if name not in DATA_SETS:
        raise ConfigError(f"no data set is called '{name}'; there are {', '.join(DATA_SETS)}.")
    return DATA_SETS[name]


def list_assets(data: DataSet, server: str = SERVER) -> tuple[Asset, ...]:
    """Ask the archive which files a data set has.

    Of several versions it is the newest published one.

    Raises
    ------
    FetchError
        The archive cannot be reached, or answers something else.
    """
    base = f"{server.rstrip('/')}/dandisets/{data.dandiset}"
    published = _json(f"{base}/").get("most_recent_published_version") or {}
    version = str(published.get("version") or "draft")
    listing = f"{base}/versions/{urllib.parse.quote(version)}/assets"
    assets = []
    for entry in _pages(f"{listing}/?page_size=200"):
        try:
            asset_id = urllib.parse.quote(str(entry["asset_id"]), safe="")
            path, size = str(entry["path"]), int(entry["size"])
        except (KeyError, TypeError, ValueError):
            raise FetchError(
                f"{server} lists a file of {data.name} without path or size."
            ) from None
        _check_path(path, server)
        digest = _json(f"{listing}/{asset_id}/").get("digest")
        sha256 = digest.get("dandi:sha2-256") if isinstance(digest, dict) else None
        assets.append(Asset(path, size, f"{listing}/{asset_id}/download/", sha256))
    if not assets:
        raise FetchError(f"{server} lists no files for {data.name} ({data.dandiset}).")
    return tuple(assets)


def fetch_asset(
    asset: Asset,
    folder: Path,
    progress: Progress = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download one file into a folder, verify it, and only then give it its name.

    What has arrived lies in a `.part` file; a connection that breaks is taken up again from there,
    and so is a download that was interrupted. After `TRIES` attempts in a row that brought nothing
    it gives up; before each but the first it waits, twice as long every time.

    Parameters
    ----------
    asset, folder
        What to fetch, and where to.
    progress
        Told how many bytes are there.
    note
        Told, in a sentence, of every connection that broke.
    wait
        Waits so many seconds.

    Raises
    ------
    FetchError
        The server cannot be reached, the disk is full, or what arrived has another checksum or
        size than the archive states; then nothing is kept.
    """
    target = folder / asset.path
    if target.exists():
        if target.stat().st_size == asset.size and asset.sha256 in (None, file_sha256(target)):
            progress(asset.size)
            return target
        raise FetchError(
            f"{target} is there but is not the file that the archive has; move it away first."
        )
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_space(asset, part)
        part.touch()
        _receive(asset, part, progress, note, wait)
        _verify(asset, part)
        part.replace(target)
    except OSError as error:
        raise FetchError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def _check_path(path: str, server: str) -> None:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.name:
        raise FetchError(f"{server} lists a file with the path {path!r}, which is refused.")


def _check_space(asset: Asset, part: Path) -> None:
    needed = asset.size - _size(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FetchError(
            f"{asset.path} needs {needed / 1e9:.2f} GB more, {part.parent} has {free / 1e9:.2f} GB"
            " free."
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(
    asset: Asset,
    part: Path,
    progress: Progress,
    note: Callable[[str], None],
    wait: Callable[[float], None],
) -> None:
    if _size(part) > asset.size:
        part.write_bytes(b"")
    failures = 0
    while (there := _size(part)) < asset.size:
        progress(there)
        try:
            _receive_once(asset, part, there, progress)
            problem = "the connection ended early"
        except (OSError, http.client.HTTPException) as e:
            problem = _reason(e)
            if isinstance(e, urllib.error.HTTPError) and e.code < 500:
                raise FetchError(f"{asset.url} answers {e.code} ({e.reason}).") from e
        if _size(part) == asset.size:
            break
        failures = 0 if _size(part) > there else failures + 1
        if failures >= TRIES:
            raise FetchError(
                f"{asset.path}: {problem}, {TRIES} times in a row; {_size(part):,} of"
                f" {asset.size:,} bytes are kept in {part}. Run the same command again to go on."
            )
        note(f"{asset.path}: {problem} after {_size(part):,} bytes; going on from there.")
        wait(2.0**failures / 2 if failures else 0.0)
    progress(asset.size)


def _receive_once(asset: Asset, part: Path, there: int, progress: Progress) -> None:
    request = urllib.request.Request(asset.url, headers={"Range": f"bytes={there}-"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        resumed = answer.status == 206 and _starts_at(answer, there)
        done = there if resumed else 0
        # A server that does not resume sends everything again, from the first byte.
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                done += len(chunk)
                if done > asset.size:
                    raise FetchError(
                        f"{asset.url} sends more than the {asset.size:,} bytes that are stated."
                    )
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise FetchError(
                        f"{part} cannot be written: {error.strerror or error}."
                    ) from error
                progress(done)


def _starts_at(answer: Any, there: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {there}-")


def _verify(asset: Asset, part: Path) -> None:
    if asset.sha256 is None:
        return
    found = file_sha256(part)
    if found != asset.sha256:
        part.unlink()
        raise FetchError(
            f"{asset.path} arrived with the checksum {found}, the archive states {asset.sha256};"
            " nothing was kept. Try again later."
        )


def _pages(url: str) -> Iterator[Any]:
    for _ in range(MAX_PAGES):
        page = _json(url)
        results = page.get("results")
        if not isinstance(results, list):
            raise FetchError(f"{url} answers something that is no list of files.")
        yield from results
        following = page.get("next")
        if not following:
            return
        url = urllib.parse.urljoin(url, str(following))
    raise FetchError(f"{url}: the list of files has more than {MAX_PAGES} pages.")


def _json(url: str) -> dict[str, Any]:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise FetchError(f"{url} is no web address; a server is given as https://...")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            text = answer.read(MAX_LISTING_BYTES)
    except urllib.error.HTTPError as error:
        raise FetchError(f"{url} answers {error.code} ({error.reason}).") from error
    except (OSError, http.client.HTTPException) as error:
        raise FetchError(
            f"{url} cannot be reached ({_reason(error)}); is this machine on the network?"
        ) from error
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise FetchError(f"{url} answers something that is not of the DANDI archive.")
    return value


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)
