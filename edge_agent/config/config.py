"""config.yaml to a frozen Config; the only reader of YAML and of the environment. Builds nothing of the agent.

Each class below is one section of the file, and its fields are the keys. Relative paths are relative to the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edge_agent.backbones.weights.catalog import BACKBONES
from edge_agent.config.errors import empty_values, findings_of
from edge_agent.config.places import Document, Finding, Loc, parse, shown
from edge_agent.errors import ConfigError
from edge_agent.inference.image_size import MOST_WINDOWS, whole_patches
from edge_agent.line.calibration import Fraction, MapThreshold
from edge_agent.settings.values import (
    CalibrationFile,
    CameraAddress,
    DatabaseUrl,
    Folder,
    Host,
    Model,
    Name,
    Pattern,
    Polling,
    Polygons,
    ReadableFile,
    Roi,
    Rotate,
    Size,
    Text,
    Topic,
    sanitised,
    sqlite_url,
    user_of,
    with_password,
    wrong,
)
from edge_agent.sources.camera.address import Backend, backend_of, is_url, takes_password
from edge_agent.sources.camera.address import with_password as with_camera_password

MAX_BYTES = 256 * 1024
MAX_LINES = 100  # of errors; who made more than that has one cause for all of them

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Kept = Literal["none", "not_ok", "all"]


class Section(BaseModel):
    """A section of the file: frozen, and every key in it is known."""

    # defer_build: what is not loaded need not be built, so that `edge-agent --help` answers at once.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)


class PasswordConfig(Section):
    """Where a password lies; exactly one of the three. The password itself is never part of the config."""

    file: ReadableFile | None = None
    env: Text | None = None  # name of an environment variable
    credential: Annotated[str, Field(pattern=r"^[\w-][\w.-]{0,100}$")] | None = None  # systemd's LoadCredential= name

    @model_validator(mode="before")
    @classmethod
    def _not_in_plain(cls, data: Any) -> Any:
        if not isinstance(data, dict | PasswordConfig):
            raise wrong(
                "is refused in plain text, as this file gets copied around: put it in a file that only the agent may"
                " read and say {file: PATH}, or {env: VARIABLE}, or {credential: NAME} for systemd's LoadCredential="
            )
        return data

    @model_validator(mode="after")
    def _exactly_one(self) -> PasswordConfig:
        if sum(x is not None for x in (self.file, self.env, self.credential)) != 1:
            raise wrong("wants exactly one of file, env, credential")
        return self

    def read(self) -> str:
        """The password, read anew at each call. Raises ConfigError when it cannot be had, now and by this process."""
        missing = self.missing()
        if missing:
            raise ConfigError(f"password: {missing}")
        path = self._path()
        try:
            text = os.environ[str(self.env)] if path is None else path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"password: {path} cannot be read as text: {error}") from error
        if not text:
            raise ConfigError(f"password: {self} is empty")
        return text

    def missing(self) -> str | None:
        """Why this process cannot have the password, or None. It depends on how the process was started."""
        if self.env is not None and not os.environ.get(self.env):
            return f"the environment variable {self.env} is not set for this process"
        if self.credential is not None:
            path = self._path()
            if path is None:
                return f"the credential {self.credential} is there only when systemd starts the agent (LoadCredential=)"
            if not os.path.isfile(path):
                return f"systemd gave no credential {self.credential}: add it to the unit as LoadCredential="
        return None

    def _path(self) -> Path | None:
        if self.credential is not None:
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            return Path(folder, self.credential) if folder else None
        return self.file

    def __str__(self) -> str:
        kinds = {"file": self.file, "environment variable": self.env, "systemd credential": self.credential}
        return next(f"{kind} {value}" for kind, value in kinds.items() if value is not None)


class AgentConfig(Section):
    """The node itself: name (one level of its MQTT topics), data_dir (all that it writes, unless said otherwise)."""

    name: Name = Field(default_factory=lambda: sanitised(platform.node()))
    data_dir: Folder = Field(
        # A service of systemd may write nowhere but in its StateDirectory=.
        default_factory=lambda: Path((os.environ.get("STATE_DIRECTORY") or "edge-agent-data").split(":")[0]),
        validate_default=True,
    )


class DatabaseConfig(Section):
    """The journal: url (default journal.db in agent.data_dir) without a password, which PostgreSQL may want.

    Inspections are deleted when they are older than keep_days, or when the whole journal is larger than keep_gb (1e9
    bytes): the oldest that are OK first, then the oldest. What was inspected is not inspected again all the same.
    """

    url: DatabaseUrl = "sqlite:///journal.db"
    password: PasswordConfig | None = None
    keep_days: Positive = 730.0
    keep_gb: Positive = 10.0

    @model_validator(mode="before")
    @classmethod
    def _url_alone(cls, data: Any) -> Any:
        return {"url": data} if isinstance(data, str) else data

    @field_validator("password")
    @classmethod
    def _has_a_use(cls, password: PasswordConfig | None, info: ValidationInfo) -> PasswordConfig | None:
        if password is not None and "url" in info.data and not user_of(info.data["url"]):
            raise wrong("has no use: give a PostgreSQL url that names a user, or remove it")
        return password

    def full_url(self) -> str:
        """The URL to connect to, password included; never log it. Raises ConfigError when there is no such password."""
        return self.url if self.password is None else with_password(self.url, self.password.read())


class TlsConfig(Section):
    """TLS to the broker: ca (default: the system's authorities), cert and key for mutual TLS. PEM files."""

    ca: ReadableFile | None = None
    cert: ReadableFile | None = None
    key: ReadableFile | None = Field(default=None, validate_default=True)

    @field_validator("key")
    @classmethod
    def _goes_with_cert(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        if "cert" in info.data and (info.data["cert"] is None) != (key is None):
            raise wrong("cert and key go together: give both, or neither")
        return key


class MqttConfig(Section):
    """The broker. Topics are PREFIX/STATION/{alarm,result,state} and PREFIX/AGENT/status.

    port: default 8883 with tls, 1883 without. results: every inspection is published, not the alarms alone.
    client_id: None is made from the machine's id.
    """

    host: Host = Field(examples=["broker.example"])
    tls: TlsConfig | None = None
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=None, validate_default=True)
    prefix: Topic = "edge-agent"
    username: Text | None = None
    password: PasswordConfig | None = None
    results: bool = False
    keepalive_s: Annotated[int, Field(ge=5, le=65535)] = 30
    client_id: Annotated[str, Field(pattern=r"^[\w.:-]{1,64}$")] | None = None

    @field_validator("port", mode="before")
    @classmethod
    def _of_the_protocol(cls, port: Any, info: ValidationInfo) -> Any:
        return (8883 if info.data.get("tls") else 1883) if port is None else port


class EvidenceConfig(Section):
    """The pictures that are kept in folder (default: evidence in agent.data_dir), originals and overlays.

    format: of overlays; originals are PNG, without loss. Pictures go when they are older than keep_days, or all together
    larger than keep_gb (1e9 bytes).
    """

    folder: Folder = Path("evidence")
    originals: Kept = "not_ok"
    overlays: Kept = "not_ok"
    format: Literal["jpg", "png", "webp"] = "jpg"
    keep_days: Positive = 30.0
    keep_gb: Positive = 20.0


class LimitsConfig(Section):
    """max_megapixels: larger pictures are NotDecidable. batch_size: pictures that go through the detector at once.

    max_wait_ms: how long a picture may wait for those of other stations, to be read together with them.
    """

    max_megapixels: Positive = 100.0
    batch_size: Annotated[int, Field(ge=1, le=256)] = 8
    max_wait_ms: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 5.0


class HealthConfig(Section):
    """How the agent is, for programs of this machine: http://127.0.0.1:PORT/metrics and /healthz."""

    port: Annotated[int, Field(ge=1, le=65535)] = 9464


class FolderConfig(Section):
    """A folder that a camera or another program writes pictures into; it may come into being later.

    patterns: of file names; none means every picture format. polling: None is automatic, as network folders need it.
    rescan_s: seconds between looks for what the operating system did not tell. bit_depth: how many bits a camera
    fills in 16-bit files.
    """

    folder: Folder = Field(examples=["./incoming"])
    recursive: bool = False
    patterns: tuple[Pattern, ...] = ()
    polling: Polling = None
    rescan_s: Annotated[float, Field(ge=1, le=86400, allow_inf_nan=False)] = 60.0
    bit_depth: Annotated[int, Field(ge=8, le=16)] = 16


class TriggerConfig(Section):
    """A file that appears in folder asks for a picture: SN123.trg for part SN123; it is deleted once that is recorded.

    mqtt: in place of files, commands on PREFIX/AGENT/cmd/trigger do; `trigger: mqtt` says it in short. pattern: of file
    names; others are left alone. timeout_s: without a picture for so long the part is NotDecidable.
    delay_s: the picture is taken so long after the file or the command has come.
    """

    mqtt: bool = False
    folder: Folder | None = Field(default=None, validate_default=True)
    pattern: Pattern = "*.trg"
    timeout_s: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] = 2.0
    delay_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _mqtt_alone(cls, data: Any) -> Any:
        return {"mqtt": True} if data == "mqtt" else data

    @field_validator("folder")
    @classmethod
    def _one_of_two(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
        if folder is None and info.data.get("mqtt") is False:
            raise wrong("is missing; for example folder: ./triggers, or mqtt: true in its place")
        if folder is not None and info.data.get("mqtt"):
            raise wrong("and mqtt exclude each other: triggers are files, or commands")
        return folder


class CameraConfig(Section):
    """A camera: a URL without a password, a number or path of /dev/video*, a GStreamer pipeline, or a video as if live.

    backend: auto goes by the address. password: of the URL's user, or for {password} in the address. fps: pictures a
    second to inspect, None: as many as the detector can. trigger: instead of a rate, a picture for each trigger.
    rotate: degrees clockwise; roi: x, y, width, height as fractions of the picture, once turned. size, fourcc: asked of a
    V4L2 camera. transport: of RTSP. repeat: a video begins again at its end. timeout_s: without a picture for so long a
    camera is lost; freeze_s: with nothing but the same pictures for so long it is frozen; open_timeout_s: for its answer.
    """

    camera: CameraAddress = Field(examples=["rtsp://10.0.0.5/stream1"])
    backend: Literal["auto", "ffmpeg", "v4l2", "gstreamer"] = "auto"
    password: PasswordConfig | None = None
    fps: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    trigger: TriggerConfig | None = None
    rotate: Rotate = 0
    roi: Roi | None = None
    size: Size | None = None
    fourcc: Annotated[str, Field(pattern=r"^[ -~]{4}$")] | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    repeat: bool = False
    timeout_s: Annotated[float, Field(ge=0.5, le=3600, allow_inf_nan=False)] = 3.0
    freeze_s: Annotated[float, Field(ge=0.5, le=1e9, allow_inf_nan=False)] = 5.0
    open_timeout_s: Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)] = 10.0
    bit_depth: ClassVar[int] = 16  # of stored pictures that are replayed as this station's

    @field_validator("password")
    @classmethod
    def _has_a_use(cls, password: PasswordConfig | None, info: ValidationInfo) -> PasswordConfig | None:
        if password is not None and "camera" in info.data and not takes_password(info.data["camera"]):
            raise wrong("has no use: name a user in the camera's URL, as in rtsp://USER@HOST/, or remove it")
        return password

    @field_validator("trigger")
    @classmethod
    def _instead_of_a_rate(cls, trigger: TriggerConfig | None, info: ValidationInfo) -> TriggerConfig | None:
        if trigger is not None and info.data.get("fps") is not None:
            raise wrong("and fps exclude each other: a picture comes at each trigger, or at a rate")
        return trigger

    @property
    def is_video(self) -> bool:
        """Whether this is a file that is played."""
        return self.chosen_backend == "ffmpeg" and not is_url(self.camera)

    @property
    def chosen_backend(self) -> Backend:
        """What opens it."""
        return backend_of(self.camera) if self.backend == "auto" else self.backend

    def address(self) -> str:
        """What to open, password included; never log it. Raises ConfigError when there is no such password."""
        return with_camera_password(self.camera, self.secret())

    def secret(self) -> str | None:
        """The password, read anew. Raises ConfigError."""
        return self.password.read() if self.password else None


