import os
from pathlib import Path

import jsonschema
import pytest
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Node, NodeSettings, Source, StreamSpec
from stream.pipeline import load_pipeline
from stream.plan import Delivery
from stream.registry import make_node
from stream.schema import pipeline_schema
from stream.units import Seconds


class TickSettings(NodeSettings):
    every: Seconds = Field(description="how often")
    file: Path | None = None


class Ticker(Source[TickSettings]):
    use = "ticker"
    Settings = TickSettings

    def outputs(self, inputs):
        if self.settings.file and not self.settings.file.exists():
            raise ConfigError(f"there is no file {self.settings.file}.")
        return {
            "": StreamSpec("counts", (3,), "float32", period_s=self.settings.every),
            "side": StreamSpec("frame", (4, 4, 3), "uint8"),
        }


class Halver(Node[NodeSettings]):
    use = "halver"
    accepts = frozenset({"counts"})

    def outputs(self, inputs):
        return {"": StreamSpec("counts", (3,), "float32")}


class FileSettings(NodeSettings):
    file: Path


class Writer(Node[FileSettings]):
    use = "writer"
    Settings = FileSettings
    accepts = frozenset({"*"})
    max_inputs = None

    def writes(self):
        return (self.settings.file,)


class Clumsy(Node[NodeSettings]):
    use = "clumsy"
    accepts = frozenset({"*"})

    def outputs(self, inputs):
        return {"": StreamSpec("counts", (3 // 0,), "float32")}


HERE = "test_pipeline_files"


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str):
        path = tmp_path / "p.yaml"
        for short in ("Ticker", "Halver", "Writer"):
            text = text.replace(f"use: {short}", f"use: '{HERE}:{short}'")
        path.write_text(text)
        return load_pipeline(path)

    return load


GOOD = """\
name: good
nodes:
  out: {use: Writer, from: [half, {stream: tick.side, max_age: 1 s}], file: x.bin}
  half:
    use: Halver
    from: {stream: tick, deliver: queue 4}
  tick: {use: Ticker, every: 5 ms, group: front}
"""


def test_nodes_are_put_in_the_order_in_which_data_flows(load) -> None:
    assert list(load(GOOD).nodes) == ["tick", "half", "out"]


def test_links_get_the_delivery_they_ask_for_or_the_default_of_their_kind(load) -> None:
    links = {link.name: link.delivery for link in load(GOOD).links}
    assert links == {
        "tick->half": Delivery("queue", 4),
        "half->out": Delivery("lossless"),
        "tick.side->out": Delivery("latest", max_age_s=1.0),
    }


def test_a_pipeline_without_a_name_is_called_like_its_file(load) -> None:
    for line, name in (("", "p"), ("name: ''", "p"), ("name: A/ä 1", "A/ä 1")):
        assert load(TICK + line).name == name


def test_a_node_without_a_group_has_one_of_its_own_name(load) -> None:
    assert load(GOOD).groups == {"front": ("tick",), "half": ("half",), "out": ("out",)}


def test_groups_and_nodes_of_their_own_can_ask_for_real_time_priority(load) -> None:
    assert load(GOOD + "realtime: [front, out]").realtime == ("front", "out")
    assert load(GOOD).realtime == ()


def test_paths_are_taken_from_the_folder_of_the_pipeline_file(load, tmp_path: Path) -> None:
    assert Path(load(GOOD).nodes["out"].settings["file"]) == tmp_path / "x.bin"


def test_a_worker_makes_the_same_node_from_a_plan(load) -> None:
    node = load(GOOD).nodes["tick"]
    assert make_node(node.use, node.settings).settings == TickSettings(every=0.005)


def test_units_whose_names_are_numbers_need_no_quotes() -> None:
    node = make_node("spikes.bin", {"width": 0.005, "units": [3, 12]})
    assert node.settings.units == ("3", "12")


TICK = "nodes:\n  t: {use: Ticker, every: 5 ms}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "p.yaml:1: a pipeline file is a mapping"),
        ("nodes: {a: {use: [}", "p.yaml:1: is not valid YAML"),
        (
            TICK + "name: " + "n" * 65,
            "p.yaml:3: the name of a pipeline is .* at most 64 characters",
        ),
        (TICK + 'name: "\\e[2J"', "found '.x1b.2J'; write another 'name'"),
        (TICK + "name: '  '", "found '  '"),
        (TICK + "name: [a]", "one line of text"),
        ("noddes: {}", "unknown key 'noddes'"),
        (TICK + "realtime: t", "p.yaml:3: expected a list of groups"),
        (TICK + "realtime: [tt]", "p.yaml:3: 'realtime' names 'tt', which is no group"),
        ("nodes: {}", "at least one node"),
        ("nodes:\n  t:\n", "p.yaml:2: node 't': is empty"),
        ("nodes:\n  t: {from: x}\n  x: {use: Ticker, every: 1 s}", "needs 'use:'"),
        ("nodes:\n  t: {use: spikes.replai, from: []}", "did you mean 'spikes.replay'"),
        ("nodes:\n  1t: {use: Ticker}", "p.yaml:2: node '1t': a node's name starts"),
        (TICK + "  h: {use: Halver}", "p.yaml:3: node 'h': 'halver' needs an input"),
        (TICK + "  h: {use: Halver, from: q}", "key 'from': there is no node 'q'"),
        (TICK + "  h: {use: Halver, from: t.x}", "there is no stream 't.x'; node 't' gives 't'"),
        (TICK + "  h: {use: Halver, from: t.side}", "'t.side' carries frame, 'halver' takes count"),
        (TICK + "  h: {use: Halver, from: [t, t.side]}", "takes 1 input"),
        (TICK + "  h: {use: Halver, from: [t, t]}", "same stream twice"),
        (
            TICK + "  h: {use: spikes.bin, from: t, width: 1 s, units: 3}",
            "should be a list, found 3",
        ),
        (TICK + "  h: {use: Halver, from: 3}", "expected the name of a stream"),
        (TICK + "  h: {use: Halver, from: {stream: t, deliver: all}}", "'latest' or 'queue N'"),
        (TICK + "  h: {use: Halver, from: {stream: t, max_age: 3}}", "such as '5 ms', found 3"),
        (TICK + "  h: {use: Halver, from: {stream: t, dliver: all}}", "unknown key 'dliver'"),
        ("nodes:\n  t:\n    use: Ticker\n    every: 5\n", "p.yaml:4: node 't', key 'every'"),
        ("nodes:\n  t:\n    use: Ticker\n    every: 5.0\n", "found 5.0"),
        ("nodes:\n  t: {use: Ticker}", "key 'every': is missing (how often)"),
        ("nodes:\n  t:\n    use: Ticker\n    evry: 5 ms\n", "p.yaml:4: .*did you mean 'every'"),
        ("nodes:\n  t: {use: Ticker, every: 1 s, from: t}", "circle: t -> t"),
        ("nodes:\n  h: {use: Halver, from: k}\n  k: {use: Halver, from: h}", "in a circle"),
        ("nodes:\n  t: {use: Ticker, every: 1 s, file: no.txt}", "node 't': there is no file"),
        (
            TICK + "  x: {use: '" + HERE + ":Clumsy', from: t}",
            r"p.yaml:3: node 'x': '.*:Clumsy' cannot work with its settings: ZeroDivisionError: "
            r".*test_pipeline_files\.py",
        ),
        (
            TICK + '  w: {use: Writer, from: t, file: "a\\0b"}',
            "p.yaml:3: node 'w', key 'file': .* is no path: embedded null byte",
        ),
        ("nodes:\n  t: {use: Ticker}\n  t: {use: Ticker}", "p.yaml:3: the key 't' stands here"),
        ("nodes:\n  t: &x {use: Ticker}\n  u: *x", "aliases"),
        (
            TICK + "  a: {use: Writer, from: t, file: o}\n  b: {use: Writer, from: t, file: ./o}",
            "which node '[ab]' writes too",
        ),
        (
            "nodes:\n  t: {use: Ticker, every: 1 s, group: g}\n"
            "  h: {use: Halver, group: g, from: {stream: t, deliver: latest}}",
            "the same group 'g'",
        ),
        (
            "nodes:\n  t: {use: Ticker, every: 1 s, group: g}\n  h: {use: Halver, from: t}\n"
            "  k: {use: Halver, from: h, group: g}",
            "groups feed each other in a circle",
        ),
    ],
)
def test_a_mistake_is_named_with_line_node_and_key(load, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(").replace(")", r"\)")):
        load(text)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_pipeline(Path("nowhere.yaml"))


