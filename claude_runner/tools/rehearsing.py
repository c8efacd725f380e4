"""Tools that rehearse runs."""

from claude_runner.grants import read_tools
from claude_runner.permissions import read_commands
from claude_runner.rehearsing import Rehearsal
from claude_runner.runs import NewRun, Trigger
from claude_runner.tools._toolbox import ToolGroup, tool
from claude_runner.tools.jobs import Commands, Tools
from claude_runner.views.decisions import ChosenProfile, chosen_profile


class RehearsalTools(ToolGroup):
    """What a run would be, before it costs anything."""

    @tool("Rehearse a job", repeatable=True)
    async def rehearse_job(self, job_id: str) -> Rehearsal:
        """Try a job without spending a token: would it run, with which tools, and what does its first request cost.

        Use it after create_job or update_job, before the first run, and to find out why runs fail. Claude Code and the
        tool servers are really started, just as for a run, but no model is asked and no tool is called; nothing is
        written down. It takes one to five seconds, a minute at the most.

        verdict is would_run or would_fail; problems names everything that a run would fail for, each in the words that
        the run would have, and missing_credentials what to ask the user for. first_request tells how large and dear
        the first request is and which part of it each server's tools take: a server with a large share that the job
        does not need is best left out, by naming tools. Whether Claude is signed in is not tried. report has all of it
        in a form to show to the user.

        Args:
            job_id: The id that create_job and list_jobs tell.
        """
        return await self.app.rehearsals.of_job(job_id)

    @tool("Rehearse a prompt", repeatable=True)
    async def rehearse_prompt(
        self,
        prompt: str,
        tools: Tools = None,
        model: str | None = None,
        profile: ChosenProfile = ChosenProfile.DEFAULT,
        commands: Commands = None,
    ) -> Rehearsal:
        """Try a prompt without spending a token, before a job is made of it; answers as rehearse_job does.

        Args:
            prompt: What Claude would be told, at most a million characters.
            tools: What it may use, as in create_job: names such as `Read` or `mcp__email__*`; left out or empty, the
                owner's allowed tools and those of every enabled MCP server.
            model: A model's name or alias, such as `sonnet`; Claude Code's default where it is left out.
            profile: What it may do without asking, as in create_job.
            commands: How the shell commands begin that the profile `rules` lets it run, as in create_job.
        """
        new = NewRun(
            prompt=prompt,
            trigger=Trigger.QUICK,
            tools=read_tools(tools),
            model=model or None,
            rehearsal=True,
            profile=chosen_profile(profile),
            commands=read_commands(commands),
        )
        return await self.app.rehearsals.of_prompt(new)
