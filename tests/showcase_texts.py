"""What the showcase's jobs, runs, webhooks and servers say: the words of a small firm that has Claude do its chores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.jobs import JobDraft, Policy
from claude_runner.permissions import Profile
from claude_runner.webhooks import Signature, WebhookDraft

ZONE: Final = "Europe/Berlin"
SONNET: Final = "claude-sonnet-5"
HAIKU: Final = "claude-haiku-5"
SECRET: Final = "it's a secret to everybody"


@dataclass(frozen=True, slots=True)
class Chore:
    """A job, and what usually comes of it.

    Attributes:
        says: What its runs say when all is well.
        fails: Reasons and sentences of those that fail, the latest last.
        failing_at: Every so many-th of its runs fails; 0 for none.
        fails_now: Whether its last run failed.
        minutes: How long a run takes, about.
        cost_usd: What a run costs, about.
    """

    draft: JobDraft
    says: str
    minutes: float = 1.5
    cost_usd: float = 0.12
    failing_at: int = 0
    fails: Sequence[tuple[str, str]] = ()
    fails_now: bool = False


OVERLOADED: Final = (
    "overloaded",
    "Claude's service answered with an error, also when asked again: API Error: 529 Overloaded",
)
TIMEOUT: Final = ("timeout", "it was not done within 20 minutes and was ended")
NO_SERVER: Final = (
    "mcp_server_failed",
    "before Claude was asked anything, MCP servers that the run needs were missing: stock-prices did not start "
    "(SyntaxError in line 3)",
)

CHORES: Final = (
    Chore(
        JobDraft(
            "Morning briefing",
            "0 7 * * 1-5",
            "Read what came in since yesterday evening, look at today's calendar, and write a briefing of at most "
            "ten lines into briefing.md. Put what cannot wait on top.",
            ZONE,
            tools=("Read", "Write", "WebFetch"),
            model=SONNET,
        ),
        "Three things cannot wait: the **lease** runs out on Friday, Frau Möller waits for the offer, and the "
        "certificate of shop.example.com ends in 6 days. The rest is in `briefing.md`.",
        2.2,
        0.19,
        11,
        (OVERLOADED,),
    ),
    Chore(
        JobDraft(
            "Inbox triage",
            "0 8-18 * * 1-5",
            "Sort new mail into answer, read and ignore; draft answers where the thread makes them obvious.",
            ZONE,
            tools=("Read", "Write", "mcp__email__*"),
            model=HAIKU,
            timeout_minutes=20,
        ),
        "14 new mails: 3 to answer (drafts are there), 6 to read, 5 to ignore.",
        0.7,
        0.021,
        37,
        (TIMEOUT, OVERLOADED),
    ),
    Chore(
        JobDraft(
            "Check of the nightly backups",
            "15 2 * * *",
            "Compare the newest backup of each host with the plan in plan.toml. Complain about every one that is "
            "older than 26 hours or smaller than half of the one before.",
            ZONE,
            tools=("Read", "Bash"),
            profile=Profile.RULES,
            commands=("ls -l", "du -sh", "stat"),
            policy=Policy(max_retries=1, pause_after_failures=10, max_cost_usd=0.25, notify_after_failures=2),
        ),
        "All 9 hosts have a backup of last night; none is smaller than usual.",
        0.9,
        0.034,
        9,
        (TIMEOUT, NO_SERVER),
        fails_now=True,
    ),
    Chore(
        JobDraft(
            "Weekly report",
            "30 16 * * 5",
            "Sum up the week for the board: what was shipped, what slipped and why, and what it cost.",
            ZONE,
            tools=("Read", "Write", "WebSearch"),
            model=SONNET,
        ),
        "The report is in `2026-W47.md`: five things were shipped, one slipped (invoices in Swiss francs).",
        6.5,
        0.87,
    ),
    Chore(
        JobDraft(
            "Dependency review",
            "0 5 * * 1,4",
            "Look for releases of what requirements.txt names, read their notes, and list what is worth an update.",
            "UTC",
            tools=("Read", "WebFetch", "WebSearch"),
            model=SONNET,
        ),
        "Two updates are worth it: **uvicorn 0.54** (a fix of a leak) and **jinja2 3.1.6** (security).",
        3.8,
        0.41,
    ),
    Chore(
        JobDraft(
            "Prices of the forty-two competitors in the northern region, with a picture of every page and one table",
            "0 */6 * * *",
            "Visit every shop in shops.csv and note today's price of each product.",
            "America/New_York",
            tools=("Read", "Write", "mcp__playwright__*"),
            enabled=False,
        ),
        "42 shops visited, 3 prices changed.",
        11.0,
        1.32,
        5,
        (TIMEOUT,),
    ),
    Chore(
        JobDraft(
            "Forecast for the market stall",
            "0 6 * * 6",
            "Tell whether it stays dry from 8 to 14 o'clock on the market square, in one sentence.",
            ZONE,
            tools=("mcp__weather__get_weather",),
            model=HAIKU,
            timeout_minutes=5,
        ),
        "It stays dry until 13 o'clock; take the small awning for the last hour.",
        0.2,
        0.004,
    ),
)  # fmt: skip

HOOKS: Final = (
    WebhookDraft(
        "Issues of the shop",
        "A customer opened issue {{payload.issue.number}}: {{payload.issue.title}}\n\n{{payload.issue.body}}\n\n"
        "Say which part of the shop it is about, and propose an answer to {{payload.issue.user.login}}.",
        "GitHub posts here when an issue is opened. Proposals go into the channel #support.",
        tools=("Read", "WebFetch"),
        model=SONNET,
        signature=Signature.GITHUB,
        signing_secret=SECRET,
        filter='payload.action == "opened"',
        plain_fields=("payload.issue.number", "payload.issue.user.login"),
    ),
    WebhookDraft(
        "Sensors of the greenhouse",
        "Sensor {{payload.sensor}} says {{payload.value}} °C. Tell in one sentence whether somebody must go and look.",
        tools=("Read",),
        model=HAIKU,
        timeout_minutes=2,
    ),
    WebhookDraft(
        "Old form of the website",
        "Somebody wrote: {{payload.message}}",
        "Replaced by the shop's.",
        enabled=False,
    ),
)

WEATHER: Final = '''"""Tells the weather."""

import os

import httpx
from fastmcp import FastMCP

mcp = FastMCP("weather")
KEY = os.environ["WEATHER_KEY"]


@mcp.tool
async def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather of a city for up to seven days."""
    async with httpx.AsyncClient() as http:
        answer = await http.get("https://api.weather.example/v1", params={"q": city, "days": days, "key": KEY})
    return answer.text


