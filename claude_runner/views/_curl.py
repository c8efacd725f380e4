"""A command that posts an example to a webhook, ready to be pasted into a shell."""

import json
import shlex
from typing import Any

from claude_runner.webhooks import Signature, Webhook

_EXAMPLE = "example"


def curl_of(webhook: Webhook, url: str) -> str | None:
    """Return the command; `None` where the signature takes more than a line of shell.

    The body has every field that the template inserts. A signing secret stands as `$SECRET`.
    """
    body = shlex.quote(example_of(webhook))
    plain = f"curl -X POST {shlex.quote(url)} -H 'Content-Type: application/json'"
    match webhook.signature:
        case None:
            return f"{plain} -d {body}"
        case Signature.GITLAB:
            return f'{plain} -H "X-Gitlab-Token: $SECRET" -d {body}'
        case Signature.GITHUB:
            signed = '$(printf %s "$BODY" | openssl dgst -sha256 -hmac "$SECRET" | sed \'s/.* //\')'
            return f'BODY={body}; {plain} -H "X-Hub-Signature-256: sha256={signed}" -d "$BODY"'
        case _:
            return None


def example_of(webhook: Webhook) -> str:
    """Return, as JSON, a payload that has every field of the template."""
    example: Any = {}
    for field in webhook.template.fields:
        example = _with(example, field.split(".")[1:])
    return json.dumps(example, ensure_ascii=False)


def _with(value: Any, path: list[str]) -> Any:
    if not path:
        return value if isinstance(value, (dict, list)) and value else _EXAMPLE
    first, *rest = path
    if first.isdecimal() and not (isinstance(value, dict) and value):
        items = value if isinstance(value, list) else []
        index = min(int(first), 9)
        items += [_EXAMPLE] * (index + 1 - len(items))
        items[index] = _with({} if items[index] == _EXAMPLE and rest else items[index], rest)
        return items
    inner = value if isinstance(value, dict) else {}
    inner[first] = _with(inner.get(first, {}), rest)
    return inner
