"""Report: sections, captions, notices, languages and kinds of data and model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.report_pages import LOG, Page, page, untrained
from support.short_reports import blank_pictures, coarse_grids
from support.small import short_search

from tightbound import evaluation, report
from tightbound.evaluation.diagnosis.rules import FIXES, WORDS, Verdict
from tightbound.report.page.text import LANGUAGES, Text, rich
from tightbound.runs.run import Run
from tightbound.runtime.errors import TightboundError

SECTIONS = {
    "recon",
    "latent",
    "samples",
    "nearest",
    "vary",
    "interpolate",
    "traverse",
    "walkthrough",
    "terms",
    "curves",
}
SECTIONS |= {"probe", "models", "sampling", "diagnosis"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(0)
    return page([untrained("digits", r, folder) for r in ("ae", "vae")], folder)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of words: plots stay empty."""
    blank_pictures(monkeypatch)


def test_the_page_is_whole_and_needs_nothing_else(pair: str) -> None:
    parsed = Page(pair)
    assert parsed.lang == "en"
    assert len(parsed.ids) == len(set(parsed.ids)) and set(parsed.ids) >= SECTIONS
    assert {link.removeprefix("#") for link in parsed.links} == SECTIONS
    assert all(link.startswith("data:image/") for link in parsed.loads)
    assert (
        "http://" not in re.sub(r"data:image/[^\"]*", "", pair)
        and "@import" not in pair
        and "url(" not in pair
    )
    assert all(
        p["alt"] and int(p["width"] or 0) > 0 and int(p["height"] or 0) > 0
        for p in parsed.pictures
    )
    assert "tightbound explore ae vae" in parsed.text
    assert parsed.text.count("None") == 0 and "nan" not in parsed.text.lower().split()


def test_an_autoencoder_is_never_given_an_elbo(pair: str) -> None:
    words = Page(pair).text
    assert "No ELBO: this encoder gives a single point" in words
    assert "All 10 are identical (standard deviation 0.000)" in words
    head = pair[: pair.index("<nav")]
    ae, vae = head.split('<section class="panel head"')[1:]
    assert (
        "distortion" in ae
        and 'class="term rate"' not in ae
        and "log p(x)" not in ae.split("No ELBO")[0]
    )
    assert all(f'class="term {c}"' in vae for c in ("ink", "distortion", "rate", "gap"))


def test_the_weights_that_were_kept_are_those_of_the_best_epoch(pair: str) -> None:
    words = Page(pair).text
    assert (
        "The weights of epoch 3 were kept. There, on validation: distortion 30.0, rate 9.0"
        in words
    )
    assert "−ELBO, 39.0 nats" in words
    assert "4 epochs, 40 steps, 6 s" in words


@pytest.mark.usefixtures("no_plots")
def test_both_languages_say_the_same(pair: str, tmp_path: Path) -> None:
    import string
    import tomllib

    def names(sentence: str) -> set[str]:
        return {
            field for _, field, _, _ in string.Formatter().parse(sentence) if field
        } - {"item", "items"}

    root = Path(report.__file__).parent / "text"
    tables = {
        lang: tomllib.loads((root / name).read_text(encoding="utf-8"))
        for lang, name in LANGUAGES.items()
    }
    for lang, table in tables.items():
        assert {s: set(table[s]) for s in table} == {
            s: set(v) for s, v in tables["en"].items()
        }, lang
        for s, sentences in table.items():
            for key, sentence in sentences.items():
                assert names(sentence) == names(tables["en"][s][key]), (
                    f"{lang}: {s}.{key}"
                )
                assert sentence.count("`") % 2 == 0
        slugs = {
            name.replace(" ", "_") for name in WORDS if name != "likelihood scale wrong"
        }
        assert {f"{s}_says" for s in slugs} <= set(table["verdict"]) and set(
            table["fix"]
        ) == set(FIXES)
    parsed = Page(
        page(
            [untrained("digits", r, tmp_path) for r in ("ae", "vae")],
            tmp_path,
            lang="ko",
        )
    )
    assert (
        parsed.lang == "ko"
        and "잠재 공간" in parsed.text
        and "latent space" not in parsed.text.lower()
    )
    assert len(parsed.pictures) == len(Page(pair).pictures)