def _kind_of_source(data: Any) -> str:
    if isinstance(data, dict):
        return "CameraConfig" if any(str(key).lower().startswith("cam") for key in data) else "FolderConfig"
    return type(data).__name__ if isinstance(data, Section) else "FolderConfig"


# One member for each kind of source, told apart by its first key; its tag is its name, which config_errors.py relies on.
SourceConfig = Annotated[
    Annotated[FolderConfig, Tag("FolderConfig")] | Annotated[CameraConfig, Tag("CameraConfig")],
    Discriminator(_kind_of_source),
]


class DetectorConfig(Section):
    """What looks at the pictures; stations that say the same share one.

    model: "embedded", the name of a known backbone, or a folder with its files (beginning with /, ./, ../ or ~).
    method: one that needs no checkpoint, in place of one. checkpoint: None is the one that comes with the model. class_name:
    what is in the picture, in a word or two. image_size: side in pixels at which pictures are read; None is as fitted.
    windows: how many windows are read besides, along each side of the picture; 1 is none.
    """

    model: Model = "embedded"
    method: Literal["clip", "winclip"] | None = None
    checkpoint: ReadableFile | None = Field(default=None, validate_default=True)
    class_name: Text = "object"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    image_size: Annotated[int, Field(ge=32, le=2048)] | None = None
    windows: Annotated[int, Field(ge=1, le=MOST_WINDOWS)] = 1

    @field_validator("checkpoint")
    @classmethod
    def _goes_with_model(cls, checkpoint: Path | None, info: ValidationInfo) -> Path | None:
        model = info.data.get("model", "embedded")
        method = info.data.get("method")
        if checkpoint is not None and method is not None:
            raise wrong(f"goes with no method that needs none: remove it, or method: {method}")
        if checkpoint is None and method is None and model != "embedded":
            raise wrong(
                f"is missing: {model} comes without prompts, name a checkpoint that was fitted for it, or method: clip or winclip"
            )
        return checkpoint

    @field_validator("image_size")
    @classmethod
    def _whole_patches(cls, side: int | None, info: ValidationInfo) -> int | None:
        known = BACKBONES.get(info.data.get("model", ""))
        if side and known and known.patch and side % known.patch:  # of a folder only its files tell
            near = whole_patches(side, known.patch)
            raise wrong(f"is {side}; must be a multiple of {known.name}'s patch of {known.patch} pixels: take {near}")
        return side


