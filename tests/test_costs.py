"""What a run costs: counted while it goes on, and as Claude Code says in the end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from claude_runner.agent import Stop, StopCause, _prices, price_of
from claude_runner.agent._endings import account
from claude_runner.agent._prices import is_listed, priced, rates_of
from claude_runner.agent._transcript import Meter
from claude_runner.config import Settings
from claude_runner.prices import Price
from claude_runner.runs import State, Tokens
from tests.orders import carried_out, order
from tests.scripted_model import ScriptedModel, Step
from tests.support import PATIENCE

LOOK: Step = {"tool": "Read", "input": {"file_path": "./x"}}
USED: Step = {"input_tokens": 3000, "output_tokens": 400, "cache_read": 20_000, "cache_write": 5000}
MUCH: Step = {
    "input_tokens": 150_000,
    "output_tokens": 1000,
}  # a long prompt, which one of them asks more for


@pytest.mark.parametrize(
    "name",
    ["claude-opus-5-5", "sonnet", "haiku", "fable", "claude-sonnet-4-5-20250929", "claude-opus-4-8"],
)
async def test_the_count_of_a_run_that_goes_on_comes_to_what_claude_code_says(
    owner: Settings, name: str
) -> None:
    ending, heard = await carried_out(
        owner, order(owner, {**LOOK, **USED}, {"text": "done", **USED, **MUCH}, model=name)
    )
    assert ending.cost_usd is not None
    assert heard.costs[-1] == pytest.approx(ending.cost_usd, rel=1e-6)
    assert heard.tokens == ending.tokens
    assert heard.costs == sorted(heard.costs, key=float)  # type: ignore[arg-type]


async def test_a_model_of_unknown_price_has_the_owners_or_none(owner: Settings) -> None:
    steps: tuple[Step, ...] = ({**LOOK, **USED}, {"text": "done", **USED})
    ending, heard = await carried_out(owner, order(owner, *steps, model="qwen3:8b", max_cost_usd=0.000001))
    assert (ending.state, ending.cost_usd, heard.costs[-1]) == (State.FINISHED, None, None)
    prices = {"qwen3:8b": Price(1, 2)}
    ending, heard = await carried_out(owner, order(owner, *steps, model="qwen3:8b", prices=prices))
    dollars = 2 * (3000 + 2000 + 6250 + 2 * 400) / 1e6
    assert ending.cost_usd == pytest.approx(dollars)
    assert heard.costs[-1] == pytest.approx(dollars)
    [use] = (ending.model_usage or {}).values()
    assert (use["costBasis"], use["costUSD"]) == ("owner", pytest.approx(dollars))


async def test_claude_code_itself_stops_at_the_bound_and_tells_what_it_cost(owner: Settings) -> None:
    dear: Step = {**LOOK, "input_tokens": 100_000, "output_tokens": 10}
    ending, heard = await carried_out(
        owner, order(owner, dear, dear, dear, dear, model="sonnet", max_cost_usd=0.3)
    )
    assert (ending.state, ending.reason) == (State.ERROR, "budget")
    assert ending.cost_usd == pytest.approx(2 * (0.2 + 0.0001), rel=0.01)
    assert heard.costs[-1] == pytest.approx(ending.cost_usd)
    assert ending.tokens == Tokens(input=200_000, output=20)


async def test_a_run_that_is_stopped_for_its_cost_keeps_it(owner: Settings, model: ScriptedModel) -> None:
    stop = Stop()
    what = order(owner, {**LOOK, **USED}, {"text": "Hm", "hang": True}, model="sonnet")
    going_on = asyncio.create_task(carried_out(owner, what, stop))
    async with asyncio.timeout(PATIENCE):
        await model.asked(2)
    stop.request(StopCause(State.ERROR, "budget", "it has cost enough"))
    ending, heard = await going_on
    assert (ending.state, ending.reason, ending.error) == (State.ERROR, "budget", "it has cost enough")
    assert heard.costs[-1] == pytest.approx((3000 * 2 + 400 * 10 + 20_000 * 0.1 + 5000 * 2.5) / 1e6)
    # Claude Code has 0.4 s to tell what it cost; where it does not, the runner takes what was heard.
    assert ending.cost_usd in (None, pytest.approx(heard.costs[-1]))


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("default", Price(4, 20)),
        ("sonnet[1m]", Price(2, 10)),
        ("claude-sonnet-4-20250514", Price(3, 15)),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", Price(5, 25)),
        ("anthropic/claude-sonnet-4.5", Price(3, 15)),
        ("claude-opus-4-1@20250805", Price(15, 75)),
        ("claude-opus-9", None),
        ("my-claude-opus-5", None),
        ("", None),
    ],
)
def test_a_model_is_known_by_each_of_its_names(name: str, price: Price | None) -> None:
    assert price_of(name, {}) == price
    assert is_listed(name, {}) is (price is not None)


def test_the_owners_price_comes_before_the_list() -> None:
    prices = {"claude-sonnet-5-5": Price(0, 0)}
    assert price_of("claude-sonnet-5-5", prices) == Price(0, 0)
    assert not is_listed("claude-sonnet-5-5", prices)
    usage = {"claude-sonnet-5-5": _use(costUSD=1.0, costBasis="list"), "claude-opus-5-5": _use(costUSD=2.0)}
    assert account(priced(usage, prices)) == (Tokens(2, 2, 2, 2), 2.0)


def test_a_guess_at_a_price_is_no_cost() -> None:
    assert account({"a": _use(), "b": _use(costBasis="unknown")}) == (Tokens(2, 2, 2, 2), None)


def test_a_subagent_is_counted_by_its_own_price() -> None:
    meter = Meter(lambda model: rates_of(model, {}))
    assert meter.cost() == 0
    meter.asked = "claude-opus-5-5"
    for agent, model in ((None, "claude-opus-5-5"), ("toolu_1", "claude-haiku-4-5")):
        meter.feed(_start(model, input_tokens=1_000_000), agent)
        meter.feed({"type": "message_delta", "usage": {"output_tokens": 100_000}}, agent)
    assert meter.cost() == pytest.approx((4 + 2) + (1 + 0.5))
    meter.feed(_start("qwen3:8b", input_tokens=1), "toolu_2")
    assert meter.cost() is None


def test_what_the_cache_keeps_for_an_hour_costs_more() -> None:
    meter = Meter(lambda model: rates_of(model, {}))
    hour = {"ephemeral_1h_input_tokens": 400_000}
    meter.feed(
        _start("claude-opus-5-5", cache_creation_input_tokens=1_000_000, cache_creation=hour),
        None,
    )
    assert meter.cost() == pytest.approx(4 * (0.6 * 1.25 + 0.4 * 2))


async def test_the_list_knows_every_model_that_claude_code_offers(owner: Settings) -> None:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient  # noqa: PLC0415 - as the agent has it

    home = owner.home / "cli"
    home.mkdir(parents=True)
    environment = {**owner.environment, "CLAUDE_CONFIG_DIR": str(home)}
    async with ClaudeSDKClient(ClaudeAgentOptions(env=environment, cwd=home, setting_sources=[])) as client:
        offered = [SimpleNamespace(**each) for each in (await client.get_server_info() or {})["models"]]
    assert offered
    for model in offered:
        price, rates = price_of(model.value, {}), rates_of(model.resolvedModel, {})
        assert price is not None
        assert rates == rates_of(model.value, {})
        assert f"${_short(price.input)}/${_short(price.output)} per Mtok" in model.description
    assert len(_prices._LIST) >= len(offered)


def _short(dollars: float) -> str:
    return f"{dollars:.2f}" if dollars < 1 else f"{dollars:g}"


def _use(**changes: Any) -> dict[str, Any]:
    counts = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return {**dict.fromkeys(counts, 1), "costUSD": 0.0, "costBasis": "list", **changes}


def _start(model: str, **usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {"id": model, "model": model, "usage": usage}}
