"""A prompt that is run at once, or rehearsed: a page, and the dialog that opens on every other."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError, RunnerError
from claude_runner.grants import read_tools
from claude_runner.permissions import IN_SANDBOX_MODE, Profile, read_commands, root_problem
from claude_runner.rehearsing import Rehearsal
from claude_runner.runs import NewRun, Run, Trigger
from claude_runner.web.dashboard._forms import Form, go_to, read_form
from claude_runner.web.dashboard._job_tools import Group, tool_groups
from claude_runner.web.dashboard._rendering import Pages

TIMEOUT_MINUTES: Final = 30
UNUSUAL: Final = ("tools", "profile", "commands", "model", "timeout_minutes")  # fields, folded away
PROFILES: Final = {
    Profile.CONTAINED: "in its folder; shell commands in a sandbox",
    Profile.RULES: "in its folder; only the shell commands named",
    Profile.FULL: "whatever the server's user may do",
}


class Quick:
    """The page at `/quick`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/quick", self.show)
        yield Route("/quick", self.send, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show the form: empty, or filled as another run was (`?from=`)."""
        run_id = request.query_params.get("from")
        form = Form() if run_id is None else _as(await self._app.runs.get(run_id))
        return await self._page(request, form)

    async def send(self, request: Request) -> Response:
        """Run or rehearse what was typed; where that is refused, the form comes back as it was."""
        form = await read_form(request)
        try:
            if form.text("do") == "rehearse":
                rehearsal = await self._app.rehearsals.of_prompt(_new_run(form, rehearsal=True))
                return await self._page(request, form, rehearsal=rehearsal)
            return go_to(await self._pages.once.done(form.text("once"), lambda: self._run(form)))
        except RunnerError as error:
            return await self._page(request, form, error)

    async def _run(self, form: Form) -> str:
        run = await self._app.run_prompt(_new_run(form, rehearsal=False))
        return f"/runs/{run.id}"

    async def _page(
        self,
        request: Request,
        form: Form,
        error: RunnerError | None = None,
        rehearsal: Rehearsal | None = None,
    ) -> Response:
        rights = await self._app.stored.rights()
        refused = (
            {} if error is None else {error.field if error.field in {"prompt", *UNUSUAL} else "": str(error)}
        )
        groups = await tool_groups(self._app, form.all("tools"))
        shown: dict[str, Any] = {
            "form": form,
            "errors": {f"quick-{name}": words for name, words in refused.items()},
            "rehearsal": rehearsal,
            "groups": groups,
            "usual_tools": _usual_tools(groups),
            "profiles": PROFILES,
            "usual_profile": rights.default,
            "no_full": IN_SANDBOX_MODE
            if rights.sandbox_mode
            else root_problem(self._app.settings.environment),
            "usual_model": (await self._app.stored.owned()).default_model,
            "timeout": TIMEOUT_MINUTES,
            "is_unfolded": any(name in refused for name in UNUSUAL) or _is_unusual(form),
        }
        return await self._pages.page(request, "quick.html", 200 if error is None else error.status, **shown)


def _new_run(form: Form, *, rehearsal: bool) -> NewRun:
    """Return the run that a form asks for; raises `InvalidError` where it can't be read."""
    return NewRun(
        prompt=form.text("prompt"),
        trigger=Trigger.QUICK,
        tools=_tools(form),
        timeout_minutes=_minutes(form),
        model=form.text("model").strip() or None,
        rehearsal=rehearsal,
        profile=_profile(form.text("profile")),
        commands=read_commands([line.strip() for line in form.text("commands").splitlines() if line.strip()]),
    )


def _tools(form: Form) -> tuple[str, ...]:
    if form.text("scope") != "these":
        return ()
    tools = read_tools(form.all("tools"))
    if not tools:
        raise InvalidError("tick what it may use, or choose all that is allowed", field="tools")
    return tools


def _minutes(form: Form) -> int:
    minutes = form.number("timeout_minutes", TIMEOUT_MINUTES)
    if not 1 <= minutes <= 1440:
        raise InvalidError(
            f"{minutes} minutes are too few or too many; give 1 to 1440", field="timeout_minutes"
        )
    return minutes


def _profile(name: str) -> Profile | None:
    try:
        return Profile(name) if name else None
    except ValueError:
        raise InvalidError(f"{name[:40]!r} is no profile", field="profile") from None


def _as(run: Run) -> Form:
    """Return the form as it was filled for a run."""
    return Form(
        [
            ("prompt", run.prompt),
            ("scope", "these" if run.tools else "all"),
            *(("tools", tool) for tool in run.tools),
            ("profile", run.profile or ""),
            ("commands", "\n".join(run.commands)),
            ("model", run.model or ""),
            ("timeout_minutes", str(run.timeout_minutes)),
        ]
    )


def _usual_tools(groups: Sequence[Group]) -> str:
    """Return what a run may use that names nothing, in a sentence."""
    built_ins, *others = groups
    names = [box.label for box in built_ins.boxes]
    servers = [group.name for group in others if group.whole is not None]
    return f"{', '.join(names) or 'No built-in tool'}; all tools of {', '.join(servers)}."


def _is_unusual(form: Form) -> bool:
    """Tell whether anything was chosen but the prompt."""
    chosen = any(form.text(name).strip() for name in ("profile", "commands", "model"))
    return (
        chosen
        or form.text("scope") == "these"
        or form.text("timeout_minutes") not in {"", str(TIMEOUT_MINUTES)}
    )
