"""The dashboard: what a person sees and does in a browser. Served behind the owner's login alone."""

from claude_runner.web.dashboard._dashboard import Dashboard

__all__ = ["Dashboard"]
