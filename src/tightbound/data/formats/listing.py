"""List the built-in data sets, for `tightbound data`."""

from __future__ import annotations

from tightbound.data.formats.builtin import BUILTIN, found_at
from tightbound.runtime.reading import Tree


def list_sources() -> list[Tree]:
    """The built-in data sets.

    Returns:
        One dict of plain JSON for each: name, about, examples {split: n}, splits, shape,
        domain, found (whether its files are present) and where.
    """
    rows = []
    for name, entry in BUILTIN.items():
        is_present, where = found_at(name)
        rows.append(
            {
                "name": name,
                "about": entry.about,
                "examples": dict(zip(("train", "valid", "test"), entry.n, strict=True)),
                "splits": "published" if entry.files else "by seed",
                "shape": list(entry.shape),
                "domain": entry.domain,
                "found": is_present,
                "where": where,
            }
        )
    return rows
