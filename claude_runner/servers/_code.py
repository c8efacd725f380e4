"""What a server's code says about itself: the variables it reads and the packages it needs.

It is read, never run: whether it makes a server at all is found out by starting it.
"""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from claude_runner.errors import InvalidError
from claude_runner.servers._variables import Variable, is_credential, looks_secret, read_variables

MAX_CODE_BYTES: Final = 512 * 1024
MAX_DEPENDENCIES: Final = 50
MAX_BLOCK: Final = (
    8_000  # characters of a block of metadata: reading takes time by the square of a key's length
)

_OPENING: Final = re.compile(r"# /// ([a-zA-Z0-9-]+)")
_CLOSING: Final = "# ///"
_REQUIREMENT: Final = re.compile(
    r"[A-Za-z0-9][\x20-\x7e]{0,299}"
)  # an option of an installer begins with a hyphen
_READERS: Final = ("get", "setdefault", "pop")


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found in the code.

    Attributes:
        variables: Those of the environment that it reads, in order.
        dependencies: Packages it declares to need, as PEP 508 writes them.
        requires_python: Versions of Python it declares to need.
    """

    variables: tuple[Variable, ...]
    dependencies: tuple[str, ...]
    requires_python: str | None


def examine(code: str) -> Findings:
    """Read the code of a server.

    Raises:
        InvalidError: It is too large, or no Python; its field is `code`, and the sentence names the line.
    """
    _check_text(code)
    dependencies, requires_python = declared(code)
    return Findings(_variables(_parsed(code)), dependencies, requires_python)


def merged(
    found: Iterable[Variable], given: Sequence[str | Mapping[str, Any]] | None
) -> tuple[Variable, ...]:
    """Return the variables found, changed and added to by those that somebody names.

    Args:
        found: Those of the code.
        given: Names, or objects with a `name` and what else is known of it; what they say wins.

    Raises:
        InvalidError: They can't be read; its field is `env_vars`.
    """
    known = {variable.name: variable for variable in found}
    return tuple((known | {variable.name: variable for variable in read_variables(given, known)}).values())


def declared(code: str) -> tuple[tuple[str, ...], str | None]:
    """Read what the code declares to need, packages and Python, in its block `# /// script` (PEP 723).

    Raises:
        InvalidError: There are several such blocks, or it can't be read.
    """
    blocks = (
        [(line, content) for kind, line, content in _blocks(code) if kind == "script"]
        if _CLOSING in code
        else []
    )
    if not blocks:
        return (), None
    line, content = blocks[0]
    if len(blocks) > 1:
        raise _refused(
            f"line {blocks[1][0]}: there is a second block '# /// script'; one is allowed (PEP 723)"
        )
    if len(content) > MAX_BLOCK:
        raise _refused(f"line {line}: the block '# /// script' has more than {MAX_BLOCK:,} characters")
    try:
        table = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _refused(f"line {line}: the block '# /// script' is no TOML: {error}") from error
    return _dependencies(line, table.get("dependencies", [])), _python(line, table.get("requires-python"))


def _check_text(code: str) -> None:
    if "\0" in code:
        raise _refused(f"line {_line_of(code, code.index(chr(0)))}: there is a NUL character; remove it")
    try:
        size = len(code.encode())
    except UnicodeEncodeError as error:
        raise _refused(
            f"line {_line_of(code, error.start)}: there is half a character; paste it again"
        ) from error
    if size > MAX_CODE_BYTES:
        raise _refused(
            f"the code has {size:,} bytes; at most {MAX_CODE_BYTES:,} are taken: "
            "let it fetch what is large, and keep it in DATA_DIR"
        )
    if not code.strip():
        raise _refused("the code is empty; it must make a server, such as mcp = FastMCP('weather')")


def _line_of(code: str, index: int) -> int:
    return code.count("\n", 0, index) + 1


def _parsed(code: str) -> ast.Module:
    try:
        return ast.parse(code, "server.py")
    except SyntaxError as error:
        raise _refused(f"line {error.lineno or 1}: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise _refused("the code is nested too deeply to be read; split its expressions up") from error
    except ValueError as error:
        raise _refused(f"the code can't be read: {error}") from error


def _variables(tree: ast.Module) -> tuple[Variable, ...]:
    reading = _Reading(tree)
    found: dict[str, Variable] = {}
    for read in reading.reads():
        if not is_credential(read.name):
            continue
        before = found.get(read.name)
        found[read.name] = read.variable() if before is None else read.joined(before)
    # What is given a value before it is read needs none, however else it is read.
    return tuple(
        replace(it, required=False) if it.name in reading.given_by_code else it for it in found.values()
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """One place that reads a variable.

    Attributes:
        has_default: Whether the place goes on without it.
        default: What it goes on with, where that is a text written there.
    """

    name: str
    has_default: bool
    default: str | None

    def variable(self) -> Variable:
        secret = looks_secret(self.name)
        default = None if secret or not self.default else self.default
        return Variable(self.name, required=not self.has_default, sensitive=secret, default=default)

    def joined(self, other: Variable) -> Variable:
        """Return the variable, read in another place before: one that can't go on without it decides."""
        here = self.variable()
        if here.required or other.required:
            return replace(other, required=True, default=None)
        return replace(other, default=other.default or here.default)


