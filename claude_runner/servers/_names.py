"""What a server may be called: a name that is safe as a folder, in a tool's name and on a command line."""

import re
from typing import Final

from claude_runner.errors import InvalidError

RUNNER: Final = "runner"  # the server within every run
MAX_NAME: Final = 40

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_RULE: Final = (
    f"a name is 1 to {MAX_NAME} small letters, digits and hyphens and begins with a letter, such as 'weather'"
)
# The first that is found is told; the pattern alone decides.
_FAULTS: Final = (
    ("\0", "it has a NUL character"),
    ("..", "it has '..' in it, and a name is no path"),
    ("/", "it has a '/' in it, and a name is no path"),
    ("\\", "it has a '\\' in it, and a name is no path"),
    ("__", "'__' stands between server and tool in a tool's name"),
    (" ", "it has a space in it"),
)


def is_name(name: str) -> bool:
    """Tell whether a server may have this name."""
    return _NAME.fullmatch(name) is not None and name != RUNNER


def check_name(name: str, field: str = "name") -> None:
    """Refuse a name that no server may have.

    Args:
        name: As it was given.
        field: The parameter it was given as.

    Raises:
        InvalidError: It is one; the sentence names what is wrong with it.
    """
    if not is_name(name):
        raise InvalidError(f"{name[:MAX_NAME]!r} can't be a server's name: {_fault(name)}", field=field)


def _fault(name: str) -> str:
    if name == RUNNER:
        return "it is reserved for the tools that every run has; choose another"
    if not name:
        return f"it is empty; {_RULE}"
    if len(name) > MAX_NAME:
        return f"it has {len(name):,} characters; {_RULE}"
    for text, fault in _FAULTS:
        if text in name:
            return f"{fault}; {_RULE}"
    return _RULE
