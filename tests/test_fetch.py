"""Backbones are fetched from real servers and folders that fail in every way servers, networks and disks do."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.backbones.tips.family import TipsFamily
from edge_agent.backbones.tips.files import FILES, find
from edge_agent.backbones.weights.download import RetryPolicy
from edge_agent.backbones.weights.fetch import fetch, fetch_published
from edge_agent.backbones.weights.published import Published, RemoteFile
from edge_agent.backbones.weights.store import PINS, read_pins
from edge_agent.errors import CheckpointError
from tests import weights_server
from tests.conftest import wait_until
from tests.weights_server import WeightsServer, serving

NAME = "tips-s14"
VISION, TEXT, TOKENIZER = (file.published_name for file in TipsFamily.catalog[NAME].files)
IMPATIENT = RetryPolicy(attempts=3, pause=0.0, timeout=20.0)
ONCE = RetryPolicy(attempts=0, timeout=20.0)  # gives up at the first break, as a user who presses Ctrl-C


def npz(seed: int, size: int) -> bytes:
    buffer = io.BytesIO()
    sized = {"pos_embed": np.zeros((1, 2, 384), np.float16), "token_embedding.weight": np.zeros((1, 384), np.float16)}
    np.savez(buffer, **sized, weights=np.random.default_rng(seed).standard_normal(size // 8))
    return buffer.getvalue()


WEIGHTS = {VISION: npz(1, 200_000), TEXT: npz(2, 60_000), TOKENIZER: bytes(range(256)) * 40}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with serving(dict(WEIGHTS)) as server:
        server.states = weights_server.google
        yield server


def get(server: WeightsServer, into: Path, policy: RetryPolicy = IMPATIENT) -> Path:
    return fetch(NAME, into=into, source=server.url, policy=policy)


def holds(folder: Path, weights: dict[str, bytes] = WEIGHTS) -> bool:
    """Whether the folder has exactly these files, pinned, and nothing half done."""
    files = dict(zip(FILES, weights.values(), strict=True))
    assert {path.name for path in folder.iterdir()} - {".lock"} == {*FILES, PINS}
    assert read_pins(folder) == {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    return all((folder / name).read_bytes() == body for name, body in files.items())


# The plain way


def test_a_fetch_brings_the_three_files_and_pins_them_as_sha256sum_does(server: WeightsServer, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    assert folder == tmp_path / NAME
    assert holds(folder)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", PINS], cwd=folder, check=True)


def test_what_is_here_and_intact_is_not_fetched_again(server: WeightsServer, tmp_path: Path) -> None:
    get(server, tmp_path)
    server.asked.clear()
    assert holds(get(server, tmp_path))
    assert server.asked == []


def test_without_a_source_the_owners_addresses_are_asked(server: WeightsServer, tmp_path: Path) -> None:
    files = tuple(RemoteFile(name, f"{server.url}/{at}") for name, at in zip(FILES, WEIGHTS, strict=True))
    ours = Published("ours", "us", "Apache-2.0", files=files)
    assert holds(fetch_published(ours, into=tmp_path, source=None, progress=lambda *_: None, policy=IMPATIENT))
    assert [path for path, _ in server.asked] == [f"/{name}" for name in WEIGHTS]


def test_progress_tells_file_bytes_done_and_bytes_in_all_and_only_grows(server: WeightsServer, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    server.cuts = [100_000]
    fetch(NAME, into=tmp_path, source=server.url, progress=lambda *told: seen.append(told), policy=IMPATIENT)
    for name, body in zip(FILES, WEIGHTS.values(), strict=True):
        told = [(done, total) for file, done, total in seen if file == f"{NAME}/{name}"]
        assert told == sorted(told)
        assert told[-1] == (len(body), len(body))


def test_the_embedded_backbone_needs_no_fetch(tmp_path: Path) -> None:
    assert fetch("embedded", into=tmp_path).name == "embedded"
    assert not list(tmp_path.iterdir())


def test_fetching_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, edge_agent.backbones.weights.fetch, edge_agent.backbones.weights.listing\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False False\n"


def test_files_of_another_size_of_model_are_refused_and_not_pinned(tmp_path: Path) -> None:
    for name, body in zip(FILES, WEIGHTS.values(), strict=True):  # as they lie in a folder of another model
        (tmp_path / name).write_bytes(body)
    with pytest.raises(
        CheckpointError, match=r"/vision\.npz is not vision\.npz of tips-l14: its width is 384, that of"
    ):
        fetch("tips-l14", into=tmp_path / "models", source=tmp_path)
    assert read_pins(tmp_path / "models" / "tips-l14") == {}
    np.savez(tmp_path / "vision.npz", something=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"is not vision\.npz of tips-s14: it has no array pos_embed"):
        fetch(NAME, into=tmp_path / "models", source=tmp_path)


def test_every_user_may_read_what_was_fetched_whatever_the_umask(server: WeightsServer, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = get(server, tmp_path / "share" / "models")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent, folder.parent.parent)} == {0o755}
    assert {(folder / name).stat().st_mode & 0o777 for name in (*FILES, PINS)} == {0o644}


# Connections that break


def test_a_connection_that_keeps_breaking_is_resumed_where_it_broke(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts = [10_000] * 12
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == [None] + [f"bytes={n}0000-" for n in range(1, 13)]


def test_a_fetch_that_was_killed_goes_on_where_it_stopped(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts, server.hold = [100_000], threading.Event()
    child = subprocess.Popen([sys.executable, "-c", FETCH, NAME, tmp_path, server.url])
    part = tmp_path / NAME / "vision.npz.part"
    wait_until(lambda: part.exists() and part.stat().st_size == 100_000, "the first part is there")
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.hold.set()
    assert not (tmp_path / NAME / "vision.npz").exists()
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == [None, "bytes=100000-"]


def test_a_fetch_killed_between_the_last_byte_and_the_rename_downloads_nothing_twice(
    server: WeightsServer, tmp_path: Path
) -> None:
    server.cuts = [100_000]
    with pytest.raises(CheckpointError):
        get(server, tmp_path, ONCE)
    part = tmp_path / NAME / "vision.npz.part"
    part.write_bytes(WEIGHTS[VISION])
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == [None]


def test_a_server_that_ignores_ranges_is_read_from_the_start(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts, server.ranges = [100_000], False
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == [None, "bytes=100000-"]


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_between_two_tries_is_not_mixed_with_its_old_self(
    server: WeightsServer, tmp_path: Path, if_range: bool
) -> None:
    server.states = lambda body: {}  # so that nothing but the ETag tells the two apart
    server.cuts, server.if_range = [10**9, 10**9, 5_000], if_range
    with pytest.raises(CheckpointError):
        get(server, tmp_path, ONCE)
    assert (tmp_path / NAME / "tokenizer.model.part").stat().st_size == 5_000
    newer = {**WEIGHTS, TOKENIZER: WEIGHTS[TOKENIZER][::-1]}
    server.files = newer
    assert holds(get(server, tmp_path), newer)


def test_a_server_that_answers_with_another_range_is_read_from_the_start(server: WeightsServer, tmp_path: Path) -> None:
    server.states = lambda body: {}
    server.cuts, server.range_off_by = [10**9, 10**9, 5_000], -100
    assert holds(get(server, tmp_path))


def test_a_file_that_got_shorter_on_the_server_is_fetched_from_the_start(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts, server.if_range = [100_000], False
    with pytest.raises(CheckpointError):
        get(server, tmp_path, ONCE)
    newer = {**WEIGHTS, VISION: npz(3, 80_000)}
    server.files = newer
    assert holds(get(server, tmp_path), newer)


def test_a_part_of_another_mirror_is_not_gone_on_with(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(CheckpointError):
        get(server, tmp_path, ONCE)
    with serving(WEIGHTS) as other:
        assert holds(get(other, tmp_path))
        assert other.asked_for(VISION) == [None]
        assert server.asked_for(VISION) == [None]


@pytest.mark.parametrize("damage", ["flip a byte", "longer than the file", "unreadable note", "no note"])
def test_a_damaged_part_is_found_out_and_downloaded_again(server: WeightsServer, tmp_path: Path, damage: str) -> None:
    server.cuts = [100_000]
    with pytest.raises(CheckpointError):
        get(server, tmp_path, ONCE)
    part = tmp_path / NAME / "vision.npz.part"
    note = part.with_name("vision.npz.part.json")
    if damage == "flip a byte":
        part.write_bytes(b"\0" + part.read_bytes()[1:])
    elif damage == "longer than the file":
        part.write_bytes(bytes(300_000))
    elif damage == "unreadable note":
        note.write_text(note.read_text()[:30])
    else:
        note.unlink()
    assert holds(get(server, tmp_path))


def test_a_server_that_falls_silent_is_asked_again(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts, server.hold = [50_000], threading.Event()
    assert holds(get(server, tmp_path, RetryPolicy(attempts=30, pause=0.0, timeout=1.0)))
    assert len(server.asked_for(VISION)) > 1


def test_a_server_that_is_busy_is_asked_again(server: WeightsServer, tmp_path: Path) -> None:
    server.refusals = [503, 429]
    assert holds(get(server, tmp_path))


def test_a_server_that_stays_down_is_given_up_with_its_address_and_the_remedy(
    server: WeightsServer, tmp_path: Path
) -> None:
    server.refusals = [503] * 100
    with pytest.raises(CheckpointError) as failure:
        get(server, tmp_path)
    assert f"{server.url}/{NAME}/vision.npz: HTTP 503" in str(failure.value)
    assert f"`edge-agent models fetch {NAME} --from PLACE`" in str(failure.value)
    assert VISION in str(failure.value)
    assert len(server.asked) == IMPATIENT.attempts


def test_a_server_that_promises_more_than_it_has_is_given_up(server: WeightsServer, tmp_path: Path) -> None:
    server.length_off_by = 1000
    with pytest.raises(CheckpointError, match=r"vision\.npz: .* \(tried 3 times\)"):
        get(server, tmp_path)
    assert not (tmp_path / NAME / "vision.npz").exists()


def test_a_server_that_sends_no_length_is_read_to_its_end(server: WeightsServer, tmp_path: Path) -> None:
    server.chunked, server.cuts = True, [90_000]
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == [None, "bytes=90000-"]


# Bytes that are wrong

STATEMENTS = [
    weights_server.google,
    weights_server.google_composite,
    weights_server.repr_digest,
    weights_server.old_digest,
]


@pytest.mark.parametrize("states", STATEMENTS)
def test_bytes_that_are_what_the_server_states_are_taken(
    server: WeightsServer, tmp_path: Path, states: Callable[[bytes], dict[str, str]]
) -> None:
    server.states = states
    assert holds(get(server, tmp_path))


@pytest.mark.parametrize("states", STATEMENTS)
def test_bytes_that_are_not_what_the_server_states_are_refused(
    server: WeightsServer, tmp_path: Path, states: Callable[[bytes], dict[str, str]]
) -> None:
    server.states = lambda body: states(body + b"!")
    with pytest.raises(CheckpointError, match=r"arrived damaged: its (crc32c|md5|sha256|sha512) is"):
        get(server, tmp_path)
    assert {path.name for path in (tmp_path / NAME).iterdir()} <= {".lock"}
    assert len(server.asked_for(VISION)) == 1


def test_a_sha256sums_beside_a_mirrors_files_is_honoured(server: WeightsServer, tmp_path: Path) -> None:
    server.states = lambda body: {}
    sums = "".join(f"{hashlib.sha256(body).hexdigest()} *{name}\n" for name, body in WEIGHTS.items())
    server.files[PINS] = sums.encode()
    assert holds(get(server, tmp_path / "good"))
    server.files[TEXT] = npz(9, 60_000)
    with pytest.raises(CheckpointError, match=f"{TEXT} arrived damaged: its sha256"):
        get(server, tmp_path / "bad")


@pytest.mark.parametrize("body", [WEIGHTS[VISION][:-1000], b"Not weights", WEIGHTS[VISION].replace(b"\x3f", b"\x3e")])
def test_weights_that_nobody_vouches_for_must_at_least_be_a_whole_archive(
    server: WeightsServer, tmp_path: Path, body: bytes
) -> None:
    server.states = lambda body: {}
    server.files[VISION] = body
    with pytest.raises(CheckpointError, match=r"_vision\.npz is not a whole \.npz file"):
        get(server, tmp_path)


def test_a_server_that_states_too_short_a_length_does_not_pass_for_whole(server: WeightsServer, tmp_path: Path) -> None:
    server.length_off_by = -1000
    with pytest.raises(CheckpointError, match="arrived damaged"):
        get(server, tmp_path)


def test_a_login_page_is_not_taken_for_weights(server: WeightsServer, tmp_path: Path) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(CheckpointError, match="the answer is a web page"):
        get(server, tmp_path)


def test_a_file_damaged_on_disk_is_refused_by_find_and_mended_by_fetch(server: WeightsServer, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    assert find(NAME, [tmp_path / "nowhere", tmp_path]).text == folder / "text.npz"
    (folder / "text.npz").write_bytes(npz(9, 60_000))
    with pytest.raises(CheckpointError, match=rf"text\.npz is damaged or was replaced.*`.* models fetch {NAME}`"):
        find(NAME, [tmp_path])
    server.asked.clear()
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == []
    find(NAME, [tmp_path])


def test_what_was_pinned_is_never_replaced_by_something_else(server: WeightsServer, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    (folder / "text.npz").unlink()
    server.files[TEXT] = npz(9, 60_000)
    with pytest.raises(CheckpointError, match=rf"{TEXT} is not the file that .*{PINS} has pinned"):
        get(server, tmp_path)
    assert not (folder / "text.npz").exists()
    server.files[TEXT] = WEIGHTS[TEXT]
    assert holds(get(server, tmp_path))


# Places that are not there


@pytest.mark.parametrize("code", [403, 404])
def test_a_file_that_a_mirror_does_not_give_is_named_with_every_address_tried(
    server: WeightsServer, tmp_path: Path, code: int
) -> None:
    server.refusals = [code] * 3
    with pytest.raises(CheckpointError) as failure:
        get(server, tmp_path)
    for address in (f"{NAME}/vision.npz", VISION, "vision.npz"):
        assert f"{server.url}/{address}: HTTP {code}" in str(failure.value)


def test_a_copy_of_the_models_folder_is_a_mirror(server: WeightsServer, tmp_path: Path) -> None:
    folder = get(server, tmp_path)
    files = {f"{NAME}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with serving(files) as mirror:
        assert holds(get(mirror, tmp_path / "other"))


def test_no_route_is_said_with_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(CheckpointError, match=rf"{address}/.*Connection refused.*\n.*--from PLACE"):
        fetch(NAME, into=tmp_path, source=address, policy=IMPATIENT)


def test_an_unknown_host_is_said_with_the_address(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"http://nowhere\.invalid/.*vision\.npz: "):
        fetch(NAME, into=tmp_path, source="http://nowhere.invalid", policy=RetryPolicy(attempts=1))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("ftp://127.0.0.1/models", "only http and https"),
        ("file:///etc", "only http and https"),
        ("http://", "only http and https"),
        ("http://user:secret@127.0.0.1/models", "no password in an address"),
        ("http://127.0.0.1/two words", "not an address"),
        ("http://127.0.0.1:port/", "not an address"),
        ("http://a..b/", "not an address"),
        ("/no/such/folder", "no such folder"),
    ],
)
def test_a_source_that_cannot_be_is_refused(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as failure:
        fetch(NAME, into=tmp_path, source=source, policy=IMPATIENT)
    assert "secret" not in str(failure.value)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tips-s14"):
        fetch("tips-s16", into=tmp_path)


def test_redirects_are_followed_ranges_and_all(server: WeightsServer, tmp_path: Path) -> None:
    server.redirects = {f"/{NAME}/vision.npz": f"{server.url}/{VISION}"}
    server.cuts = [100_000]
    assert holds(get(server, tmp_path))
    assert server.asked_for(VISION) == [None, "bytes=100000-"]


@pytest.mark.parametrize("elsewhere", ["ftp://127.0.0.1/vision.npz", "file:///etc/passwd", "data:,weights"])
def test_redirects_out_of_http_are_refused(server: WeightsServer, tmp_path: Path, elsewhere: str) -> None:
    server.redirects = {f"/{NAME}/vision.npz": elsewhere}
    with pytest.raises(CheckpointError, match=elsewhere):
        get(server, tmp_path)
    assert len(server.asked) == 1


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[WeightsServer, Path]]:
    """A server with a certificate of its own, and that certificate."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=weights", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(dict(WEIGHTS), tls=context) as server:
        yield server, certificate


