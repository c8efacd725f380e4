"""The variables that a server reads: what its credentials are called, and which of them it can't do without."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from claude_runner.errors import InvalidError

MAX_VARIABLES: Final = 100
MAX_TEXT: Final = 2_000  # characters of a description

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_SECRET: Final = ("KEY", "SECRET", "TOKEN", "PASSWORD")
# What every process is given, or what would decide which code it runs: none of it is a credential.
_SYSTEM: Final = frozenset(
    {
        "ALL_PROXY", "BASH_ENV", "CURL_CA_BUNDLE", "DATA_DIR", "ENV", "GCONV_PATH", "GLIBC_TUNABLES",
        "HOME", "HTTPS_PROXY", "HTTP_PROXY", "IFS", "LANG", "LANGUAGE", "LOGNAME", "NODE_EXTRA_CA_CERTS",
        "NODE_OPTIONS", "NODE_PATH", "NO_PROXY", "OPENSSL_CONF", "PATH", "PWD", "REQUESTS_CA_BUNDLE",
        "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TEMP", "TERM", "TMP", "TMPDIR", "TZ", "USER",
    }
)  # fmt: skip
_SYSTEM_BEGINNINGS: Final = ("CLAUDE_RUNNER_", "DYLD_", "LC_", "LD_", "PYTHON")
_UNSHOWN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a server reads.

    Attributes:
        required: Whether the server can't do without, where `when` holds.
        sensitive: Whether its value is a secret.
        default: What the server takes where it has no value.
        when: It is required only where each variable named here has one of these values.
    """

    name: str
    description: str = ""
    required: bool = True
    sensitive: bool = False
    default: str | None = None
    when: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def applies(self, values: Mapping[str, str]) -> bool:
        """Tell whether its conditions hold.

        Args:
            values: What each variable has, or takes by default.
        """
        return all(
            _folded(values.get(name, "")) in {_folded(choice) for choice in choices}
            for name, choices in self.when.items()
        )

    def as_entry(self) -> dict[str, Any]:
        """Return it as it stands in metadata.json."""
        entry: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "required": self.required,
            "sensitive": self.sensitive,
        }
        if self.default is not None:
            entry["default"] = self.default
        if self.when:
            entry["when"] = {name: list(choices) for name, choices in self.when.items()}
        return entry


def looks_secret(name: str) -> bool:
    """Tell whether a variable's name says that its value is a secret."""
    return any(word in name.upper() for word in _SECRET)


def is_credential(name: str) -> bool:
    """Tell whether a variable of this name can be one of a server's own."""
    upper = name.upper()
    return (
        _NAME.fullmatch(name) is not None
        and upper not in _SYSTEM
        and not upper.startswith(_SYSTEM_BEGINNINGS)
    )


def plain(value: object) -> str:
    """Return a text that can be shown; of what is no text, the empty one."""
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else ""


def check_description(text: str) -> None:
    """Refuse a description that can't be kept and shown.

    Raises:
        InvalidError: It is one; its field is `description`.
    """
    if len(text) > MAX_TEXT or _UNSHOWN.search(text):
        raise InvalidError(
            f"the description must be a text of at most {MAX_TEXT:,} characters without control characters",
            field="description",
        )


def read_variables(entries: object, known: Mapping[str, Variable] = MappingProxyType({})) -> list[Variable]:
    """Read a list of variables as people and files write it: names, objects with a `name`, or both.

    Args:
        entries: The list, or nothing.
        known: Variables by name, which give what an entry does not say.

    Raises:
        InvalidError: It is no such list; its field is `env_vars`.
    """
    if entries is None:
        return []
    if not isinstance(entries, (list, tuple)):
        raise _wrong(
            "it must be a list of names, or of objects such as {'name': 'API_KEY', 'required': true}"
        )
    if len(entries) > MAX_VARIABLES:
        raise _wrong(f"it has {len(entries):,} entries; at most {MAX_VARIABLES} are taken")
    read = [_variable(entry, known) for entry in entries]
    return list({variable.name: variable for variable in read}.values())


def _variable(entry: object, known: Mapping[str, Variable]) -> Variable:
    fields = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        raise _wrong(f"{str(entry)[:60]!r} is neither a name nor an object with a 'name'")
    name = fields["name"]
    if not _NAME.fullmatch(name):
        raise _wrong(f"{name[:60]!r} is not the name of a variable, such as API_KEY")
    if not is_credential(name):
        raise _wrong(f"{name} is set by the system; the server finds it there by itself")
    variable = known.get(name, Variable(name, sensitive=looks_secret(name)))
    return replace(variable, **_told(name, fields))


def _told(name: str, fields: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what an entry says of a variable."""
    told: dict[str, Any] = {}
    for flag in ("required", "sensitive"):
        if fields.get(flag) is not None:
            told[flag] = _flag(name, flag, fields[flag])
    if fields.get("description") is not None:
        told["description"] = _text(name, "description", fields["description"])
    if fields.get("default") is not None:
        told["default"] = _text(name, "default", fields["default"])
    if fields.get("when") is not None:
        told["when"] = _conditions(name, fields["when"])
    return told


def _flag(name: str, what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(f"'{what}' of {name} must be true or false")
    return value


def _text(name: str, what: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or _UNSHOWN.search(value):
        raise _wrong(f"'{what}' of {name} must be a text of at most {MAX_TEXT:,} characters")
    return value


def _conditions(name: str, value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or not all(_is_condition(*item) for item in value.items()):
        raise _wrong(f"'when' of {name} must name variables with a list of values each")
    return MappingProxyType({other: tuple(choices) for other, choices in value.items()})


def _is_condition(other: object, choices: object) -> bool:
    return (
        isinstance(other, str)
        and isinstance(choices, (list, tuple))
        and all(isinstance(choice, str) for choice in choices)
    )


def _folded(value: str) -> str:
    return value.strip().casefold()


def _wrong(what: str) -> InvalidError:
    return InvalidError(f"env_vars can't be read: {what}", field="env_vars")
