"""Who gets to the page, who may change something there, and that nobody else's form does."""

from __future__ import annotations

import fcntl
import json
import re
import ssl
import stat
import subprocess
import threading
import urllib.request

import pytest
from starlette.testclient import TestClient

from edge_agent.cli import main
from edge_agent.config.load import load_config
from edge_agent.errors import ConfigError
from edge_agent.journal.labels import open_labels
from edge_agent.page.access.accounts import Role
from edge_agent.page.serve import listen, server
from tests.conftest import PATIENCE_S
from tests.mosquitto import program
from tests.pages import accounts_of, journal_of, page, password_of, shift, sign_in, token_in

BROWSER = {"accept": "text/html"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The folder of a journal and its accounts, with the inspections in it."""
    folder = tmp_path_factory.mktemp("accounts")
    return folder, journal_of(folder, shift()), accounts_of(folder)


@pytest.fixture
def guarded(shop):
    """A page that takes accounts, a browser that is not signed in, and the inspections."""
    folder, held, accounts = shop
    with page(folder, accounts=accounts) as app:
        yield TestClient(app, base_url="http://127.0.0.1", follow_redirects=False), held


def labels_of(folder, inspection):
    with open_labels(f"sqlite:///{folder}/journal.db") as labels:
        return labels.history(inspection.id)


def test_nobody_sees_anything_before_signing_in(guarded):
    client, held = guarded
    for address in ("/", "/review", f"/inspection/{held[0].id}"):
        answer = client.get(address, headers=BROWSER)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in?next=")
    assert client.get(f"/picture/{held[0].id}/map.jpg").status_code == 401
    assert client.post(f"/inspection/{held[0].id}", data={"value": "good"}).status_code == 401


def test_who_signs_in_is_led_on_to_what_was_asked_for(guarded):
    client, _ = guarded
    html = client.get("/sign-in?next=%2Freview%3Fshow%3Dall", headers=BROWSER).text
    assert 'name="next" value="/review?show=all"' in html
    sign_in(client, "vera")
    assert client.get("/review").status_code == 200


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example/", "/\\evil.example", "\\\\evil", "javascript:x", "/a\nb"]
)
def test_signing_in_never_leads_to_another_site(guarded, place):
    client, _ = guarded
    form = {
        "token": token_in(client.get("/sign-in", params={"next": place}).text),
        "name": "vera",
        "password": password_of("vera"),
    }
    answer = client.post("/sign-in", data={**form, "next": place})
    assert answer.headers["location"] == "/"


def test_a_cookie_is_kept_from_scripts_and_other_sites_and_is_another_after_signing_in(shop):
    folder, _, accounts = shop
    with page(folder, accounts=accounts, secure=True) as app:
        client = TestClient(app, base_url="https://page.example", follow_redirects=False)
        before = client.get("/sign-in")
        cookie = before.headers["set-cookie"]
        assert cookie.startswith("__Host-edge-agent=")
        for part in ("HttpOnly", "SameSite=lax", "Secure", "Path=/"):
            assert part in cookie
        old = client.cookies["__Host-edge-agent"]
        sign_in(client, "vera")
        assert client.cookies["__Host-edge-agent"] != old
        assert token_in(client.get("/sign-in").text) != token_in(before.text)


def test_a_session_ends_with_signing_out_and_with_a_new_password_or_role(shop):
    folder, _, accounts = shop
    with page(folder, accounts=accounts) as app:
        client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        for ends in (
            lambda: client.post("/sign-out", data={"token": token_in(client.get("/review").text)}),
            lambda: accounts.put("vera", "viewer", "another password"),
            lambda: accounts.put("vera", "operator", password_of("vera")),
            lambda: accounts.remove("vera"),
        ):
            accounts.put("vera", "viewer", password_of("vera"))
            sign_in(client, "vera")
            assert client.get("/review").status_code == 200
            ends()
            assert client.get("/review").status_code == 401
    accounts.put("vera", "viewer", password_of("vera"))


@pytest.mark.parametrize(
    "cookie", ["", "x", "WyJlcmlrYSIsIiIsIiJd", "WyJlcmlrYSIsIiIsIiJd.aaaa.bbbb", "\x00", "a" * 5000]
)
def test_a_cookie_that_was_not_signed_here_is_nobodys(guarded, cookie):
    client, _ = guarded
    assert client.get("/review", headers={"cookie": f"edge-agent={cookie}".encode()}).status_code == 401


def test_an_old_session_is_nobodys(shop, monkeypatch):
    folder, _, accounts = shop
    with page(folder, accounts=accounts) as app:
        client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        sign_in(client, "vera")
        import itsdangerous.timed as timed

        now = timed.time.time()
        monkeypatch.setattr(timed.time, "time", lambda: now + 12 * 3600 + 5)
        assert client.get("/review").status_code == 401


def test_after_some_failures_a_name_has_to_wait_twice_as_long_each_time_even_with_the_right_password(tmp_path):
    from edge_agent.page.access.accounts import TooManyFailures

    now = [1000.0]
    accounts = accounts_of(tmp_path, lambda: now[0])
    for name in ("oscar", "nobody"):
        for _ in range(5):
            assert accounts.check(name, "wrong password") is None
        with pytest.raises(TooManyFailures, match="in 30 s"):
            accounts.check(name, password_of(name))
        now[0] += 31
        assert accounts.check(name, "wrong again") is None
        with pytest.raises(TooManyFailures, match="in 60 s"):
            accounts.check(name, password_of(name))
        assert accounts.check("vera", password_of("vera")) is not None
    now[0] += 61
    assert accounts.check("oscar", password_of("oscar")) is not None
    assert accounts.check("oscar", "wrong once") is None
    assert accounts.check("oscar", password_of("oscar")) is not None


def test_signing_in_says_the_same_for_a_wrong_password_and_a_name_that_is_not_there(guarded):
    client, _ = guarded
    token = token_in(client.get("/sign-in").text)
    wrong, unknown = (
        client.post("/sign-in", data={"token": token, "name": name, "password": "x" * 12})
        for name in ("vera", "mallory")
    )
    assert wrong.status_code == unknown.status_code == 403
    assert wrong.text == unknown.text


def test_the_file_of_accounts_holds_no_password_and_is_its_owners_alone(shop):
    folder, _, _ = shop
    path = folder / "page-accounts.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for name in ("vera", "oscar", "erika"):
        assert password_of(name) not in path.read_text()
    assert json.loads(path.read_text())["accounts"]["erika"]["hash"].startswith("$argon2id$")


def test_a_damaged_file_of_accounts_lets_nobody_in(tmp_path):
    journal_of(tmp_path, shift()[:1])
    accounts = accounts_of(tmp_path)
    for damaged in (
        "",
        "{}",
        "[]",
        '{"accounts": {"vera": {"role": "king", "hash": ""}}, "key": "k"}',
        '{"accounts": []}',
    ):
        (tmp_path / "page-accounts.json").write_text(damaged)
        with page(tmp_path, accounts=accounts, local=Role.ENGINEER) as app:
            answer = TestClient(app, base_url="http://127.0.0.1").get("/review")
        assert answer.status_code == 503
        assert "page-accounts.json is damaged" in answer.text


# Forms


def test_an_operator_labels_and_the_row_keeps_who_said_it(guarded, shop):
    client, held = guarded
    folder = shop[0]
    sign_in(client, "oscar")
    address = f"/inspection/{held[1].id}?show=all"
    answer = client.post(
        address, data={"token": token_in(client.get(address).text), "seen": "", "value": "good", "note": "dust"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    (label,) = labels_of(folder, held[1])
    assert (label.value.value, label.who, label.note) == ("good", "oscar", "dust")
    assert re.search(r"Good part.*oscar", client.get("/review").text)


def test_a_defect_has_a_kind_and_a_box_and_both_are_shown_and_offered_again(guarded, shop):
    client, held = guarded
    folder = shop[0]
    sign_in(client, "oscar")
    address = f"/inspection/{held[2].id}"
    form = {
        "token": token_in(client.get(address).text),
        "seen": "",
        "value": "defect",
        "kind": "scratch",
        "box": "3,4,20,10",
    }
    assert client.post(address, data=form).status_code == 303
    (label,) = labels_of(folder, held[2])
    assert (label.kind, label.box) == ("scratch", (3, 4, 20, 10))
    html = client.get(address).text
    assert '<rect class="said" x="3" y="4" width="20" height="10"/>' in html
    assert '<option value="scratch">' in client.get(f"/inspection/{held[0].id}").text


def test_of_two_people_the_later_one_sees_the_earlier_ones_word_first(guarded, shop):
    client, held = guarded
    folder, _, accounts = shop
    address = f"/inspection/{held[5].id}"
    with page(folder, accounts=accounts) as app:
        other = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        forms = {}
        for browser, name in ((client, "oscar"), (other, "erika")):
            sign_in(browser, name)
            html = browser.get(address).text
            forms[name] = {"token": token_in(html), "seen": re.search(r'name="seen" value="(\d*)"', html)[1]}
        assert client.post(address, data={**forms["oscar"], "value": "good"}).status_code == 303
        late = other.post(address, data={**forms["erika"], "value": "defect"})
        assert late.status_code == 409
        assert "Somebody else said something of this part meanwhile" in late.text
        assert re.search(r"Good part.*oscar", late.text)
        seen = re.search(r'name="seen" value="(\d+)"', late.text)[1]
        assert other.post(address, data={**forms["erika"], "seen": seen, "value": "defect"}).status_code == 303
    assert [label.who for label in labels_of(folder, held[5])] == ["oscar", "erika"]


def test_a_label_is_undone_and_what_was_said_stays_in_the_record(guarded, shop):
    client, held = guarded
    folder = shop[0]
    sign_in(client, "oscar")
    address = f"/inspection/{held[3].id}"
    for value in ("good", "none"):
        html = client.get(address).text
        form = {"token": token_in(html), "seen": re.search(r'name="seen" value="(\d*)"', html)[1], "value": value}
        assert client.post(address, data=form).status_code == 303
    assert [label.value.value for label in labels_of(folder, held[3])] == ["good", "none"]
    assert "What was said so far (2)" in client.get(address).text


def test_the_grid_labels_without_leaving_it(guarded):
    client, held = guarded
    sign_in(client, "oscar")
    token = re.search(r'data-token="([0-9a-f]+)"', client.get("/review").text)[1]
    answer = client.post(
        f"/inspection/{held[4].id}",
        data={"token": token, "seen": "", "value": "good"},
        headers={"accept": "application/json"},
    )
    assert answer.json()["word"] == "Good part"
    assert answer.json()["who"] == "oscar"
    again = client.post(
        f"/inspection/{held[4].id}",
        data={"token": token, "seen": "", "value": "good"},
        headers={"accept": "application/json"},
    )
    assert again.status_code == 409


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,0,0", "0,0,65,48", "60,40,9999999,1"])
def test_a_box_that_is_not_within_the_picture_is_refused_with_a_sentence(guarded, box):
    client, held = guarded
    sign_in(client, "oscar")
    address = f"/inspection/{held[0].id}"
    form = {"token": token_in(client.get(address).text), "seen": "", "value": "defect", "box": box}
    answer = client.post(address, data=form)
    assert answer.status_code == 400
    assert re.search("four whole numbers|does not lie in its picture", answer.text)


def test_a_viewer_has_no_buttons_and_may_not_label_without_them_either(guarded):
    client, held = guarded
    sign_in(client, "vera")
    html = client.get(f"/inspection/{held[0].id}").text
    assert "data-say" not in html
    answer = client.post(f"/inspection/{held[0].id}", data={"token": token_in(html), "seen": "", "value": "good"})
    assert answer.status_code == 403
    assert "takes the role operator" in answer.text


@pytest.mark.parametrize(
    ("headers", "token", "code"),
    [
        ({}, "", 403),
        ({}, "0" * 64, 403),
        ({"sec-fetch-site": "cross-site"}, None, 403),
        ({"sec-fetch-site": "same-site"}, None, 403),
        ({"content-type": "text/plain"}, None, 415),
        ({"content-type": "application/json"}, None, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, None, 415),
    ],
)
def test_a_form_of_another_site_changes_nothing(guarded, shop, headers, token, code):
    client, held = guarded
    folder = shop[0]
    sign_in(client, "erika")
    address = f"/inspection/{held[0].id}"
    right = token_in(client.get(address).text)
    content = f"value=good&seen=&token={right if token is None else token}"
    answer = client.post(
        address, content=content, headers={"content-type": "application/x-www-form-urlencoded", **headers}
    )
    assert answer.status_code == code
    assert labels_of(folder, held[0]) == []


def test_the_token_of_another_session_is_of_no_use(guarded):
    client, held = guarded
    stranger = token_in(client.get("/sign-in").text)
    client.cookies.clear()
    sign_in(client, "oscar")
    answer = client.post(f"/inspection/{held[0].id}", data={"token": stranger, "seen": "", "value": "good"})
    assert answer.status_code == 403


def test_a_form_larger_than_any_of_the_page_is_refused(guarded):
    client, held = guarded
    sign_in(client, "oscar")
    answer = client.post(f"/inspection/{held[0].id}", data={"note": "x" * 70_000})
    assert answer.status_code == 413


def test_without_accounts_this_machine_may_what_the_configuration_says(shop):
    folder, held, _ = shop
    with page(folder, accounts=None, local=Role.OPERATOR) as app:
        client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=False)
        html = client.get(f"/inspection/{held[0].id}").text
        form = {"token": token_in(html), "seen": "", "value": "unsure"}
        assert client.post(f"/inspection/{held[0].id}", data=form).status_code == 303
    assert labels_of(folder, held[0])[0].who == "this machine"


def test_a_page_that_others_can_reach_never_goes_without_accounts(shop):
    folder, _, _ = shop
    with page(folder, accounts=None, local=Role.ENGINEER, exposed=True) as app:
        assert TestClient(app, base_url="http://page.example").get("/review").status_code == 401


# The configuration and the command


STATION = "stations:\n- name: cam1\n  source: {folder: in}\n"


def config_of(folder, text):
    path = folder / "config.yaml"
    path.write_text(STATION + text)
    return path


def test_beyond_this_machine_the_page_takes_a_certificate(tmp_path):
    path = config_of(tmp_path, "page: {host: 0.0.0.0}\n")
    with pytest.raises(ConfigError, match=r"page\.tls: is missing, and 0\.0\.0\.0 can be reached from other machines"):
        load_config(path)
    assert load_config(config_of(tmp_path, "page: {}\n")).page.host == "127.0.0.1"
    with pytest.raises(ConfigError, match="no time zone that this machine knows"):
        load_config(config_of(tmp_path, "page: {zone: Mars/Base}\n"))


def test_the_key_of_the_certificate_is_a_file_or_a_credential_of_systemd(tmp_path, monkeypatch):
    for name in ("page.pem", "page.key", "page_key"):
        (tmp_path / name).write_text("x")
    for both in ("", ", key: page.key, key_credential: page_key"):
        with pytest.raises(ConfigError, match="wants exactly one of key, key_credential"):
            load_config(config_of(tmp_path, f"page: {{tls: {{cert: page.pem{both}}}}}\n"))
    tls = load_config(config_of(tmp_path, "page: {tls: {cert: page.pem, key_credential: page_key}}\n")).page.tls
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="systemd gave no credential page_key"):
        tls.key_file()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert tls.key_file() == tmp_path / "page_key"


def test_the_page_is_off_until_it_is_configured_and_exposed_only_with_accounts(tmp_path, capsys):
    assert main(["page", "--config", str(config_of(tmp_path, ""))]) == 78
    assert "the page is off" in capsys.readouterr().err
    assert main(["page", "--config", str(config_of(tmp_path, "page: {hosts: [line.example]}\n"))]) == 78
    assert "make one with edge-agent page passwd" in capsys.readouterr().err


def test_passwd_adds_changes_lists_and_removes_accounts(tmp_path, capsys, monkeypatch):
    import io

    path = str(config_of(tmp_path, f"page: {{}}\nagent: {{data_dir: {tmp_path}/data}}\n"))

    def passwd(*words, typed="a long password"):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
        code = main(["page", "passwd", *words, "--config", path])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert passwd() == (0, "there are no accounts\n")
    assert passwd("anna") == (0, "anna may sign in as viewer\n")
    assert passwd("anna", "--role", "engineer") == (0, "anna may sign in as engineer\n")
    assert passwd("anna") == (0, "anna may sign in as engineer\n")
    assert passwd("bernd", typed="short")[0] == 78
    assert passwd() == (0, "engineer  anna\n")
    assert passwd("anna", "--remove") == (0, "anna is removed, and signed out\n")
    assert passwd("anna", "--remove")[0] == 78


# The journal fails


def test_a_journal_that_another_process_writes_costs_a_label_but_shows_everything(guarded, shop, monkeypatch):
    client, held = guarded
    folder = shop[0]
    monkeypatch.setattr("edge_agent.journal.sqlite.BUSY_MS", 100)
    sign_in(client, "oscar")
    address = f"/inspection/{held[0].id}"
    before = labels_of(folder, held[0])
    form = {
        "token": token_in(client.get(address).text),
        "value": "good",
        "seen": str(before[-1].number) if before else "",
    }
    with open(f"{folder}/journal.db.writing", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = client.post(address, data=form)
        assert answer.status_code == 503
        assert "another process has been writing" in answer.text
        assert client.get("/review").status_code == 200
    assert labels_of(folder, held[0]) == before
    assert client.post(address, data=form).status_code == 303


def test_a_journal_that_is_gone_is_said_and_nothing_is_made_in_its_place(tmp_path):
    journal_of(tmp_path, shift()[:1])
    with page(tmp_path) as app:
        client = TestClient(app, base_url="http://127.0.0.1")
        for file in tmp_path.glob("journal.db*"):
            file.unlink()
        answer = client.get("/review")
    assert answer.status_code == 503
    assert "unable to open" in answer.text
    assert not (tmp_path / "journal.db").exists()


def test_the_page_is_encrypted_by_its_own_certificate_and_starts_with_none_that_does_not_fit(tmp_path, capsys):
    openssl = program("openssl")
    for name in ("page", "other"):
        files = ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"]
        request = [
            openssl,
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            "/CN=localhost",
        ]
        subprocess.run([*map(str, [*request, *files])], check=True, capture_output=True)
    journal_of(tmp_path, shift()[:1])
    path = config_of(tmp_path, f"agent: {{data_dir: {tmp_path}}}\npage: {{tls: {{cert: page.pem, key: other.key}}}}\n")
    assert main(["page", "--config", str(path), "--port", "0"]) == 1
    said = capsys.readouterr()
    assert "give a PEM certificate, and the key it was made with" in said.err
    assert "https://" not in said.out

    trusting = ssl.create_default_context(cafile=str(tmp_path / "page.pem"))
    with page(tmp_path, secure=True) as app, listen("127.0.0.1", 0) as opened:
        ready = server(app, (tmp_path / "page.pem", tmp_path / "page.key"))
        thread = threading.Thread(target=ready.run, args=([opened],))
        thread.start()
        try:
            address = f"https://localhost:{opened.getsockname()[1]}/review"
            with urllib.request.urlopen(address, context=trusting, timeout=PATIENCE_S) as answer:
                assert answer.status == 200
                assert "Secure" in answer.headers["set-cookie"]
        finally:
            ready.should_exit = True
            thread.join()
