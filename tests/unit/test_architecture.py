"""The tree is the architecture: imports go one way, and modules stay small enough to read."""

import ast
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
LAYERS: dict[str, int] = {
    "access": 3, "errors": 0, "logs": 0, "addressing": 1, "config": 2,
    "switch": 3, "database": 3, "http": 3,
    "recordings": 4, "access.routes": 4, "domains": 4, "mailboxes": 4, "messages": 5, "notifications": 6,
    "resources": 7, "offline": 8, "service": 8, "doctor": 9, "sandbox": 10, "cli": 11, "__main__": 12,
}  # fmt: skip
# What may be imported across folders of one layer or upwards, each with its reason.
ALLOWED = {
    ("access", "database"),  # tokens are rows
    ("http", "access"),  # a request carries a grant
    ("http", "database"),  # tokens are rows, and a database that is away is a 503
    ("switch", "database"),  # the switch's own tables are read over the same kind of pool
}
INSIDE_A_CAPABILITY = {"model": 0, "grant": 0, "scopes": 0, "store": 1, "routes": 9}
MODULES = sorted(APP.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The modules of app that a file imports, as dotted names without the ``app.``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("app.") for name in found if name.startswith("app.")}


def layer(name: str) -> int:
    """The layer of a module: its own if it has one, else its folder's."""
    return LAYERS.get(".".join(name.split(".")[:2]), LAYERS[name.split(".", maxsplit=1)[0]])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(APP)))
def test_imports_go_one_way_between_folders(path: Path) -> None:
    parts = path.relative_to(APP).with_suffix("").parts
    here = parts[0]
    if here == "__init__":
        return

    wrong = {
        name
        for name in imports(path)
        if (there := name.split(".")[0]) != here
        and ((here, there) not in ALLOWED or layer(name) > LAYERS[there])
        and layer(name) >= layer(".".join(parts))
    }

    assert wrong == set()


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
    assert ast.get_docstring(ast.parse(text))


def test_only_the_switch_folder_knows_greenswitch_and_gevent() -> None:
    knowing = {
        path.relative_to(APP).parts[0]
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"greenswitch", "gevent"})
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] in {"greenswitch", "gevent"} for alias in node.names))
    }

    assert knowing <= {"switch"}