def test_a_file_in_a_folder_whose_name_is_not_in_utf8_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "p.yaml").write_text("nodes: {}")
    with pytest.raises(ConfigError, match="not in UTF-8; rename it"):
        load_pipeline(folder / "p.yaml")


def test_every_shipped_pipeline_obeys_the_schema_that_editors_get() -> None:
    import yaml

    schema = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    files = list(Path("configs").glob("*.yaml"))
    assert files
    for file in files:
        validator.validate(yaml.safe_load(file.read_text()))


def test_the_schema_refuses_an_unknown_key() -> None:
    pipeline = {"nodes": {"b": {"use": "spikes.bin", "from": "p", "width": "5 ms", "widht": 3}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(pipeline, pipeline_schema())


def test_the_schema_knows_units_and_classes_of_ones_own() -> None:
    schema = pipeline_schema()
    chunk = schema["$defs"]["spikes.simulate"]["properties"]["chunk"]
    assert chunk["default"] == "1 ms"
    good = {"use": "my_module:MyNode", "from": "probe", "gain": 2}
    jsonschema.validate({"nodes": {"mine": good}}, schema)
    for width in ("5", "5 Hz", 5):
        bins = {"use": "spikes.bin", "from": "probe", "width": width}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"nodes": {"bins": bins}}, schema)
