"""Mail by the server `email` that is shipped, with the credentials that its owner has given it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from claude_runner.errors import InvalidError, RunnerError
from claude_runner.invocation import Invocations
from claude_runner.notifications import Delivered, Heard, Parcel
from claude_runner.runs import text_of

SCHEME: Final = "email:"
SEND_SECONDS: Final = 60.0
MAX_ERROR: Final = 300
_TOOL: Final = "mcp__email__send_email"
_ADDRESS: Final = re.compile(r"[^@\s<>,;:\"]{1,64}@[^@\s<>,;:\"]{1,255}")


@dataclass(frozen=True, slots=True)
class Mail:
    """Sends mail."""

    invocations: Invocations

    async def shown(self, url: str) -> str:
        """Return an address as it is shown, which is no secret; raises as `notifications.Courier` says."""
        address = url.partition(":")[2].removeprefix("//").strip()
        if not _ADDRESS.fullmatch(address):
            raise InvalidError(f"give one mail address, such as {SCHEME}alice@example.com", field="url")
        return f"{SCHEME}{address}"

    async def deliver(self, parcels: Sequence[Parcel], heard: Heard) -> None:
        """Send the parcels one after the other, and tell of each."""
        for place, parcel in enumerate(parcels):
            await heard(await self._deliver(place, parcel))

    async def _deliver(self, place: int, parcel: Parcel) -> Delivered:
        taken = 0
        try:
            to = (await self.shown(parcel.url)).removeprefix(SCHEME)
            for title, body in parcel.messages:
                mail = {"to": to, "subject": title, "body": body}
                outcome = await self.invocations.invoke(_TOOL, mail, SEND_SECONDS)
                if outcome.is_error:
                    return Delivered(place, taken, text_of(outcome.content)[:MAX_ERROR])
                taken += 1
        except RunnerError as error:
            return Delivered(place, taken, str(error)[:MAX_ERROR])
        return Delivered(place, taken, None)
