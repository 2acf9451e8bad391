"""An OPC UA client reads verdicts, starts jobs and is told their results; a wrong password, a restart and a crash change nothing."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config.describe import describe
from edge_agent.config.load import load_config
from edge_agent.core import AgentNow, AlarmEvent, Evaluation, Evidence, Inspection, SinkContext, SourceState, StationNow
from edge_agent.errors import ConfigError
from edge_agent.io.backoff import Backoff
from edge_agent.opcua.config import OpcUaConfig
from tests.agent import ALL_OK, Daemon, station, write_config
from tests.conftest import slowness, wait_until
from tests.line import IDENTITY, NOON, TRACE, inspected
from tests.mosquitto import free_port
from tests.plc import inspection
from tests.test_camera import clip

ROOT = Path(__file__).parents[1]
PASSWORD = "r1ght-pony"
UP = SourceState(True, NOON)
VISION, OWN = 2, 3  # indexes of the namespaces, always the same


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A certificate for the server, and one for the client, as the document makes them; and a password."""
    from asyncua.crypto.cert_gen import (
        dump_private_key_as_pem,
        generate_private_key,
        generate_self_signed_app_certificate,
    )
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID

    folder = tmp_path_factory.mktemp("opcua")
    for name, uri in (("server", "urn:edge-agent:box"), ("client", "urn:scada")):
        key = generate_private_key()
        names = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
        use = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = generate_self_signed_app_certificate(key, uri, {}, names, use, days=100)
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{name}-key.pem").write_bytes(dump_private_key_as_pem(key))
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    return {
        "cert": folder / "server.pem",
        "key": folder / "server-key.pem",
        "users": {"scada": {"file": folder / "password"}},
    }


@dataclass
class Served:
    """A server of three stations: cam1 takes jobs, cam2 none, cam3 answers its jobs within 50 ms."""

    port: int
    config: OpcUaConfig
    why: list[str | None] = field(default_factory=lambda: [None])  # why the stations are not ready
    source: list[SourceState] = field(default_factory=lambda: [UP])
    sink: Any = None

    def start(self) -> None:
        """Start it, and not wait."""
        self.sink = self.config.build(
            SinkContext(
                replace(IDENTITY, name="box"),
                lambda name: None,  # type: ignore[arg-type,return-value]
                lambda: AgentNow(
                    "c" * 64, {one: StationNow(TRACE, self.source[0]) for one in ("cam1", "cam2", "cam3")}
                ),
                asked={"cam1": None, "cam3": 0.05},
                not_ready=lambda station: self.why[0],
            )
        )

    def serves(self) -> None:
        """Wait until it does."""
        wait_until(lambda: self.sink.problem is None, "it serves", state=lambda: self.sink.problem)


@contextmanager
def serving(**config: Any) -> Iterator[Served]:
    port = free_port()
    served = Served(port, OpcUaConfig.model_validate({"host": "127.0.0.1", "port": port, **config}))
    served.start()
    served.serves()
    yield served
    served.sink.close()


@pytest.fixture(scope="module")
def secured(security: dict[str, Any]) -> Iterator[Served]:
    """One that wants a password and encryption. Its start takes two seconds of processor."""
    with serving(**security) as served:
        yield served


@pytest.fixture(scope="module")
def opened(security: dict[str, Any]) -> Iterator[Served]:
    """One that anybody may look at."""
    with serving(security="none", anonymous=True, users=security["users"]) as served:
        yield served


@asynccontextmanager
async def client(
    port: int, user: str | None = None, password: str = PASSWORD, security: Any = None
) -> AsyncIterator[Any]:
    from asyncua import Client
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

    one = Client(f"opc.tcp://127.0.0.1:{port}/", timeout=20)
    if user:
        one.set_user(user)
        one.set_password(password)
    if security:
        folder = security["cert"].parent
        one.application_uri = "urn:scada"
        await one.set_security(SecurityPolicyBasic256Sha256, folder / "client.pem", folder / "client-key.pem")
    async with one:  # it knows the structures, as the server's are in the same process
        yield one


