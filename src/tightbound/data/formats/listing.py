"""list_sources: the built-in sets, for `tightbound data`."""

from __future__ import annotations

from typing import Any

from tightbound.data.formats.builtin import BUILTIN, found_at


def list_sources() -> list[dict[str, Any]]:
    """One row for each built-in set: name, about, examples {split: n}, shape, domain, found and
    where; plain JSON.
    """
    rows = []
    for name, entry in BUILTIN.items():
        found, where = found_at(name)
        rows.append(
            {
                "name": name,
                "about": entry.about,
                "examples": dict(zip(("train", "valid", "test"), entry.n, strict=True)),
                "splits": "published" if entry.files else "by seed",
                "shape": list(entry.shape),
                "domain": entry.domain,
                "found": found,
                "where": where,
            }
        )
    return rows
