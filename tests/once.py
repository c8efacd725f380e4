"""What is the same for all tests is made once: tools and their schemas, templates, certificates, an empty database."""

import inspect
import os
import pickle
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import jinja2
import pytest
from fastmcp.tools.function_parsing import ParsedFunction
from fastmcp.utilities.json_schema import dereference_refs
from jinja2.bccache import Bucket, BytecodeCache
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from claude_runner.db import _database
from claude_runner.db._migrations import PATIENCE_SECONDS, SCHEMA, migrate


@pytest.fixture(scope="session", autouse=True)
def _parsed_once() -> Iterator[None]:
    """Have FastMCP read each tool once for all applications of the tests: for each anew takes it 80 ms."""
    read = ParsedFunction.from_function
    known: dict[Callable[..., Any], tuple[ParsedFunction, bytes]] = {}

    def from_function(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ParsedFunction:
        if not inspect.ismethod(function) or args or kwargs:
            return read(function, *args, **kwargs)
        if function.__func__ not in known:
            parsed = read(function)
            known[function.__func__] = parsed, pickle.dumps((parsed.input_schema, parsed.output_schema))
        parsed, kept = known[function.__func__]
        input_schema, output_schema = pickle.loads(kept)
        return replace(parsed, fn=function, input_schema=input_schema, output_schema=output_schema)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParsedFunction, "from_function", from_function)
        yield


@pytest.fixture(scope="session", autouse=True)
def _listed_once() -> Iterator[None]:
    """Have each schema of a tool written out once for all lists of the tests: for each list anew takes it 50 ms."""
    known: dict[bytes, bytes] = {}

    def written_out(schema: dict[str, Any]) -> Any:
        key = pickle.dumps(schema)
        if key not in known:
            known[key] = pickle.dumps(dereference_refs(schema))
        return pickle.loads(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmcp.server.middleware.dereference.dereference_refs", written_out)
        yield


@pytest.fixture(scope="session", autouse=True)
def _checked_once() -> Iterator[None]:
    """Have each schema of an answer checked once for all clients of the tests: 20 ms each time."""
    check = Draft202012Validator.check_schema
    sound: set[bytes] = set()

    def check_schema(schema: Any, *args: Any, **kwargs: Any) -> None:
        key = pickle.dumps((schema, args, kwargs))
        if key not in sound:
            check(schema, *args, **kwargs)
            sound.add(key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft202012Validator, "check_schema", check_schema)
        yield


class _Compiled(BytecodeCache):
    """Templates that were compiled, by name and file; one whose text has changed is compiled anew."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:  # type: ignore[explicit-override]
        self._kept[bucket.key] = bucket.bytecode_to_string()


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """Have each template of a page compiled once for all sites of the tests: for each anew takes it 100 ms."""
    begin, compiled = jinja2.Environment.__init__, _Compiled()

    def initialize(self: jinja2.Environment, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **{"bytecode_cache": compiled} | kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "__init__", initialize)
        yield


@pytest.fixture(scope="session", autouse=True)
def _trusted_once() -> Iterator[None]:
    """Have the machine's certificates read once for all clients of the tests, of which few need any: 30 ms each."""
    make = httpx2.create_ssl_context
    usual = {"verify": True, "cert": None, "trust_env": True}

    @cache
    def made(*_: object) -> ssl.SSLContext:
        return make()

    def create(**given: Any) -> ssl.SSLContext:
        if given == usual:
            return made(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        return make(**given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx2._transports.default.create_ssl_context", create)
        yield


@pytest.fixture(scope="session", autouse=True)
def _migrated_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a new database begin as a copy of one that has all steps: to take them each time takes 40 ms."""
    template = tmp_path_factory.mktemp("schema") / "jobs.db"
    migrate(template)
    content = template.read_bytes()

    def begin(path: Path, schema: Path = SCHEMA, lock_timeout: float = PATIENCE_SECONDS) -> int:
        if schema == SCHEMA and not path.exists():
            with suppress(OSError):  # as it is there, `migrate` will meet it too
                _lay(content, path)
        return migrate(path, schema, lock_timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_database, "migrate", begin)
        yield


def _lay(content: bytes, path: Path) -> None:
    """Make a file, whole or not at all, unless there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        part.touch(0o600)
        part.write_bytes(content)
        path.hardlink_to(part)
    finally:
        part.unlink(missing_ok=True)
