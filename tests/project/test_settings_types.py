"""The TypedDict of settings is that of the tables, and `help(tb.train)` names them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("ruff", reason="needs ruff, of the extra dev")
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import settings_types

import tightbound as tb
from tightbound.config import configure
from tightbound.training.settings import Settings


@pytest.mark.parametrize("path", settings_types.PAGES, ids=lambda path: path.name)
def test_the_written_settings_are_current(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    assert written == settings_types.PAGES[path](), "python scripts/settings_types.py"


def test_the_keys_are_settings_and_the_help_names_them() -> None:
    names = set(Settings.__annotations__)
    assert {"latent", "lr", "binarize", "network"} <= names
    assert not names & {"size", "train", "seed", "data", "init_weights"}
    text = " ".join(str(tb.train.__doc__).split())
    listed = text.partition("They are ")[2].partition(". Raises:")[0].split(", ")
    assert set(listed) == names
    config = configure("digits", "vae", values={"latent": 3, "lr": 0.01})
    assert (config.recipe.latent, config.train.lr) == (3, 0.01)


def test_a_wrong_name_still_gets_the_sentence() -> None:
    with pytest.raises(tb.TightboundError, match=r"unknown key .latnt.*latent"):
        tb.build("vae", "digits", latnt=3)  # type: ignore[call-arg]
