"""A session from the first clip to a model file, with real processes, sockets and files."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.labelled import export_labelled
from models.labelling.clips import Clips, load_session_clips
from models.labelling.labels import LabelFile
from models.labelling.server import LabelServer
from models.labelling.session import Export, OutdatedError, Session
from models.labelling.training import Effort
from stream.errors import ConfigError, ModelError
from stream.inference import StreamingSession

Wait = Callable[[Callable[[], bool]], None]
TINY = Effort(pretraining=2, updates=40, hidden=16)


def broken(trained: Path, clips: Clips, out: Path, report: object) -> dict[str, Any]:
    raise ModelError("the exported step differs.")


def dying(trained: Path, clips: Clips, out: Path, report: object) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def state(session: Session) -> dict[str, Any]:
    found = session.state()
    assert found is not None
    return found


def idle(session: Session) -> Callable[[], bool]:
    return lambda: not state(session)["job"]


def movement(clip: str) -> str:
    return clip.partition("-")[0]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, clips: Clips, wait_for: Wait) -> Path:
    """Return a session folder whose encoder is trained."""
    folder = tmp_path_factory.mktemp("ready")
    session = Session(folder, clips, TINY, export_labelled)
    assert state(session)["job"]["kind"] == "prepare"
    wait_for(idle(session))
    assert not state(session)["problem"]
    session.close()
    return folder


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, ready: Path, clips: Clips, wait_for: Wait
) -> Path:
    """Return a session folder with 20 labels and one round."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(ready, folder, dirs_exist_ok=True)
    session = Session(folder, clips, TINY, export_labelled)
    label_all(session, 20)
    session.train()
    with pytest.raises(ConfigError, match="wait until 'train'"):
        session.train()
    wait_for(idle(session))
    session.close()
    return folder


@pytest.fixture
def session(tmp_path: Path, ready: Path, clips: Clips) -> Iterator[Session]:
    """Return a session without labels that can begin at once."""
    (tmp_path / "encoder.npz").write_bytes((ready / "encoder.npz").read_bytes())
    session = Session(tmp_path, clips, TINY, export_labelled)
    yield session
    session.close()


def label_all(session: Session, count: int) -> None:
    for name in ("wave", "kick", "bend"):
        session.add_class(name)
    for _ in range(count):
        clip = state(session)["queue"][0]
        session.label(clip, movement(clip), None)