def test_figures_hold_no_words_of_a_language(pair: str) -> None:
    import base64

    allowed = re.compile(
        r"(PC \d|z[₀-₉]*|L2|n|K|epoch|nats|density|D|\+ R|− gap|[−\d.,]+|[←→ −\d.]+|\d+)"
    )
    words = []
    for uri in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", pair):
        svg = base64.b64decode(uri).decode()
        words += re.findall(r"<text[^>]*>([^<]*)</text>", svg)
        assert "clip" in svg or "path" in svg
    assert len(words) > 50
    assert [t for t in words if not allowed.fullmatch(t.strip())] == []


EVERY = [
    Verdict(
        "collapsed",
        "lower_beta",
        {"site": "z", "idle": 1, "width": 2, "units": "z_7", "kl": 0.1, "beta": 9.0},
    ),
    Verdict(
        "prior mismatch",
        "raise_beta",
        {"auc": 0.9, "feature": "z_1", "mean": 0.1, "sd": 2.0, "beta": 0.1},
    ),
    Verdict(
        "codebook collapsed",
        "more_steps",
        {
            "site": "z",
            "used": 3.0,
            "entries": 512,
            "perplexity": 2.0,
            "steps": 5,
            "command": "x",
        },
    ),
    Verdict("overfitting", "linear", {"lost": 9.0, "se": 1.0, "share": 0.4}),
    Verdict(
        "worse than a constant",
        "usual",
        {"bound": -9.0, "constant": -5.0, "changes": "train.lr=1"},
    ),
    Verdict(
        "outlier in the training data",
        "row_of_training",
        {"row": "3", "column": "'age'", "value": 1e6, "usual": 4.0, "times": 40.0},
    ),
    Verdict(
        "outlier in the test data",
        "row_of_test",
        {"row": "3", "bound": -1e6, "mean": -900.0, "without": -5.0, "named": ""},
    ),
    Verdict(
        "outlier in the test data",
        "rows_of_test",
        {
            "rows": [
                {"row": "3", "column": "'age'", "bound": -9000.0},
                {"row": "17", "column": "", "bound": -700.0},
            ],
            "named": "",
            "term": "-distortion",
            "mean": -900.0,
            "without": -5.0,
        },
    ),
    Verdict(
        "shift between the splits",
        "new_split",
        {"apart": 9.0, "se": 1.0, "share": 0.4, "more": "more"},
    ),
    Verdict(
        "poor encoder",
        "more_steps",
        {"gap": 9.0, "se": 1.0, "share": 0.4, "steps": 5, "command": "x"},
    ),
    Verdict("rows in two splits", "drop_duplicates", {"count": 9, "test": 90}),
    Verdict(
        "unusual setting",
        "usual",
        {"settings": "train.clip=0.001", "changes": "train.clip=5"},
    ),
    Verdict(
        "not trained enough",
        "more_steps",
        {
            "gained": 3.0,
            "error": 1.0,
            "steps": 5,
            "early": 3,
            "over": "late",
            "command": "x",
        },
    ),
    Verdict(
        "likelihood scale wrong",
        "other_scale",
        {"central50": 0.2, "central90": 0.4, "width": "narrow"},
    ),
    Verdict(
        "likelihood scale wrong",
        "heavy_tails",
        {"central50": 0.9, "central90": 1.0, "width": "wide", "value": 1.0},
    ),
]
HOSTILE = '<script>alert("x")</script>&{0}{run}`'


def test_names_and_labels_are_escaped(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 17, (60, 5, 5)).astype(np.uint8)
    run = untrained((x, np.arange(60) % 3), "vae", tmp_path, name="run")
    run._data = replace(run.data, label_names=(HOSTILE, "b", "c"), name=HOSTILE)
    other = untrained("digits", "vae")
    other._data = run.data
    html = page([run], tmp_path, title=HOSTILE)
    Page(html)
    assert "<script" not in html and HOSTILE in Page(html).text


def test_mathematics_is_set_after_escaping() -> None:
    assert (
        rich("a < b: `E_q[x]`") == 'a &lt; b: <span class="m">E<sub>q</sub>[x]</span>'
    )
    assert Text("en")("traverse.caption", active=-1, latent=2).count("−1") == 1