class _Reading:
    """Looks for what reads the environment, under whatever names `os` and its parts were imported.

    Attributes:
        given_by_code: Variables that the code gives a value itself where they have none.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.given_by_code: set[str] = set()
        self._nodes = list(ast.walk(tree))  # not recursive, however deep
        self._modules: set[str] = set()
        self._environs: set[str] = set()
        self._getenvs: set[str] = set()
        self._alternatives: dict[int, ast.expr] = {}
        for node in self._nodes:
            self._note(node)

    def reads(self) -> list[_Read]:
        """Return the places in the order in which they stand."""
        places = [node for node in self._nodes if isinstance(node, ast.Call | ast.Subscript)]
        places.sort(key=lambda node: (node.lineno, node.col_offset))
        return [read for node in places for read in self._read(node)]

    def _note(self, node: ast.AST) -> None:
        """Keep what else must be known: imports, other names of the environment, and what stands after an `or`."""
        if isinstance(node, ast.Import):
            self._modules |= {it.asname or "os" for it in node.names if it.name == "os" or _binds_os(it)}
        elif isinstance(node, ast.ImportFrom) and node.module == "os" and not node.level:
            self._environs |= {it.asname or it.name for it in node.names if it.name == "environ"}
            self._getenvs |= {it.asname or it.name for it in node.names if it.name == "getenv"}
        elif isinstance(node, ast.Assign) and self._is_environ(node.value):
            self._environs |= {it.id for it in node.targets if isinstance(it, ast.Name)}
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            for before, after in zip(node.values, node.values[1:], strict=False):
                self._alternatives[id(before)] = after

    def _read(self, node: ast.Call | ast.Subscript) -> Iterator[_Read]:
        if isinstance(node, ast.Call):
            yield from self._called(node)
        elif isinstance(node.ctx, ast.Load) and self._is_environ(node.value):
            name = _text(node.slice)
            if name is not None:
                yield _Read(name, has_default=False, default=None)

    def _called(self, call: ast.Call) -> Iterator[_Read]:
        method = self._method(call.func)
        name = _text(_argument(call, 0, "key")) if method else None
        if name is None:
            return
        default = _argument(call, 1, "default")
        if method == "setdefault" and default is not None:
            self.given_by_code.add(name)
        given = [it for it in (default, self._alternatives.get(id(call))) if not _is_none(it)]
        texts = [text for it in given if (text := _text(it))]
        yield _Read(name, bool(given), texts[0] if texts else None)

    def _method(self, func: ast.expr) -> str | None:
        """Return how the environment is read by this call, if it is."""
        if isinstance(func, ast.Name):
            return "getenv" if func.id in self._getenvs else None
        if not isinstance(func, ast.Attribute):
            return None
        if func.attr == "getenv" and self._is_os(func.value):
            return "getenv"
        return func.attr if func.attr in _READERS and self._is_environ(func.value) else None

    def _is_environ(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._environs
        return isinstance(node, ast.Attribute) and node.attr == "environ" and self._is_os(node.value)

    def _is_os(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._modules


def _binds_os(alias: ast.alias) -> bool:
    return alias.name.startswith("os.") and alias.asname is None


def _argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    if position < len(call.args):
        return call.args[position]
    return next((it.value for it in call.keywords if it.arg == keyword), None)


def _text(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _blocks(code: str) -> Iterator[tuple[str, int, str]]:
    """Find the blocks of inline metadata: kind, line and content, as the expression in PEP 723 finds them.

    A block ends at the last closing line of its run of comments. The expression itself takes minutes where 40,000
    opening lines are never closed.
    """
    lines = re.split(r"\r\n?|\n", code)
    at = 0
    while at < len(lines):
        opening = _OPENING.fullmatch(lines[at])
        if opening is None:
            at += 1
            continue
        end = at + 1
        while end < len(lines) and (lines[end] == "#" or lines[end].startswith("# ")):
            end += 1
        closing = max((it for it in range(at + 2, end) if lines[it] == _CLOSING), default=None)
        if closing is not None:
            yield opening[1], at + 1, "\n".join(line[2:] for line in lines[at + 1 : closing])
        at = end if closing is None else closing + 1


def _dependencies(line: int, value: object) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or len(value) > MAX_DEPENDENCIES
        or not all(isinstance(it, str) and _REQUIREMENT.fullmatch(it) for it in value)
    ):
        raise _refused(
            f"line {line}: dependencies must be a list of at most {MAX_DEPENDENCIES} requirements, such as ['rich>=13']"
        )
    return tuple(value)


def _python(line: int, value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= 100 and value.isascii()):
        raise _refused(f"line {line}: requires-python must be a text such as '>=3.11'")
    return value


def _refused(sentence: str) -> InvalidError:
    return InvalidError(sentence, field="code")
