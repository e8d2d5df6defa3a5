"""Fetching a data set from a server that behaves like the DANDI archive, well or badly."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.spikes.fetching import (
    TRIES,
    Asset,
    FetchError,
    fetch_asset,
    find_data_set,
    list_assets,
)

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
VERSION = "/api/dandisets/000128/versions/0.220113.0400"
PATH = "sub-Jenkins/sub-Jenkins_ses-full_desc-train_behavior+ecephys.nwb"


class Archive(ThreadingHTTPServer):
    """Serves one dandiset. `drop_at` ends each download after so many bytes of an answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.drop_at: int | None = None
        self.resumes = True
        self.sha256: str | None = SHA256
        self.content = CONTENT
        self.path = PATH
        self.status = 200
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api"


class _Answer(BaseHTTPRequestHandler):
    server: Archive

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        drop = self.server.drop_at
        self.wfile.write(body if drop is None or "download" not in self.path else body[:drop])

    def _send_json(self, value: object) -> None:
        self._send(json.dumps(value).encode())

    def do_GET(self) -> None:
        archive = self.server
        path, _, query = self.path.partition("?")
        size = len(archive.content)
        if archive.status != 200:
            self._send(b"", archive.status)
        elif path == "/api/dandisets/000128/":
            self._send_json({"most_recent_published_version": {"version": "0.220113.0400"}})
        elif path == f"{VERSION}/assets/" and "page=2" not in query:
            self._send_json({"results": [], "next": f"{archive.url}{VERSION[4:]}/assets/?page=2"})
        elif path == f"{VERSION}/assets/":
            entry = {"asset_id": "a-1", "path": archive.path, "size": size}
            self._send_json({"results": [entry], "next": None})
        elif path == f"{VERSION}/assets/a-1/":
            self._send_json({"digest": {"dandi:sha2-256": archive.sha256}})
        elif path == f"{VERSION}/assets/a-1/download/":
            self._send(b"", 302, {"Location": f"{archive.url}/blobs/download"})
        elif path == "/api/blobs/download":
            self._download()
        else:
            self._send(b"", 404)

    def _download(self) -> None:
        archive = self.server
        asked = self.headers.get("Range")
        archive.ranges.append(asked)
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        if match is None or not archive.resumes:
            self._send(archive.content)
            return
        start = int(match.group(1))
        size = len(archive.content)
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        self._send(archive.content[start:], 206, headers)


@pytest.fixture
def archive() -> Iterator[Archive]:
    server = Archive()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def asset_of(archive: Archive) -> Asset:
    (asset,) = list_assets(find_data_set("mc_maze"), archive.url)
    return asset


def test_the_listing_names_every_file_with_size_and_checksum(archive):
    asset = asset_of(archive)
    assert (asset.path, asset.size, asset.sha256) == (PATH, len(CONTENT), SHA256)


def test_a_fetched_file_has_the_content_and_its_name_and_leaves_no_part(archive, tmp_path):
    seen: list[int] = []
    path = fetch_asset(asset_of(archive), tmp_path, seen.append)
    assert path == tmp_path / PATH
    assert path.read_bytes() == CONTENT
    assert seen[-1] == len(CONTENT)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_connection_that_drops_half_way_is_taken_up_where_it_broke(archive, tmp_path):
    archive.drop_at = 120_000
    notes: list[str] = []
    path = fetch_asset(asset_of(archive), tmp_path, note=notes.append)
    assert path.read_bytes() == CONTENT
    assert archive.ranges == ["bytes=0-", "bytes=120000-", "bytes=240000-"]
    assert len(notes) == 2
    assert "120,000 bytes" in notes[0]


def test_what_an_earlier_attempt_left_is_not_fetched_again(archive, tmp_path):
    part = tmp_path / f"{PATH}.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:200_000])
    assert fetch_asset(asset_of(archive), tmp_path).read_bytes() == CONTENT
    assert archive.ranges == ["bytes=200000-"]