def test_a_certificate_nobody_vouches_for_is_refused(tls_server: tuple[WeightsServer, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"self.signed.*SSL_CERT_FILE"):
        get(tls_server[0], tmp_path / "models")
    assert tls_server[0].asked == []


def test_https_is_spoken_and_never_left_for_http(
    tls_server: tuple[WeightsServer, Path], server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure, certificate = tls_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert holds(get(secure, tmp_path / "models"))
    secure.redirects = {f"/{NAME}/vision.npz": f"{server.url}/{VISION}"}
    with pytest.raises(CheckpointError, match=f"not following a redirect to {server.url}"):
        get(secure, tmp_path / "others")
    assert server.asked == []


# Folders and USB sticks


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A folder with the files as their owner names them."""
    folder = tmp_path / "stick"
    folder.mkdir()
    for name, body in WEIGHTS.items():
        (folder / name).write_bytes(body)
    return folder


def test_files_are_taken_from_a_folder_without_any_network(stick: Path, tmp_path: Path) -> None:
    assert holds(fetch(NAME, into=tmp_path / "models", source=stick))
    find(NAME, [tmp_path / "models"])


def test_a_copy_of_the_models_folder_is_taken_and_its_pins_honoured(stick: Path, tmp_path: Path) -> None:
    fetch(NAME, into=tmp_path / "models", source=stick)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "models", copy)
    assert holds(fetch(NAME, into=tmp_path / "here", source=copy))
    assert holds(fetch(NAME, into=tmp_path / "there", source=copy / NAME))
    (copy / NAME / "tokenizer.model").write_bytes(b"damaged on the way")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model arrived damaged: its sha256"):
        fetch(NAME, into=tmp_path / "late", source=copy)


def test_a_folder_that_lacks_a_file_is_told_what_was_looked_for(stick: Path, tmp_path: Path) -> None:
    (stick / TEXT).unlink()
    with pytest.raises(CheckpointError, match=rf"no text\.npz of {NAME} at .*{stick / TEXT}"):
        fetch(NAME, into=tmp_path / "models", source=stick)


def test_half_a_file_on_a_stick_is_refused(stick: Path, tmp_path: Path) -> None:
    (stick / VISION).write_bytes(WEIGHTS[VISION][:50_000])
    with pytest.raises(CheckpointError, match=rf"{VISION} is not a whole \.npz file"):
        fetch(NAME, into=tmp_path / "models", source=stick)


def test_a_part_from_a_server_does_not_get_into_a_file_from_a_folder(
    server: WeightsServer, stick: Path, tmp_path: Path
) -> None:
    server.cuts = [100_000]
    with pytest.raises(CheckpointError):
        get(server, tmp_path / "models", ONCE)
    assert holds(fetch(NAME, into=tmp_path / "models", source=stick))


def test_files_put_in_place_by_hand_are_trusted_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    for name, body in zip(FILES, WEIGHTS.values(), strict=True):
        (folder / name).write_bytes(body)
    with pytest.raises(CheckpointError, match=f"not pinned.*`edge-agent models fetch {NAME} --from {folder}`"):
        find(NAME, [tmp_path])
    assert holds(fetch(NAME, into=tmp_path, source=folder))
    find(NAME, [tmp_path])


# Disks and other processes

FETCH = """
import sys
from pathlib import Path
from edge_agent.backbones.weights.download import RetryPolicy
from edge_agent.backbones.weights.fetch import fetch
from edge_agent.errors import CheckpointError
try:
    fetch(sys.argv[1], into=Path(sys.argv[2]), source=sys.argv[3], policy=RetryPolicy(3, 0.0, 20.0))
except CheckpointError as error:
    sys.exit(str(error))
"""


def test_two_fetches_at_once_do_the_work_once(server: WeightsServer, tmp_path: Path) -> None:
    server.cuts, server.hold = [100_000], threading.Event()
    command = [sys.executable, "-c", FETCH, NAME, str(tmp_path), server.url]
    first = subprocess.Popen(command)
    wait_until(lambda: server.asked_for(VISION) == [None], "the server is asked")
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert "another fetch works in" in second.stderr.readline()
    server.hold.set()
    assert (first.wait(), second.wait()) == (0, 0)
    second.stderr.close()
    assert holds(tmp_path / NAME)
    assert [server.asked_for(name) for name in WEIGHTS] == [[None, "bytes=100000-"], [None], [None]]


def test_a_disk_too_small_for_the_file_is_said_before_its_download(server: WeightsServer, tmp_path: Path) -> None:
    server.length_off_by = 10**15
    with pytest.raises(CheckpointError, match=r"no room for .* 1,000,000,000.* MB .*choose another folder"):
        get(server, tmp_path)
    assert len(server.asked_for(VISION)) == 1


def on_small_disk(
    server: WeightsServer, disk: Path, before: str, size: str = "150k"
) -> subprocess.CompletedProcess[str]:
    """Fetch into a tmpfs of that size, in a mount namespace of its own, after the shell commands `before`."""
    disk.mkdir()
    script = f'mount -t tmpfs -o size={size} tmpfs "$4" && cd "$4" && {before} && exec "$1" -c "$2" "$3" "$4" "$5"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", sys.executable, FETCH, NAME]
    if not shutil.which("unshare") or subprocess.run([*command[:3], "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount in a namespace of its own")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run([*command, disk, server.url], capture_output=True, text=True, env=environment)


def test_a_disk_that_fills_up_is_said_and_what_has_come_is_kept(server: WeightsServer, tmp_path: Path) -> None:
    server.chunked = True  # no length, so that the want of room shows only when the disk is full
    ended = on_small_disk(server, tmp_path / "disk", "true")
    assert ended.returncode == 1
    assert f"{tmp_path / 'disk' / NAME}: No space left on device; make room" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_read_only_disk_is_said(server: WeightsServer, tmp_path: Path) -> None:
    ended = on_small_disk(server, tmp_path / "disk", f'mkdir {NAME} && mount -o remount,ro "$4"')
    assert ended.returncode == 1
    assert "Read-only file system; check who may read and write there" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_read_only_disk_that_has_everything_will_do(server: WeightsServer, tmp_path: Path) -> None:
    get(server, tmp_path / "ready")
    server.asked.clear()
    copy = f'cp -r "{tmp_path}/ready/{NAME}" . && mount -o remount,ro "$4"'
    assert on_small_disk(server, tmp_path / "disk", copy, size="1m").returncode == 0
    assert server.asked == []
