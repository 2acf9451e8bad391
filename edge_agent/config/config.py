"""The whole config.yaml as a frozen Config.

Each section is a class in its own module, and its fields are the keys. Relative paths are relative to the file.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from edge_agent.config.agent import AgentConfig
from edge_agent.config.database import DatabaseConfig, sqlite_url
from edge_agent.config.evidence import EvidenceConfig, LabelsConfig, LearnConfig
from edge_agent.config.limits import LimitsConfig
from edge_agent.config.station import StationConfig
from edge_agent.errors import ConfigError
from edge_agent.health.config import HealthConfig
from edge_agent.mqtt.config import MqttConfig
from edge_agent.opcua.config import OpcUaConfig
from edge_agent.settings.page import PageConfig
from edge_agent.settings.section import Section
from edge_agent.settings.sinks import SinkSection
from edge_agent.settings.values import invalid


class Config(Section):
    """The whole file. mqtt None: nothing is published, and no connection is opened. health, page None: nothing is served."""

    # Defaults are validated because only validators know the folder of the file.
    agent: AgentConfig = Field(default_factory=dict, validate_default=True)
    database: DatabaseConfig = Field(default_factory=dict, validate_default=True)
    mqtt: MqttConfig | None = None
    opcua: OpcUaConfig | None = None
    evidence: EvidenceConfig = Field(default_factory=dict, validate_default=True)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    labels: LabelsConfig = Field(default_factory=LabelsConfig)
    learn: LearnConfig = Field(default_factory=LearnConfig)
    health: HealthConfig | None = None
    page: PageConfig | None = None
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
            raise invalid("wants at least one station")
        return stations

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what works, or will, but may not be meant; one line each, with its place."""
        return self._warnings

    def sinks(self) -> dict[str, SinkSection]:
        """Return the configured sinks by the key of their section; the fields of this class are the list of kinds."""
        values = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: value for key, value in values.items() if isinstance(value, SinkSection)}

    def station_sinks(self) -> dict[str, SinkSection]:
        """Return the sinks that belong to one station each, as a PLC does, by kind and name of the station."""
        return {
            f"{kind} {one.name}": section for one in self.stations for kind, section in one.source.own_sinks().items()
        }

    def asked(self, sink: str) -> dict[str, float | None]:
        """Return the stations whose pictures a sink requests, and the seconds in which it wants an answer.

        sink: the key of its section, or as station_sinks() names it.
        """
        return {
            one.name: one.source.verdict_within_s
            for one in self.stations
            if one.source.requested_by == sink or sink in {f"{kind} {one.name}" for kind in one.source.own_sinks()}
        }

    def station(self, name: str | None) -> StationConfig:
        """Return the station of that name; None is the only one. Raises ConfigError."""
        names = [station.name for station in self.stations]
        if name is None and len(names) > 1:
            raise ConfigError(f"the config has {len(names)} stations: choose one with --station {'|'.join(names)}")
        if name is not None and name not in names:
            raise ConfigError(f"the config has no station {name!r}; it has {', '.join(names)}")
        return self.stations[names.index(name) if name is not None else 0]

    @property
    def sha256(self) -> str:
        """Return the SHA-256 (hex) of the content: comments, order and written-out defaults do not change it."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