CASES: dict[str, tuple[Any, list[tuple[str, dict[str, Any]]]]] = {
    "one latent, no labels": (
        (90, 6, 6),
        [("ae", {"latent": 1}), ("vae", {"latent": 1})],
    ),
    "wide colour": ((70, 6, 14, 3), [("vae", {})]),
    "one pixel": ((40, 1, 1), [("vae", {"latent": 2})]),
    "large": ((20, 200, 30), [("vae", {"recipe.network": "mlp"})]),
    "vectors": ((80, 9), [("ae", {}), ("vae", {"latent": 20})]),
    "one column": ((80, 1), [("vae", {"latent": 1})]),
    "two layers": (
        (60, 5, 5),
        [("hvae", {"latent": [3, 2]}), ("iwae-2", {"latent": [4, 2]}), ("vae", {})],
    ),
    "a learned prior": (
        (60, 5, 5),
        [("vae", {"prior": "learned"}), ("vae", {"likelihood": "categorical"})],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_data_and_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse_grids(monkeypatch)
    shape, recipes = CASES[name]
    rng = np.random.default_rng(0)
    if len(shape) == 2:
        x = rng.normal(size=shape).astype(np.float32)
    elif any(settings.get("likelihood") == "categorical" for _, settings in recipes):
        x = rng.integers(0, 16, shape)  # each pixel has a logit for every level
    else:
        x = rng.integers(0, 256, shape).astype(np.uint8)
    parsed = Page(
        page(
            [untrained(x, recipe, **settings) for recipe, settings in recipes], tmp_path
        )
    )
    assert SECTIONS - {"probe"} <= set(parsed.ids) and "probe" not in parsed.ids
    assert "No training log was kept" in parsed.text
    if len(recipes) > 1 and recipes[0][0] == recipes[1][0]:
        assert "VAE (1)" in parsed.text and "VAE (2)" in parsed.text


def test_one_test_example_is_enough(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 4, 4)).astype(np.uint8)
    tree = evaluation.evaluate(
        untrained("digits", "vae", tmp_path, "with-a-log"), k=4, limit=8, subset=0
    ).to_json()
    tree["diagnosis"]["progress"]["error"] = None  # of a single validation example
    run = untrained("digits", "vae")
    assert (
        "Improvement at the end"
        in report.write([run], tmp_path / "r.html", evaluations=[tree]).read_text()
    )
    assert (
        "test image 0"
        in Page(page([untrained(x, "vae", **{"data.test": 0.034})], tmp_path)).text
    )


def colour(n: int) -> list[Run]:
    """An autoencoder and a VAE on colour images, with n of them for testing."""
    x = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3)).astype(np.uint8)
    return [untrained(x, recipe, **{"data.test": n / 60}) for recipe in ("ae", "vae")]


@pytest.mark.usefixtures("no_plots")
def test_small_terms_are_seen_beside_a_large_distortion(
    pair: str, tmp_path: Path
) -> None:
    large = {"distortion": 5000.0, "rate": 20.0, "elbo": -5020.0}
    log = [{**line, "train": large, "valid": large} for line in LOG]
    runs = colour(12)
    for run in runs:
        run.folder = tmp_path / run.config.recipe.name
        run.folder.mkdir()
        (run.folder / "log.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in log)
        )
    parsed = Page(page(runs, tmp_path, brief=True))
    start = re.search(r"The axis begins at ([\d,]+), not at 0", parsed.text)
    distortion = re.search(r"Distortion D ([\d,.]+)", parsed.text)
    assert start and distortion
    low, high = (float(m.group(1).replace(",", "")) for m in (start, distortion))
    assert 0 < low < high and high - low < 0.2 * high
    assert (
        "The rate is small compared with the distortion and has an axis of its own."
        in parsed.text
    )
    alts = [p["alt"] for p in parsed.pictures]
    assert "VAE: rate in nats by epoch of training" in alts
    assert not any(str(alt).startswith("AE: rate") for alt in alts)
    assert "axis of its own" not in Page(pair).text, (
        "a rate of 12 is seen beside a distortion of 22"
    )
    small = [
        evaluation.evaluate(run, k=8, limit=9, diagnosis=False).to_json()
        for run in runs
    ]
    for name, value in {
        "distortion": 60.0,
        "rate": 20.0,
        "elbo": -80.0,
        "log_px": -78.0,
        "gap": 2.0,
    }.items():
        for tree in small:
            tree["terms"][name] = {"mean": value, "se": 1.0}
    html = report.write(
        runs, tmp_path / "small.html", evaluations=small, theory=False
    ).read_text(encoding="utf-8")
    assert "not at 0" not in Page(html).text


