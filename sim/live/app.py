"""The page's web application: static files, the list of runs, a stream of news about one of them, and two buttons."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from sim.live.folders import UnknownRun, run_of, runs_under
from sim.live.hub import PACE, Hub, Page
from sim.live.owner import Refused
from sim.report.files import UnreadableRun

PAGE = Path(__file__).parent / "page"
_FILES = {
    "": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "map.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "vendor/uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "vendor/uPlot.min.css": "text/css; charset=utf-8",
}
_QUIET = 15.0
"""Seconds after which a page is told that there is nothing to tell."""
LAST_LOOK = 3.0
"""Seconds, at most, that the last look may take: on a busy machine this process is the last in line."""
_LOOK = 0.1


def live_app(folder: Path, leaving: Callable[[], bool]) -> FastAPI:
    """The application for the runs under `folder`. leaving: pages are told the last news, and goodbye."""
    app = FastAPI(title="EquiRAN", docs_url=None, redoc_url=None, openapi_url=None)
    hub = Hub(folder)
    for name, kind in _FILES.items():
        app.add_api_route(f"/{name}", _file(PAGE / (name or "index.html"), kind), methods=["GET", "HEAD"])

    @app.get("/api/runs")
    async def runs() -> JSONResponse:
        found = await asyncio.to_thread(runs_under, folder)
        return JSONResponse({"folder": str(folder), "runs": [run._asdict() for run in found]})

    @app.get("/api/stream")
    async def stream(run: Annotated[str, Query(max_length=1000)]) -> StreamingResponse:
        try:
            page = Page(hub, run)
        except UnknownRun as error:
            raise HTTPException(404, str(error)) from error
        return StreamingResponse(_news(page, leaving), media_type="text/event-stream")

    @app.post("/api/control")
    async def control(
        run: Annotated[str, Body(max_length=1000)], action: Annotated[Literal["stop", "pause", "continue"], Body()]
    ) -> JSONResponse:
        try:
            _act(hub, run_of(folder, run), action)
        except (UnknownRun, Refused, UnreadableRun) as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse({"done": action})

    return app


def _file(path: Path, kind: str) -> Callable[[], Any]:
    async def given() -> FileResponse:
        return FileResponse(path, media_type=kind)

    return given


def _act(hub: Hub, folder: Path, action: str) -> None:
    if action == "stop":
        hub.control.stop(folder)
    else:
        hub.control.hold(folder, wanted=action == "pause")


async def _news(page: Page, leaving: Callable[[], bool]) -> AsyncIterator[str]:
    """Server-sent events for as long as the page listens."""
    silent = 0.0
    while not leaving():
        await page.seen.look()
        if told := await page.news():
            silent = 0.0
            yield _event(told)
        elif silent >= _QUIET:
            silent = 0.0
            yield ": nothing new\n\n"
        pause = PACE / 10 if page.seen.more else PACE
        silent += pause
        await _unless(leaving, pause)
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_LOOK):
            await page.seen.look(at_once=True)
            if told := await page.news():
                yield _event(told)
    yield "event: goodbye\ndata: {}\n\n"


def _event(told: dict[str, Any]) -> str:
    return f"data: {json.dumps(told, allow_nan=False, separators=(',', ':'))}\n\n"


async def _unless(leaving: Callable[[], bool], seconds: float) -> None:
    """So many seconds, or until it is to leave."""
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0 and not leaving():
        await asyncio.sleep(min(left, _LOOK))
