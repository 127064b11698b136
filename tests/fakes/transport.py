"""A transport in memory, by the door of the real ones (`processor/edges/http/exchange.py`).

Its answers are a coroutine's, `answer(request)`, in a task each. It has no deadline: what hangs, hangs.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import httpx

from processor.edges.http.exchange import Receiver
from processor.edges.http.httpx_client import Tasked
from processor.edges.http.request import RawHeaders, RequestTemplate


class FakeTransport(ABC):
    closed = False

    @abstractmethod
    async def answer(self, request: httpx.Request) -> httpx.Response:
        """The answer, or one of httpx's exceptions."""

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Tasked:
        request = template.build(content, headers)
        return Tasked(asyncio.get_running_loop().create_task(self._told(request, receiver)))

    @staticmethod
    def fields(head: RawHeaders) -> RawHeaders:
        return head

    async def aclose(self) -> None:
        self.closed = True

    async def _told(self, request: httpx.Request, receiver: Receiver) -> None:
        try:
            response = await self.answer(request)
        except Exception as error:
            receiver.failed(error)
        else:
            receiver.answered(response.status_code, response.headers.raw, response.content, False)