@pytest.mark.usefixtures("no_plots")
def test_the_account_says_of_how_many_images_and_what_few_samples_are_worth(
    tmp_path: Path,
) -> None:
    runs = colour(30)
    few = [
        evaluation.evaluate(run, k=8, limit=11, diagnosis=False).to_json()
        for run in runs
    ]
    few[1]["terms"]["ess"] = {"mean": 1.14, "se": 0.0}
    words = Page(
        report.write(
            runs, tmp_path / "r.html", evaluations=few, theory=False
        ).read_text(encoding="utf-8")
    ).text
    assert words.count("over 11 test images.") == 2
    assert (
        "K = 8 draws, but with an effective sample size of only 1.1 on average. "
        "The true value is higher"
    ) in words
    few[1]["terms"]["ess"] = {"mean": 5.0, "se": 0.0}
    words = Page(
        report.write(
            runs, tmp_path / "r.html", evaluations=few, theory=False
        ).read_text(encoding="utf-8")
    ).text
    assert (
        "effective sample size" not in words
        and "K = 8 draws; on average slightly below" in words
    )


def words_above_contents(html: str) -> str:
    """The words of a page up to its table of contents."""
    body = html[html.index("<body") : html.index("<nav")]
    return unescape(re.sub(r"<[^>]+>", "", body))


HEADLINE: dict[str, Any] = {
    "method": "ais-q",
    "exact": False,
    "n": 7,
    "log_px": {"mean": -31.25, "se": 0.5},
    "gap": {"mean": 6.75, "se": 0.25},
    "above": {"mean": 2.5, "se": 0.1},
    "bdmc_gap": 0.04,
    "bits_per_dim": {"mean": 0.7125, "se": 0.01},
}


@pytest.mark.usefixtures("no_plots")
def test_the_closest_log_px_is_the_headline_in_both_languages(tmp_path: Path) -> None:
    """log p(x) = ELBO + KL with the annealed or the exact figure, and the bits with it."""
    run = untrained("digits", "vae")
    tree = evaluation.evaluate(run, k=30, limit=9, diagnosis=False).to_json()
    tree["headline"] = HEADLINE
    write = partial(report.write, evaluations=[tree], theory=False)
    for lang in ("en", "ko"):
        path = write([run], tmp_path / "r.html", lang=lang)
        html = path.read_text(encoding="utf-8")
        head = words_above_contents(html)
        assert "−31.25" in head and "6.75" in head and "ais-q" in head
        assert "2.50" in head and "0.04" in head and "≥" not in head
        assert "0.713" in Page(html).text or "0.712" in Page(html).text
    exact = HEADLINE | {"exact": True, "method": "quadrature", "bdmc_gap": None}
    tree["headline"] = exact  # of a file of an earlier version: 7 of 9 examples
    path = write([run], tmp_path / "r.html")
    words = Page(path.read_text(encoding="utf-8")).text
    assert "estimated from the exact values of 7 of the 9 test images" in words
    assert "estimated from exact values of 7 test images" in words
    assert "Exact, by" not in words and "are exact, by" not in words
    tree["headline"] = exact | {"n": 9, "of": 9, "kind": "exact"}
    path = write([run], tmp_path / "r.html")
    words = Page(path.read_text(encoding="utf-8")).text
    assert "are exact, by quadrature on 9 test images" in words
    assert "At K = 30 this is a lower bound" not in words


@pytest.mark.usefixtures("no_plots")
def test_a_bound_on_one_side_is_shown_as_one(tmp_path: Path) -> None:
    run = untrained("digits", "vae")
    tree = evaluation.evaluate(run, k=30, limit=9, diagnosis=False).to_json()
    tree["headline"] = None
    tree["methods"]["importance"] |= {"noise": None, "pareto_k": None}
    path = report.write([run], tmp_path / "r.html", evaluations=[tree], theory=False)
    html = path.read_text(encoding="utf-8")
    bits = tree["bits_per_dim"]["log_px"]["mean"]
    assert f"≤ {bits:.3f}" in html
    head = words_above_contents(html)
    assert (
        head.count("≥") == 2 and "the distance from the true value is not known" in head
    )


@pytest.mark.usefixtures("no_plots")
def test_captions_of_the_map_follow_the_figures(tmp_path: Path) -> None:
    run = untrained("digits", "vae")
    narrow = Page(page([run], tmp_path, brief=True)).text
    with torch.no_grad():
        run.model.hierarchy.posterior.mean.weight *= 200
    wide = Page(page([run], tmp_path, brief=True)).text
    pulled = "pulls the codes towards the prior."
    assert pulled in narrow and pulled not in wide
    assert "the reconstruction term is the stronger one" in wide


