"""The shape of the code, checked."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "claude_runner"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 600
MAX_PUBLIC_NAMES = 12


def name_of(path: Path) -> str:
    """Return the dotted name of a module, that of its package for an `__init__`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(path: Path) -> set[str]:
    """Return the dotted names of the package's modules and of what is taken from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name.startswith("claude_runner.")}


def is_hidden_from(importer: Path, name: str) -> bool:
    """Tell whether a name lies in a private module of a package that the importer is not within."""
    *parents, last = name.split(".")
    private = next(
        (part for part in [*parents, last] if part.startswith("_") and part != "__version__"), None
    )
    if private is None:
        return False
    owner = name[: name.index(f".{private}")]
    package = (
        name_of(importer) if importer.name == "__init__.py" else name_of(importer.parent / "__init__.py")
    )
    return package != owner and not package.startswith(f"{owner}.")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_small(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_has_a_small_door(path: Path) -> None:
    named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    public = [node.name for node in body if isinstance(node, named) and not node.name.startswith("_")]
    assert len(public) <= MAX_PUBLIC_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_private_modules_are_their_packages_own(path: Path) -> None:
    assert [name for name in imported_by(path) if is_hidden_from(path, name)] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_begins_with_what_it_owns(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith(".")
