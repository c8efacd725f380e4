"""What is the same for all tests is made once: tools that are read, templates, certificates, an empty database."""

import copy
import inspect
import os
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
from jinja2.bccache import Bucket, BytecodeCache

from claude_runner.db import _database
from claude_runner.db._migrations import PATIENCE_SECONDS, SCHEMA, migrate


@pytest.fixture(scope="session", autouse=True)
def _parsed_once() -> Iterator[None]:
    """Have FastMCP read each tool once for all applications of the tests: for each anew takes it 80 ms."""
    read = ParsedFunction.from_function
    known: dict[Callable[..., Any], ParsedFunction] = {}

    def from_function(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ParsedFunction:
        if not inspect.ismethod(function) or args or kwargs:
            return read(function, *args, **kwargs)
        if function.__func__ not in known:
            known[function.__func__] = read(function)
        parsed = known[function.__func__]
        schemas = copy.deepcopy((parsed.input_schema, parsed.output_schema))
        return replace(parsed, fn=function, input_schema=schemas[0], output_schema=schemas[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ParsedFunction, "from_function", from_function)
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
