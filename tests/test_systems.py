"""A published system is fetched whole: backbone, the authors' prompts, checkpoints; a config then names its backbone alone."""

from __future__ import annotations

import hashlib
import io
import re
import resource
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from edge_agent import build
from edge_agent.backbones import families
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.family import TipsFamily
from edge_agent.backbones.tips.files import FILES
from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.backbones.weights.store import PINS, read_pins
from edge_agent.cli import main
from edge_agent.config.detector import DetectorConfig
from edge_agent.config.load import load_config
from edge_agent.detectors import systems
from edge_agent.detectors.checkpoint import load_checkpoint
from edge_agent.detectors.methods import METHODS
from edge_agent.detectors.systems import DATASETS, SYSTEMS, System
from edge_agent.errors import CheckpointError
from edge_agent.inference.load import load_detector
from tests.made import gradient
from tests.weights_server import WeightsServer, serving

BACKBONE = "tips-paper"
WIDTH = 256


def prompts_file(seed: int) -> bytes:
    """As the authors save them: a pickled list of two tensors."""
    torch.manual_seed(seed)
    file = io.BytesIO()
    torch.save(nn.ParameterList([nn.Parameter(torch.randn(8, WIDTH)) for _ in range(2)]), file)
    return file.getvalue()


PROMPTS = {
    f"repo/{one}/checkpoints/learnable_params_2.pth": prompts_file(number) for number, one in enumerate(DATASETS)
}
WEIGHTS = {f"weights/paper_{name}": (EMBEDDED_FOLDER / name).read_bytes() for name in FILES}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """Serves a system of the published layout, which the catalogue then knows in place of the real one."""
    monkeypatch.setenv("no_proxy", "*")
    with serving({**WEIGHTS, **PROMPTS}) as server:

        class PaperFamily(TipsFamily):
            catalog: ClassVar[Mapping[str, Published]] = MappingProxyType(
                {
                    BACKBONE: Published(
                        BACKBONE,
                        "its owner",
                        "CC-BY-4.0",
                        224,
                        16,
                        WIDTH,
                        files=tuple(RemoteFile(name, f"{server.url}/weights/paper_{name}") for name in FILES),
                    )
                }
            )

        monkeypatch.setattr(families, "FAMILIES", [PaperFamily(), *families.FAMILIES])
        files = tuple(
            RemoteFile(
                f"tipsomaly-{one}.pth", f"{server.url}/{path}", path=path, sha256=hashlib.sha256(body).hexdigest()
            )
            for one, (path, body) in zip(DATASETS, PROMPTS.items(), strict=True)
        )
        monkeypatch.setitem(
            SYSTEMS, "tipsomaly", System("tipsomaly", BACKBONE, Published("tipsomaly", "them", "MIT", files=files))
        )
        yield server


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's folder of models."""
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def config(folder: Path, **detector: object) -> Path:
    path = folder / "config.yaml"
    station = {"name": "cam1", "source": {"folder": str(folder)}, "detector": {"model": BACKBONE, **detector}}
    path.write_text(yaml.safe_dump({"agent": {"name": "a", "data_dir": str(folder / "data")}, "stations": [station]}))
    return path


def test_a_fetch_brings_backbone_prompts_and_checkpoints_and_a_second_one_brings_nothing(
    server: WeightsServer, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "fetch", "tipsomaly"]) == 0
    assert "trained on MVTec AD; taken for tips-paper" in capsys.readouterr().out
    own = models / "tipsomaly"
    names = {f"tipsomaly-{one}.{kind}" for one in DATASETS for kind in ("pth", "safetensors")}
    assert {path.name for path in own.iterdir()} - {".lock"} == names | {PINS}
    assert set(read_pins(own)) == names
    assert {path.stat().st_mode & 0o777 for path in own.iterdir() if path.name in names} == {0o644}
    asked, times = len(server.asked), {name: (own / name).stat().st_mtime_ns for name in names}
    assert main(["models", "fetch", BACKBONE]) == 0, "the backbone's name brings the same"
    assert len(server.asked) == asked
    assert {name: (own / name).stat().st_mtime_ns for name in names} == times


