"""A script that uses the JSON API by its document: it knows of each operation what that says, and holds it to it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from referencing import Registry

from claude_runner.app import App
from tests.sites import serving
from tests.support import PATIENCE


class Api:
    """Calls operations by their names, and looks at whether each answer is as documented.

    Attributes:
        called: The operations that have done what they are for.
    """

    def __init__(self, client: httpx2.AsyncClient, document: Mapping[str, Any]) -> None:
        self.client = client
        self.document = document
        self.called: set[str] = set()
        self._operations = {
            operation["operationId"]: (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    @property
    def operations(self) -> Mapping[str, tuple[str, str, Any]]:
        """Every operation with its method, its path, and what is documented of it."""
        return self._operations

    async def call(self, operation_id: str, body: Any = None, /, **given: Any) -> Any:
        """Call an operation, and return what it answers, which has to be what it answers where all goes well.

        Args:
            operation_id: Its name.
            body: What is sent.
            given: Parameters of its path and address; `if_match` is the header's.
        """
        answer = await self.ask(operation_id, body, **given)
        assert answer.is_success, answer.text
        self.called.add(operation_id)
        return answer.json() if "json" in answer.headers["Content-Type"] else answer.text

    async def refused(
        self, operation_id: str, body: Any = None, /, **given: Any
    ) -> tuple[int, Mapping[str, Any]]:
        """Call an operation that refuses, and return the status and the error."""
        answer = await self.ask(operation_id, body, **given)
        assert answer.is_error, answer.text
        error: Mapping[str, Any] = answer.json()["error"]
        return answer.status_code, error

    async def ask(self, operation_id: str, body: Any = None, /, **given: Any) -> httpx2.Response:
        """Call an operation, and return the answer, which has to be documented."""
        method, path, operation = self._operations[operation_id]
        headers = {"If-Match": given.pop("if_match")} if "if_match" in given else {}
        for parameter in operation["parameters"]:
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", str(given.pop(parameter["name"])))
        answer = await self.client.request(method, path, params=given, json=body, headers=headers)
        self.check(operation_id, answer)
        return answer

    def check(self, name: str, answer: httpx2.Response) -> None:
        """Refuse an answer that the document does not tell of."""
        documented = self._operations[name][2]["responses"]
        assert str(answer.status_code) in documented, f"{name} answered {answer.status_code}: {answer.text}"
        told = documented[str(answer.status_code)]
        if "$ref" in told:
            told = self.document["components"]["responses"][told["$ref"].rpartition("/")[2]]
        for header in told.get("headers", ()):
            assert header in answer.headers, f"{name} has no {header}"
        assert answer.headers["Cache-Control"] == "no-store"
        [(media, content)] = told["content"].items()
        assert answer.headers["Content-Type"].partition(";")[0] == media
        if media == "application/json":
            schema = {**content["schema"], "components": self.document["components"]}
            validator = Draft202012Validator(schema, registry=Registry())
            problems = [f"{it.json_path}: {it.message[:300]}" for it in validator.iter_errors(answer.json())]
            assert not problems, f"{name}: {problems}"


@asynccontextmanager
async def api_of(app: App) -> AsyncIterator[Api]:
    """Serve an application's site and yield its API."""
    async with serving(app) as origin, httpx2.AsyncClient(base_url=origin, timeout=PATIENCE) as client:
        answer = await client.get("/api/openapi.json")
        assert answer.status_code == 200, answer.text
        yield Api(client, json.loads(answer.content))