def test_a_server_that_cannot_resume_sends_everything_again(archive, tmp_path):
    archive.resumes = False
    part = tmp_path / f"{PATH}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    assert fetch_asset(asset_of(archive), tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(archive, tmp_path):
    archive.content = CONTENT[:-1] + b"?"
    with pytest.raises(FetchError, match="arrived with the checksum"):
        fetch_asset(asset_of(archive), tmp_path)
    assert list((tmp_path / PATH).parent.iterdir()) == []


def test_a_server_that_sends_nothing_is_given_up_after_some_tries_and_the_part_is_kept(
    archive, tmp_path
):
    asset = asset_of(archive)
    archive.drop_at = 0
    part = tmp_path / f"{PATH}.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    waits: list[float] = []
    with pytest.raises(FetchError, match="1,000 of 300,000 bytes are kept"):
        fetch_asset(asset, tmp_path, wait=waits.append)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert len(archive.ranges) == TRIES
    assert part.read_bytes() == CONTENT[:1000]


def test_more_bytes_than_stated_are_refused(archive, tmp_path):
    asset = asset_of(archive)
    archive.content = CONTENT * 2
    archive.resumes = False
    with pytest.raises(FetchError, match="sends more than the 300,000 bytes"):
        fetch_asset(asset, tmp_path)


def test_a_file_that_is_there_is_verified_and_not_fetched_again(archive, tmp_path):
    asset = asset_of(archive)
    fetch_asset(asset, tmp_path)
    fetch_asset(asset, tmp_path)
    assert len(archive.ranges) == 1
    (tmp_path / PATH).write_bytes(b"something of mine")
    with pytest.raises(FetchError, match="is not the file that the archive has"):
        fetch_asset(asset, tmp_path)
    assert (tmp_path / PATH).read_bytes() == b"something of mine"


def test_without_a_stated_checksum_the_size_must_do(archive, tmp_path):
    archive.sha256 = None
    asset = asset_of(archive)
    assert asset.sha256 is None
    assert fetch_asset(asset, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["../../evil.nwb", "/etc/evil.nwb", "a/../../b.nwb", "a\\b.nwb"])
def test_a_listed_path_that_leaves_the_folder_is_refused(archive, path):
    archive.path = path
    with pytest.raises(FetchError, match="which is refused"):
        asset_of(archive)


def test_errors_of_the_server_name_the_address_and_the_code(archive):
    archive.status = 404
    with pytest.raises(FetchError, match=r"/dandisets/000128/ answers 404"):
        asset_of(archive)


def test_a_server_that_cannot_be_reached_is_named(archive):
    url = archive.url
    archive.server_close()
    with pytest.raises(FetchError, match="cannot be reached"):
        list_assets(find_data_set("mc_maze"), url)


def test_a_server_that_is_no_archive_is_refused(tmp_path):
    with pytest.raises(FetchError, match="is no web address"):
        list_assets(find_data_set("mc_maze"), f"file://{tmp_path}")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="mc_maze_large"):
        find_data_set("mc_maz")


def test_the_command_fetches_verifies_and_lists(innervate_here, archive, tmp_path):
    listed = innervate_here("fetch", "mc_maze", "--list", "--server", archive.url)
    assert listed.code == 0, listed.err
    assert "300,000" in listed.out
    assert not list(tmp_path.iterdir())
    done = innervate_here("fetch", "mc_maze", "--to", str(tmp_path), "--server", archive.url)
    assert done.code == 0, done.err
    assert "sha256 verified" in done.out
    assert (tmp_path / "mc_maze" / PATH).read_bytes() == CONTENT


def test_the_command_without_a_network_ends_with_one_message(
    innervate_here, archive, tmp_path: Path
):
    url = archive.url
    archive.server_close()
    done = innervate_here("fetch", "mc_maze", "--to", str(tmp_path), "--server", url)
    assert done.code == 1
    assert "cannot be reached" in done.err
    assert "Traceback" not in done.err