def test_what_was_fetched_reads_pictures_as_the_authors_prompts_do(server: WeightsServer, models: Path) -> None:
    assert main(["models", "fetch", "tipsomaly"]) == 0
    learned = torch.load(io.BytesIO(next(iter(PROMPTS.values()))), weights_only=False)
    header, tensors = (
        (one := load_checkpoint(models / "tipsomaly" / "tipsomaly-mvtec.safetensors")).header,
        one.tensors,
    )
    torch.testing.assert_close(tensors["prompt"], torch.stack(list(learned)).detach())
    assert (header["fitted_on"], header["image_size"]) == ("MVTec AD, by its authors", 512)  # 518 in patches of 16
    pixels = gradient(64, 64, 0)
    (found,) = load_detector(BACKBONE, class_name="metal plate").read([pixels])
    named = models / "tipsomaly" / "tipsomaly-mvtec.safetensors"
    (expected,) = load_detector(BACKBONE, named, class_name="metal plate").read([pixels])
    assert found.score == expected.score
    np.testing.assert_array_equal(found.heatmap, expected.heatmap)


def test_a_config_that_names_the_backbone_alone_says_what_it_lacks_and_runs_once_it_is_fetched(
    server: WeightsServer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path)
    assert main(["check", "--config", str(path)]) == 0
    assert "tips-paper is not on this machine: run `edge-agent models fetch tips-paper`" in capsys.readouterr().out
    assert main(["models", "fetch", "tipsomaly"]) == 0
    capsys.readouterr()
    assert main(["check", "--config", str(path)]) == 0
    said = capsys.readouterr().out
    assert "prompts published for it, trained on MVTec AD" in said
    assert "not on this machine" not in said
    assert "nobody has measured a threshold for published prompts" in said
    for trained_on in DATASETS:
        loaded = load_config(config(tmp_path, trained_on=trained_on))
        (station,) = build.stations(loaded, build.loader(loaded)).values()
        prompts = models / "tipsomaly" / f"tipsomaly-{trained_on}.safetensors"
        assert station.trace.checkpoint_sha256 == hashlib.sha256(prompts.read_bytes()).hexdigest()
    shutil.rmtree(models / "tipsomaly")
    assert main(["check", "--config", str(path)]) == 0
    assert (
        "published for it are not on this machine: run `edge-agent models fetch tipsomaly`" in capsys.readouterr().out
    )
    with pytest.raises(CheckpointError, match="run `edge-agent models fetch tipsomaly`, with sudo"):
        build.single_detector(loaded.stations[0].detector, build.loader(loaded))


@pytest.mark.parametrize("detector", [{"model": "embedded"}, {"model": "tips-paper", "method": "clip"}])
def test_a_choice_of_prompts_where_there_is_none_is_an_error(
    detector: dict[str, str], server: WeightsServer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, **detector, trained_on="visa")
    assert main(["check", "--config", str(path)]) == 78
    assert "trained_on: chooses between the prompts that are published for a model" in capsys.readouterr().err


