"""Tells what a rehearsal found out, without secrets."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from claude_runner.config import Settings
from claude_runner.grants import Grant, split_name
from claude_runner.rehearsing._records import (
    MissingCredentials,
    NotGranted,
    Problem,
    Rehearsal,
    ServerState,
    Verdict,
)
from claude_runner.rehearsing._report import written
from claude_runner.rehearsing._sizes import offered_tools, size_of
from claude_runner.rehearsing._trial import Trial

NEXT_FIRES: Final = 5
PROVIDERS: Final = {
    "CLAUDE_CODE_USE_BEDROCK": "Amazon Bedrock",
    "CLAUDE_CODE_USE_VERTEX": "Google Vertex AI",
    "CLAUDE_CODE_USE_FOUNDRY": "Microsoft Foundry",
}


def told(
    trial: Trial,
    defaults: Sequence[str],
    lacking: Sequence[tuple[str, Sequence[str]]],
    settings: Settings,
    clean: Callable[[str], str],
) -> Rehearsal:
    """Return what was found out.

    Args:
        trial: Where it was.
        defaults: The tools that a run gets which names none, those that it can't have included.
        lacking: Enabled servers that were asked for or come by default, and the credentials that each lacks.
        settings: The server's.
        clean: Takes secrets out of a text.
    """
    run, job, request = trial.run, trial.job, trial.request
    problems = [Problem(it.reason, clean(it.error)) for it in trial.problems]
    warnings = [clean(line) for line in (*trial.grant.warnings, *_notes(trial, settings))]
    servers = [_cleaned(state, clean) for state in trial.servers]
    names = [name for state in servers for name in state.tools]
    tools = offered_tools(request) if request else [*trial.grant.built_ins, *names]
    said = [*map(clean, trial.refused.values()), *warnings, *(it.error for it in problems)]
    asked = (*trial.refused, *trial.grant.tools) if run.tools else defaults
    return written(
        Rehearsal(
            verdict=Verdict.WOULD_FAIL if problems else Verdict.WOULD_RUN,
            reason=problems[0].reason if problems else None,
            error=_sentence(problems),
            problems=problems,
            job_id=run.job_id,
            job_name=job.name if job else None,
            prompt=clean(run.prompt),
            instructions=clean(trial.instructions),
            model=str(request.body["model"]) if request else None,
            model_asked=run.model,
            profile=trial.grant.profile,
            commands=list(run.commands),
            folder=str(trial.folder),
            tools=tools,
            not_granted=[
                NotGranted(tool, _why(tool, said)) for tool in asked if not _is_had(tool, trial.grant, names)
            ],
            servers=servers,
            missing_credentials=[_missing(*each, needed=bool(run.tools)) for each in lacking],
            warnings=warnings,
            next_runs=[fire.isoformat(timespec="seconds") for fire in job.next_fires(trial.now, NEXT_FIRES)]
            if job
            else [],
            first_request=size_of(request, run.prompt, trial.instructions, trial.usd) if request else None,
            report="",
        )
    )


def _sentence(problems: Sequence[Problem]) -> str | None:
    """Return what a run would say: all that it would have failed for together with what comes first."""
    said = dict.fromkeys(it.error for it in problems if it.reason == problems[0].reason)
    return "; ".join(said) or None


def _cleaned(state: ServerState, clean: Callable[[str], str]) -> ServerState:
    problem = None if state.problem is None else clean(state.problem)
    return ServerState(state.name, state.was_up, state.start_seconds, state.tools, problem)


def _notes(trial: Trial, settings: Settings) -> Iterator[str]:
    """Yield what a person should know besides of what was found."""
    if any(it.reason == "profile_refused" for it in trial.problems):
        yield f"all that follows is told as under the profile '{trial.grant.profile}'"
    if trial.job and not trial.job.enabled:
        yield "the job is disabled: it runs only where it is triggered"
    if trial.request and trial.usd is None:
        yield (
            f"the price of {trial.request.body['model']} is not on Claude Code's list; "
            "where the name is misspelt, runs end in invalid_model"
        )
    for variable, provider in PROVIDERS.items():
        if settings.environment.get(variable):
            yield f"runs ask {provider}; the request was rehearsed as Anthropic's own service would get it"


def _is_had(tool: str, grant: Grant, names: Collection[str]) -> bool:
    match split_name(tool):
        case None:
            return tool in grant.built_ins
        case server, "*":
            return any(name.startswith(f"mcp__{server}__") for name in names)
        case _:
            return tool in names


def _why(tool: str, said: Sequence[str]) -> str:
    """Return what was said about a tool or its server."""
    marks = [f"'{tool}'", tool]
    if (split := split_name(tool)) is not None:
        server, name = split
        marks += [f"no tool '{name}'", f"no tool {name}", f"'{server}'", server]
    found = (line for mark in marks for line in said if mark in line)
    return next(found, "no tool of Claude Code has this name")


def _missing(server: str, names: Sequence[str], *, needed: bool) -> MissingCredentials:
    calls = ", ".join(f"set_server_credential('{server}', '{name}', …)" for name in names)
    return MissingCredentials(server, list(names), needed, calls)
