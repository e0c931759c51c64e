"""Settings as they are typed: what a value may be is said in plain words, and options belong to the
part at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.core_cases import model_of, spec_of

from tightbound.config import configure
from tightbound.models.recipes import part
from tightbound.runtime.errors import TightboundError
from tightbound.training.optimization.optimizer import optimizer


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"latent": "abc"},
            "recipe.latent = 'abc' cannot be used: it takes 'auto', or a whole number, or a list",
        ),
        (
            {"data.size": 0},
            "data.size = 0 cannot be used: it takes 'auto', or numbers from 1, or a list",
        ),
        ({"train.lr": -1}, "train.lr = -1 cannot be used: it takes numbers above 0"),
        ({"train.ema": 1}, "train.ema = 1 cannot be used: it takes numbers below 1"),
        ({"train.optimizer_options": 3}, "it takes a table of keys"),
        (
            {"prior": [1]},
            "recipe.prior = [1] cannot be used: it takes a name, or a table with a name",
        ),
        (
            {"data.binarize": "dynmic"},
            "it takes 'none', 'static' or 'dynamic'; did you mean 'dynamic'?",
        ),
        ({"hierarchy": "topdown"}, "did you mean 'top-down'?"),
        (
            {"data.levels": 99_999},
            "data.levels = 99999 cannot be used: it takes numbers up to",
        ),
        ({"data.header": "x"}, "it takes 'auto', or true or false"),
        ({"data.condition": 3}, "it takes a text, or a list"),
        ({"seed": 1.5}, "seed = 1.5 cannot be used: it takes a whole number"),
        ({"train.lr": "fast"}, "train.lr = 'fast' cannot be used: it takes a number"),
        ({"train": 3}, "train = 3 cannot be used: it takes a table of keys"),
        (
            {"data.valid": 0.9, "data.test": 0.5},
            "data.valid + data.test must be below 1",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_told_what_can(
    values: dict[str, Any], says: str
) -> None:
    with pytest.raises(TightboundError) as error:
        configure("digits", values=values)
    assert says in str(error.value)
    assert "Input" not in str(error.value)


def test_an_option_of_a_part_keeps_the_part_of_the_recipe() -> None:
    recipe = configure(
        "digits", values={"objective.beta": 2.0, "prior.scale": 3}
    ).recipe
    assert (recipe.objective.name, recipe.objective.options) == ("elbo", {"beta": 2.0})
    assert (recipe.prior.name, recipe.prior.options) == ("auto", {"scale": 3})
    assert configure(
        "digits", "beta-vae", values={"objective.free_bits": 0.1}
    ).recipe.objective.options == {
        "beta": 4.0,
        "free_bits": 0.1,
    }


@pytest.mark.parametrize(
    "values",
    [{"prior.scale": 3, "prior": "wide"}, {"prior": "wide", "recipe.prior.scale": 3}],
)
def test_a_part_and_its_options_may_come_in_any_order(values: dict[str, Any]) -> None:
    recipe = configure("digits", values=values).recipe
    assert (recipe.prior.name, recipe.prior.options) == ("wide", {"scale": 3})


def test_another_part_does_not_inherit_the_options_of_the_first() -> None:
    assert (
        configure(
            "digits", "beta-vae", values={"objective": "iwae"}
        ).recipe.objective.options
        == {}
    )


def test_a_file_may_name_an_option_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[recipe.objective]\nbeta = 2.0\n", encoding="utf-8")
    assert configure("digits", file=file).recipe.objective.options == {"beta": 2.0}


def test_the_decoder_of_rae_l2_decays_and_nothing_else_and_the_recipe_stays_as_it_is() -> (
    None
):
    made = configure(
        "digits",
        "rae-l2",
        values={"train.groups.inference.lr": 0.5, "train.weight_decay": 0.2},
    )
    recipe = made.recipe.model_copy(
        update={
            "latent": 3,
            "size": "s",
            "likelihood": part("gaussian"),
            "network": part("mlp"),
        }
    )
    model, _ = model_of(recipe, spec_of("real", (6,)))
    inner = {id(p) for p in model.groups()["inference"]}
    seen = [
        (group, p)
        for group in optimizer(model, made.train).param_groups
        for p in group["params"]
    ]
    assert len(seen) == len(list(model.parameters()))
    for group, p in seen:
        assert group["weight_decay"] == (
            0.2 if p.dim() > 1 and id(p) not in inner else 0.0
        )
        assert group["top"] == (0.5 if id(p) in inner else made.train.lr)
    assert "lr" not in configure("digits", "rae-l2").train.groups["inference"]
