"""What the documents point at is there, and nothing that there is goes unmentioned."""

import re
import tomllib
from pathlib import Path

import pytest

from stream.commands import bench

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


def test_every_benchmark_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"innervate bench ([a-z][a-z-]+)", page.read_text("utf-8")):
            assert (bench.FOLDER / f"{name.replace('-', '_')}.py").exists(), f"{page.name}: {name}"