def test_a_few_labels_become_a_recogniser_in_a_verified_file(
    trained: Path, clips: Clips, tmp_path: Path, wait_for: Wait
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    with contextlib.closing(Session(tmp_path, clips, TINY, export_labelled)) as session:
        (done,) = state(session)["rounds"]
        assert (done["labels"], done["held_out"]) == (16, 4)
        assert done["low"] <= done["accuracy"] <= done["high"]
        session.export()
        wait_for(idle(session))
        assert not state(session)["problem"]
        assert state(session)["exported"]["round"] == 1
        assert state(session)["exported"]["error"] < 1e-4
    model = StreamingSession(tmp_path / "actions.onnx", "cpu")
    classes = model.contract.outputs[0].channels
    assert classes == ("wave", "kick", "bend")
    assert model.contract.scores[0].split == "4 labels held out at random"
    right = 0
    for number, name in enumerate(clips.names):
        model.reset()
        for pose in clips.sequences.joints(number)[::2]:
            p = model.step({"joints": pose})["probabilities"]
        right += classes[int(np.argmax(p))] == movement(name)
    assert right > len(clips.names) / 2


def test_a_session_goes_on_where_it_ended(trained: Path, clips: Clips, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    with contextlib.closing(Session(tmp_path, clips, TINY, export_labelled)) as session:
        found = state(session)
    assert (found["labels"], len(found["rounds"]), found["job"]) == (20, 1, "")
    assert [one["name"] for one in found["classes"]] == ["wave", "kick", "bend"]
    assert all(movement(one["clip"]) == one["class"] for one in found["history"])
    assert not {one["clip"] for one in found["history"]} & set(found["queue"])


def test_labels_stay_when_clips_are_added_and_the_encoder_is_made_anew(
    trained: Path, folder: Path, tmp_path: Path, write_clips: Callable[[Path, int], Path]
) -> None:
    shutil.copytree(trained, tmp_path / "session")
    more = write_clips(tmp_path / "more", 1)
    for file in more.glob("*.npz"):
        file.rename(file.with_stem(f"{file.stem}-new"))
    clips = load_session_clips([folder, more], None)
    with contextlib.closing(Session(tmp_path / "session", clips, TINY, export_labelled)) as session:
        found = state(session)
    assert (found["labels"], found["rounds"]) == (20, [])
    assert found["job"]["kind"] == "prepare"


def test_what_another_window_said_is_not_overwritten(session: Session) -> None:
    session.add_class("wave")
    session.add_class("kick")
    clip = state(session)["queue"][0]
    session.label(clip, "wave", None)
    with pytest.raises(OutdatedError, match="'wave'"):
        session.label(clip, "kick", None)
    session.label(clip, "kick", "wave")
    assert state(session)["history"][0]["class"] == "kick"


def test_undo_shows_the_clip_again(session: Session) -> None:
    session.add_class("wave")
    first = state(session)["queue"][0]
    session.label(first, "wave", None)
    assert state(session)["queue"][0] != first
    session.undo(first)
    assert state(session)["queue"][0] == first
    assert not state(session)["labels"]


def test_training_waits_for_two_classes(session: Session) -> None:
    session.add_class("wave")
    for _ in range(4):
        session.label(state(session)["queue"][0], "wave", None)
    with pytest.raises(ConfigError, match="two classes"):
        session.train()
    with pytest.raises(ConfigError, match="train a round first"):
        session.export()


@pytest.mark.parametrize(("work", "says"), [(broken, "step differs"), (dying, "exit code -9")])
def test_work_that_fails_is_told_and_labels_can_go_on(
    trained: Path, clips: Clips, tmp_path: Path, *, wait_for: Wait, work: Export, says: str
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    with contextlib.closing(Session(tmp_path, clips, TINY, work)) as session:
        session.export()
        wait_for(idle(session))
        assert says in state(session)["problem"]
        session.label(state(session)["queue"][0], "wave", None)
        assert state(session)["labels"] == 21


def test_many_threads_lose_no_label(session: Session, clips: Clips, tmp_path: Path) -> None:
    session.add_class("wave")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda clip: session.label(clip, "wave", None), clips.names))
    lines = (tmp_path / LabelFile.NAME).read_bytes().splitlines()
    assert len(lines) == 1 + len(clips.names)
    assert state(session)["labels"] == len(clips.names)
    assert not state(session)["queue"]


# ---- the server


@pytest.fixture
def server(session: Session) -> Iterator[LabelServer]:
    """Return a server that answers."""
    with LabelServer(session) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: LabelServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    given = {"X-Token": server.token} | {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    kind = answer.headers.get("Content-Type", "")
    return answer.status, json.loads(content) if kind == "application/json" else content


def test_the_page_and_its_clips_are_served(server: LabelServer) -> None:
    status, page = ask(server, "GET", f"/?token={server.token}", X_Token="")
    assert status == 200
    assert b"label.js" in page
    status, found = ask(server, "GET", "/api/state")
    assert status == 200
    status, clip = ask(server, "GET", f"/api/clip?name={found['queue'][0]}")
    assert (status, len(clip["joints_mm"]), len(clip["joints_mm"][0])) == (200, 20, 60)
    assert ask(server, "GET", f"/api/state?since={found['version']}")[0] == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Token": "guessed"},
        {"X_Token": "gu\xe9ss"},
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_who_has_no_token_or_comes_from_elsewhere_is_refused(
    server: LabelServer, headers: dict[str, str]
) -> None:
    body = b'{"name": "planted"}'
    assert ask(server, "POST", "/api/class", body, **headers)[0] == 403
    assert ask(server, "GET", "/api/state", **headers)[0] == 403
    assert not state(server.session)["classes"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/class", b"x" * 5000, 413),
        ("/api/class", b"[" * 4000, 400),
        ("/api/class", b'{"name": 3}', 400),
        ("/api/class", b'{"name": "a", "more": 1}', 400),
        ("/api/class", b"\xff", 400),
        ("/api/class", b'{"name": ""}', 400),
        ("/api/label", b'{"clip": "nobody", "name": "a", "was": null}', 400),
        ("/api/else", b"{}", 404),
        ("/api/train", b"{}", 400),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_a_reason(
    server: LabelServer, path: str, body: bytes, status: int
) -> None:
    found, answer = ask(server, "POST", path, body)
    assert found == status
    assert answer["error"]


def test_nothing_but_the_page_can_be_read(server: LabelServer) -> None:
    for path in ("/../session.py", "/%2e%2e/session.py", "/page/label.js", "/..", "//etc/passwd"):
        assert ask(server, "GET", path)[0] == 404, path
    assert ask(server, "GET", "/api/clip?name=..")[0] == 404


@pytest.mark.parametrize(
    "header", [("Transfer-Encoding", "chunked"), ("Content-Length", "9" * 5000)]
)
def test_an_endless_or_unstated_body_is_not_read(
    server: LabelServer, header: tuple[str, str]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest("POST", "/api/class")
    connection.putheader("X-Token", server.token)
    connection.putheader(*header)
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_a_video_beside_a_clip_is_served_in_parts(
    server: LabelServer, clips: Clips, tmp_path: Path
) -> None:
    video = tmp_path / "bend-00.mp4"
    video.write_bytes(bytes(range(100)))
    clips.videos["bend-00"] = video
    try:
        assert ask(server, "GET", "/api/video?name=bend-00") == (200, bytes(range(100)))
        found = ask(server, "GET", "/api/video?name=bend-00", Range="bytes=10-19")
        assert found == (206, bytes(range(10, 20)))
        found = ask(server, "GET", "/api/video?name=bend-00", Range="bytes=90-")
        assert found == (206, bytes(range(90, 100)))
        assert ask(server, "GET", "/api/video?name=kick-00")[0] == 404
    finally:
        del clips.videos["bend-00"]


# ---- the command


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_ends_cleanly(
    folder: Path, tmp_path: Path, how: signal.Signals
) -> None:
    command = [sys.executable, "-c", "from stream.commands import main; main()", "label"]
    command += ["--data", str(folder), "--out", str(tmp_path / "s"), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        url = next(line for line in lines if line.startswith("http"))
        port, token = url.strip().rpartition(":")[2].split("/?token=")
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("POST", "/api/class", b'{"name": "wave"}', {"X-Token": token})
        answer = json.loads(connection.getresponse().read())
        assert answer["job"]["kind"] == "prepare"  # it is ended in the middle of this
        process.send_signal(how)
        assert "go on with the same command" in "".join(lines)
    assert process.returncode == 0
    file = LabelFile(tmp_path / "s", [])
    assert file.labels.classes == ["wave"]
    file.close()
