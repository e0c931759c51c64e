"""Code that a file names does not run without trust: every file, every place for a name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tightbound as tb
from tightbound import cli
from tightbound.config import code_names, configure, write
from tightbound.runtime.atomic_files import load_weights, save_weights
from tightbound.runtime.errors import TightboundError
from tightbound.runtime.outside_code import import_class

SMALL = {
    "recipe.size": "s",
    "latent": 4,
    "train.steps": 2,
    "train.batch": 32,
    "train.validate_n": 4,
}
# Where a file of settings may name a class.
PLACES = {
    "recipe.prior": '[recipe.prior]\nname = "{name}"\n',
    "recipe.prior, short": '[recipe]\nprior = "{name}"\n',
    "recipe.posterior": '[recipe.posterior]\nname = "{name}"\n',
    "recipe.likelihood": '[recipe.likelihood]\nname = "{name}"\n',
    "recipe.objective": '[recipe.objective]\nname = "{name}"\n',
    "recipe.network": '[recipe.network]\nname = "{name}"\n',
    "train.optimizer": '[train]\noptimizer = "{name}"\n',
}


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A marker that exists once the module `evil_code` in the working folder has run."""
    marker = tmp_path / "code-has-run"
    source = (
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "class Part:\n    pass\n"
    )
    (tmp_path / "evil_code.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield marker
    sys.modules.pop("evil_code", None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["evil_code:Part", "subprocess:Popen"])
def test_a_file_of_settings_runs_no_code(evil: Path, place: str, name: str) -> None:
    Path("mine.toml").write_text(PLACES[place].format(name=name))
    with pytest.raises(TightboundError, match=r"mine.toml names code .*--trust"):
        tb.train("digits", config="mine.toml", out="run", settings=SMALL)
    status = cli.main(["train", "digits", "--config", "mine.toml", "--out", "run"])
    assert status == 2
    assert not evil.exists()
    assert not Path("run").exists()


def test_code_is_run_where_it_is_trusted_or_named_on_the_command_line(
    evil: Path,
) -> None:
    text = PLACES["recipe.prior"].format(name="evil_code:Part")
    Path("mine.toml").write_text(text)
    assert code_names(configure("digits", file="mine.toml", trust=True)) == {
        "evil_code:Part"
    }
    named = {"prior": "evil_code:Part"}
    assert configure("digits", file="mine.toml", values=named).recipe.prior.name
    replaced = configure("digits", file="mine.toml", values={"prior": "standard"})
    assert not code_names(replaced)
    with pytest.raises(TightboundError, match="is no prior"):
        tb.train("digits", config="mine.toml", trust=True, settings=SMALL, out="run")
    assert evil.exists()


@pytest.mark.parametrize("place", [p for p in PLACES if "short" not in p])
@pytest.mark.parametrize("file", ["config.toml", "requested.toml"])
def test_a_run_folder_of_others_runs_no_code(evil: Path, place: str, file: str) -> None:
    config = configure("digits", values={**SMALL, place: "evil_code:Part"})
    Path("run").mkdir()
    write(Path("run") / file, config)
    with pytest.raises(TightboundError, match="trust=True"):
        tb.train("digits", out="run", resume=True, display="none")
    assert cli.main(["train", "digits", "--out", "run", "--resume"]) == 2
    for command in ("evaluate", "show", "sample"):
        words = [command, "run"]
        if command == "sample":
            words += ["--out", "x.png"]
        assert cli.main(words) == 2
    assert not evil.exists()


def test_a_restart_by_torchrun_trusts_only_the_code_of_its_command_line(
    evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tightbound.runs.folder import RunFolder

    folder = RunFolder(Path("run"))
    folder.path.mkdir()
    evil_config = configure("digits", values={**SMALL, "prior": "evil_code:Part"})
    write(folder.config_file, evil_config)
    folder.check_code(evil_config)
    with pytest.raises(TightboundError, match="names code"):
        folder.check_code(configure("digits", values=SMALL))


def test_the_file_of_a_fitted_prior_runs_no_code(evil: Path) -> None:
    tb.train("digits", out="run", settings=SMALL, display="none", report=False)
    tb.fit_prior("run", "gaussian-mixture", components=2, display="none")
    path = Path("run/priors/gaussian-mixture/prior.safetensors")
    state, about = load_weights(path)
    about["prior"] = json.dumps({"name": "evil_code:Part"})
    save_weights(path, state, about)
    with pytest.raises(TightboundError, match="trust=True"):
        tb.load("run", prior="gaussian-mixture")
    assert not evil.exists()


def test_an_optimiser_is_a_class_of_optimisers(evil: Path) -> None:
    for name in ("os.system", "subprocess.Popen", "torch.optim.adam.cast"):
        values = {**SMALL, "train.optimizer": name}
        with pytest.raises(TightboundError, match=r"optimiser|class"):
            tb.train("digits", out="run", settings=values, display="none")
    import torch

    values = {**SMALL, "train.optimizer": torch.optim.Adam}
    run = tb.train("digits", out="run", settings=values, display="none", report=False)
    assert run.config.train.optimizer == "torch.optim.adam:Adam"


def test_the_working_folder_is_no_place_for_optional_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    cli.main(["recipes", "--json"])
    assert "" not in sys.path
    (tmp_path / "own_part.py").write_text("class Own: pass\n")
    assert import_class("own_part:Own", "prior").__name__ == "Own"
    with pytest.raises(TightboundError, match="cannot be imported"):
        import_class("own_part:Other", "prior")
    (tmp_path / "broken_part.py").write_text("1 +\n")
    with pytest.raises(TightboundError, match="cannot be imported"):
        import_class("broken_part:Own", "prior")
