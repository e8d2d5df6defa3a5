"""The documentation names what there is, and its links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def declared(group: str) -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["entry-points"][f"innervate.{group}"]


def anchors(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    headings = (heading.lower() for heading in HEADING.findall(page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.strip()).replace(" ", "-") for heading in headings}


def test_every_node_and_every_command_is_listed() -> None:
    listed = (ROOT / "docs" / "nodes.md").read_text()
    missing = [name for name in declared("nodes") if f"`{name}`" not in listed]
    missing += [name for name in declared("commands") if f"`innervate {name}`" not in listed]
    assert missing == []


def test_every_page_is_linked_in_the_readme() -> None:
    linked = LINK.findall((ROOT / "README.md").read_text())
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= set(linked)


def test_every_link_leads_to_what_is_there() -> None:
    broken = []
    for page in PAGES:
        for link in LINK.findall(page.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.name}: {link}")
    assert broken == []
