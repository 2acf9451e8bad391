"""The catalog names backbones that exist; the store finds what is on disk and says what to do about what is not."""

from __future__ import annotations

import re
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.backbones.families import catalog, family_of
from edge_agent.backbones.family import Row
from edge_agent.backbones.tips.embedded import EMBEDDED, EMBEDDED_FOLDER
from edge_agent.backbones.tips.family import TipsFamily
from edge_agent.backbones.tips.files import FILES, find
from edge_agent.backbones.weights.digests import format_sums, measure, parse_sums, stated
from edge_agent.backbones.weights.listing import list_models, table
from edge_agent.backbones.weights.published import Published
from edge_agent.backbones.weights.store import default_folder, own_folder, pin, search_folders, shared_folder
from edge_agent.errors import CheckpointError
from tests.made import unprivileged_folder

OFFICIAL = list(TipsFamily.catalog.values())


def put_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(name.encode())
        pin(folder, name, measure(folder / name)["sha256"])


@pytest.mark.parametrize("backbone", OFFICIAL, ids=lambda backbone: backbone.name)
def test_every_official_backbone_has_its_three_files_at_its_owners_address(backbone: Published) -> None:
    assert tuple(file.name for file in backbone.files) == FILES
    version = "v2_0" if backbone.name.startswith("tips2-") else "v1_0"
    vision, text, tokenizer = (file.url for file in backbone.files)
    stem = r"https://storage\.googleapis\.com/tips_data/" + version + r"/checkpoints/pytorch/(tips_\w+)_"
    assert re.fullmatch(stem + r"vision\.npz", vision)
    assert text == vision.replace("_vision.npz", "_text.npz")
    assert tokenizer == "https://storage.googleapis.com/tips_data/v1_0/checkpoints/tokenizer.model"


def test_no_two_backbones_share_their_weights() -> None:
    urls = [file.url for backbone in OFFICIAL for file in backbone.files[:2]]
    assert len(set(urls)) == len(urls)


@pytest.mark.parametrize("backbone", OFFICIAL, ids=lambda backbone: backbone.name)
def test_pictures_are_whole_patches_and_widths_whole_heads(backbone: Published) -> None:
    assert (backbone.image_size or 0) % (backbone.patch or 1) == 0
    assert (backbone.width or 1) % (72 if "so400m" in backbone.name else 64) == 0


def test_an_unknown_name_is_answered_with_near_ones_or_the_way_to_the_list() -> None:
    assert family_of("tips-l14").published("tips-l14").width == 1024
    with pytest.raises(CheckpointError, match=r"'tips-L14' is no known backbone; did you mean .*tips-l14"):
        family_of("tips-L14")
    with pytest.raises(CheckpointError, match="`edge-agent models` lists them"):
        family_of("mobilenet")


def test_a_fetch_goes_where_every_user_looks_if_it_may_else_where_the_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGE_AGENT_MODELS", raising=False)
    assert shared_folder() == Path("/usr/local/share/edge-agent/models")
    with unprivileged_folder() as folder:
        (folder / "closed").mkdir(0o500)
        monkeypatch.setenv("EDGE_AGENT_MODELS", str(folder / "closed" / "models"))
        assert default_folder() == own_folder()
        monkeypatch.setenv("EDGE_AGENT_MODELS", str(folder / "open" / "models"))
        assert default_folder() == folder / "open" / "models"
        assert search_folders(tmp_path) == [tmp_path / "models", default_folder(), own_folder()]
    assert own_folder().is_absolute()
    assert own_folder().parts[-2:] == ("edge-agent", "models")


def test_installed_are_those_with_all_files_there_and_pinned(tmp_path: Path) -> None:
    def installed(folder: Path) -> list[Row]:
        return [row for row in TipsFamily().rows(folder) if row.folder]

    assert installed(tmp_path / "nowhere") == []
    for name in ("tips2-b14", "tips-s14", "tips-b14", "tips-l14", "of-somebody-else"):
        put_files(tmp_path / name)
    (tmp_path / "tips-b14" / "text.npz").unlink()
    (tmp_path / "tips-l14" / "SHA256SUMS").unlink()
    assert [row.name for row in installed(tmp_path)] == ["tips-s14", "tips2-b14"]
    assert installed(tmp_path)[0].bytes == sum(len(name) for name in FILES)


def test_find_takes_the_first_folder_that_has_the_backbone_whole(tmp_path: Path) -> None:
    (tmp_path / "a" / "tips-s14").mkdir(parents=True)
    for folder in ("b", "c"):
        put_files(tmp_path / folder / "tips-s14")
    files = find("tips-s14", [tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert files.vision == tmp_path / "b" / "tips-s14" / "vision.npz"
    assert files.vision.parent == files.text.parent == files.tokenizer.parent


def test_find_says_how_to_get_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tips-s14 is not in .*a or .*b: run `edge-agent models fetch tips-s14`"):
        find("tips-s14", [tmp_path / "a", tmp_path / "b"])
    put_files(tmp_path / "tips-s14")
    (tmp_path / "tips-s14" / "text.npz").unlink()
    with pytest.raises(CheckpointError, match=r"tips-s14 lacks text\.npz: run `edge-agent models fetch tips-s14`"):
        find("tips-s14", [tmp_path])


def test_the_embedded_backbone_is_found_in_the_package_without_any_folder() -> None:
    assert family_of(EMBEDDED).load(EMBEDDED, []).name == EMBEDDED
    assert list_models([Path("nowhere")])[0].folder == EMBEDDED_FOLDER


def test_the_table_has_a_line_for_every_backbone_and_says_which_are_here(tmp_path: Path) -> None:
    put_files(tmp_path / "tips-s14")
    heading, *lines = table(list_models([tmp_path])).splitlines()
    assert heading.split() == ["NAME", "PICTURE", "WIDTH", "PARAMETERS", "SIZE", "LICENCE", "WHERE"]
    assert [line.split()[0] for line in lines] == list(catalog())
    here = next(line for line in lines if line.startswith("tips-s14 "))
    assert here.endswith(f"Google DeepMind, CC-BY-4.0  {tmp_path / 'tips-s14'}")
    away = next(line for line in lines if line.startswith("tips-l14 "))
    assert re.search(r"448 px +1024 +487 M +~1,948 MB .* not fetched$", away)


def test_a_list_of_digests_reads_as_it_was_written_and_passes_over_what_is_none() -> None:
    sums = {"vision.npz": "0a" * 32, "with space.npz": "1b" * 32}
    assert parse_sums(format_sums(sums)) == sums
    assert parse_sums(f"<html>\n{'0A' * 32} *./vision.npz\r\n\n{'0a' * 31}  short\n") == {"vision.npz": "0a" * 32}


@given(st.text(st.characters(max_codepoint=255)), st.sampled_from(["X-Goog-Hash", "Repr-Digest", "Digest"]))
def test_no_header_whatever_it_says_is_more_than_a_digest_or_nothing(value: str, header: str) -> None:
    headers = Message()
    headers[header] = value.replace("\n", " ").replace("\r", " ")
    assert set(stated(headers)) <= {"crc32c", "md5", "sha256", "sha512"}