class DebounceConfig(Section):
    """An alarm is raised when raise_after of the last `of` pictures are NotOK (default: that many in a row).

    It is cleared when none of them is, and the newest score is below threshold - hysteresis.
    """

    raise_after: Annotated[int, Field(ge=1, le=1000)] = 1
    of: Annotated[int, Field(ge=1, le=1000)] = Field(default=None, validate_default=True)
    hysteresis: Fraction = 0.0

    @field_validator("of", mode="before")
    @classmethod
    def _in_a_row(cls, of: Any, info: ValidationInfo) -> Any:
        return info.data.get("raise_after", 1) if of is None else of

    @field_validator("of")
    @classmethod
    def _enough(cls, of: int, info: ValidationInfo) -> int:
        if of < info.data.get("raise_after", 0):
            raise wrong(f"is {of}; must be at least raise_after, {info.data['raise_after']}")
        return of


class StationConfig(Section):
    """One place where pictures come from, and how they are judged.

    threshold (NotOK from this score on) or calibration; with neither, what the checkpoint recommends. map_threshold:
    the heatmap's value from which a pixel belongs to a defect. min_area: the fraction of the picture that a defect must
    cover to count. include, ignore: polygons of (x, y) fractions of the picture; no include means all of it.
    """

    name: Name = Field(examples=["cam1"])
    source: SourceConfig = Field(examples=["{folder: ./incoming}"])
    detector: DetectorConfig = Field(default_factory=DetectorConfig)
    threshold: Fraction | None = None
    calibration: CalibrationFile | None = None
    map_threshold: MapThreshold | None = None
    min_area: Fraction = 0.0
    include: Polygons = ()
    ignore: Polygons = ()
    debounce: DebounceConfig = Field(default_factory=DebounceConfig)

    @field_validator("debounce")
    @classmethod
    def _can_clear(cls, debounce: DebounceConfig, info: ValidationInfo) -> DebounceConfig:
        threshold, calibration = info.data.get("threshold"), info.data.get("calibration")
        threshold = calibration.threshold if calibration else threshold
        if threshold is not None and debounce.hysteresis and debounce.hysteresis >= threshold:
            raise wrong(
                f"hysteresis {debounce.hysteresis:g} is not below the threshold {threshold:g}: no alarm would clear"
            )
        return debounce

    def chosen_threshold(self) -> float | None:
        """The score from which a picture is NotOK, in [0, 1]; None: as the checkpoint recommends."""
        return self.calibration.threshold if self.calibration else self.threshold

    def chosen_map_threshold(self) -> float | None:
        """The heatmap's value from which a pixel belongs to a defect, in [0, 1]; None: as the checkpoint recommends."""
        if self.map_threshold is None and self.calibration:
            return self.calibration.map_threshold
        return self.map_threshold


