"""Ask an application in process, without a socket: one request, one event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Sends requests to an application."""

    app: FastAPI

    def get(self, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> httpx.Response:
        """What a GET of this path answers."""
        return self.ask("GET", url, headers)

    def ask(self, method: str, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> httpx.Response:
        """What a request answers."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
                return await client.request(method, url, headers=headers)

        return asyncio.run(asked())
