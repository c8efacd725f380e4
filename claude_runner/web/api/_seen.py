"""What a caller last saw of a thing: an edit of what has changed meanwhile is refused (RFC 9110, section 13.1.1)."""

from dataclasses import dataclass
from typing import ClassVar

from starlette.requests import Request

from claude_runner.errors import InvalidError, RunnerError

MAX_TAGS = 20


class StaleError(RunnerError):
    """The thing is no longer as the caller saw it."""

    code: ClassVar[str] = "stale"
    status: ClassVar[int] = 412


@dataclass(frozen=True, slots=True)
class Seen:
    """The ETags that the thing may have; `None` where the caller does not mind."""

    tags: tuple[str, ...] | None = None

    def check(self, current: str, what: str) -> None:
        """Refuse where the thing has another one by now.

        Args:
            current: Its ETag.
            what: The thing, as a sentence says it.

        Raises:
            StaleError: It does.
        """
        if self.tags is not None and current not in self.tags:
            raise StaleError(f"{what} was changed by someone else since you read it; read it again")

    def holds(self, current: str, what: str) -> bool:
        """Check as `check` does, and tell whether the caller minds at all."""
        self.check(current, what)
        return self.tags is not None


def read_seen(request: Request) -> Seen:
    """Return what the header If-Match names; raises `InvalidError` where it can't be read."""
    given = request.headers.getlist("if-match")
    if not given or [it.strip() for it in given] == ["*"]:
        return Seen()
    tags = [tag.strip() for tag in ",".join(given).split(",")]
    if len(tags) > MAX_TAGS or not all(tag.startswith(('"', 'W/"')) and tag.endswith('"') for tag in tags):
        raise InvalidError("If-Match is the ETag that came with the thing, with its quotes", field="If-Match")
    return Seen(tuple(tags))


def tag_of(version: str) -> str:
    """Return the ETag of a version (RFC 9110, section 8.8.3)."""
    return f'"{version}"'
