"""What models, webhooks, tools and strangers write is shown as what it is, harmless, on every page that shows it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from claude_runner.db import to_text
from claude_runner.errors import RunnerError
from claude_runner.jobs import JobDraft
from claude_runner.runs import ClosedCall, NewCall, Verdict
from claude_runner.servers import ToolInfo, examine
from claude_runner.webhooks import WebhookDraft
from tests.browser import DESK, PHONE, Browsing, comes, live, overflowing
from tests.led import LedRun, LedSite, led_site
from tests.support import ended, running

if TYPE_CHECKING:
    from playwright.async_api import Page

MARKUP: Final = (
    '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1"><svg onload="window.pwned = 1">'
    '<iframe srcdoc="<script>top.pwned = 1</script>"></iframe></title></textarea></style></pre></code>'
    '<style>main { display: none }</style><form action="https://evil.example"><button id="main">Send</button></form>'
    '<a id="tip" href="javascript:window.pwned = 1">home</a>"\'><b data-live="runs" onmouseover="window.pwned = 1">'
)
MARKDOWN: Final = (
    "[a link](javascript:window.pwned=1) ![a picture](https://evil.example/x.png) [data](data:text/html,<script>1)\n\n"
    "<details ontoggle='window.pwned=1' open>x</details>\n\n```html\n<script>window.pwned = 1</script>\n```\n\n"
    "<https://evil.example/?x=<script>> &lt;script&gt;window.pwned = 1&lt;/script&gt;\n"
)
TURNED: Final = "invoice\N{RIGHT-TO-LEFT OVERRIDE}fdp.exe \N{RIGHT-TO-LEFT ISOLATE}\u05e9\u05dc\u05d5\u05dd"
COLOURED: Final = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\x00\x08"
LONG: Final = "x" * 1_000_000
NAME: Final = MARKUP[:199]  # in which no sign may be that turns what stands beside it
WORDS: Final = f"{MARKUP}\n\n{MARKDOWN}\n\n{TURNED}"
ALL: Final = f"{WORDS}\n\n{COLOURED}"
NOTHING_CAME_OF_IT: Final = """() => {
  const wrong = [];
  if (window.pwned !== undefined) wrong.push("a script of the text has run");
  for (const element of document.querySelectorAll("main *, dialog *")) {
    const handlers = element.getAttributeNames().filter((name) => name.startsWith("on"));
    if (handlers.length || ["SCRIPT", "IFRAME", "STYLE", "OBJECT", "EMBED", "LINK", "BASE"].includes(element.nodeName))
      wrong.push(element.outerHTML.slice(0, 200));
    if (element.nodeName === "IMG") wrong.push(element.outerHTML.slice(0, 200));
    for (const name of ["href", "action", "formaction"]) {
      const where = element.getAttribute(name) ?? "";
      if (/^\\s*(javascript|data|vbscript):/i.test(where)) wrong.push(element.outerHTML.slice(0, 200));
      if (name !== "href" && where.includes("evil")) wrong.push(element.outerHTML.slice(0, 200));
    }
  }
  if (document.querySelectorAll("#main").length !== 1 || document.querySelectorAll("#tip").length !== 1)
    wrong.push("an id of the page's own was taken");
  if (!document.getElementById("main").checkVisibility()) wrong.push("the page is hidden");
  return wrong;
}"""


@dataclass(frozen=True)
class Hostile:
    """A home in which everything that can be hostile is.

    Attributes:
        ids: Of what has a page, by what it is.
        going: A run that goes on.
    """

    site: LedSite
    ids: dict[str, str]
    going: LedRun


@pytest.fixture(scope="module")
async def hostile(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hostile]:
    async with led_site(tmp_path_factory.mktemp("hostile")) as site:
        ids = await add_jobs_and_runs(site)
        ids |= await add_webhook(site)
        await add_server(site)
        going = await site.run(WORDS)
        await tell(going)
        await running(site.app, going.id, said="home")
        yield Hostile(site, ids | {"going": going.id}, going)


async def add_jobs_and_runs(site: LedSite) -> dict[str, str]:
    app, now = site.app, site.app.clock.now()
    job = await app.jobs.add(JobDraft(NAME, "0 7 * * *", WORDS, "UTC", tools=("Read",)), now)
    folder = app.settings.playground / job.id
    folder.mkdir(parents=True)
    (folder / "<img src=x onerror=window.pwned=1>.txt").write_text("x")
    await app.trigger(job.id)
    done = await site.next_run()
    await tell(done)
    done.say(LONG, block=9)
    done.finish(f"{ALL}\n\n{LONG}")
    await ended(app, done.id)
    failed = await site.run(f"{LONG[:50_000]} {WORDS}")
    failed.fail(ALL[:1900])
    await ended(app, failed.id)
    await app.database.write(
        lambda c: c.execute("UPDATE jobs SET note = :note, last_error = :note", {"note": WORDS}).rowcount
    )
    while await app.runs.take_words():
        pass
    return {"job": job.id, "done": done.id, "failed": failed.id}


async def tell(run: LedRun) -> None:
    """Let a run say and do all that is hostile."""
    run.think(ALL, block=1)
    run.say(ALL, block=2)
    await run.call("t1", "Bash", {MARKUP: ALL, "command": ALL})
    run.answer("t1", ALL + LONG[:200_000])
    await run.call("t2", f"mcp__{NAME[:40]}__{MARKUP[:60]}", {"list": [WORDS, {"deep": WORDS}]})
    run.answer("t2", ALL, is_error=True)


async def add_webhook(site: LedSite) -> dict[str, str]:
    app = site.app
    draft = WebhookDraft(
        NAME,
        WORDS.replace("{{", "") + " {{payload.text}}",
        WORDS[:1_500],
        tools=("Read",),
        max_per_minute=1_000,
    )
    webhook = await app.webhooks.add(draft, app.clock.now())
    assert webhook.token is not None
    bodies = [
        json.dumps({"text": ALL, MARKUP: [TURNED, LONG[:200_000]]}).encode(),
        f"{MARKUP}".encode(),
        b"\xff\xfe\x00<script>",
    ]
    for body in bodies:
        headers = {b"content-type": b"application/json", b"user-agent": MARKUP.encode()}
        try:
            entrance = await app.reception.entrance(webhook.token)
            receipt = await app.reception.receive(entrance, headers, body)
        except RunnerError:
            continue
        assert receipt.run_id is not None
        (await site.next_run()).finish(ALL)
        await ended(app, receipt.run_id)
    deliveries = (await app.webhooks.deliveries(webhook.id, 10)).deliveries
    return {
        "webhook": webhook.id,
        "accepted": next(it.id for it in deliveries if it.run_id is not None),
        "refused": next(it.id for it in deliveries if it.run_id is None),
    }


async def add_server(site: LedSite) -> None:
    app, now = site.app, site.app.clock.now()
    code = f'"""{MARKUP}"""\n# {TURNED}\n# {LONG[:5_000]}\nimport os\nfrom fastmcp import FastMCP\nmcp = FastMCP("x")\n'
    staged = await app.servers.stage("hostile", code, WORDS[:900], examine(code).variables, now)
    server = await app.servers.keep_new("hostile", staged, now)
    schema = {
        "type": "object",
        "properties": {
            MARKUP[:90]: {"type": "string", "description": ALL, "enum": [MARKUP, TURNED]},
            "long": {"type": "string", "description": LONG[:5_000], "default": MARKUP},
        },
    }
    await app.servers.remember_tools(server, [ToolInfo("tool", f"{ALL} {LONG[:3_000]}", schema)], now)
    call = NewCall("mcp__hostile__tool", {MARKUP: ALL}, now)
    await app.runs.note_call(ClosedCall(None, call, Verdict.ERROR, ALL + LONG[:200_000], 1.0))
    await app.database.write(
        lambda c: (
            c.execute(
                "INSERT INTO oauth_clients (client_id, client_name, source, redirect_uris, created_at)"
                " VALUES (:id, :name, 'document', :uris, :at)",
                {
                    "id": f"https://evil.example/{MARKUP}",
                    "name": NAME,
                    "uris": json.dumps([MARKUP]),
                    "at": to_text(now),
                },
            ).rowcount
        )
    )


PAGES: Final = (
    "/",
    "/jobs",
    "/jobs/{job}",
    "/jobs/{job}/edit",
    "/calendar",
    "/runs",
    "/runs?q=script",
    "/runs/{done}",
    "/runs/{failed}",
    "/runs/{going}",
    "/calls",
    "/webhooks",
    "/webhooks/{webhook}",
    "/webhooks/{webhook}/edit?delivery={accepted}",
    "/webhooks/{webhook}/deliveries/{accepted}",
    "/webhooks/{webhook}/deliveries/{refused}",
    "/servers",
    "/servers/hostile",
    "/servers/hostile/code",
    "/servers/hostile/call?tool=tool",
    "/settings",
    "/quick",
    f"/runs?q={quote(MARKUP[:300])}",
    f"/jobs?q={quote(MARKUP[:150])}",
)


@pytest.mark.parametrize("path", PAGES)
async def test_what_is_hostile_is_shown_harmless(hostile: Hostile, browsing: Browsing, path: str) -> None:
    url = hostile.site.origin + path.format(**hostile.ids)
    found = []
    for width in (DESK, PHONE):
        page = await browsing.page(url, width=width)
        await live(page)
        await page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        await settled(page)
        found += await page.evaluate(NOTHING_CAME_OF_IT)
        found += [f"{width}: {it}" for it in await overflowing(page)]
    assert not found, "\n".join(found)


async def settled(page: "Page") -> None:
    """Wait until what was unfolded has been fetched."""
    await comes(page, "() => !document.querySelector('a[data-whole][data-asked]')")


@pytest.mark.parametrize("path", ["/runs/{going}", "/calls", "/"])
async def test_what_is_hostile_is_harmless_as_it_comes(
    hostile: Hostile, browsing: Browsing, path: str
) -> None:
    """Into an open page, by script: the stream's way is as safe as the page's."""
    page = await browsing.page(hostile.site.origin + path.format(**hostile.ids))
    await live(page)
    was = await page.locator("main").inner_text()
    await tell(hostile.going)
    hostile.going.use(len(was))
    await comes(page, "was => document.getElementById('main').innerText !== was", was)
    await settled(page)
    assert await page.evaluate(NOTHING_CAME_OF_IT) == []


async def test_a_hostile_name_is_harmless_in_the_palette(hostile: Hostile, browsing: Browsing) -> None:
    page = await browsing.page(hostile.site.origin)
    await page.keyboard.press("Control+k")
    await page.keyboard.type("script")
    await page.get_by_role("option").first.wait_for()
    assert await page.evaluate(NOTHING_CAME_OF_IT) == []


async def test_a_hostile_name_is_harmless_in_what_is_said_after_a_form(
    hostile: Hostile, browsing: Browsing
) -> None:
    page = await browsing.page(f"{hostile.site.origin}/jobs/{hostile.ids['job']}")
    await page.get_by_role("link", name="Pause…", exact=True).click()
    await page.get_by_label("Why").fill("<script>alert(1)</script>")
    await page.get_by_role("button", name="Pause", exact=True).click()
    await page.locator(".notice.ok", has_text="is paused").wait_for()
    await page.get_by_role("button", name="Resume", exact=True).click()
    await page.locator(".notice.ok", has_text="goes on").wait_for()
    assert await page.evaluate(NOTHING_CAME_OF_IT) == []


@pytest.mark.parametrize(
    ("path", "field", "button"),
    [("/quick", "model", "Run"), ("/webhooks/new", "filter", "Make it"), ("/settings", "timezone", "Save")],
)
async def test_what_was_typed_is_harmless_where_it_is_refused(
    hostile: Hostile, browsing: Browsing, path: str, field: str, button: str
) -> None:
    browsing.expect("status of 422")
    page = await browsing.page(f"{hostile.site.origin}{path}")
    await page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    for each in await page.locator("main [required]:not([type=number])").all():
        if not await each.input_value():
            await each.fill(MARKUP)
    await page.locator(f"main [name={field}]").fill(MARKUP[:200])
    await page.get_by_role("button", name=button, exact=True).last.click()
    await page.locator(".wrong, .notice.bad[role=alert]").first.wait_for()
    assert await page.locator(f"main [name={field}]").input_value() == MARKUP[:200]
    assert await page.evaluate(NOTHING_CAME_OF_IT) == []


async def test_an_address_that_is_not_there_is_shown_harmless(hostile: Hostile, browsing: Browsing) -> None:
    browsing.expect("status of 404")
    page = await browsing.page(f"{hostile.site.origin}/runs/{quote(MARKUP[:90], safe='')}")
    await page.get_by_role("heading", level=1).wait_for()
    assert await page.evaluate(NOTHING_CAME_OF_IT) == []


async def test_a_megabyte_on_one_line_does_not_hold_the_page_up(hostile: Hostile, browsing: Browsing) -> None:
    page = await browsing.page()
    await page.goto(f"{hostile.site.origin}/runs/{hostile.ids['done']}")
    size, loaded = await page.evaluate(
        "[document.documentElement.outerHTML.length, performance.getEntriesByType('navigation')[0].duration]"
    )
    assert size < 1_000_000
    assert loaded < 5_000


async def test_signs_that_turn_text_round_are_seen(hostile: Hostile, browsing: Browsing) -> None:
    """Else a name could end in .pdf that ends in .exe."""
    page = await browsing.page(f"{hostile.site.origin}/runs/{hostile.ids['done']}")
    text = await page.locator("main").inner_text()
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text
    assert "\x1b" not in text


async def test_a_quick_run_is_asked_for_by_no_other_site(hostile: Hostile, browsing: Browsing) -> None:
    browsing.expect("status of 403")
    page = await browsing.page()
    await page.route(
        "http://127.0.0.1:1/*",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f'<form method="post" action="{hostile.site.origin}/quick"><input name="prompt" value="x"><button>Go'
            "</button></form>",
        ),
    )
    await page.goto("http://127.0.0.1:1/")
    before = len(await hostile.site.app.runs.going_on())
    await page.get_by_role("button").click()
    await page.get_by_text("another site").wait_for()
    assert len(await hostile.site.app.runs.going_on()) == before
