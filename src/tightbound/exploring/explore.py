"""The page of one or two runs: served on this machine, or written to one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tightbound.exploring import one_file, server
from tightbound.exploring.assets import Assets
from tightbound.exploring.blocks import PageData
from tightbound.exploring.companions import ROLES, companions, scene_role
from tightbound.exploring.examples import read_examples, shown_split
from tightbound.exploring.float16 import MEASURED, with_halves
from tightbound.exploring.graph_process import GraphProcess, can_wait
from tightbound.exploring.graphs import Networks, networks_of_run
from tightbound.exploring.one_file import WrittenPage
from tightbound.exploring.page_data import build, check_alike
from tightbound.exploring.run_data import ONE_FILE, SERVED, Limits, PageRun
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError, at_least
from tightbound.runtime.progress import notice

MOST_POINTS = 100_000


@dataclass(frozen=True)
class Options:
    """What a page shows.

    Args:
        language: "en" or "ko".
        points: Most data points; as many as the kind of page allows where None.
        scenes: Whether the page has the scenes on theory, for which two small runs may be
            trained.
        waits: Whether the page is shown before its ONNX graphs are made.
    """

    language: str = "en"
    points: int | None = None
    scenes: bool = True
    waits: bool = False


def page_of(
    runs: Sequence[Run], options: Options, *, one_file: bool
) -> tuple[PageData, list[PageRun]]:
    """The data of a page, and its runs in the order of the manifest.

    Args:
        runs: One or two runs on the same data.
        options: What the page shows.
        one_file: Whether it works without a server, with weights in float16.

    Raises:
        TightboundError: The runs do not go together, or a network of one cannot be computed in
            a page without a server.
    """
    if not 1 <= len(runs) <= 2:
        raise TightboundError(
            f"a page shows one or two runs, and {len(runs)} were given: name one or two"
        )
    limits = _limits(options, one_file=one_file)
    check_alike(runs)
    roles = dict(zip(("main", "second"), runs, strict=False))
    sentences = []
    if options.scenes:
        missing = [role for role in ROLES if role not in map(scene_role, runs)]
        try:
            roles |= companions(runs[0], missing)
        except TightboundError as error:
            sentences.append(f"the scenes on theory are left out: {error}")
    page_runs = [
        PageRun(role, run, _networks(run, options)) for role, run in roles.items()
    ]
    if one_file:
        page_runs = [_for_file(each) for each in page_runs]
    mode = "file" if one_file else "served"
    page = build(
        page_runs,
        limits,
        mode=mode,
        language=options.language,
        scenes=options.scenes,
        sentences=sentences,
    )
    return page, page_runs


def _networks(run: Run, options: Options) -> Networks:
    return networks_of_run(run, only_kept=options.waits and can_wait(run))


def _limits(options: Options, *, one_file: bool) -> Limits:
    limits = ONE_FILE if one_file else SERVED
    if options.points is None:
        return limits
    most = ONE_FILE.points if one_file else MOST_POINTS
    at_least(1, options.points, "points", most)
    return replace(limits, points=options.points)


def _for_file(page_run: PageRun) -> PageRun:
    """A run with networks for a page without a server."""
    for name, graph in page_run.networks.graphs.items():
        if graph.content is None and name in ("encoder", "decoder"):
            raise TightboundError(
                f"the {name} of {page_run.run.name!r} cannot be in a page of one file "
                f"({graph.reason}): leave out --export, so that the page is served"
            )
    run = page_run.run
    points = read_examples(run, shown_split(run), MEASURED)
    return replace(page_run, networks=with_halves(run, page_run.networks, points))


def export_page(
    runs: Sequence[Run], path: Path, options: Options, *, overwrite: bool = False
) -> WrittenPage:
    """Write the page of one or two runs to one file.

    Args:
        runs: One or two runs on the same data.
        path: The file.
        options: What the page shows.
        overwrite: Replace the file if there is one.

    Raises:
        TightboundError: The file exists, the runs do not go together, or the page is not built.
    """
    one_file.check_target(path, overwrite=overwrite)
    assets = Assets()
    page, _ = page_of(runs, options, one_file=True)
    return one_file.write(page, path, assets, overwrite=overwrite)


def serve_page(
    runs: Sequence[Run],
    options: Options,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = True,
) -> None:
    """Serve the page of one or two runs until Ctrl-C.

    ONNX graphs that are not kept in a run folder are made by another process, while the page
    is in use.

    Args:
        runs: One or two runs on the same data.
        options: What the page shows.
        host: The address to listen on; any but that of this machine alone needs a token.
        port: The port; 8765, or a free one where it is taken, if None.
        browser: Open the page in a browser, where there is a display.

    Raises:
        TightboundError: Packages are missing, the runs do not go together, or the address cannot
            be listened on.
    """
    server.need_packages()
    assets = Assets()
    options = replace(options, waits=True)
    page, page_runs = page_of(runs, options, one_file=False)
    graphs = GraphProcess(page_runs)
    if graphs.total:
        notice(
            f"{graphs.total} networks are made ONNX graphs, once; until then this process "
            "computes them for the page"
        )
    served = server.Served(page, page_runs, assets, graphs)
    try:
        graphs.start()
        server.serve(served, host, port, browser=browser)
    finally:
        graphs.close()
