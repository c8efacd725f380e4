"""Who brings messages where: our own mail for `email:`, Apprise for all else."""

from collections.abc import Sequence
from dataclasses import dataclass

from claude_runner.delivering._apprising import Apprising
from claude_runner.delivering._mail import SCHEME, Mail
from claude_runner.notifications import Delivered, Heard, Parcel


@dataclass(frozen=True, slots=True)
class Couriers:
    """Everybody who brings messages to the addresses of channels."""

    apprising: Apprising
    mail: Mail

    async def shown(self, url: str) -> str:
        """Return what may be shown of an address; raises as `notifications.Courier` says."""
        return await self._of(url).shown(url)

    async def deliver(self, parcels: Sequence[Parcel], heard: Heard) -> None:
        """Send parcels and tell what came of each: those of Apprise side by side, mails one by one."""
        for courier in (self.mail, self.apprising):
            places = [place for place, it in enumerate(parcels) if self._of(it.url) is courier]

            async def heard_of_these(done: Delivered, places: Sequence[int] = places) -> None:
                await heard(done._replace(place=places[done.place]))

            if places:
                await courier.deliver([parcels[place] for place in places], heard_of_these)

    def _of(self, url: str) -> Apprising | Mail:
        return self.mail if url.casefold().startswith(SCHEME) else self.apprising