def test_a_folder_packed_elsewhere_serves_a_machine_without_internet(
    server: WeightsServer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = tmp_path / "stick"
    assert main(["models", "pack", str(stick)]) == 0
    assert f"sudo edge-agent models fetch tipsomaly --from {stick}" in capsys.readouterr().out
    asked = len(server.asked)
    assert main(["models", "fetch", "tipsomaly", "--from", str(stick)]) == 0
    assert len(server.asked) == asked
    assert (models / "tipsomaly" / "tipsomaly-visa.safetensors").is_file()


def test_a_packed_folder_can_be_a_mirror(server: WeightsServer, models: Path, tmp_path: Path) -> None:
    assert main(["models", "pack", str(tmp_path / "stick")]) == 0
    packed = {str(path.relative_to(tmp_path / "stick")): path for path in (tmp_path / "stick").rglob("*.*")}
    with serving({name: path.read_bytes() for name, path in packed.items() if path.is_file()}) as mirror:
        asked = len(server.asked)
        assert main(["models", "fetch", "tipsomaly", "--from", mirror.url]) == 0
    assert len(server.asked) == asked
    assert (models / "tipsomaly" / "tipsomaly-mvtec.safetensors").is_file()


def test_a_clone_of_the_authors_repository_will_do_for_the_prompts(
    server: WeightsServer, models: Path, tmp_path: Path
) -> None:
    assert main(["models", "fetch", "tipsomaly"]) == 0
    shutil.rmtree(models / "tipsomaly")
    for path, body in PROMPTS.items():
        (tmp_path / "clone" / path).parent.mkdir(parents=True)
        (tmp_path / "clone" / path).write_bytes(body)
    assert main(["models", "fetch", "tipsomaly", "--from", str(tmp_path / "clone")]) == 0


def test_prompts_that_are_not_the_pinned_ones_are_refused_and_nothing_of_them_is_kept(
    server: WeightsServer, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(iter(PROMPTS))
    server.files = {**server.files, path: prompts_file(9)}
    for name in ("tipsomaly", BACKBONE):
        assert main(["models", "fetch", name]) == 1
        said = capsys.readouterr().err
        assert f"{server.url}/{path} is not tipsomaly-mvtec.pth: its SHA-256 is" in said
        assert "nothing of it was kept" in said
        assert {one.name for one in (models / "tipsomaly").iterdir()} == {".lock"}


def test_a_cut_transfer_is_resumed(server: WeightsServer, models: Path) -> None:
    server.cuts = [10**9, 10**9, 10**9, 5_000]
    assert main(["models", "fetch", "tipsomaly"]) == 0
    assert server.asked_for(next(iter(PROMPTS))) == [None, "bytes=5000-"]


def test_prompts_that_cannot_be_reached_leave_a_backbone_that_was_asked_for(
    server: WeightsServer, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files = dict(WEIGHTS)
    assert main(["models", "fetch", BACKBONE]) == 0
    said = capsys.readouterr()
    assert said.out == f"{BACKBONE} is in {models / BACKBONE}\n"
    assert "warning: without the prompts that are published for it" in said.err
    assert "HTTP 404" in said.err
    assert main(["models", "fetch", "tipsomaly"]) == 1
    said = capsys.readouterr()
    assert "HTTP 404" in said.err
    assert "`edge-agent models pack PLACE tipsomaly` makes it on a PC with internet" in said.err
    assert "Traceback" not in said.err


def test_a_full_disk_is_said_and_leaves_no_half_checkpoint(
    server: WeightsServer, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pack", str(models)]) == 0
    least = max(path.stat().st_size for path in (models / "tipsomaly").glob("*.pth")) // 2
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond it fails as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, before[1]))
    try:
        assert main(["models", "fetch", "tipsomaly"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "tipsomaly-mvtec.safetensors: cannot be written: File too large" in capsys.readouterr().err
    assert not list((models / "tipsomaly").glob("*.safetensors*"))
    assert not list((models / "tipsomaly").glob(".*.tmp"))


def test_a_damaged_checkpoint_is_made_again(server: WeightsServer, models: Path) -> None:
    assert main(["models", "fetch", "tipsomaly"]) == 0
    path = models / "tipsomaly" / "tipsomaly-mvtec.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert main(["models", "fetch", "tipsomaly"]) == 0
    assert path.read_bytes() == whole


def test_models_says_whose_prompts_are_published_and_which_are_here(
    server: WeightsServer, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    assert (
        "tips-paper: Tipsomaly (them, MIT), not fetched: edge-agent models fetch tipsomaly" in capsys.readouterr().out
    )
    assert main(["models", "fetch", "tipsomaly"]) == 0
    capsys.readouterr()
    assert main(["models"]) == 0
    assert "tips-paper: Tipsomaly (them, MIT), here: trained on MVTec AD, VisA" in capsys.readouterr().out


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_every_system_of_the_catalogue_is_pinned_and_of_a_known_method_and_backbone(system: System) -> None:
    assert METHODS[system.method].name == system.method
    assert families.family_of(system.backbone).knows(system.backbone)
    assert len(system.prompts.files) == len(DATASETS)
    for trained_on in DATASETS:
        file = system.file(trained_on)
        assert trained_on in str(file.path)
        commit = file.url.removeprefix("https://raw.githubusercontent.com/").removesuffix(f"/{file.path}")
        assert re.fullmatch(r"\w+/\w+/[0-9a-f]{40}", commit)
        assert re.fullmatch(r"[0-9a-f]{64}", str(file.sha256))


def test_prompts_trained_on_mvtec_are_the_default_as_papers_measure_them_on_every_other_set() -> None:
    assert DetectorConfig(model="tips-l14").trained_on == "mvtec"
    assert systems.default_system("tips-l14") == SYSTEMS["tipsomaly"]