class Config(Section):
    """The whole file. mqtt None: nothing is published, and the agent opens no connection. health None: nothing is served."""

    # Defaults are validated, as only that lets them know the folder of the file.
    agent: AgentConfig = Field(default_factory=dict, validate_default=True)
    database: DatabaseConfig = Field(default_factory=dict, validate_default=True)
    mqtt: MqttConfig | None = None
    evidence: EvidenceConfig = Field(default_factory=dict, validate_default=True)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    health: HealthConfig | None = None
    stations: tuple[StationConfig, ...] = Field(examples=["[{name: cam1, source: {folder: ./incoming}}]"])
    _warnings: tuple[str, ...] = PrivateAttr(())

    @field_validator("database")
    @classmethod
    def _journal_in_data_dir(cls, database: DatabaseConfig, info: ValidationInfo) -> DatabaseConfig:
        if "agent" not in info.data or "url" in database.model_fields_set:
            return database
        return database.model_copy(update={"url": sqlite_url(info.data["agent"].data_dir / "journal.db")})

    @field_validator("evidence")
    @classmethod
    def _evidence_in_data_dir(cls, evidence: EvidenceConfig, info: ValidationInfo) -> EvidenceConfig:
        if "agent" not in info.data or "folder" in evidence.model_fields_set:
            return evidence
        return evidence.model_copy(update={"folder": info.data["agent"].data_dir / "evidence"})

    @field_validator("stations", mode="before")
    @classmethod
    def _at_least_one(cls, stations: Any) -> Any:
        if stations in ([], ()):
            raise wrong("wants at least one station")
        return stations

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works, or will, but may not be meant; a line each, with its place."""
        return self._warnings

    def station(self, name: str | None) -> StationConfig:
        """The station of that name; None is the only one. Raises ConfigError."""
        names = [station.name for station in self.stations]
        if name is None and len(names) > 1:
            raise ConfigError(f"the config has {len(names)} stations: choose one with --station {'|'.join(names)}")
        if name is not None and name not in names:
            raise ConfigError(f"the config has no station {name!r}; it has {', '.join(names)}")
        return self.stations[names.index(name) if name is not None else 0]

    @property
    def sha256(self) -> str:
        """Digest (hex) of what the file means: comments, order and spelled-out defaults do not change it."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def default_path() -> Path:
    """The config file when none is named: $EDGE_AGENT_CONFIG, or config.yaml in the working directory."""
    return Path(os.environ.get("EDGE_AGENT_CONFIG") or "config.yaml")