class Events:
    """What a subscription has got."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.values: dict[str, list[Any]] = {}

    def event_notification(self, event: Any) -> None:
        self.events.append(event)

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values.setdefault(node.nodeid.Identifier, []).append(value)


async def subscribed(one: Any, *values: str, station: str = "cam1") -> Events:
    from edge_agent.opcua.types import OWN_EVENT, node_id

    events = Events()
    subscription = await one.create_subscription(10, events)
    await subscription.subscribe_events(one.get_node(node_id(station, OWN)), evtypes=[node_id(OWN_EVENT, OWN)])
    if values:
        await subscription.subscribe_data_change([one.get_node(node_id(f"{station}.{name}", OWN)) for name in values])
    return events


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until it gives something true."""
    give_up = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < give_up, f"not in time: {what}"
        await asyncio.sleep(0.005)
    return found


async def start_job(one: Any, part: str, meas: str = "", station: str = "cam1") -> str:
    from asyncua import ua

    from edge_agent.opcua.types import made, node_id

    mode = one.get_node(node_id(f"{station}.AutomaticModeStateMachine", OWN))
    job, error = await mode.call_method(
        node_id(f"{station}.StartSingleJob", OWN),
        made("MeasIdDataType", meas),
        made("PartIdDataType", part),
        made("RecipeIdExternalDataType", ""),
        made("ProductIdDataType", ""),
        ua.Variant([], ua.VariantType.Variant),
    )
    assert error == 0
    return str(job.Id)


def request(sink: Any, station: str = "cam1") -> Any:
    return next(iter(sink.triggers(station).requests()), None)


async def value(one: Any, name: str, station: str = "cam1") -> Any:
    from edge_agent.opcua.types import node_id

    return await one.get_node(node_id(f"{station}.{name}", OWN)).read_value()


async def until_value(one: Any, name: str, text: str, station: str = "cam1") -> None:
    give_up = time.monotonic() + 60
    while (found := (await value(one, name, station)).Text) != text:
        assert time.monotonic() < give_up, f"{name} is {found}, not {text}"
        await asyncio.sleep(0.01)


def test_a_job_is_one_picture_and_its_result_comes_as_an_event_within_50_ms(
    secured: Served, security: dict[str, Any]
) -> None:
    async def look(sink: Any) -> None:
        async with client(secured.port, "scada", security=security) as one:
            events = await subscribed(one, "LastEvaluation")
            assert (await value(one, "State")).Text == "Operational"
            await until_value(one, "Mode", "Ready")
            job = await start_job(one, "SN1", "M7")
            asked = await until(lambda: request(sink), "it is requested")
            assert (asked.part_id, asked.trigger_id, asked.fault) == ("SN1", job, None)
            assert (await value(one, "Mode")).Text in ("Ready", "SingleExecution")
            begun = time.monotonic()
            sink.write(inspection("cam1", asked, Evaluation.NOT_OK), Evidence())
            event = await until(lambda: events.events and events.events[0], "the event comes")
            took = time.monotonic() - begun
            assert (event.JobId.Id, event.PartId.Id, event.MeasId.Id) == (job, "SN1", "M7")
            assert (event.Evaluation, event.IsSimulated, event.IsPartial, event.ResultState) == (
                "NotOK",
                False,
                False,
                1,
            )
            assert event.ResultId.Id
            assert event.Late is False
            await until(lambda: events.values["cam1.LastEvaluation"][-1] == "NotOK", "the variable changes")
            await until_value(one, "Mode", "Ready")
            assert took < 0.05 * slowness()

    asyncio.run(look(secured.sink))


