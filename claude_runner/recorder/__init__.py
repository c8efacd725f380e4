"""Writes down what a run's agent tells: its events, its tokens and its calls of tools, with no secret in them."""

from claude_runner.recorder._recorder import Recorder, Silence, Waiting

__all__ = ["Recorder", "Silence", "Waiting"]
