"""docs/security.md claims nothing without a test that is there, and its links lead somewhere."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
POLICY = ROOT / "SECURITY.md"
NAMED = re.compile(r"`(tests/[0-9a-z_/]+)(\.py)?(?:::(\w+))?`")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def functions(path: Path) -> set[str]:
    """The names of the functions in a file."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_test_that_it_names_is_there() -> None:
    named = NAMED.findall(PAGE.read_text())

    assert len(named) > 40
    for place, suffix, function in named:
        path = ROOT / f"{place}{suffix}"
        assert path.is_file() if suffix else path.is_dir(), place
        assert not function or function in functions(path), f"{place}.py has no {function}"


def test_every_defence_names_a_test() -> None:
    section = PAGE.read_text().partition("\n## What is defended")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith(("| against", "| ---"))]

    assert len(rows) > 20
    for row in rows:
        assert NAMED.search(row.rsplit("|", 2)[1]), row


@pytest.mark.parametrize("page", [PAGE, POLICY], ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())

    assert links
    for file, anchor in links:
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


def test_readers_find_both() -> None:
    assert "(docs/security.md)" in (ROOT / "README.md").read_text()
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text()
    assert "(security.md#what-is-left-to-the-operator)" in (ROOT / "docs" / "operations.md").read_text()
    assert "(security.md)" in (ROOT / "docs" / "architecture.md").read_text()


def test_settings_that_it_names_are_settings() -> None:
    known = (ROOT / "docs" / "settings.md").read_text()

    for name in set(re.findall(r"VOICEMAIL_[A-Z_]+", PAGE.read_text())):
        assert f"`{name}`" in known, name
