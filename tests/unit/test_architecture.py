"""The tree is the architecture: imports go one way, and modules stay small enough to read."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
# From the ground up; a module with a layer of its own is named after its folder's.
LAYERS: dict[str, int] = {
    "errors": 0, "logs": 0, "text": 0, "fields": 0, "networks": 0, "addressing": 1, "settings_files": 1, "tracing": 1, "config": 2,
    "database": 3, "embedded": 3,
    "access": 4, "jobs": 4, "access.changes": 5, "access.usage": 5,
    "http": 5, "recordings": 5, "switch": 5,
    "resources": 6,
    "access.audit.retention": 5, "access.audit.routes": 6, "access.routes": 6, "access.part": 7, "domains": 7, "mailboxes": 8, "messages": 9, "greetings": 9, "notifications": 10,
    "measures": 7, "service": 11, "offline": 11, "doctor": 12, "sandbox": 13, "lab": 14, "cli": 14, "__main__": 15,
}  # fmt: skip
INSIDE_A_CAPABILITY = {"model": 0, "grant": 0, "origin": 0, "scopes": 0, "store": 1, "routes": 9, "part": 10}
MODULES = sorted(APP.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> set[str]:
    """The modules of app that a file imports, as dotted names without the ``app.``."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("app.") for name in found if name.startswith("app.")}


def layer(name: str) -> int:
    """The layer of a module: its own if it has one, else its folder's."""
    parts = name.split(".")
    return next(LAYERS[place] for length in (3, 2, 1) if (place := ".".join(parts[:length])) in LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(APP)))
def test_imports_go_one_way_between_folders(path: Path) -> None:
    parts = path.relative_to(APP).with_suffix("").parts
    here = parts[0]
    if here == "__init__":
        return

    wrong = {name for name in imports(path) if name.split(".")[0] != here and layer(name) >= layer(".".join(parts))}

    assert wrong == set()


def test_no_module_is_part_of_a_circle() -> None:
    modules = {".".join(path.relative_to(APP).with_suffix("").parts): path for path in MODULES}
    graph = {name: (imports(path) & modules.keys()) - {name} for name, path in modules.items()}

    circle = None
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = error.args[1]

    assert circle is None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(APP)))
def test_inside_a_capability_models_and_stores_know_nothing_above_them(path: Path) -> None:
    parts = path.relative_to(APP).with_suffix("").parts
    if len(parts) < 2:
        return

    def rank(module: str) -> int:
        return INSIDE_A_CAPABILITY.get(module, 5)

    wrong = {
        name
        for name in imports(path)
        if name.startswith(f"{parts[0]}.") and name.split(".")[1] != parts[1] and rank(name.split(".")[1]) > rank(parts[1])
    }

    assert wrong == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(APP)))
def test_a_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()

    assert text.count("\n") <= 400
    assert ast.get_docstring(tree(path))


def knowing(*libraries: str) -> set[str]:
    """The folders of app in which a module imports one of these libraries."""
    return {
        path.relative_to(APP).parts[0]
        for path in MODULES
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in libraries)
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] in libraries for alias in node.names))
    }


def test_no_capability_knows_asyncpg() -> None:
    assert knowing("asyncpg") <= {"database", "embedded", "jobs", "sandbox"}


def test_only_the_switch_folder_knows_greenswitch_and_gevent() -> None:
    assert knowing("greenswitch", "gevent") <= {"switch"}
