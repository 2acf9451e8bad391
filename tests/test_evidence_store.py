"""The evidence store keeps what it says it keeps, whole, in its place, for its time; a failing disk costs pictures and no more."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import cv2
import numpy as np
import pytest

from edge_agent.core import Evaluation, Evidence, EvidenceState, Inspection, SavedFile
from edge_agent.evidence.encoding import encode
from edge_agent.evidence.store import EvidenceStore
from edge_agent.io.pictures import decode, decode_bytes
from tests.line import inspected
from tests.made import gradient, unprivileged_folder

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
PIXELS = gradient(48, 64, 3)
NOISE = np.random.default_rng(5).integers(0, 256, (100, 100, 3), np.uint8)  # 30 kB, however it is packed


def test_an_original_comes_back_to_the_bit(tmp_path: Path) -> None:
    evidence = store(tmp_path, overlays="none").save(inspection())
    assert evidence.overlay is None
    assert evidence.image is not None
    assert np.array_equal(decode(stored(evidence.image)), PIXELS)


@pytest.mark.parametrize("shape", [(16, 16), (17, 1), (1, 33), (301, 199)])
def test_a_png_gives_the_same_pixels_in_every_decoder(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)[::-1]
    content = encode(pixels, "png")
    assert np.array_equal(decode_bytes(content, "it.png"), pixels)
    assert np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], pixels)


def test_what_is_kept_in_haste_is_jpeg_and_says_so(tmp_path: Path) -> None:
    evidence = store(tmp_path).save(inspection(), shrunk=True)
    assert evidence.image is not None
    assert evidence.state is EvidenceState.SHRUNK
    assert stored(evidence.image).suffix == ".jpg"
    assert np.abs(decode(stored(evidence.image)).astype(int) - PIXELS).mean() < 3


def test_pictures_that_were_written_before_the_agent_ended_are_found_again(tmp_path: Path) -> None:
    made, other = inspection(), inspection()
    saved = store(tmp_path).save(made)
    assert store(tmp_path).found(made) == saved
    assert saved.overlay is not None
    stored(saved.overlay).unlink()
    assert store(tmp_path).found(made) == Evidence(saved.image, None, EvidenceState.INTERRUPTED)
    assert store(tmp_path).found(other) == Evidence(state=EvidenceState.INTERRUPTED)
    assert store(tmp_path, originals="none", overlays="none").found(other) == Evidence()


@pytest.mark.parametrize("fmt", ["png", "jpg", "webp"])
def test_what_evidence_says_is_what_lies_on_disk(tmp_path: Path, fmt: str) -> None:
    evidence = store(tmp_path / "a folder", fmt=fmt).save(inspection())
    for saved in (evidence.image, evidence.overlay):
        assert saved is not None
        content = stored(saved).read_bytes()
        assert hashlib.sha256(content).hexdigest() == saved.sha256
        assert len(content) == saved.size
    assert evidence.overlay is not None
    assert stored(evidence.overlay).suffix == f".{fmt}"
    drawn = decode(stored(evidence.overlay))
    assert np.abs(drawn.astype(int) - (255 - PIXELS)).mean() < 3, "the overlay, in RGB"


def test_a_pictures_place_tells_station_time_evaluation_and_part(tmp_path: Path) -> None:
    made = inspection(at=NOON + timedelta(milliseconds=7), part_id="SN123")
    evidence = store(tmp_path).save(made)
    end = made.id.replace("-", "")[-12:]
    assert names(tmp_path) == [
        f"cam1/2026-11-20/120000.007_NotOK_SN123_{end}.png",
        f"cam1/2026-11-20/120000.007_NotOK_SN123_{end}_overlay.jpg",
    ]
    assert evidence.image is not None
    assert evidence.image.uri == (tmp_path / names(tmp_path)[0]).as_uri()
    nameless = inspection(evaluation=Evaluation.NOT_DECIDABLE, at=NOON)
    store(tmp_path, overlays="none").save(nameless)
    assert f"cam1/2026-11-20/120000.000_NotDecidable_{nameless.id.replace('-', '')[-12:]}.png" in names(tmp_path)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [("all", ["OK", "NotOK", "NotDecidable"]), ("not_ok", ["NotOK", "NotDecidable"]), ("none", [])],
)
def test_rules_say_what_is_kept_and_overlays_are_drawn_only_to_be_kept(
    tmp_path: Path, rule: str, kept: list[str]
) -> None:
    drawn: list[str] = []

    def render(inspection: Inspection, largest: int) -> np.ndarray:
        drawn.append(inspection.verdict.evaluation.value)
        return PIXELS

    for originals, overlays in ((rule, "none"), ("none", rule)):
        drawn.clear()
        folder = tmp_path / originals
        kept_here = EvidenceStore(folder, render=render, originals=originals, overlays=overlays)  # type: ignore[arg-type]
        for evaluation in (Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE):
            kept_here.save(inspection(evaluation))
        assert sorted(name.split("_")[1] for name in names(folder)) == sorted(kept)
        assert drawn == (kept if overlays == rule and rule != "none" else [])
        shutil.rmtree(folder, ignore_errors=True)


def test_without_a_picture_there_is_an_overlay_alone(tmp_path: Path) -> None:
    faulty = inspection(Evaluation.NOT_DECIDABLE, pixels=np.empty((0, 0, 3), np.uint8))
    evidence = EvidenceStore(tmp_path, render=lambda inspection, largest: PIXELS).save(faulty)
    assert evidence.image is None
    assert evidence.overlay is not None


@pytest.mark.parametrize(
    "odd", ["../../etc/cron.d/x", "/etc/passwd", "..", ".hidden", "a\0b", "ä/ö", "x" * 500, "\udcff", "a b\n"]
)
def test_names_from_outside_cannot_leave_the_folder(tmp_path: Path, odd: str) -> None:
    home = tmp_path / "deep" / "evidence"
    evidence = store(home).save(inspection(station=odd, part_id=odd))
    assert evidence.image is not None
    found = names(tmp_path)
    assert len(found) == 2
    for name in found:
        deep, home_name, station, _day, file = name.split("/")
        assert (deep, home_name) == ("deep", "evidence")
        assert not station.startswith(".")
        assert not file.startswith(".")
    assert store(home, keep_days=1).sweep(datetime.now(timezone.utc) + timedelta(days=9)), "and are known again"


def test_two_inspections_of_one_part_do_not_meet(tmp_path: Path) -> None:
    kept = store(tmp_path)
    for _ in range(10):
        kept.save(inspection(part_id="SN123", at=NOON))
    assert len(names(tmp_path)) == 20


def test_days_go_when_they_are_too_old(tmp_path: Path) -> None:
    kept = store(tmp_path, keep_days=2)
    saved = [kept.save(inspection(at=NOON - timedelta(days=days))).image for days in (4, 3, 2, 1, 0)]
    assert kept.sweep(NOON + timedelta(hours=11)) == uris(saved[:2], tmp_path)
    assert kept.sweep(NOON + timedelta(hours=11)) == []
    assert kept.sweep(NOON + timedelta(hours=13)) == uris(saved[2:3], tmp_path)
    assert {name.split("/")[1] for name in names(tmp_path)} == {"2026-11-19", "2026-11-20"}
    assert not (tmp_path / "cam1" / "2026-11-16").exists(), "empty days go too"


def test_for_ever_is_a_time_too(tmp_path: Path) -> None:
    kept = store(tmp_path, keep_days=1e9, keep_gb=1e9)
    kept.save(inspection(at=NOON))
    assert kept.sweep(NOON + timedelta(days=100_000)) == []


def test_too_many_bytes_cost_the_oldest_ok_first_and_then_the_oldest(tmp_path: Path) -> None:
    kept = store(tmp_path, originals="all", overlays="none", keep_gb=5 * 31e-6)
    plan = [
        ("cam1", Evaluation.NOT_OK, 0), ("cam2", Evaluation.OK, 1), ("cam1", Evaluation.OK, 2),
        ("cam1", Evaluation.OK, 30), ("cam2", Evaluation.NOT_DECIDABLE, 31), ("cam1", Evaluation.NOT_OK, 32),
        ("cam1", Evaluation.NOT_OK, 33), ("cam1", Evaluation.NOT_OK, 34), ("cam1", Evaluation.NOT_OK, 35),
    ]  # fmt: skip
    removed = []
    for station, evaluation, hours in plan:
        kept.save(inspection(evaluation, station=station, at=NOON + timedelta(hours=hours), pixels=NOISE))
        removed += [name_of(uri) for uri in kept.sweep(NOON + timedelta(hours=hours))]
    order = [(name.split("/")[0], name.split("_")[1]) for name in removed]
    assert order[:3] == [("cam2", "OK"), ("cam1", "OK"), ("cam1", "OK")]
    assert order[3:] == [("cam1", "NotOK"), ("cam2", "NotDecidable")][: len(order) - 3]
    assert len(order) >= 4
    assert len(names(tmp_path)) == len(plan) - len(removed)
    assert 3 * 31_000 < size(tmp_path) <= 5 * 31_000


def test_what_was_kept_before_a_restart_counts(tmp_path: Path) -> None:
    first = store(tmp_path, originals="all", overlays="none")
    for minute in range(6):
        first.save(inspection(Evaluation.OK, at=NOON + timedelta(minutes=minute), pixels=NOISE))
    after = store(tmp_path, originals="all", overlays="none", keep_gb=4 * 31e-6)
    after.save(inspection(at=NOON + timedelta(minutes=9), pixels=NOISE))
    removed = [name_of(uri) for uri in after.sweep(NOON)]
    assert [name.split("/")[2][:6] for name in removed] == ["120000", "120100", "120200", "120300"]
    assert len(names(tmp_path)) == 3


def test_what_is_not_its_own_is_neither_counted_nor_deleted(tmp_path: Path) -> None:
    kept = store(tmp_path, keep_days=1, keep_gb=1e-4, originals="all", overlays="none")
    saved = kept.save(inspection(at=NOON))
    assert saved.image is not None
    day = stored(saved.image).parent
    foreign = [
        tmp_path / "notes.txt", tmp_path / "cam1" / "mask.png", day / "120000.000_NotOK.png", day / "photo.png",
        day / ".photo.png.tmp", tmp_path / "cam1" / "older" / stored(saved.image).name,
    ]  # fmt: skip
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(1_000_000))
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "2026-11-01").mkdir()
    (elsewhere / "2026-11-01" / stored(saved.image).name).write_bytes(b"not reached through links")
    (tmp_path / "linked").symlink_to(elsewhere)
    again = store(tmp_path, keep_days=1, keep_gb=1e-4, originals="all", overlays="none")
    assert again.sweep(NOON) == []
    assert again.sweep(NOON + timedelta(days=9)) == [saved.image.uri]
    assert all(path.exists() for path in foreign)
    assert len(names(elsewhere)) == 1


def test_pictures_that_others_deleted_are_no_trouble(tmp_path: Path) -> None:
    kept = store(tmp_path, keep_days=1, keep_gb=2 * 31e-6, overlays="none")
    for minute in range(4):
        kept.save(inspection(at=NOON + timedelta(minutes=minute), pixels=NOISE))
    kept.take_removed()
    shutil.rmtree(tmp_path / "cam1")
    assert kept.sweep(NOON) == []
    assert kept.save(inspection(at=NOON)).image is not None
    shutil.rmtree(tmp_path)
    assert kept.sweep(NOON) == []
    assert kept.save(inspection(at=NOON)).image is not None
    assert kept.lost == 0


def test_after_a_crash_every_picture_is_whole_and_the_rest_is_cleared_away(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.test_evidence_store import *\n"
        "kept = store(Path(sys.argv[1]), originals='all')\n"
        "while True: print(kept.save(inspection(pixels=np.tile(NOISE, (5, 5, 1)))).image.uri, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [child.stdout.readline().strip() for _ in range(5)]
    child.kill()
    told += child.stdout.read().split("\n")[:-1]
    child.wait()
    half = stored(told[0]).with_name(f".{stored(told[0]).name}.tmp")
    half.write_bytes(b"half")
    again = store(tmp_path)
    assert again.sweep(datetime.now(timezone.utc)) == []
    assert not half.exists()
    for name in names(tmp_path):
        assert not name.endswith(".tmp")
        assert decode(tmp_path / name).shape == (500, 500, 3)
    assert {stored(uri) for uri in told} <= {tmp_path / name for name in names(tmp_path)}


def test_a_full_disk_costs_evidence_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        others = disk / "others"
        others.write_bytes(bytes(shutil.disk_usage(disk).free - 40_000))
        kept = store(disk, overlays="none")
        outcomes = [kept.save(inspection(pixels=NOISE)).image for _ in range(30)]
        assert outcomes == [None] * 30
        assert shutil.disk_usage(disk).free >= 25_000, "which is left for the journal"
        assert kept.lost == 30
        assert caplog.text.count("No space left on device: free some space") == 1, "and not for every picture"
        assert kept.fault == "No space left on device: free some space, or lower evidence.keep_gb"
        assert [name for name in names(disk) if name.endswith(".tmp")] == []
        others.unlink()
        assert kept.save(inspection(pixels=NOISE)).image is not None, "as soon as there is space, without a restart"
        assert f"again; that of {kept.lost} inspections was not" in caplog.text
        assert kept.fault is None


def test_a_disk_smaller_than_keep_gb_keeps_the_newest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        kept = store(disk, overlays="none", originals="all", keep_gb=20)
        removed = 0
        for minute in range(100):
            evaluation = Evaluation.NOT_OK if minute % 10 == 0 else Evaluation.OK
            made = inspection(evaluation, at=NOON + timedelta(minutes=minute), pixels=NOISE)
            assert kept.save(made).image is not None
            removed += len(kept.sweep(NOON))
        assert kept.lost == 0
        assert removed == 100 - len(names(disk))
        assert len([name for name in names(disk) if "NotOK" in name]) == 10, "what is OK goes first"
        assert kept.dropped == removed
        assert shutil.disk_usage(disk).free >= 20_000
        assert caplog.text.count("MB are free on the disk") == 1


def test_on_a_disk_that_others_fill_the_oldest_ok_pictures_make_way_at_once_and_are_told_of(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        kept = store(disk, overlays="none", originals="all")
        good = [kept.save(inspection(Evaluation.OK, pixels=NOISE)).image for _ in range(4)]
        bad = [kept.save(inspection(Evaluation.NOT_OK, pixels=NOISE)).image for _ in range(4)]
        (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - 40_000))
        new = kept.save(inspection(Evaluation.NOT_OK, pixels=NOISE)).image
        assert new is not None
        assert kept.lost == 0
        assert 1 <= kept.dropped < 4
        told = kept.sweep(NOON)
        assert told == uris(good, disk)[::2][: kept.dropped]
        assert {stored(image).exists() for image in (*bad, new) if image} == {True}


def test_the_limit_of_bytes_holds_between_two_sweeps_and_ok_pictures_never_cost_others(tmp_path: Path) -> None:
    kept = store(tmp_path, originals="all", overlays="none", keep_gb=5 * 31e-6)
    for minute in range(12):
        evaluation = Evaluation.OK if minute < 4 else Evaluation.NOT_OK
        kept.save(inspection(evaluation, at=NOON + timedelta(minutes=minute), pixels=NOISE))
        assert size(tmp_path) <= 5 * 31_000
    kept.save(inspection(at=NOON + timedelta(minutes=11), pixels=NOISE))
    last = names(tmp_path)
    assert [name.split("/")[2][:6] for name in last][-1] == "121100"
    assert not any("_OK_" in name for name in last)
    assert kept.save(inspection(Evaluation.OK, at=NOON + timedelta(minutes=20), pixels=NOISE)).image is None
    assert names(tmp_path) == last
    assert len(kept.sweep(NOON)) == 13 - len(last), "the journal is told of each"


def test_where_inodes_run_out_the_oldest_make_way_and_the_words_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", 50_000_000, "nr_inodes=100") as disk:
        kept = store(disk, overlays="none", originals="all")
        for second in range(150):
            made = inspection(Evaluation.OK, at=NOON + timedelta(seconds=second), pixels=NOISE)
            assert kept.save(made).image is not None
        assert kept.lost == 0
        assert names(disk)[-1].startswith("cam1/2026-11-20/120229")
        assert caplog.text.count("as its inodes are used up: the oldest evidence goes") == 1
        for number in range(200):
            try:
                (disk / f"other{number}").touch()
            except OSError:
                break
        for name in names(disk):
            if name.startswith("cam1"):
                (disk / name).unlink()
                (disk / f"others{name.replace('/', '-')}").touch()
        assert kept.save(inspection(pixels=NOISE)).image is None
        assert "the inodes of that disk are used up, however many bytes are free" in caplog.text


def test_nothing_is_written_below_a_mount_that_vanished(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = store(tmp_path / "disk" / "evidence", overlays="none")
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        assert kept.save(inspection()).image is not None
    assert kept.save(inspection()).image is None
    assert kept.sweep(NOON) == []
    assert list((tmp_path / "disk").iterdir()) == []
    assert "the disk that was mounted there is gone: mount it again" in caplog.text
    (tmp_path / "disk").rmdir()
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        assert kept.save(inspection()).image is not None
        assert len(names(disk)) == 1


def test_the_folder_of_a_station_may_be_a_link_and_is_swept_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "cam1").symlink_to(tmp_path / "elsewhere")
    kept = store(tmp_path / "evidence", keep_days=1)
    kept.save(inspection(at=NOON))
    assert len(names(tmp_path / "elsewhere")) == 2
    assert len(kept.sweep(NOON + timedelta(days=9))) == 2
    assert names(tmp_path / "elsewhere") == []


def test_a_picture_that_cannot_be_written_for_a_moment_is_written_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = store(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # not one more file may be opened
    later = threading.Timer(0.1, resource.setrlimit, [resource.RLIMIT_NOFILE, (soft, hard)])
    later.start()
    try:
        saved = kept.save(inspection())
    finally:
        later.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert saved.image is not None
    assert saved.overlay is not None
    assert (kept.lost, caplog.text) == (0, "")


def test_a_read_only_folder_costs_evidence_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with unprivileged_folder() as folder:
        folder.chmod(0o500)
        kept = store(folder / "evidence")
        for _ in range(3):
            assert kept.save(inspection()).image is None
        assert kept.sweep(NOON) == []
        assert kept.lost == 3
        assert caplog.text.count(f"Permission denied: let user {os.geteuid()} write there") == 1
        folder.chmod(0o700)
        assert kept.save(inspection()).image is not None


def test_what_cannot_be_deleted_is_said_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with unprivileged_folder() as folder:
        kept = store(folder, keep_days=1)
        saved = kept.save(inspection(at=NOON))
        assert saved.image is not None
        day = stored(saved.image).parent
        day.chmod(0o500)
        assert kept.sweep(NOON + timedelta(days=9)) == []
        assert "Permission denied" in caplog.text
        day.chmod(0o700)
        assert len(kept.sweep(NOON + timedelta(days=9))) == 2
        assert names(folder) == []


def test_a_file_in_the_place_of_the_folder_is_no_reason_to_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "evidence").write_text("in the way")
    kept = store(tmp_path / "evidence")
    assert kept.save(inspection()).image is None
    assert kept.sweep(NOON) == []
    assert "Not a directory" in caplog.text


def test_saving_looks_into_no_folder_once_it_has_counted(tmp_path: Path) -> None:
    kept = store(tmp_path, overlays="none", keep_gb=1)
    kept.save(inspection(at=NOON))
    looked: list[str] = []
    sys.addaudithook(lambda event, args: looked.append(event) if event == "os.scandir" and looked_for[0] else None)
    looked_for[0] = True
    try:
        for _ in range(5):
            kept.save(inspection(at=NOON))
            kept.sweep(NOON)
    finally:
        looked_for[0] = False
    assert looked == []


looked_for = [False]  # an audit hook cannot be taken away, but told to rest


def test_its_module_needs_no_torch() -> None:
    modules = "edge_agent.evidence.store, edge_agent.sources.folder.source, edge_agent.sources.stored"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def store(folder: Path, **options: object) -> EvidenceStore:
    return EvidenceStore(folder, render=lambda inspection, largest: 255 - inspection.frame.pixels, **options)  # type: ignore[arg-type]


def inspection(evaluation: Evaluation = Evaluation.NOT_OK, *, pixels: np.ndarray = PIXELS, **more: Any) -> Inspection:
    return inspected(evaluation=evaluation, pixels=pixels, **({"part_id": None} | more))


def stored(saved: SavedFile | str) -> Path:
    return Path(unquote(urlparse(saved if isinstance(saved, str) else saved.uri).path))


def name_of(uri: str) -> str:
    return "/".join(stored(uri).parts[-3:])


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in names(folder))


def uris(images: list[SavedFile | None], folder: Path) -> list[str]:
    """Those of originals and of the overlays beside them."""
    found = []
    for image in images:
        assert image is not None
        found += [image.uri, image.uri.replace(".png", "_overlay.jpg")]
    return found


@contextmanager
def small_disk(place: Path, size: int, *options: str) -> Iterator[Path]:
    """A file system of its own, which only root can mount."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "none", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_pictures_are_kept_and_swept_by_two_threads_and_none_of_today_is_lost_or_counted_wrongly(
    tmp_path: Path,
) -> None:
    kept = store(tmp_path, keep_days=2, originals="all", overlays="none")
    now = datetime.now(timezone.utc)
    for _ in range(250):
        kept.save(inspection(Evaluation.OK, at=now - timedelta(days=9)))
    saved: list[SavedFile | None] = []

    def save() -> None:
        saved.extend(kept.save(inspection(Evaluation.OK)).image for _ in range(150))

    thread = threading.Thread(target=save)
    thread.start()
    removed = kept.sweep(now)
    while thread.is_alive():
        removed += kept.sweep(now)
    thread.join()
    assert len(removed) == 250
    assert len(saved) == 150
    assert all(one is not None and stored(one).exists() for one in saved)
    assert sum(kept._usage().values()) == size(tmp_path)
