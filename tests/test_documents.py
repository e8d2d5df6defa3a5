"""What the documents point at is there, and nothing that there is goes unmentioned."""

import re
import tomllib
from pathlib import Path

import pytest

from stream.commands import bench
from stream.packet import END_KIND, KINDS
from stream.registry import installed_nodes

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(p for d in ("docs", "models") for p in (ROOT / d).rglob("*.md"))]
)


def text_of(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def links_of(page: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page))


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub gives to headings, none of which stands twice on our pages."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    for link in links_of(page):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{page.name}: {link}"


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = set(links_of(ROOT / "docs" / "README.md"))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - listed == {"README.md"}


def test_every_node_and_every_command_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    nodes, commands = (
        project["entry-points"][f"innervate.{group}"] for group in ("nodes", "commands")
    )
    listed = (ROOT / "docs" / "nodes.md").read_text("utf-8")
    assert [name for name in nodes if f"`{name}`" not in listed] == []
    assert [name for name in commands if f"`innervate {name}`" not in listed] == []


def test_every_kind_of_packet_that_nodes_make_is_in_the_wire_format() -> None:
    page = (ROOT / "docs" / "wire-format.md").read_text("utf-8")
    table = page.partition("| kind | array |")[2].partition("\n\n")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines()]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted((*KINDS, END_KIND))
    nodes, _ = installed_nodes()
    assert {kind for node in nodes.values() for kind in node.accepts} - {"*", *KINDS} == set()


def test_every_benchmark_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"innervate bench ([a-z][a-z-]+)", page.read_text("utf-8")):
            assert (bench.FOLDER / f"{name.replace('-', '_')}.py").exists(), f"{page.name}: {name}"
