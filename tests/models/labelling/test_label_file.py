"""Labels on disk: append-only, refused when damaged, never lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.labelling.labels import LabelFile, Labelled, Labels, Named, Skipped, Undone
from stream.errors import ConfigError, RecordingError

CLIPS = ("one", "two", "three")


def opened(folder: Path) -> LabelFile:
    return LabelFile(folder, CLIPS)


def test_labels_are_there_again_when_a_session_goes_on(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.append(Named(name="throw"))
    file.append(Labelled(clip="one", name="throw"))
    file.append(Skipped(clip="two"))
    file.close()
    again = opened(tmp_path)
    assert again.labels.classes == ["throw"]
    assert again.labels.by_clip() == {"one": "throw"}
    assert list(again.labels.latest()) == ["one", "two"]
    again.close()


def test_a_line_tells_class_clip_and_time(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.append(Named(name="throw"))
    file.append(Labelled(clip="one", name="throw"))
    file.close()
    line = msgspec.json.decode(file.path.read_bytes().splitlines()[1])
    assert line["event"] == "label"
    assert (line["clip"], line["class"]) == ("one", "throw")
    assert line["time"].endswith("Z")


def test_undo_brings_back_what_was_said_before(tmp_path: Path) -> None:
    file = opened(tmp_path)
    for name in ("throw", "catch"):
        file.append(Named(name=name))
        file.append(Labelled(clip="one", name=name))
    file.append(Undone(clip="one"))
    assert file.labels.by_clip() == {"one": "throw"}
    with pytest.raises(ConfigError, match="not the last"):
        file.append(Undone(clip="two"))
    assert file.path.read_bytes().count(b"\n") == 5
    file.close()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"event":"label","time":"2026-01-01T00:00:00Z","clip":"one","class":"x"}', "no class"),
        (b'{"event":"label","time":"2026-01-01T00:00:00Z","clip":"six","class":"throw"}', "clip"),
        (b'{"event":"label","clip":"one","cl', "line 2"),
        (b'{"event":"shout","clip":"one"}', "shout"),
        (b'{"event":"skip","clip":"one","colour":1}', "colour"),
        (b'{"event":"undo","clip":"one"}', "last"),
        (b'{"event":"class","class":"throw"}', "already"),
        (b'{"event":"class","class":" "}', "name"),
        (b'{"event":"class","class":"Unknown"}', "unknown"),
        (b"\xff\xfe", "line 2"),
        (b"", "line 2"),
    ],
)
def test_a_damaged_line_is_refused_with_its_number(tmp_path: Path, line: bytes, says: str) -> None:
    first = b'{"event":"class","time":"2026-01-01T00:00:00Z","class":"throw"}\n'
    path = tmp_path / LabelFile.NAME
    path.write_bytes(first + line + b"\n")
    with pytest.raises(RecordingError, match="line 2") as found:
        opened(tmp_path)
    assert says in str(found.value)
    path.write_bytes(first)  # the lock is free again, and what was good is still good
    file = opened(tmp_path)
    assert file.labels.classes == ["throw"]
    file.close()


def test_a_line_that_breaks_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / LabelFile.NAME).write_bytes(b'{"event":"class","class":"thr')
    with pytest.raises(RecordingError, match=r"line 1 .* breaks off"):
        opened(tmp_path)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    file = opened(tmp_path)
    with pytest.raises(ConfigError, match="another 'innervate label'"):
        opened(tmp_path)
    file.close()
    opened(tmp_path).close()


def test_a_label_that_the_disk_does_not_take_does_not_hold(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.append(Named(name="throw"))
    whole = file.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
        with pytest.raises(RecordingError, match="does not hold"):
            file.append(Labelled(clip="one", name="throw"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.path.read_bytes() == whole
    assert not file.labels.by_clip()
    file.append(Labelled(clip="one", name="throw"))
    file.close()


def test_what_was_appended_outlives_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from models.labelling.labels import LabelFile, Named\n"
        f"file = LabelFile(Path({str(tmp_path)!r}), ['one'])\n"
        "for n in range(5): file.append(Named(name=f'class {n}'))\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=os.getcwd())
    assert done.returncode == -signal.SIGKILL
    file = opened(tmp_path)
    assert len(file.labels.classes) == 5
    file.close()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("lsu"), st.sampled_from(CLIPS), st.sampled_from("ab"))))
def test_any_history_means_the_same_when_it_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    file = opened(folder)
    for name in "ab":
        file.append(Named(name=name))
    said: list[tuple[str, str | None]] = []
    for what, clip, name in steps:
        if what == "u":
            if not said:
                continue
            file.append(Undone(clip=said.pop()[0]))
        elif what == "l":
            file.append(Labelled(clip=clip, name=name))
            said.append((clip, name))
        else:
            file.append(Skipped(clip=clip))
            said.append((clip, None))
    file.close()
    again = opened(folder)
    expected = {clip: name for clip, name in dict(said).items() if name}
    assert again.labels.by_clip() == file.labels.by_clip() == expected
    again.close()


def test_there_are_as_many_classes_as_keys() -> None:
    labels = Labels(CLIPS)
    for number in range(35):
        labels.apply(Named(name=f"class {number}"))
    with pytest.raises(ConfigError, match="35 classes"):
        labels.check(Named(name="one more"))
