"""The addresses that the page of a run asks for. Imported only where fastapi is installed."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from tightbound.exploring.assets import WASM, Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.compute import Refused, Worker, inputs_of
from tightbound.exploring.page_data import text_of
from tightbound.exploring.run_data import PageRun

BYTES = "application/octet-stream"


def routes_of(page: PageData, runs: Mapping[str, PageRun], assets: Assets) -> FastAPI:
    """The application: the page, its manifest and blocks, and networks that it asks for.

    Args:
        page: The data of the page.
        runs: The runs by role.
        assets: The built page.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_refusals(app)
    _add_data(app, page, assets)
    worker = Worker()

    @app.post("/compute/{role}/{name}")
    async def compute(role: str, name: str, rows: int, request: Request) -> Response:
        run = runs.get(role)
        if run is None or name not in run.networks.graphs:
            raise Refused(404, "there is no such network")
        graph = run.networks.graphs[name]
        condition = run.run.spec.condition
        classes = condition.width if condition is not None else None
        inputs = inputs_of(graph, rows, await request.body(), classes)
        asking = request.headers.get("x-page", "")[:64]
        key = f"{asking} {role} {name}" if asking else ""
        content = await worker.compute(graph, inputs, key)
        return Response(content, media_type=BYTES)

    return app


def _add_data(app: FastAPI, page: PageData, assets: Assets) -> None:
    html = assets.page(
        title=str(page.manifest["title"]),
        language=str(page.manifest["language"]),
        blocks="",
        connects=True,
    )
    manifest = text_of(page.manifest)
    blocks = {WASM: assets.wasm, **page.blocks}

    @app.get("/")
    def whole() -> Response:
        return HTMLResponse(html)

    @app.get("/data/manifest.json")
    def data() -> Response:
        return Response(manifest, media_type="application/json")

    @app.get("/data/blocks/{name}")
    def block(name: str) -> Response:
        if name not in blocks:
            raise Refused(404, "there is no such block")
        return Response(blocks[name], media_type=BYTES)


def _add_refusals(app: FastAPI) -> None:
    """Each refusal is a status and one sentence."""

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return PlainTextResponse(error.sentence, error.status)

    def nothing(_: Request, error: Exception) -> Response:
        return PlainTextResponse("there is nothing at this address", 404)

    def other_method(_: Request, error: Exception) -> Response:
        return PlainTextResponse("this address takes another method", 405)

    def invalid(_: Request, error: Exception) -> Response:
        return PlainTextResponse("the address is not one that a page asks for", 400)

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(404, nothing)
    app.add_exception_handler(405, other_method)
    app.add_exception_handler(RequestValidationError, invalid)
