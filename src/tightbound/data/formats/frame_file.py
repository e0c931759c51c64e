"""Read .feather files as tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tightbound.data.formats.arrow_file import unpacked_size
from tightbound.data.formats.labels import find_label, with_unknown
from tightbound.data.formats.limits import check_declared
from tightbound.data.settings import DataSettings
from tightbound.data.source import RawSource
from tightbound.data.tables.frames import frame_source
from tightbound.runtime.errors import TightboundError, cut, machine_reason


def load_feather(path: Path, settings: DataSettings) -> RawSource:
    """Read a .feather file as the DataFrame that was written.

    Raises:
        TightboundError: for a damaged file, and where pyarrow is missing.
    """
    import pandas

    try:
        check_declared(f"{cut(path)} unpacks to", unpacked_size(path), settings)
        frame = pandas.read_feather(path)
    except ImportError:
        raise TightboundError(
            f"{path} needs pyarrow: pip install 'tightbound[data]'"
        ) from None
    except TightboundError:
        raise
    except (OSError, ValueError, MemoryError) as error:
        cause = machine_reason(error)
        if cause is not None:
            raise TightboundError(f"cannot read {cut(path)} ({cause})") from None
        reason = cut(str(error) or type(error).__name__)
        raise TightboundError(
            f"{path} is truncated or not a feather file ({reason}): save it again"
        ) from None
    names = [str(name) for name in frame.columns]
    found = find_label(path, names, lambda i: frame.iloc[:, i].to_numpy(), settings)
    notices = list(found.notices)
    if found.number is not None:
        labels = frame.iloc[:, found.number].to_numpy()
        labels, unknown = with_unknown(names[found.number], labels)
        frame.isetitem(found.number, labels)
        notices += unknown
    source = frame_source(frame, None, settings, found.number, notices)
    named = replace(
        source,
        name=path.stem,
        where=str(path),
        resolved={**source.resolved, **found.resolved},
        table=replace(source.table, where=str(path)),
    )
    from tightbound.data.formats.text_columns import with_typed_texts

    return with_typed_texts(named, settings)
