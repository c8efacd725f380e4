"""The HTTP face: one site for MCP, OAuth, webhooks and health, and how it is served."""

from claude_runner.web._serving import serve_site
from claude_runner.web._site import Site, build_site

__all__ = ["Site", "build_site", "serve_site"]