def load_config(path: Path) -> Config:
    """Read and check a config file. Raises ConfigError with all errors, a line each: `FILE:LINE:COLUMN: KEY: what`."""
    document = parse(_text_of(path))
    if document.data is None and not document.findings:
        raise ConfigError(
            f"{path}: is empty: it needs at least one station, see the config.yaml that comes with edge-agent"
        )
    findings = list(document.findings)
    config = None
    if document.data is not None:
        try:
            config = Config.model_validate(document.data, context={"folder": path.absolute().parent})
        except ValidationError as error:
            findings += findings_of(error, document, Config)
        findings += _placed(_contradictions(document.data), document)
        told = {finding.loc for finding in findings}
        findings += [finding for finding in empty_values(document) if finding.loc not in told]
    if config is not None:
        findings += [
            finding for check in (_loops, _shared, _unheard, _blind) for finding in _placed(check(config), document)
        ]
    if findings or config is None:
        raise ConfigError("\n".join(_lines(path, findings)))
    config._warnings = tuple(_lines(path, _placed(_doubts(config), document)))
    return config


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder: name the file in it") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: does not exist: give --config FILE") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES // 1024} KiB: this is not a config file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text: save it as UTF-8") from error


def _contradictions(data: Any) -> Iterator[tuple[Loc, str]]:
    """What does not go together, found in raw data so that it is told along with all other errors."""
    stations = data.get("stations") if isinstance(data, dict) else None
    names: dict[str, int] = {}
    for i, station in enumerate(stations if isinstance(stations, list) else []):
        if not isinstance(station, dict):
            continue
        if station.get("threshold") is not None and station.get("calibration") is not None:
            yield ("stations", i, "calibration"), "threshold and calibration exclude each other: remove one"
        name = station.get("name")
        if isinstance(name, str):
            first = names.setdefault(name.casefold(), i)
            if first != i:
                yield ("stations", i, "name"), f"{name!r} is the name of stations[{first}] already: take another"


