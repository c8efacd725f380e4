"""Decides about each delivery, and answers once that is on the disk."""

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple

from claude_runner import webhooks
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.errors import ConflictError, InvalidError, RunnerError, UnavailableError
from claude_runner.hub import Hub, Subscription, Topic
from claude_runner.reception._entrances import Allowance, Entrance, Entrances
from claude_runner.reception._ledger import Ledger, Receipt, Taken
from claude_runner.runs import NewRun, Run, Runs, Trigger
from claude_runner.webhooks import (
    BadSignatureError,
    Delivery,
    Headers,
    MalformedError,
    NewDelivery,
    Rendered,
    Template,
    Verdict,
    Webhook,
    Webhooks,
    read_payload,
    read_template,
)

MOST_WAITING: Final = 64  # senders that may wait for the ends of their runs at a time
NOT_KEPT: Final = "[not kept]"
REFUSED_BYTES: Final = 16 * 1024  # of a refused body that are kept
NONCE_BYTES: Final = 6
ATTEMPTS: Final = 5  # at a delivery whose webhook is changed in the same moment


class DisabledError(RunnerError):
    """The webhook is there and takes nothing now."""

    code: ClassVar[str] = "disabled"
    status: ClassVar[int] = 403


class TooManyError(RunnerError):
    """The webhook has taken all that it may in a minute; `retry_after` seconds later it takes another."""

    code: ClassVar[str] = "too_many"
    status: ClassVar[int] = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Trial(NamedTuple):
    """What a delivery would come to: whether its filter wants a run, and with which prompt."""

    wanted: bool
    rendered: Rendered


