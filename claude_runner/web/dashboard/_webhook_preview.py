"""What a webhook would make of a delivery, shown while it is being written: nothing is run and nothing is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.app import App
from claude_runner.errors import RunnerError
from claude_runner.web.dashboard._visible import visible
from claude_runner.web.dashboard._webhook_form import TypedWebhook
from claude_runner.webhooks import Piece, Rendered, checked_fields, read_filter, read_payload, read_template

LONGEST_PIECE: Final = 2_000  # characters of one that came from outside, or of words between two
LONGEST: Final = 30_000  # characters in all


@dataclass(frozen=True, slots=True)
class ShownPiece:
    """A piece of a prompt as the page shows it.

    Attributes:
        kind: Where it comes from, in a word.
        hidden: Characters that are not shown.
    """

    kind: str
    text: str
    hidden: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What would come of a delivery.

    Attributes:
        wanted: Whether the filter wants a run; `None` where it can't be told.
        pieces: The prompt.
        missing: Fields that the payload does not have.
        defaulted: Fields in whose place the default stands.
        cut: Fields that were too long to be inserted whole.
        length: Characters of the whole prompt.
        problems: What keeps it from being told, by field.
    """

    wanted: bool | None
    pieces: Sequence[ShownPiece]
    missing: tuple[str, ...]
    defaulted: tuple[str, ...]
    cut: tuple[str, ...]
    length: int
    problems: Mapping[str, str]


async def preview(
    app: App, typed: TypedWebhook, webhook_id: str | None, delivery: str, pasted: str
) -> Preview:
    """Return what would come of a delivery.

    Args:
        app: Whose webhook it is.
        typed: The webhook as it is being written.
        webhook_id: Which webhook it is; `None` for one that is new.
        delivery: The id of the delivery to take; empty for what was pasted.
        pasted: A body.
    """
    problems: dict[str, str] = {}
    try:
        payload = await _payload(app, webhook_id, delivery, pasted)
    except RunnerError as error:
        problems["delivery" if delivery else "payload"] = str(error)
        return Preview(None, (), (), (), (), 0, problems)
    wanted = _wanted(typed.filter, payload, problems)
    rendered = _rendered(typed, payload, problems)
    if rendered is None:
        return Preview(wanted, (), (), (), (), 0, problems)
    return Preview(
        wanted,
        shown(rendered.pieces),
        rendered.missing,
        rendered.defaulted,
        rendered.cut,
        len(rendered.prompt),
        problems,
    )


def shown(pieces: Sequence[Piece]) -> list[ShownPiece]:
    """Return pieces as a page shows them: so much of each, and of all."""
    left = LONGEST
    found = []
    for origin, text in pieces:
        kept = text[: min(left, LONGEST_PIECE)]
        left -= len(kept)
        found.append(ShownPiece(origin.value, visible(kept), len(text) - len(kept)))
    return found


async def _payload(app: App, webhook_id: str | None, delivery: str, pasted: str) -> Any:
    if delivery and webhook_id is not None:
        return await app.reception.payload_of(webhook_id, delivery)
    return read_payload(pasted.encode("utf-8", "replace"), "")


def _wanted(text: str, payload: Any, problems: dict[str, str]) -> bool | None:
    if not text.strip():
        return True
    try:
        return read_filter(text)(payload)
    except RunnerError as error:
        problems["filter"] = str(error)
        return None


def _rendered(typed: TypedWebhook, payload: Any, problems: dict[str, str]) -> Rendered | None:
    plain: tuple[str, ...] = ()
    try:
        plain = checked_fields(typed.plain)
    except RunnerError as error:
        problems["plain_fields"] = str(error)
    try:
        return read_template(typed.prompt_template).render(payload, plain)
    except RunnerError as error:
        problems["prompt_template"] = str(error)
        return None
