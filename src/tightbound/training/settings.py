"""The settings of a training as keyword arguments, for editors and type checkers.

Written by `python scripts/settings_types.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from tightbound.models.recipes import Part

PartLike = str | type | Part | Mapping[str, object]


class Settings(TypedDict, total=False):
    """Settings by their names without the section, as `tb.train` and `tb.build` take them.

    Options of parts and names that are in two sections are given by `settings=`, such as
    {"objective.beta": 4, "recipe.size": "s"}.
    """

    posterior: PartLike
    """q(z|x)."""
    prior: PartLike
    """p(z) of the topmost latent; auto: standard, or vamp for a plain VAE of a table of
    mixed columns."""
    likelihood: PartLike
    """p(x|z); auto: from the data's domain."""
    objective: PartLike
    """what training minimises."""
    hierarchy: Literal["flat", "top-down", "bottom-up", "bidirectional", "labelled"]
    """the order of the latents."""
    conditional: bool
    """whether encoder and decoder read labels or columns of the data."""
    classes: Literal["auto"] | int
    """of hierarchy labelled: how many; auto: those of the labels that are learned from, or
    10."""
    missing: Literal["refused", "zero", "mask"]
    """NaN: refused, or a missing value, 0 for the encoder, which may read the mask too."""
    network: PartLike
    """the kind of all networks: auto, linear, mlp, conv, pyramid."""
    latent: Literal["auto"] | int | Sequence[int]
    """features per latent site, at each place where it lies on a grid."""
    k: int
    """samples of z per example in training."""
    channels: Literal["auto", 1, 3]
    """of image files: grey (1) or colour (3)."""
    bits: Literal[8, 16]
    """of 16-bit image files: 8 scales their grey values to 0..255, 16 keeps them."""
    white_level: Literal["auto"] | int
    """grey value of 16-bit image files that becomes 255; auto: the highest of the training
    images."""
    kind: Literal["auto", "vector", "signal", "image", "volume"]
    """the kind of an array's examples, where its shape is ambiguous."""
    layout: Literal[
        "auto", "vector", "l", "lc", "cl", "hw", "hwc", "chw", "dhw", "dhwc", "cdhw"
    ]
    """the axes of an array's examples: c: channels, l: length, d, h, w: depth, height,
    width."""
    domain: Literal["auto", "binary", "levels", "categorical", "unit", "real", "count"]
    """the values: levels: integers from 0, unit: reals in [0, 1], count: without an upper
    end."""
    levels: int | None
    """number of levels of integers."""
    binarize: Literal["none", "static", "dynamic"]
    """draw 0 or 1 with P(1) = level / (L - 1): once, or training rows at each visit."""
    augment: Sequence[Literal["flip", "shift"]]
    """move training images: left-right, a few pixels."""
    shift: int
    """most pixels of the augmentation shift; edges are repeated."""
    limit: int | None
    """use only the first n training rows, after splitting."""
    split_seed: int | None
    """seed of the random splits."""
    duplicates: Literal["keep", "together", "drop"]
    """equal rows in several splits: keep only counts them, together keeps them in one of
    the random splits, drop leaves them out of training; together also drops those of
    published splits."""
    skip_bad: bool
    """leave out image files that cannot be read."""
    header: Literal["auto"] | bool
    """whether line 1 of a CSV file names the columns."""
    encoding: str
    """the encoding of a CSV file, as latin-1 or utf-16."""
    decimal: Literal["auto", "point", "comma"]
    """the decimal sign of a CSV file, where it is not clear."""
    dates: Literal["auto", "day-first", "month-first"]
    """the order in dates such as 01/02/2020 of a CSV file."""
    label: str | int | None
    """the column of a table that holds labels, by name or number; none: no column; by
    default one called label, class, y or target whose values are classes."""
    label_required: bool
    """refuse a table without the column of data.label; false for the data that a trained
    model reads later, set by the reader."""
    condition: str | Sequence[str] | None
    """the condition of a conditional model: labels, columns of a CSV file, or an array of
    an .npz."""
    use_labels: bool
    """examples come with their labels, -1 where unknown; set by recipes."""
    allow_missing: bool
    """NaN, or an empty cell of a CSV file, is a missing value; set by recipes."""
    factors: Mapping[Literal["shape", "scale", "orientation", "x", "y"], int] | None
    """of shapes: number of values of each factor."""
    fields: Mapping[
        str,
        Literal[
            "real",
            "binary",
            "categorical",
            "count",
            "positive",
            "zero-inflated",
            "zero-inflated-real",
        ]
        | Literal["skip"],
    ]
    """of a table: the kind of a column by its name, where the inferred one is wrong."""
    key: str | None
    """the array of an .npz, .h5 or .zarr, or the column of a .parquet or hf:."""
    memory: int
    """MB up to which a source is held in memory; larger ones stay on disk."""
    shuffle_buffer: Literal["auto"] | int
    """rows of a source on disk that are shuffled at a time; auto: as many as fit 256 MB,
    8,192 of a stream."""
    streaming: bool
    """of hf:NAME: read examples one by one, download nothing in advance."""
    shapes_n: int | None
    """of shapes: number of images, drawn by the split seed."""
    steps: Literal["auto"] | int
    """optimiser steps; auto: from epochs or budget."""
    epochs: Literal["auto"] | float
    """passes over the training data."""
    batch: int
    """examples per step."""
    optimizer: str
    """import path of the optimiser."""
    optimizer_options: Mapping[str, object]
    """further arguments of the optimiser."""
    lr: float
    """learning rate at its highest."""
    lr_final: float
    """share of lr that the cosine ends at."""
    warmup: float
    """share of the run over which lr rises from 0."""
    cycles: int
    """times that the learning rate rises and falls; above 1 the weights are the mean of
    those at the ends of the cycles."""
    weight_decay: float
    """decay of matrices, not of biases."""
    clip: float
    """gradient norms above clip x their running mean are cut; 0: never."""
    skip_gradient_above: float
    """steps with a gradient norm above this x the running mean are skipped."""
    ema: float
    """decay of the averaged weights that the run uses; 0: none."""
    validate_every: Literal["auto"] | int
    """steps between validations."""
    validate_k: int
    """samples of the importance-sampled log p(x) in the log."""
    validate_n: int
    """validation examples for that log p(x)."""
    patience: Literal["auto"] | int
    """validations without a new best before stopping."""
    precision: Literal["auto", "float32", "bfloat16"]
    """of matrix products; auto: the faster of the two, timed on long runs."""
    compile: Literal["auto", "on", "off"]
    """one compiled graph for loss and gradients; auto: where a long run repays compiling
    it."""
    groups: Mapping[str, Mapping[str, object]]
    """optimiser arguments of one parameter group, as {critic = {lr = 1e-4}}: inference,
    generative or its parts decoder and prior, critic."""
    parallel: Literal["ddp", "fsdp2"]
    """of processes by torchrun: each has the whole model, or a part of every parameter."""
    accumulate: int
    """parts of a batch that go through the model one after another, for less memory."""
    save_seconds: float
    """least seconds between two saves of the state."""