class Reception:
    """Takes deliveries."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        changes: Subscription,
        clock: Clock,
        kept: Webhooks,
        executed: Runs,
        redact: Callable[[str], str],
        *,
        rehearsal: bool,
    ) -> None:
        """Make a reception.

        Args:
            database: Where deliveries and runs are written.
            hub: Hears of runs that are started, and tells of those that end.
            changes: Tells of webhooks that were changed.
            clock: The time.
            kept: The webhooks.
            executed: The runs.
            redact: Replaces secrets in what is kept.
            rehearsal: Whether runs go to the embedded stand-in model.
        """
        self._hub = hub
        self._ledger = Ledger(database, hub)
        self._clock = clock
        self.webhooks: Final = kept
        self._runs = executed
        self._redact = redact
        self._rehearsal = rehearsal
        self._entrances = Entrances(kept, changes, clock)
        self._turned_away: Counter[str] = Counter()
        self._waiting = 0
        self._digits = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take deliveries while the context is open; what was taken before its end is written."""
        async with self._ledger.open():
            yield

    def turned_away(self, webhook_id: str) -> int:
        """Return how many deliveries this process did not take because they were too many."""
        return self._turned_away[webhook_id]

    async def entrance(self, token: str) -> Entrance:
        """Return where deliveries with this token come in.

        Raises:
            NotFoundError: No webhook has it.
        """
        return await self._entrances.at(token)

    async def receive(self, entrance: Entrance, headers: Headers, body: bytes) -> Receipt:
        """Decide about a delivery, and return what came of it once that is on the disk.

        Raises:
            BadSignatureError: It is not signed as it must be.
            DisabledError: The webhook takes nothing now.
            TooManyError: It has taken all it may.
            MalformedError: The body can't be read.
            NotFoundError: The webhook was removed meanwhile.
            UnavailableError: The signing secret can't be opened, or the database can't be written.
        """
        now = self._clock.now()
        for _ in range(ATTEMPTS):
            try:
                payload = self._payload_of(entrance, headers, body, now)
            except (BadSignatureError, DisabledError, MalformedError) as error:
                await self._refuse(entrance, error, headers, body)
                raise
            receipt = await self._ledger.take(self._taken(entrance, headers, body, payload, now))
            if receipt is not None:
                return receipt
            entrance = await self._entrances.again(entrance)
        raise UnavailableError("the webhook is being changed all the time; try again")

    async def replay(self, delivery_id: str) -> Receipt:
        """Start a run for a delivery that came before, as the webhook is now and whatever its filter says.

        Raises:
            NotFoundError: There is no such delivery, or none any more.
            ConflictError: It was refused, or its body is no longer kept.
        """
        delivery = await self.webhooks.delivery(delivery_id)
        webhook = await self.webhooks.get(delivery.webhook_id)
        taken = Taken(
            webhook=webhook,
            key=None,
            headers=json.dumps(dict(delivery.headers)),
            body=delivery.body or b"",
            run=self._run_of(webhook, webhook.template, _brought_by(delivery)),
            now=self._clock.now(),
            replay_of=delivery.id,
        )
        receipt = await self._ledger.take(taken)
        if receipt is None:
            raise ConflictError(f"webhook {webhook.id} was changed by someone else just now; look again")
        return receipt

    async def try_out(
        self, webhook_id: str, payload: Any, delivery_id: str | None, template: str | None
    ) -> Trial:
        """Return what a payload, or a delivery that came before, would come to; nothing is run.

        Args:
            webhook_id: Which webhook.
            payload: What would come.
            delivery_id: The delivery whose payload to take instead.
            template: What to take instead of the webhook's template.

        Raises:
            NotFoundError: There is no such webhook or delivery.
            ConflictError: The delivery can't be read, or its body is no longer kept.
            InvalidError: The template can't be used, or the delivery is another webhook's.
        """
        webhook = await self.webhooks.get(webhook_id)
        if delivery_id is not None:
            payload = await self.payload_of(webhook_id, delivery_id)
        read = webhook.template if template is None else read_template(template)
        holds = webhook.holds
        return Trial(holds is None or holds(payload), read.render(payload, webhook.plain_fields))

    async def payload_of(self, webhook_id: str, delivery_id: str) -> Any:
        """Return the payload of a delivery, refused or not, that came to a webhook.

        Raises:
            NotFoundError: There is no such delivery.
            ConflictError: The delivery can't be read, or its body is no longer kept.
            InvalidError: It is another webhook's.
        """
        delivery = await self.webhooks.delivery(delivery_id)
        if delivery.webhook_id != webhook_id:
            raise InvalidError(f"delivery {delivery_id} came to another webhook", field="delivery_id")
        return _brought_by(delivery, refused_too=True)

    async def outcome(self, run_id: str, seconds: float) -> Run | None:
        """Return the run once it has ended; `None` where that takes longer, or too many wait already."""
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            return await self._end_of(run_id, self._clock.elapsed() + seconds)
        finally:
            self._waiting -= 1

    async def _end_of(self, run_id: str, deadline: float) -> Run | None:
        with self._hub.subscribe(Topic.RUNS) as changes:
            while True:
                run = await self._runs.get(run_id)
                if run.state.is_final:
                    return run
                while not any(change.key in {run_id, ""} for change in changes.take()):
                    left = deadline - self._clock.elapsed()
                    if left <= 0:
                        return None
                    await self._clock.pause(changes.changed, left)

    def _payload_of(self, entrance: Entrance, headers: Headers, body: bytes, now: datetime) -> Any:
        """Return the payload of a delivery that may be taken; raises what `receive` does."""
        _check(entrance.webhook, headers, body, now)
        self._allow(entrance.webhook, entrance.accepted)
        kind, encoding = headers.get(b"content-type", b""), headers.get(b"content-encoding", b"")
        return read_payload(body, kind.decode("latin-1"), encoding.decode("latin-1"))

    def _taken(self, entrance: Entrance, headers: Headers, body: bytes, payload: Any, now: datetime) -> Taken:
        webhook = entrance.webhook
        wanted = entrance.holds is None or entrance.holds(payload)
        return Taken(
            webhook=webhook,
            key=webhooks.delivery_key(webhook.signature, headers, payload),
            headers=self._kept(webhooks.kept_headers(headers), webhook),
            body=self._kept_body(body, webhook),
            run=self._run_of(webhook, entrance.template, payload) if wanted else None,
            now=now,
        )

    def _allow(self, webhook: Webhook, allowance: Allowance) -> None:
        wait = allowance.take(self._clock.elapsed())
        if wait > 0:
            self._turned_away[webhook.id] += 1
            raise TooManyError(
                f"this webhook takes {webhook.max_per_minute:,} deliveries a minute", max(1, -int(-wait // 1))
            )

    async def _refuse(
        self,
        entrance: Entrance,
        error: BadSignatureError | DisabledError | MalformedError,
        headers: Headers,
        body: bytes,
    ) -> None:
        """Write down what was refused, unless there is too much of it: that is refused in its turn."""
        webhook = entrance.webhook
        self._allow(webhook, entrance.refused)
        delivery = NewDelivery(
            webhook_id=webhook.id,
            key=None,
            received_at=self._clock.now(),
            verdict=_verdict(error),
            reason=self._redact(str(error)),
            headers=self._kept(webhooks.kept_headers(headers), webhook),
            body=self._kept_body(body[:REFUSED_BYTES], webhook),
        )
        await self._ledger.refuse(delivery)

    def _run_of(self, webhook: Webhook, template: Template, payload: Any) -> NewRun:
        rendered = template.render(payload, webhook.plain_fields, self._nonce)
        return NewRun(
            prompt=self._redact(rendered.prompt),
            trigger=Trigger.WEBHOOK,
            tools=webhook.tools,
            timeout_minutes=webhook.timeout_minutes,
            model=webhook.model,
            rehearsal=self._rehearsal,
            profile=webhook.profile,
            commands=webhook.commands,
            webhook_id=webhook.id,
            max_cost_usd=webhook.max_cost_usd,
        )

    def _nonce(self) -> str:
        """Return digits that nobody can know beforehand; to ask the system for each few of them takes long."""
        if not self._digits:
            self._digits = secrets.token_hex(NONCE_BYTES * 256)
        nonce, self._digits = self._digits[: 2 * NONCE_BYTES], self._digits[2 * NONCE_BYTES :]
        return nonce

    def _kept(self, text: str, webhook: Webhook) -> str:
        """Return a text without secrets, and without the webhook's token, which proxies repeat in headers of theirs."""
        redacted = self._redact(text)
        return redacted if webhook.token is None else redacted.replace(webhook.token, NOT_KEPT)

    def _kept_body(self, body: bytes, webhook: Webhook) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        kept = self._kept(text, webhook)
        return body if kept is text else kept.encode("utf-8", "surrogateescape")


def _verdict(error: BadSignatureError | DisabledError | MalformedError) -> Verdict:
    match error:
        case BadSignatureError():
            return Verdict.BAD_SIGNATURE
        case DisabledError():
            return Verdict.DISABLED
        case MalformedError():
            return Verdict.MALFORMED


def _check(webhook: Webhook, headers: Headers, body: bytes, now: datetime) -> None:
    """Refuse what is not signed as it must be, and everything where the webhook is disabled."""
    if webhook.signature is not None:
        if webhook.signing_secret is None:
            raise UnavailableError(
                "this webhook can't check signatures now: its signing secret can't be opened"
            )
        webhooks.verify(webhook.signature, webhook.signing_secret, headers, body, now)
    if not webhook.enabled:
        raise DisabledError("this webhook is disabled; whoever set it up can enable it")


def _brought_by(delivery: Delivery, *, refused_too: bool = False) -> Any:
    """Return what a delivery brought; raises `ConflictError` where that can't be had."""
    if delivery.body is None:
        raise ConflictError(f"delivery {delivery.id} is too old: its body is no longer kept")
    if not refused_too and delivery.verdict not in {Verdict.ACCEPTED, Verdict.FILTERED}:
        raise ConflictError(
            f"delivery {delivery.id} was refused ({delivery.reason}), so it is not run; its sender can send it again"
        )
    try:
        return read_payload(delivery.body, delivery.headers.get("content-type", ""))
    except MalformedError as error:
        raise ConflictError(f"delivery {delivery.id} can't be read: {error}") from error
