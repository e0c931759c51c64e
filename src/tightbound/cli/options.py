"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Data = Annotated[
    str,
    Parameter(
        help="digits, mnist, fashion-mnist, binarized-mnist, shapes; a folder or zip of "
        "images; an .npy, .npz, .csv, .h5, .zarr or .parquet; hf:NAME; wds:PATTERN"
    ),
]
RunPath = Annotated[Path, Parameter(help="a run folder")]
One = Annotated[
    str, Parameter(help="one example: a file, or DATA:ROW with rows from 0")
]
Out = Annotated[Path, Parameter(help="where to write; the ending chooses the format")]
Overwrite = Annotated[bool, Parameter(help="replace what is at --out")]
SkipBad = Annotated[bool, Parameter(help="leave out image files that cannot be read")]
Precision = Annotated[
    list[str] | None,
    Parameter(
        name="--precision",
        consume_multiple=True,
        help="COLUMN=STEP ... of columns of real numbers, where training saw no step",
    ),
]
Seed = Annotated[int, Parameter(help="of the random numbers")]
Language = Annotated[Literal["en", "ko"], Parameter(help="language of the report")]
Quiet = Annotated[bool, Parameter(help="show no progress")]
AsJson = Annotated[bool, Parameter(name="--json", help="print JSON")]
Samples = Annotated[
    int,
    Parameter(name=("-k", "--k"), help="samples of the importance-sampled log p(x)"),
]
Condition = Annotated[
    str | None,
    Parameter(
        help=(
            "of a conditional model: a class by name or number, or numbers with "
            "commas; else DATA's own"
        )
    ),
]
Trust = Annotated[
    bool,
    Parameter(
        help="run code that the run's config.toml names, such as a prior of your own"
    ),
]
Prior = Annotated[
    str | None, Parameter(help="use the prior of this name that fit-prior made")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Loading:
    """How a command reads a run."""

    device: Annotated[str, Parameter(help="auto, cpu or cuda")] = "auto"
    trust: Trust = False
    prior: Prior = None


PLAIN = Loading()


@Parameter(name="*")
@dataclass(frozen=True)
class Many:
    """How a command writes a row for each of many examples."""

    part_rows: Annotated[
        int | None,
        Parameter(
            help="examples of a file where --out is a folder; chosen by their size unless given"
        ),
    ] = None
    overwrite: Overwrite = False
    skip_bad: SkipBad = False
    quiet: Quiet = False
    condition: Condition = None


ALL = Many()


@Parameter(name="*")
@dataclass(frozen=True)
class Serving:
    """What a page shows, and how it is served."""

    points: Annotated[
        int | None,
        Parameter(
            help="data points at most; 2,000 in a file, 20,000 and up to 100,000 served"
        ),
    ] = None
    no_scenes: Annotated[
        bool,
        Parameter(
            help="leave out the scenes on theory, and train no small runs for them"
        ),
    ] = False
    host: Annotated[
        str,
        Parameter(help="address to listen on; the page then needs the printed token"),
    ] = "127.0.0.1"
    port: Annotated[
        int | None, Parameter(help="port; 8765, or a free one where it is taken")
    ] = None
    no_browser: Annotated[
        bool, Parameter(help="print the address and open no browser")
    ] = False


SERVING = Serving()