def _loops(config: Config) -> Iterator[tuple[Loc, str]]:
    """A station must not inspect what the agent itself writes."""
    written = config.evidence.folder
    for i, station in enumerate(config.stations):
        if not isinstance(station.source, FolderConfig):
            continue
        watched, recursive = station.source.folder, station.source.recursive
        if written == watched or written in watched.parents or (recursive and watched in written.parents):
            text = f"would inspect the agent's own pictures in {written}: take another, or change evidence.folder"
            yield ("stations", i, "source", "folder"), text


def _shared(config: Config) -> Iterator[tuple[Loc, str]]:
    """A trigger is for one station: whoever saw it first would take it from the other."""
    folders: dict[Path, int] = {}
    for i, station in enumerate(config.stations):
        if isinstance(station.source, CameraConfig) and station.source.trigger and station.source.trigger.folder:
            first = folders.setdefault(station.source.trigger.folder, i)
            if first != i:
                text = f"is the trigger folder of stations[{first}] already: give each its own"
                yield ("stations", i, "source", "trigger", "folder"), text


def _unheard(config: Config) -> Iterator[tuple[Loc, str]]:
    """Commands come over a broker."""
    for i, station in enumerate(config.stations):
        if takes_commands(station) and config.mqtt is None:
            yield ("stations", i, "source", "trigger"), "mqtt wants a broker: add a section mqtt: {host: ...}"


