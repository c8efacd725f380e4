"""Writes a rehearsal's report: what a person reads."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from claude_runner.rehearsing._records import Part, PartKind, Rehearsal, RequestSize, ServerState, Verdict

SHOWN: Final = 2000  # characters of a prompt or of instructions
UNTRIED: Final = (
    "Not tried: whether Claude is signed in, whether the tools do their work, and what Claude makes of the prompt. "
    "No token was spent and no run was written down."
)
PARTS: Final = {
    PartKind.BUILT_INS: "built-in tools",
    PartKind.INSTRUCTIONS: "instructions",
    PartKind.PROMPT: "prompt",
    PartKind.REST: "Claude Code itself",
}


def written(rehearsal: Rehearsal) -> Rehearsal:
    """Return the rehearsal with its report."""
    return replace(rehearsal, report="\n".join(_lines(rehearsal)))


def _lines(it: Rehearsal) -> Iterator[str]:
    of = f"the job '{it.job_name}'" if it.job_name is not None else "a prompt"
    yield f"Rehearsal of {of}: a run {'would run' if it.verdict is Verdict.WOULD_RUN else 'would fail'}."
    yield from _section("What is in its way", (f"{each.reason}: {each.error}" for each in it.problems))
    yield from _section(
        "Credentials missing",
        (
            f"{each.server}: {', '.join(each.names)} ({'needed' if each.needed else 'runs go without the server'}); "
            f"{each.how_to_set}"
            for each in it.missing_credentials
        ),
    )
    yield from _section("Warnings", it.warnings)
    yield from _section("Next runs", it.next_runs)
    yield from _section("How it would run", _how(it))
    yield from _section("Tool servers", map(_server, it.servers))
    yield from _section("Tools", it.tools)
    yield from _section("Tools it does not get", (f"{each.tool}: {each.why}" for each in it.not_granted))
    if it.first_request is not None:
        yield from _section(f"First request: {_size(it.first_request)}", map(_part, it.first_request.parts))
        yield it.first_request.about
    yield from _text("Instructions", it.instructions)
    yield from _text("Prompt", it.prompt)
    yield f"\n{UNTRIED}"


def _section(title: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    entries = [f"- {line}" for line in lines]
    if entries:
        yield f"\n{title}"
        yield from entries


def _how(it: Rehearsal) -> Iterator[str]:
    asked = "Claude Code's default" if it.model_asked is None else f"asked for as '{it.model_asked}'"
    yield f"model: {it.model or 'not known'} ({asked})"
    allowed = f", with the commands {', '.join(it.commands)}" if it.commands else ""
    yield f"profile: {it.profile}{allowed}"
    yield f"folder: {it.folder}"


def _server(state: ServerState) -> str:
    if state.start_seconds is None:
        start = "not started"
    elif state.was_up:
        start = "up already"
    else:
        start = f"started in {state.start_seconds:.2f} s"
    problem = f"; {state.problem}" if state.problem else ""
    return f"{state.name}: {start}, {len(state.tools)} tools granted{problem}"


def _size(size: RequestSize) -> str:
    price = "price not known" if size.usd is None else f"about ${size.usd:.4f}"
    return f"{size.bytes:,} bytes, about {size.estimated_tokens:,} tokens, {price}"


def _part(part: Part) -> str:
    name = PARTS.get(part.kind) or f"tools of {part.server}"
    return f"{name}: {part.share:.1%}, {part.bytes:,} bytes, about {part.estimated_tokens:,} tokens"


def _text(title: str, text: str) -> Iterator[str]:
    yield f"\n{title}"
    yield text.rstrip() if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters in all)"
