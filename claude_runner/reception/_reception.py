"""Decides about each delivery, and answers once that is on the disk."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, NamedTuple

from claude_runner import runs, webhooks
from claude_runner.config import Clock
from claude_runner.db import Connection, Database
from claude_runner.errors import ConflictError, InvalidError, RunnerError, UnavailableError
from claude_runner.hub import Hub, Subscription, Topic
from claude_runner.reception._entrances import Allowance, Entrance, Entrances
from claude_runner.runs import NewRun, Run, Runs, State, Trigger
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

FILTERED: Final = "filtered"
MOST_WAITING: Final = 64  # senders that may wait for the ends of their runs at a time
TIDY_EVERY: Final = 256  # deliveries of a webhook, after which what is not kept any longer is dropped
REFUSED_BYTES: Final = 16 * 1024  # of a refused body that are kept
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


class Receipt(NamedTuple):
    """What came of a delivery.

    Attributes:
        run_id: The run that it started; `None` where the filter did not want one.
        state: The run's, or `filtered`.
        duplicate: Whether the delivery had come before.
    """

    run_id: str | None
    state: str
    duplicate: bool = False


class Trial(NamedTuple):
    """What a delivery would come to: whether its filter wants a run, and with which prompt."""

    wanted: bool
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class _Checked:
    """A delivery that may be taken."""

    payload: Any
    key: str | None
    headers: str
    body: bytes
    wanted: bool
    replay_of: str | None = None


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
        self._db = database
        self._hub = hub
        self._clock = clock
        self._webhooks = kept
        self._runs = executed
        self._redact = redact
        self._rehearsal = rehearsal
        self._entrances = Entrances(kept, changes, clock)
        self._turned_away: Counter[str] = Counter()
        self._untidy: dict[str, int] = {}
        self._waiting = 0

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
            checked = await self._let_in(entrance, headers, body, now)
            receipt = await self._take(entrance.webhook, entrance.template, checked, now)
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
        delivery = await self._webhooks.delivery(delivery_id)
        webhook = await self._webhooks.get(delivery.webhook_id)
        checked = _Checked(
            _payload_of(delivery),
            None,
            json.dumps(dict(delivery.headers)),
            delivery.body or b"",
            wanted=True,
            replay_of=delivery.id,
        )
        receipt = await self._take(webhook, webhook.template, checked, self._clock.now())
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
        webhook = await self._webhooks.get(webhook_id)
        if delivery_id is not None:
            delivery = await self._webhooks.delivery(delivery_id)
            if delivery.webhook_id != webhook_id:
                raise InvalidError(f"delivery {delivery_id} came to another webhook", field="delivery_id")
            payload = _payload_of(delivery, refused_too=True)
        read = webhook.template if template is None else read_template(template)
        holds = webhook.holds
        return Trial(holds is None or holds(payload), read.render(payload, webhook.plain_fields))

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

    async def _let_in(self, entrance: Entrance, headers: Headers, body: bytes, now: datetime) -> _Checked:
        """Return the delivery where it may be taken; what is refused is written down, unless that is too much."""
        webhook = entrance.webhook
        try:
            _check(webhook, headers, body, now)
        except BadSignatureError as error:
            await self._refuse(entrance, Verdict.BAD_SIGNATURE, error, headers, body)
            raise
        except DisabledError as error:
            await self._refuse(entrance, Verdict.DISABLED, error, headers, body)
            raise
        self._allow(webhook, entrance.accepted)
        try:
            payload = read_payload(
                body,
                headers.get(b"content-type", b"").decode("latin-1"),
                headers.get(b"content-encoding", b"").decode("latin-1"),
            )
        except MalformedError as error:
            await self._refuse(entrance, Verdict.MALFORMED, error, headers, body)
            raise
        return _Checked(
            payload,
            webhooks.delivery_key(webhook.signature, headers, payload),
            self._redact(webhooks.kept_headers(headers)),
            self._redacted(body),
            entrance.holds is None or entrance.holds(payload),
        )

    def _allow(self, webhook: Webhook, allowance: Allowance) -> None:
        wait = allowance.take(self._clock.elapsed())
        if wait > 0:
            self._turned_away[webhook.id] += 1
            raise TooManyError(
                f"this webhook takes {webhook.max_per_minute:,} deliveries a minute", max(1, -int(-wait // 1))
            )

    async def _refuse(
        self, entrance: Entrance, verdict: Verdict, error: RunnerError, headers: Headers, body: bytes
    ) -> None:
        """Write down what was refused, unless there is too much of it: that is refused in its turn."""
        webhook = entrance.webhook
        self._allow(webhook, entrance.refused)
        delivery = NewDelivery(
            webhook_id=webhook.id,
            key=None,
            verdict=verdict,
            reason=self._redact(str(error)),
            headers=self._redact(webhooks.kept_headers(headers)),
            body=self._redacted(body[:REFUSED_BYTES]),
        )
        now = self._clock.now()
        tidy = self._is_untidy(webhook.id)

        def write(c: Connection) -> None:
            if webhooks.title(c, webhook.id) is not None:
                webhooks.keep(c, delivery, now)
            if tidy:
                webhooks.forget(c, webhook.id, now)

        await self._db.write(write, durable=False)

    async def _take(
        self, webhook: Webhook, template: Template, checked: _Checked, now: datetime
    ) -> Receipt | None:
        """Write a delivery with the run that it starts, if any; `None` where the webhook is not as it was read."""
        run = self._run_of(webhook, template, checked.payload) if checked.wanted else None
        tidy = self._is_untidy(webhook.id)

        def write(c: Connection) -> Receipt | None:
            if (
                checked.key is not None
                and (first := webhooks.earlier(c, webhook.id, checked.key)) is not None
            ):
                return Receipt(first.run_id, first.state or "deleted", duplicate=True)
            if not webhooks.count(c, webhook, now, started=run is not None):
                return None
            run_id = None if run is None else runs.insert(c, run, now)
            delivery = NewDelivery(
                webhook_id=webhook.id,
                key=checked.key,
                verdict=Verdict.FILTERED if run is None else Verdict.ACCEPTED,
                reason=None if run is not None else "the filter does not want it",
                headers=checked.headers,
                body=checked.body,
                run_id=run_id,
                replay_of=checked.replay_of,
            )
            webhooks.keep(c, delivery, now)
            if tidy:
                webhooks.forget(c, webhook.id, now)
            return Receipt(run_id, FILTERED if run is None else State.PENDING)

        receipt = await self._db.write(write)
        if receipt is not None and receipt.run_id is not None and not receipt.duplicate:
            self._hub.publish(Topic.RUNS, receipt.run_id)
        return receipt

    def _run_of(self, webhook: Webhook, template: Template, payload: Any) -> NewRun:
        rendered = template.render(payload, webhook.plain_fields)
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
        )

    def _redacted(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        kept = self._redact(text)
        return body if kept is text else kept.encode("utf-8", "surrogateescape")

    def _is_untidy(self, webhook_id: str) -> bool:
        """Tell whether it is time to drop what is not kept any longer: at first, and then every so many deliveries."""
        left = self._untidy.get(webhook_id, 0)
        self._untidy[webhook_id] = (left or TIDY_EVERY) - 1
        return left == 0


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


def _payload_of(delivery: Delivery, *, refused_too: bool = False) -> Any:
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
