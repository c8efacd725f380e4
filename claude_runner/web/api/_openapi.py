"""The OpenAPI 3.1 document, made of the endpoints' declarations when somebody first asks for it."""

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from claude_runner import __version__
from claude_runner.errors import UnavailableError
from claude_runner.web.api._endpoints import JSON, Endpoint
from claude_runner.web.api._types import PATHS

REFERENCE: Final = "#/components/schemas/{model}"
ABOUT: Final = """\
All that the dashboard shows and does, for scripts. Times are ISO 8601 in UTC. A list with a `next_cursor` goes on where
that is given as `cursor`. A refusal is `{"error": {"code", "message", "field"}}`: a word for programs, a sentence for
people, and the parameter at fault. What has an ETag is changed safely with `If-Match`."""

ERROR: Final = {
    "type": "object",
    "description": "Why something was refused.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "A word for programs."},
                "message": {"type": "string", "description": "A sentence for people."},
                "field": {
                    "type": ["string", "null"],
                    "description": "The parameter at fault, where there is one.",
                },
            },
            "required": ["code", "message", "field"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
# What the site may answer to any request, before or after the endpoint had its say.
EVERYWHERE: Final = {
    401: "Nobody logged in, or with a wrong password.",
    403: "The request was made by a page of another site, or no login is configured and the caller is elsewhere.",
    421: "The Host header names another site.",
    429: "Too many wrong logins.",
    500: "A mistake of the server's, which its log tells of.",
    503: UnavailableError.__doc__ or "",
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the document of the endpoints."""
    schemas = _Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schemas)
        paths.setdefault(endpoint.place, {})[endpoint.declared.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Claude Runner", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"owner": []}],
        "tags": [{"name": subject} for subject in dict.fromkeys(it.subject for it in endpoints)],
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR} | schemas.definitions,
            "responses": {str(status): _refusal(words) for status, words in EVERYWHERE.items()},
            "securitySchemes": {
                "owner": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "DASHBOARD_USERNAME and DASHBOARD_PASSWORD. Where they are not set, only programs on"
                    " this machine are served, and need none.",
                }
            },
        },
    }


class _Plain(GenerateJsonSchema):
    """Schemas without the titles that say a field's name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # type: ignore[explicit-override]  # typing.override is of 3.12
        del schema
        return False

    def normalize_name(self, name: str) -> str:  # type: ignore[explicit-override]  # likewise
        """Return the name of a component; of two classes of one name, each has that of its package before it."""
        *_, package, last = ["", *(part for part in name.split(".") if not part.startswith("_"))]
        return super().normalize_name(f"{package.title()}{last}")


class _Schemas:
    """The schemas of all that endpoints take and answer, each under one name."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        wanted: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
        for it in endpoints:
            if it.query is not None:
                wanted.append((f"{it.name} query", "validation", it.query.adapter))
            if it.body is not None:
                wanted.append((f"{it.name} body", "validation", it.body.adapter))
            if it.answer is not None:
                wanted.append((f"{it.name} answer", "serialization", it.answer))
        found, rest = TypeAdapter.json_schemas(wanted, ref_template=REFERENCE, schema_generator=_Plain)
        self._found = {key: schema for (key, _), schema in found.items()}
        self.definitions: dict[str, Any] = rest.get("$defs", {})
        for it in endpoints:
            if it.body is not None:
                self._whole(it, "body")["additionalProperties"] = False
        self._queries = {it.name: self._whole(it, "query") for it in endpoints if it.query is not None}
        told = {
            id(query) for query in self._queries.values()
        }  # parameter by parameter, so they are no components
        self.definitions = {name: it for name, it in self.definitions.items() if id(it) not in told}

    def of(self, endpoint: Endpoint, part: str) -> dict[str, Any]:
        """Return the schema of an endpoint's `body` or `answer`."""
        return self._found[f"{endpoint.name} {part}"]

    def parameters(self, endpoint: Endpoint) -> dict[str, dict[str, Any]]:
        """Return the parameters of an endpoint's address, by name."""
        found: dict[str, dict[str, Any]] = self._queries.get(endpoint.name, {}).get("properties", {})
        return found

    def _whole(self, endpoint: Endpoint, part: str) -> dict[str, Any]:
        """Return what a schema says, where it only names it."""
        schema = self.of(endpoint, part)
        found: dict[str, Any] = (
            self.definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        )
        return found


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    summary, description = endpoint.words
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [endpoint.subject],
        "summary": summary,
        "parameters": [*_parameters(endpoint, schemas)],
        "responses": _responses(endpoint, schemas),
    }
    if description:
        operation["description"] = description
    if endpoint.body is not None:
        content = {JSON: {"schema": schemas.of(endpoint, "body")}}
        required = bool(endpoint.body.schema.get("required"))
        operation["requestBody"] = {"content": content, "required": required}
    return operation


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", endpoint.place):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATHS[name],
            "schema": {"type": "string"},
        }
    for name, schema in schemas.parameters(endpoint).items():
        plain = {key: value for key, value in schema.items() if key != "description"}
        yield {
            "name": name,
            "in": "query",
            "required": "default" not in plain,
            "description": schema["description"],
            "schema": plain,
        }
    if endpoint.is_conditional:
        yield {
            "name": "If-Match",
            "in": "header",
            "description": "The ETag that came with what you have read: what has changed since is left as it is.",
            "schema": {"type": "string"},
        }


def _responses(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    it = endpoint.declared
    good: dict[str, Any] = {"description": HTTPStatus(it.status).phrase}
    schema = {"type": "string"} if endpoint.answer is None else schemas.of(endpoint, "answer")
    good["content"] = {it.media.partition(";")[0]: {"schema": schema}}
    headers = {"ETag": it.tag, "Location": it.location}
    if any(headers.values()):
        good["headers"] = {
            name: {"required": True, "schema": {"type": "string"}} for name, has in headers.items() if has
        }
    refused: dict[int, list[str]] = {}
    for kind in endpoint.refusals:
        refused.setdefault(kind.status, []).append(
            f"`{kind.code}`: {(kind.__doc__ or '').partition(chr(10))[0]}"
        )
    return (
        {str(it.status): good}
        | {str(status): {"$ref": f"#/components/responses/{status}"} for status in EVERYWHERE}
        | {str(status): _refusal("\n\n".join(words)) for status, words in sorted(refused.items())}
    )


def _refusal(words: str) -> dict[str, Any]:
    return {"description": words, "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