def test_an_autoencoder_has_no_prior_in_the_table_of_models(pair: str) -> None:
    words = Page(pair).text
    assert re.search(r"Prior p\(z\) (AE: )?none (VAE: )?standard", words), words[-900:]


@pytest.mark.usefixtures("no_plots")
def test_runs_that_do_not_compare_are_said_not_to(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 17, (60, 5, 5)).astype(np.uint8)
    levels = untrained(x, "vae")
    reals = untrained(x, "vae", likelihood="gaussian")
    assert (
        "a density and a probability mass have different units"
        in Page(page([levels, reals], tmp_path, brief=True)).text
    )
    assert (
        "trained on different data"
        in Page(page([levels, untrained("digits", "vae")], tmp_path, brief=True)).text
    )


@pytest.mark.usefixtures("no_plots")
def test_accounts_that_do_not_compare_are_said_not_to(tmp_path: Path) -> None:
    runs = [untrained("digits", "vae") for _ in range(2)]
    evaluations = [
        evaluation.evaluate(run, k=k, limit=64, subset=0, diagnosis=False)
        for run, k in zip(runs, (8, 9), strict=True)
    ]
    write = partial(report.write, theory=False)
    html = write(runs, tmp_path / "r.html", evaluations=evaluations).read_text()
    assert "(VAE (1): K = 8, 64 images; VAE (2): K = 9, 64 images)" in Page(html).text
    again = write(
        runs, tmp_path / "r.html", evaluations=[evaluations[0]] * 2
    ).read_text()
    assert "with different settings" not in Page(again).text


@pytest.mark.parametrize("latent", [1, 2])
def test_the_true_posterior_is_drawn_where_there_are_few_features(
    latent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse_grids(monkeypatch)
    two = untrained("digits", "vae", latent=latent)
    vae = untrained("digits", "vae")
    evaluations = [evaluation.evaluate(vae, k=8, limit=64, subset=0, diagnosis=False)]
    html = report.write(
        [vae], tmp_path / "r.html", evaluations=evaluations, extra_runs=[two]
    ).read_text(encoding="utf-8")
    parsed = Page(html)
    assert "bayes" in parsed.ids and "sampling" in parsed.ids
    words = parsed.text.split("Bayes’ rule on a grid")[1]
    assert (
        "The sum of the terms minus log p(x) , which was integrated separately" in words
        and "Largest," in words
    )
    densities = [
        p
        for p in parsed.pictures
        if "VAE: the true posterior" in str(p["alt"]) or "p(x|z) as a" in str(p["alt"])
    ]
    assert len(densities) == 2 and "10³²" not in words


@pytest.mark.usefixtures("no_plots")
def test_the_account_shows_its_details_and_the_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_search(monkeypatch)
    run = untrained(
        "digits", "vae", latent=1, **{"objective.name": "elbo", "objective.beta": 50.0}
    )
    tree = evaluation.evaluate(run, k=60, limit=40, subset=3, gap=True).to_json()
    write = partial(report.write, evaluations=[tree], theory=False)
    parsed = Page(write([run], tmp_path / "r.html").read_text(encoding="utf-8"))
    for words in (
        "amortization gap",
        "exact, by quadrature",
        "3 test images",
        "3 training images",
    ):
        assert words in parsed.text
    assert (
        "The importance-weighted bound increases with K" in parsed.text
        and "Active features" in parsed.text
    )
    tree["diagnosis"]["verdicts"] = [verdict.to_json() for verdict in EVERY]
    for lang in LANGUAGES:
        html = write([run], tmp_path / "r.html", lang=lang).read_text(encoding="utf-8")
        words = Page(html).text
        assert (
            words.count("objective.beta") == 2
            and "z_7" in words
            and "likelihood.scale=predicted" in words
        )
        if lang == "en":
            named = "Row 17 of the test split has a −distortion of −700.0 nats."
            column = "Row 3 of the test split, far from the median of column 'age', has"
            assert named in words and column in words
            assert "has a bound of −1,000,000.0 nats" in words


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    run = untrained("digits", "vae")
    for options, says in (
        ({"lang": "kr"}, "did you mean 'ko'"),
        ({"evaluations": []}, "0 evaluations were given"),
    ):
        with pytest.raises(TightboundError, match=re.escape(says)):
            report.write([run], tmp_path / "r.html", **options)
    with pytest.raises(TightboundError, match="a report needs a run"):
        report.write([], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
