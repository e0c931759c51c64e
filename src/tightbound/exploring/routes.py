"""The addresses that the page of a run asks for. Imported only where fastapi is installed."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from tightbound.exploring.assets import WASM, Assets
from tightbound.exploring.blocks import Blocks, Json, PageData
from tightbound.exploring.compute import Refused, Worker, inputs_of
from tightbound.exploring.graph_process import GraphProcess
from tightbound.exploring.page_data import text_of
from tightbound.exploring.run_data import PageRun, graph_entry

BYTES = "application/octet-stream"
JSON = "application/json"


class PageStore:
    """What the server sends, to which the graphs come that are made meanwhile.

    Args:
        page: The data of the page.
        wasm: onnxruntime.
        graphs: Makes the graphs that the page waits for.
    """

    def __init__(self, page: PageData, wasm: bytes, graphs: GraphProcess) -> None:
        self.manifest = page.manifest
        self.blocks = {WASM: wasm, **page.blocks}
        self.graphs = graphs
        self._entries: dict[str, Json] | None = None
        self._lock = Lock()

    def networks(self) -> Json:
        """How many graphs are made, and all of them in the manifest's form at the end."""
        with self._lock:
            if self._entries is None:
                self._entries = self._ended()
        return {
            "made": self.graphs.made,
            "of": self.graphs.total,
            "graphs": self._entries,
        }

    def _ended(self) -> dict[str, Json] | None:
        """The graphs by role; None before the process that makes them ends."""
        networks = self.graphs.networks()
        if networks is None:
            return None
        blocks = Blocks()
        entries: dict[str, Json] = {}
        for role, each in networks.items():
            entries[role] = {
                name: graph_entry(graph, blocks, role)
                for name, graph in each.graphs.items()
            }
        runs = self.manifest["runs"]
        assert isinstance(runs, list)
        later = [
            run | {"graphs": entries.get(run["role"], run["graphs"])} for run in runs
        ]
        self.blocks = self.blocks | blocks.content
        self.manifest = self.manifest | {"runs": later}
        return entries


def routes_of(
    page: PageData,
    runs: Mapping[str, PageRun],
    assets: Assets,
    graphs: GraphProcess,
) -> FastAPI:
    """The application: the page, its manifest and blocks, and networks that it asks for.

    Args:
        page: The data of the page.
        runs: The runs by role.
        assets: The built page.
        graphs: Makes the graphs that the page waits for.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_refusals(app)
    _add_data(app, page, assets, PageStore(page, assets.wasm, graphs))
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


def _add_data(app: FastAPI, page: PageData, assets: Assets, store: PageStore) -> None:
    html = assets.page(
        title=str(page.manifest["title"]),
        language=str(page.manifest["language"]),
        blocks="",
        connects=True,
    )

    @app.get("/")
    def whole() -> Response:
        return HTMLResponse(html)

    @app.get("/data/manifest.json")
    def data() -> Response:
        return Response(text_of(store.manifest), media_type=JSON)

    @app.get("/data/networks.json")
    def networks() -> Response:
        return Response(text_of(store.networks()), media_type=JSON)

    @app.get("/data/blocks/{name}")
    def block(name: str) -> Response:
        if name not in store.blocks:
            raise Refused(404, "there is no such block")
        return Response(store.blocks[name], media_type=BYTES)


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