if __name__ == "__main__":
    mcp.run()
'''
BROKEN: Final = '"""Tells the prices of shares."""\n\ndef quote(symbol: str) -> float\n    return 1.0\n'

REPORT: Final = """## What the logs say

Between **02:10** and **02:40** the shop answered slowly. The cause is one query:

```sql
SELECT * FROM orders WHERE lower(email) = lower(?) ORDER BY created_at DESC
```

| minute | requests | p95 |
| --- | ---: | ---: |
| 02:10 | 412 | 0.8 s |
| 02:20 | 398 | 4.1 s |
| 02:30 | 405 | 3.9 s |

It reads the whole table, as no index has `lower(email)`. Two ways to mend it:

1. `CREATE INDEX orders_email ON orders (lower(email))` takes a minute, and is all that is needed.
2. Keep addresses in lower case. Cleaner, but a migration of 1.2 million rows.

> I could not run `EXPLAIN ANALYZE`: shell commands may not reach the database from here.

I would do the first **today**. See the [notes on expression indexes](https://www.postgresql.org/docs/current/indexes-expressional.html).
"""

PIECES: Final[Sequence[tuple[float, str, dict[str, Any]]]] = (
    (
        1.9,
        "started",
        {
            "model": SONNET,
            "tools": ["Read", "Grep", "Bash", "WebFetch"],
            "mcp_servers": [{"name": "runner", "status": "connected"}],
            "permissionMode": "dontAsk",
            "claude_code_version": "2.1.330",
        },
    ),
    (
        3.1,
        "thinking",
        {
            "block": 1,
            "text": "The shop was slow last night. The access log has one line per request with its duration; I should "
            "look at how it went minute by minute before I look for a cause.",
        },
    ),
    (0.8, "text", {"block": 2, "text": "I'll look at the access log of last night first."}),
    (
        0.2,
        "tool_use",
        {"id": "t1", "name": "Read", "input": {"file_path": "logs/access-2026-11-26.log", "limit": 400}},
    ),
    (
        0.4,
        "tool_result",
        {
            "id": "t1",
            "is_error": False,
            "content": "\n".join(
                f"     {line}\t02:{10 + line // 6:02}:{line * 7 % 60:02} GET /orders 200 {0.2 + line % 9 / 2:.1f}s"
                for line in range(1, 60)
            ),
        },
    ),
    (
        5.2,
        "text",
        {
            "block": 3,
            "text": "From 02:10 on, every slow request is one of `/orders`. Now the query that it makes, and its plan.",
        },
    ),
    (
        0.2,
        "tool_use",
        {"id": "t2", "name": "Grep", "input": {"pattern": "lower\\(email\\)", "path": "app/orders.py"}},
    ),
    (
        0.3,
        "tool_result",
        {
            "id": "t2",
            "is_error": False,
            "content": "app/orders.py:41:    SELECT * FROM orders WHERE lower(email) = lower(?)",
        },
    ),
    (
        2.7,
        "tool_use",
        {
            "id": "t3",
            "name": "Bash",
            "input": {
                "command": "psql shop -c 'EXPLAIN ANALYZE SELECT …'",
                "description": "Show the query's plan",
            },
        },
    ),
    (0.1, "notice", {"notice": "permission_denied", "tool_name": "Bash", "tool_use_id": "t3"}),
    (
        0.1,
        "tool_result",
        {
            "id": "t3",
            "is_error": True,
            "content": "Permission to use Bash with command psql has been denied because Claude Code is running in "
            "don't ask mode.",
        },
    ),
    (
        4.4,
        "tool_use",
        {
            "id": "t4",
            "name": "WebFetch",
            "input": {"url": "https://www.postgresql.org/docs/current/", "prompt": "Indexes"},
        },
    ),
    (9.8, "tool_result", {"id": "t4", "is_error": True, "content": "Request failed with status code 503"}),
    (
        1.2,
        "retry",
        {
            "attempt": 1,
            "max_retries": 2,
            "retry_delay_ms": 1200,
            "error_status": 529,
            "error": "overloaded_error",
        },
    ),
    (11.6, "text", {"block": 4, "text": REPORT}),
    (
        0.3,
        "result",
        {
            "subtype": "success",
            "is_error": False,
            "turns": 6,
            "duration_ms": 41_900,
            "terminal_reason": "completed",
            "api_error_status": None,
            "denials": 1,
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Told:
    """What somebody was told, or is to be: through a channel, or by the ping of a heartbeat."""

    minutes_ago: int
    channel: str
    event: str
    job: str
    title: str
    body: str = ""
    attempts: int = 1
    error: str = ""
    given_up: bool = False


_BUSY = "chat.example.com answered 503: Service Unavailable"
TOLD: Final = (
    Told(4, "", "ended", "Check", "", "finished"),
    Told(21, "team chat", "success", "Morning", "Morning briefing is done", "Three things cannot wait.", 0, _BUSY),
    Told(214, "team chat", "failure", "Check", "Check of the nightly backups failed",
         "The backup of db-2 is 31 hours old.\n\nIt cost $0.03 and took 1 min.", 5, _BUSY),
    Told(214, "mail", "failure", "Check", "Check of the nightly backups failed",
         "The backup of db-2 is 31 hours old.\n\nIt cost $0.03 and took 1 min."),
    Told(1_500, "mail", "missed", "Inbox", "Inbox triage missed 2 runs",
         "The slots from 11:00 to 12:00 were not run: no server was at work when they came, or the machine slept."),
    Told(2_940, "mail", "recovery", "Check", "Check of the nightly backups works again", "It had failed once."),
    Told(4_400, "team chat", "budget", "", "Everything: a budget is used up",
         "All runs have cost $2.51 today, and the budget is $2.50 a day.", 14,
         "it could not be sent in time", given_up=True),
    Told(4_400, "mail", "budget", "", "Everything: a budget is used up",
         "All runs have cost $2.51 today, and the budget is $2.50 a day."),
    Told(80_000, "mail", "test", "", "A test from Claude Runner", "This channel works."),
)  # fmt: skip
