"""From a pipeline file to a `Plan` that may run, or to a message that says what is wrong where."""

from __future__ import annotations

import difflib
import graphlib
import re
import traceback
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stream.errors import ConfigError, InnervateError
from stream.node import Node, NodeSettings, Source, StreamSpec
from stream.pipeline_text import Located, read_yaml
from stream.plan import Delivery, Link, NodePlan, Plan
from stream.registry import node_class
from stream.units import parse_seconds

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
_LONGEST = 64
_OWN_KEYS = ("use", "from", "group")


def load_pipeline(path: Path) -> Plan:
    """Read and validate a pipeline file. Nothing is started.

    Raises
    ------
    ConfigError
        With the file, the line, the node, the key, what was found and what would do.
    """
    return _Reader(path, read_yaml(path)).plan()


class _Reader:
    def __init__(self, path: Path, text: Located) -> None:
        self.path = path
        self.text = text

    def error(self, message: str, *place: str | int) -> ConfigError:
        where = f"{self.path}:{self.text.line(*place)}: "
        if len(place) > 1 and place[0] == "nodes":
            where += f"node '{place[1]}'"
            where += f", key '{place[2]}': " if len(place) > 2 else ": "
        return ConfigError(where + message)

    def plan(self) -> Plan:
        root = self.text.value
        if not isinstance(root, dict):
            raise self.error("a pipeline file is a mapping with the keys 'name' and 'nodes'.")
        for key in root:
            if key not in ("name", "nodes", "realtime"):
                raise self.error(
                    f"unknown key '{key}'; a pipeline has 'name', 'nodes' and 'realtime'.", key
                )
        name = self._plan_name(root.get("name"))
        nodes = root.get("nodes")
        if not isinstance(nodes, dict) or not nodes:
            raise self.error("'nodes' must name at least one node.", "nodes")
        for node, keys in nodes.items():
            if not _NAME.match(node):
                raise self.error(
                    "a node's name starts with a letter and has only letters, digits, '-'"
                    " and '_', 64 at most.", "nodes", node,
                )  # fmt: skip
            if not isinstance(keys, dict):
                raise self.error("is empty; it needs at least 'use: ...'.", "nodes", node)
        wanted = {node: self._from(node, keys) for node, keys in nodes.items()}
        planned: dict[str, NodePlan] = {}
        writers: dict[Path, str] = {}
        for node in self._order(wanted):
            planned[node] = self._node(node, nodes[node], wanted[node], planned, writers)
        plan = Plan(
            name=name,
            path=str(self.path),
            nodes=planned,
            realtime=self._realtime(root.get("realtime"), [n.group for n in planned.values()]),
        )
        if not any(issubclass(node_class(node.use), Source) for node in planned.values()):
            raise self.error("no node is a source, so nothing would ever happen.", "nodes")
        self._check_groups(plan)
        return plan

    def _plan_name(self, given: object) -> str:
        """Return the name of the pipeline, without one that of the file."""
        name = str(given or self.path.stem)
        plain = not isinstance(given, dict | list) and name.isprintable() and name.strip()
        if not plain or len(name) > _LONGEST:
            shown = repr(name[:_LONGEST]) + "..." * (len(name) > _LONGEST)
            raise self.error(
                f"the name of a pipeline is one line of text of at most {_LONGEST} characters,"
                f" found {shown}; write another 'name'.",
                "name",
            )
        return name

    def _realtime(self, given: object, groups: Collection[str]) -> tuple[str, ...]:
        names = [] if given is None else given
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.error(
                f"expected a list of groups, or of nodes without a group, found {given!r}.",
                "realtime",
            )
        for number, name in enumerate(names):
            if name not in groups:
                raise self.error(
                    f"'realtime' names '{name}', which is no group and no node without a group"
                    f"{_near(name, groups)}.", "realtime", number,
                )  # fmt: skip
        return tuple(dict.fromkeys(names))

    def _from(self, name: str, keys: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """Return (stream, deliver, max_age) for each input as written."""
        given = keys.get("from")
        items = given if isinstance(given, list) else [] if given is None else [given]
        result = []
        for item in items:
            if isinstance(item, str):
                result.append((item, None, None))
            elif isinstance(item, dict) and isinstance(item.get("stream"), str):
                unknown = set(item) - {"stream", "deliver", "max_age"}
                if unknown:
                    raise self.error(
                        f"unknown key '{unknown.pop()}'; a link has 'stream', 'deliver' and"
                        " 'max_age'.", "nodes", name, "from",
                    )  # fmt: skip
                result.append((item["stream"], item.get("deliver"), item.get("max_age")))
            else:
                raise self.error(
                    f"expected the name of a stream, {{stream: ..., deliver: ...}}, or a list of"
                    f" these, found {item!r}.", "nodes", name, "from",
                )  # fmt: skip
        names = [stream for stream, _, _ in result]
        if len(set(names)) < len(names):
            raise self.error("names the same stream twice.", "nodes", name, "from")
        return result

    def _order(self, wanted: Mapping[str, list[tuple[str, Any, Any]]]) -> Iterable[str]:
        graph: dict[str, list[str]] = {}
        for name, links in wanted.items():
            graph[name] = [stream.partition(".")[0] for stream, _, _ in links]
            for source in graph[name]:
                if source not in wanted:
                    raise self.error(
                        f"there is no node '{source}'{_near(source, wanted)}.",
                        "nodes", name, "from",
                    )  # fmt: skip
        try:
            order = list(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            circle = error.args[1]
            raise self.error(
                f"data would go in a circle: {' -> '.join(reversed(circle))}.",
                "nodes", circle[0], "from",
            ) from None  # fmt: skip
        return order

    def _node(
        self,
        name: str,
        keys: Mapping[str, Any],
        wanted: list[tuple[str, Any, Any]],
        planned: Mapping[str, NodePlan],
        writers: dict[Path, str],
    ) -> NodePlan:
        use = keys.get("use")
        if not isinstance(use, str):
            raise self.error(
                "needs 'use:' with the kind of node it is; `innervate nodes` lists what there is.",
                "nodes", name,
            )  # fmt: skip
        try:
            cls = node_class(use)
        except ConfigError as error:
            raise self.error(str(error), "nodes", name, "use") from None
        group = keys.get("group", name)
        if not isinstance(group, str) or not _NAME.match(group):
            raise self.error(
                f"expected a name like that of a node, found {group!r}; it starts with a letter and"
                " has only letters, digits, '-' and '_', 64 at most.", "nodes", name, "group",
            )  # fmt: skip
        settings = self._settings(name, cls, keys)
        inputs, links = self._links(name, cls, wanted, planned, group)
        try:
            node = cls(settings)
            outputs = node.outputs(inputs)
            files = node.writes()
        except InnervateError as error:
            raise self.error(str(error), "nodes", name) from None
        except (OSError, ModuleNotFoundError):
            raise
        except Exception as error:
            raise self.error(
                f"'{use}' cannot work with its settings: {_what_failed(error)}.", "nodes", name
            ) from error
        for file in files:
            other = writers.setdefault(file.resolve(), name)
            if other != name:
                raise self.error(
                    f"writes {file}, which node '{other}' writes too; give one another file.",
                    "nodes", name,
                )  # fmt: skip
        return NodePlan(
            name=name,
            use=use,
            settings=settings.model_dump(mode="json"),
            group=group,
            inputs=links,
            outputs=outputs,
        )

    def _settings(self, name: str, cls: type[Node[Any]], keys: Mapping[str, Any]) -> NodeSettings:
        given = {key: value for key, value in keys.items() if key not in _OWN_KEYS}
        try:
            settings = cls.Settings.model_validate(given, context={"from_file": True})
        except ValidationError as error:
            # A misspelt key also makes the right one missing: the misspelling is what helps.
            first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
            key = str(first["loc"][0]) if first["loc"] else ""
            raise self.error(
                _setting_message(first, key, cls), "nodes", name, *([key] if key else [])
            ) from None
        folder = self.path.parent
        paths = {}
        for field, value in settings:
            if isinstance(value, Path):
                try:
                    paths[field] = (folder / value.expanduser()).resolve()
                except (ValueError, RuntimeError) as error:
                    raise self.error(
                        f"{str(value)!r} is no path: {error}.", "nodes", name, field
                    ) from None
        return settings.model_copy(update=paths)

    def _links(
        self,
        name: str,
        cls: type[Node[Any]],
        wanted: list[tuple[str, Any, Any]],
        planned: Mapping[str, NodePlan],
        group: str,
    ) -> tuple[dict[str, StreamSpec], tuple[Link, ...]]:
        use = planned_use(cls)
        place = ("nodes", name, "from")
        if issubclass(cls, Source) and wanted:
            raise self.error(f"'{use}' is a source and takes no input.", *place)
        if not issubclass(cls, Source) and not wanted:
            raise self.error(f"'{use}' needs an input: add 'from: ...'.", "nodes", name)
        if cls.max_inputs is not None and len(wanted) > cls.max_inputs:
            raise self.error(
                f"'{use}' takes {cls.max_inputs} input(s), found {len(wanted)}.", *place
            )
        inputs: dict[str, StreamSpec] = {}
        links = []
        for stream, deliver, max_age in wanted:
            source, _, output = stream.partition(".")
            specs = planned[source].outputs
            if output not in specs:
                have = ", ".join(f"'{source}.{o}'" if o else f"'{source}'" for o in specs)
                raise self.error(
                    f"there is no stream '{stream}'; node '{source}' gives {have or 'none'}.",
                    *place,
                )
            spec = specs[output]
            if "*" not in cls.accepts and spec.kind not in cls.accepts:
                raise self.error(
                    f"'{stream}' carries {spec.kind}, '{use}' takes"
                    f" {' or '.join(sorted(cls.accepts))}.", *place,
                )  # fmt: skip
            delivery = self._delivery(place, cls, spec, deliver, max_age)
            if planned[source].group == group:
                if deliver not in (None, "lossless") or max_age is not None:
                    raise self.error(
                        f"'{stream}' comes from the same group '{group}', where nodes call each"
                        " other directly; leave out 'deliver' and 'max_age', or the group.",
                        *place,
                    )
                delivery = Delivery()
            inputs[stream] = spec
            links.append(Link(stream, source, output, name, delivery))
        return inputs, tuple(links)

    def _delivery(
        self,
        place: tuple[str, ...],
        cls: type[Node[Any]],
        spec: StreamSpec,
        deliver: object,
        max_age: object,
    ) -> Delivery:
        text = deliver or cls.delivery or ("latest" if spec.kind == "frame" else "lossless")
        try:
            age_s = None if max_age is None else parse_seconds(max_age)
        except ValueError as error:
            raise self.error(f"max_age: {error}.", *place) from None
        if text in ("lossless", "latest"):
            return Delivery(text, max_age_s=age_s)  # type: ignore[arg-type]
        if found := re.fullmatch(r"queue\s+([1-9][0-9]{0,5})", str(text)):
            return Delivery("queue", int(found[1]), age_s)
        raise self.error(
            f"deliver: expected 'lossless', 'latest' or 'queue N', found {deliver!r}.", *place
        )

    def _check_groups(self, plan: Plan) -> None:
        """Refuse groups that need each other's output: their processes could wait in a circle."""
        needs: dict[str, set[str]] = {group: set() for group in plan.groups}
        for link in plan.links:
            source, target = plan.nodes[link.source].group, plan.nodes[link.target].group
            if source != target:
                needs[target].add(source)
        try:
            graphlib.TopologicalSorter(needs).prepare()
        except graphlib.CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            name = next(n for n, node in plan.nodes.items() if node.group == error.args[1][0])
            raise self.error(
                f"the groups feed each other in a circle ({circle}), so one could block the"
                " other; put these nodes into one group or into separate ones.",
                "nodes", name, "group",
            ) from None  # fmt: skip


def planned_use(cls: type[Node[Any]]) -> str:
    """Return the name by which a node class is known to users."""
    return getattr(cls, "use", cls.__name__)


def _setting_message(first: Any, key: str, cls: type[Node[Any]]) -> str:
    fields = list(cls.Settings.model_fields)
    if first["type"] == "extra_forbidden":
        known = ", ".join((*_OWN_KEYS, *fields))
        return f"unknown key{_near(key, (*_OWN_KEYS, *fields))}; '{planned_use(cls)}' has {known}."
    if first["type"] == "missing":
        what = cls.Settings.model_fields[key].description or "it has no default"
        return f"is missing ({what})."
    message = first["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    found = "" if "found" in message else f", found {first['input']!r}"
    return f"{message[0].lower()}{message[1:]}{found}."


def _what_failed(error: Exception) -> str:
    """Name an error that no node should raise, and the line of code that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""
