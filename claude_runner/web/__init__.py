"""The HTTP face. It carries `/health` alone until the rest of the site is guarded."""

from claude_runner.web._serving import serve_site
from claude_runner.web._site import Site, build_site

__all__ = ["Site", "build_site", "serve_site"]
