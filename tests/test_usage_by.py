import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from claude_runner.runs import Dimension, Share, State, Tokens, Totals, cost_of
from tests.parts import Parts, open_parts
from tests.support import MORNING
from tests.test_usage import ended, used

DAY = timedelta(days=1)
SINCE, UNTIL = MORNING - 400 * DAY, MORNING + 400 * DAY


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def shares(
    parts: Parts, by: Dimension, since: datetime = SINCE, until: datetime = UNTIL
) -> dict[str, Totals]:
    return {share.key: share.totals for share in await parts.runs.usage_by(by, since, until, 100)}


async def test_what_each_job_came_to_is_told_the_dearest_first(parts: Parts) -> None:
    one, two = await parts.job(name="Morning"), await parts.job(name="Evening")
    await ended(parts, MORNING, cost_usd=0.5, job_id=one.id)
    await ended(parts, MORNING + DAY, State.ERROR, cost_usd=2.0, job_id=two.id)
    await ended(parts, MORNING + DAY, State.CANCELLED, cost_usd=None, job_id=two.id)
    await ended(parts, MORNING, cost_usd=9.0)  # nobody's
    first, second = await parts.runs.usage_by(Dimension.JOB, SINCE, UNTIL, 5)
    assert first == Share(two.id, "Evening", Totals(0, 1, 1, 2, 4, 6, 8, 2.0, 1, 20.0))
    assert (second.name, second.totals.runs, second.totals.cost_usd) == ("Morning", 1, 0.5)
    assert await parts.runs.usage_by(Dimension.JOB, SINCE, UNTIL, 1) == [first]


async def test_a_webhooks_runs_are_its_share(parts: Parts) -> None:
    await ended(parts, MORNING, cost_usd=0.5, webhook_id="hook0001")
    assert await parts.runs.usage_by(Dimension.WEBHOOK, SINCE, UNTIL, 5) == [
        Share("hook0001", None, Totals(1, 0, 0, 1, 2, 3, 4, 0.5, 0, 10.0))
    ]


async def test_a_run_of_several_models_is_in_the_share_of_each_with_what_that_used(parts: Parts) -> None:
    usage = {"claude-opus": used(0.4, 100), "claude-haiku": used(0.1, 7)}
    await ended(parts, MORNING, cost_usd=0.5, usage=usage, model="claude-opus")
    by = await shares(parts, Dimension.MODEL)
    assert by["claude-opus"] == Totals(1, 0, 0, 100, 1, 0, 0, 0.4, 0, 10.0)
    assert (by["claude-haiku"].input_tokens, by["claude-haiku"].cost_usd) == (7, 0.1)


async def test_a_run_whose_models_were_not_told_is_in_the_share_of_the_one_that_answered(
    parts: Parts,
) -> None:
    await ended(parts, MORNING, State.CANCELLED, cost_usd=0.2, model="claude-opus")
    await ended(parts, MORNING, cost_usd=0.3, usage={}, model="claude-opus")
    await parts.runs.cancel_pending(await parts.pending(model="claude-opus"), "no", MORNING)  # used nothing
    by = await shares(parts, Dimension.MODEL)
    assert (by["claude-opus"].runs, by["claude-opus"].cost_usd) == (2, 0.5)


async def test_of_a_run_without_a_known_price_the_models_are_priced_whose_price_is_known(
    parts: Parts,
) -> None:
    owners = used(0.25) | {"costBasis": "owner"}
    await ended(
        parts, MORNING, cost_usd=None, usage={"known": used(0.1), "own": owners, "strange": used(None)}
    )
    by = await shares(parts, Dimension.MODEL)
    assert (by["known"].cost_usd, by["known"].unpriced) == (0.1, 0)
    assert (by["own"].cost_usd, by["own"].unpriced) == (0.25, 0)
    assert (by["strange"].cost_usd, by["strange"].unpriced) == (0.0, 1)


@pytest.mark.parametrize(
    "spoiled", ["no json", "[1]", "5", '{"a": 5}', '{"a": {"inputTokens": "many", "costUSD": "much"}}']
)
async def test_what_was_spoiled_by_hand_keeps_no_run_from_ending(parts: Parts, spoiled: str) -> None:
    run_id = await ended(parts, MORNING, model="claude-opus")
    columns = "trigger, state, prompt, output, created_at, started_at, finished_at, worker, cost_usd, model"
    await parts.sql(
        f"INSERT INTO runs (id, model_usage, {columns}) SELECT 'copied', :spoiled, {columns} FROM runs WHERE id = :id",
        spoiled=spoiled,
        id=run_id,
    )
    assert sum(it.runs for it in (await shares(parts, Dimension.MODEL)).values()) == 2


async def test_rehearsals_are_nobodys_share(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, MORNING, job_id=job.id, webhook_id="hook0001", model="claude-opus", rehearsal=True)
    for dimension in Dimension:
        assert await shares(parts, dimension) == {}


async def test_what_a_deleted_job_has_used_stays_used_under_its_id(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, MORNING, cost_usd=0.5, job_id=job.id)
    await parts.jobs.remove(job.id)
    [share] = await parts.runs.usage_by(Dimension.JOB, SINCE, UNTIL, 5)
    assert (share.key, share.name, share.totals.cost_usd) == (job.id, None, 0.5)


async def test_a_job_in_a_stretch_without_runs_is_not_there(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, MORNING, job_id=job.id)
    assert await shares(parts, Dimension.JOB, MORNING + DAY, MORNING + 90 * DAY) == {}


@pytest.mark.parametrize(
    "zone", ["UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Berlin"]
)
async def test_the_stretches_of_a_zone_are_exact(parts: Parts, zone: str) -> None:
    job = await parts.job()
    begin = datetime(2026, 10, 1, tzinfo=ZoneInfo(zone))
    end = datetime(2026, 12, 24, tzinfo=ZoneInfo(zone))
    second = timedelta(seconds=1)
    for at in (begin - second, begin, end - second, end):
        await ended(parts, at.astimezone(UTC), cost_usd=1.0, job_id=job.id)
    assert (await shares(parts, Dimension.JOB, begin, end))[job.id].runs == 2
    cost = await parts.database.read(lambda c: cost_of(c, Dimension.JOB, job.id, begin, end))
    assert cost == 2.0


async def test_quarters_days_and_months_come_to_the_same(parts: Parts) -> None:
    chance = random.Random(7)
    jobs = [(await parts.job(name=f"job {number}")).id for number in range(3)]
    ends = sorted(MORNING + timedelta(minutes=chance.randint(0, 200 * 1440)) for _ in range(80))
    for at in ends:
        await ended(parts, at, cost_usd=0.25, tokens=Tokens(1), job_id=chance.choice(jobs))
    for _ in range(60):
        since = MORNING + timedelta(minutes=15 * chance.randint(-500, 19_000))
        until = since + timedelta(minutes=15 * chance.randint(0, 12_000))
        [whole] = await parts.runs.usage([since, until])
        parted = sum((await shares(parts, Dimension.JOB, since, until)).values(), Totals())
        assert parted == whole
        assert whole.runs == sum(since <= at < until for at in ends)
