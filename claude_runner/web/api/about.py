"""The endpoint that describes all others."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from claude_runner.app import App
from claude_runner.web.api._endpoints import Endpoint, EndpointGroup, endpoint
from claude_runner.web.api._openapi import document


class AboutEndpoints(EndpointGroup):
    """What there is to know of this API."""

    subject = "About"

    def __init__(self, app: App, others: Sequence[Endpoint]) -> None:
        super().__init__(app)
        self._others = others

    @endpoint("GET /api/openapi.json")
    async def get_openapi(self) -> dict[str, Any]:
        """Describe this API (OpenAPI 3.1)."""
        return await asyncio.to_thread(lambda: self._document)

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document([*self._others, *self.endpoints()])