@pytest.mark.parametrize(
    ("user", "password", "refused"),
    [("scada", "wr0ng-horse", "BadUserAccessDenied"), ("nobody", PASSWORD, "BadUserAccessDenied"), (None, "", "BadIdentityTokenRejected")],
)  # fmt: skip
def test_who_has_no_right_password_does_not_come_in(
    secured: Served,
    security: dict[str, Any],
    user: str | None,
    password: str,
    refused: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def look() -> None:
        async with client(secured.port, user, password, security=security):
            pass

    with pytest.raises(Exception, match=r".*") as failed:
        asyncio.run(look())
    assert refused in f"{failed.value!r}"
    assert PASSWORD not in caplog.text
    assert "wr0ng-horse" not in caplog.text


def test_without_encryption_nobody_comes_in_where_it_is_asked_for(secured: Served) -> None:
    async def look() -> None:
        async with client(secured.port, "scada"):
            pass

    with pytest.raises(Exception, match=r"endpoint|Security|Policy"):
        asyncio.run(look())


def test_whoever_did_not_sign_in_may_look_and_start_nothing(opened: Served) -> None:
    async def look(sink: Any) -> None:
        async with client(opened.port) as one:
            assert await value(one, "SourceUp") is True
            with pytest.raises(Exception, match=r"permission|BadUserAccessDenied|NotPermitted"):
                await start_job(one, "SN1")
            assert request(sink) is None

    asyncio.run(look(opened.sink))


def test_a_job_is_refused_while_one_runs_while_the_station_is_not_ready_and_for_a_part_that_is_no_text(
    opened: Served,
) -> None:
    async def look(sink: Any) -> None:
        async with client(opened.port, "scada") as one:
            await until_value(one, "Mode", "Ready")
            with pytest.raises(Exception, match="BadInvalidArgument"):
                await start_job(one, "SN\x01")
            await start_job(one, "SN1")
            with pytest.raises(Exception, match="BadInvalidState"):
                await start_job(one, "SN2")
            asked = request(sink)
            assert asked.part_id == "SN1"
            assert request(sink) is None
            sink.write(inspection("cam1", asked, Evaluation.OK), Evidence())
            await until_value(one, "Mode", "Ready")
            opened.why[0] = "the journal takes nothing (disk full)"
            await until_value(one, "State", "Preoperational")
            assert await value(one, "Ready") is False
            assert await value(one, "NotReadyReason") == opened.why[0]
            with pytest.raises(Exception, match="BadInvalidState"):
                await start_job(one, "SN3")
            opened.why[0] = None

    asyncio.run(look(opened.sink))


def test_a_verdict_that_comes_too_late_is_not_decidable_and_is_told_no_more(opened: Served) -> None:
    async def look(sink: Any) -> None:
        async with client(opened.port, "scada") as one:
            events = await subscribed(one, "CountOK", station="cam3")
            await until_value(one, "Mode", "Ready", "cam3")
            job = await start_job(one, "SN1", station="cam3")
            (event,) = await until(lambda: events.events, "the time is up")
            assert (event.Evaluation, event.Late, event.JobId.Id) == ("NotDecidable", True, job)
            sink.write(inspection("cam3", request(sink, "cam3"), Evaluation.OK), Evidence())
            await until(lambda: events.values["cam3.CountOK"][-1] == 1, "it is counted")
            assert len(events.events) == 1
            assert await value(one, "LastEvaluation", "cam3") == "NotDecidable"

    asyncio.run(look(opened.sink))


def test_a_station_without_jobs_tells_all_it_sees_with_alarm_source_and_counts(opened: Served) -> None:
    def told(alarm: AlarmEvent) -> Inspection:
        return inspected(alarm, station="cam2")

    async def look(sink: Any) -> None:
        from edge_agent.opcua.types import node_id

        async with client(opened.port) as one:
            events = await subscribed(one, "AlarmActive", "SourceUp", station="cam2")
            await until_value(one, "Mode", "ContinuousExecution", "cam2")
            sink.write(told(AlarmEvent.RAISED), Evidence())
            sink.write(told(AlarmEvent.CLEARED), Evidence())
            await until(lambda: len(events.events) == 2, "both come")
            assert [event.JobId.Id for event in events.events] == ["", ""]
            opened.source[0] = SourceState(False, NOON, "no route")
            await until(lambda: events.values["cam2.SourceUp"][-1] is False, "the source is gone")
            opened.source[0] = UP
            system = one.get_node(node_id("cam2", OWN))
            assert {"VisionStateMachine", "LastScore", "CountNotOK", "AlarmActive"} <= await names(system)
            kind = await system.read_type_definition()
            assert (kind.Identifier, kind.NamespaceIndex) == (1003, VISION)
            assert "StartSingleJob" not in await names(one.get_node(node_id("cam2.AutomaticModeStateMachine", OWN)))

    asyncio.run(look(opened.sink))


async def names(node: Any) -> set[str]:
    return {(await child.read_browse_name()).Name for child in await node.get_children()}


def test_clients_that_come_and_go_leave_nothing_in_memory(opened: Served) -> None:
    async def visit(times: int) -> None:
        for _ in range(times):
            async with client(opened.port) as one:
                await subscribed(one, "LastScore")

    def held(times: int) -> int:
        asyncio.run(visit(times))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    before, after = held(3), held(6)
    tracemalloc.stop()
    assert after - before < 6 * 20_000


def test_a_subscription_goes_on_after_a_restart_though_the_port_was_taken_for_a_while(
    monkeypatch: pytest.MonkeyPatch, opened: Served
) -> None:
    monkeypatch.setattr("edge_agent.opcua.sink.START_AGAIN", Backoff(0.01, 0.1))

    async def look(served: Served) -> None:
        from asyncua import Client

        one = Client(f"opc.tcp://127.0.0.1:{served.port}/", timeout=60, auto_reconnect=True, reconnect_max_delay=0.2)
        await one.connect()
        events = await subscribed(one, "CountOK", station="cam2")
        await asyncio.to_thread(restart, served)
        give_up = time.monotonic() + 120
        while not events.events and time.monotonic() < give_up:  # until the client is there again, nobody hears it
            served.sink.write(inspected(station="cam2"), Evidence())
            await asyncio.sleep(0.1)
        assert events.events[0].Evaluation == "OK"
        assert events.values["cam2.CountOK"][-1] > 0
        await one.disconnect()

    def restart(served: Served) -> None:
        served.sink.close()
        with socket.create_server(("127.0.0.1", served.port)):
            served.start()
            wait_until(lambda: "failed (OSError" in str(served.sink.problem), "it is said")
            (finding,) = served.config.check("box")
            assert finding.state == "warning"
            assert "cannot be listened at (Address already in use" in finding.text
        served.serves()

    asyncio.run(look(opened))


def test_a_daemon_answers_jobs(tmp_path: Path, security: dict[str, Any]) -> None:
    port = free_port()
    source = {"camera": str(clip(tmp_path / "line.avi")), "repeat": True, "trigger": {"opcua": True, "timeout_s": 120}}
    users = {"scada": {"file": str(security["users"]["scada"]["file"])}}
    opcua = {"port": port, "host": "127.0.0.1", "security": "none", "users": users}

    async def look() -> Any:
        async with client(port, "scada") as one:
            await one.load_data_type_definitions()  # the server is in another process
            events = await subscribed(one)
            await until_value(one, "State", "Operational")
            await start_job(one, "SN1")
            return (await until(lambda: events.events, "its result comes"))[0]

    with Daemon(write_config(tmp_path, station(source=source, threshold=ALL_OK), opcua=opcua)) as daemon:
        daemon.until("opcua: serves")
        event = asyncio.run(look())
        assert (event.PartId.Id, event.Evaluation) == ("SN1", "OK")
        assert daemon.rows[-1]["id"] == event.ResultId.Id
        daemon.stop()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "opcua.cert: is missing: make a certificate and its key"),
        ({"security": "none"}, "opcua.anonymous: is false and there are no users"),
        ({"security": "none", "users": {"scada": "secret"}}, "opcua.users.scada: is refused in plain text"),
        ({"security": "off", "anonymous": True}, "opcua.security: is 'off'; wants 'sign_encrypt', 'sign' or 'none'"),
    ],
)
def test_what_is_wrong_in_the_config_is_said_with_its_place_and_remedy(
    tmp_path: Path, section: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write_config(tmp_path, opcua=section))
    assert said in str(refused.value)


