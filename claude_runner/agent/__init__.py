"""Executes prompts with Claude Code: the only part that knows the Claude Agent SDK.

The SDK is imported when the first run needs it or `warm_up` is called: a server that only answers starts without.
"""

from claude_runner.agent._claude import ClaudeAgent, find_cli
from claude_runner.agent._endings import account, since
from claude_runner.agent._prices import price_of
from claude_runner.agent._protocol import Agent, Endpoint, Listener, Order, Stop, StopCause, Transcripts
from claude_runner.agent._sandbox import sandbox_problem

__all__ = [
    "Agent",
    "ClaudeAgent",
    "Endpoint",
    "Listener",
    "Order",
    "Stop",
    "StopCause",
    "Transcripts",
    "account",
    "find_cli",
    "price_of",
    "sandbox_problem",
    "since",
]
