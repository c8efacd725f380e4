"""What a credential may be called and what it may hold."""

import re
from typing import Final

from claude_runner.errors import InvalidError
from claude_runner.servers import is_credential

MAX_VALUE_BYTES: Final = 64 * 1024
SHOWN: Final = 60  # characters of a name that a sentence repeats

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def check(key: str, value: str) -> None:
    """Refuse a name or a value that can't be given to a process, or should not.

    Raises:
        InvalidError: It is one; the sentence does not repeat the value.
    """
    if not _NAME.fullmatch(key):
        raise InvalidError(
            f"{key[:SHOWN]!r} is no name of a credential; it is that of an environment variable, such as"
            " SENDGRID_API_KEY: 1 to 100 letters, digits and underscores, the first no digit",
            field="key",
        )
    if not is_credential(key):
        raise InvalidError(f"{key} is set by the system; give the credential another name", field="key")
    _check_value(key, value)


def _check_value(key: str, value: str) -> None:
    if not value.strip():
        raise InvalidError(
            f"the value of {key} is empty; to remove a credential use delete_server_credential", field="value"
        )
    if "\0" in value:
        raise InvalidError(
            f"the value of {key} has a NUL character, which no environment variable can hold", field="value"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidError(
            f"the value of {key} has half a character at {error.start}; paste it again", field="value"
        ) from error
    if size > MAX_VALUE_BYTES:
        raise InvalidError(
            f"the value of {key} has {size:,} bytes; at most {MAX_VALUE_BYTES:,} can be kept", field="value"
        )