def test_jobs_want_a_server(tmp_path: Path) -> None:
    source = {"camera": str(clip(tmp_path / "line.avi")), "trigger": "opcua"}
    with pytest.raises(ConfigError, match=r"opcua wants a server: add a section opcua: \{\.\.\.\}"):
        load_config(write_config(tmp_path, station(source=source)))


def test_the_doctor_looks_at_the_port_and_the_certificate(tmp_path: Path, security: dict[str, Any]) -> None:
    config = OpcUaConfig.model_validate({"host": "127.0.0.1", "port": free_port(), **security})
    port, certificate = config.check("box")
    assert (port.state, certificate.state) == ("ok", "ok")
    assert re.search(r"is valid for 99 more days", certificate.text)
    assert "is not for urn:edge-agent:other" in [*config.check("other")][1].text
    strange = config.model_copy(update={"key": security["cert"].parent / "client-key.pem"})
    assert "is not the key of" in [*strange.check("box")][1].text
    no_key = config.model_copy(update={"key": security["cert"]})
    assert "are no certificate with its key" in [*no_key.check("box")][1].text


def test_the_example_of_the_document_loads_and_is_described(tmp_path: Path) -> None:
    (documented,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/opcua.md").read_text(), re.DOTALL)
    for name in ("opcua.pem", "opcua.key", "scada-password"):
        (tmp_path / name).write_text("x")
    text = describe(load_config(write_config(tmp_path, **yaml.safe_load(documented))))
    assert "opcua     opc.tcp://0.0.0.0:4840, sign_encrypt, for scada" in text