def takes_commands(station: StationConfig) -> bool:
    """Whether MQTT commands ask for this station's pictures."""
    source = station.source
    return isinstance(source, CameraConfig) and source.trigger is not None and source.trigger.mqtt


def _blind(config: Config) -> Iterator[tuple[Loc, str]]:
    """A station must have something of its pictures left to inspect."""
    for i, station in enumerate(config.stations):
        if station.ignore:
            from edge_agent.line.mask import MASK_SIDE, keep_mask

            try:
                keep_mask(station.include, station.ignore, MASK_SIDE)
            except ConfigError as error:
                yield ("stations", i, "ignore"), str(error)


def _doubts(config: Config) -> Iterator[tuple[Loc, str]]:
    watched: dict[Path, int] = {}
    for i, station in enumerate(config.stations):
        source: Loc = ("stations", i, "source")
        if isinstance(station.source, CameraConfig):
            yield from (((*source, *loc), text) for loc, text in _doubts_of_password(station.source.password))
            folder = station.source.trigger.folder if station.source.trigger else None
            place: Loc = (*source, "trigger", "folder")
        else:
            folder, place = station.source.folder, (*source, "folder")
        first = watched.setdefault(folder, i) if folder else i
        if first != i:
            yield place, f"{folder} is watched by stations[{first}] too: both inspect it"
        if folder and not os.path.exists(folder):
            yield place, f"{folder} does not exist yet; the station waits for it"
        made = station.calibration
        changed = made.differences(station.detector.class_name, station.include, station.ignore) if made else []
        if changed:
            text = f"was made with another {' and '.join(changed)}, so what it promises holds no more: calibrate again"
            yield ("stations", i, "calibration"), text
        if station.detector.method and station.chosen_threshold() is None:
            text = "nobody has measured a threshold for it, so 0.5 is taken: set threshold or calibration"
            yield ("stations", i, "detector", "method"), text
        if station.detector.windows > 1 and station.chosen_threshold() is None and not station.detector.method:
            text = "raises scores, and the checkpoint's threshold was chosen without: set threshold or calibration"
            yield ("stations", i, "detector", "windows"), text
        if takes_commands(station) and config.mqtt and not config.mqtt.results:
            text = "is told of alarms alone: set mqtt.results: true to have every verdict published"
            yield (*source, "trigger"), text
    mqtt = config.mqtt
    if mqtt and mqtt.password and not mqtt.tls and mqtt.host not in ("localhost", "127.0.0.1", "::1"):
        yield ("mqtt", "password"), "goes over the network unencrypted: add tls: {}, if the broker can"
    for key, section in (("mqtt", mqtt), ("database", config.database)):
        yield from (((key, *loc), text) for loc, text in _doubts_of_password(section.password if section else None))


def _doubts_of_password(password: PasswordConfig | None) -> Iterator[tuple[Loc, str]]:
    if password and password.missing():
        yield ("password",), str(password.missing())
    if password and password.file and password.file.stat().st_mode & 0o004:
        yield ("password", "file"), f"everyone may read {password.file}: chmod 600"


def _placed(found: Iterator[tuple[Loc, str]], document: Document) -> list[Finding]:
    return [Finding(document.place_of(loc), loc, text) for loc, text in found]


def _lines(path: Path, findings: list[Finding]) -> list[str]:
    """One line for each finding, in the order of the file."""
    lines = [
        f"{path}:{place.line}:{place.column}: {shown(loc) + ': ' if loc else ''}{text}"
        for place, loc, text in sorted(findings, key=lambda finding: finding.place)
    ]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES:] = [f"{path}: and {len(lines) - MAX_LINES} more"]
    return lines
