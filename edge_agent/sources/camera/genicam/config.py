"""The keys of `source: {camera: genicam:SERIAL}` that other cameras do not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from edge_agent.errors import ConfigError
from edge_agent.settings.section import Loc, Section
from edge_agent.settings.values import AnyPath

FeatureName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,199}$")]


def _as_written(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) else value


# As text: only the camera knows whether On is an entry of a list, or 1 a number.
FeatureValue = Annotated[str, Field(min_length=1, max_length=1000), BeforeValidator(_as_written)]


class GenicamKeys(Section):
    """What only a GenICam camera has; features are the names of its manual."""

    producer: AnyPath | None = None
    exposure_us: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    gain: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)] | None = None
    pixel_format: Annotated[str, Field(pattern=r"^[A-Za-z]\w{1,60}$")] | None = None
    packet_size: Annotated[int, Field(ge=220, le=65535)] | None = None
    features: Mapping[FeatureName, FeatureValue] = Field(default_factory=dict)

    def genicam_settings(self) -> dict[str, Any]:
        """Return what the capturing process is told of them, as arguments of Settings."""
        from edge_agent.sources.camera.genicam.producers import producer_files

        return {
            "producers": producer_files(self._producer()),
            "features": dict(self.features),
            "exposure_us": self.exposure_us,
            "gain": self.gain,
            "pixel_format": self.pixel_format,
            "packet_size": self.packet_size,
        }

    def missing_producer(self) -> str | None:
        """Return why there is no producer to load, with a remedy; None if there is one."""
        from edge_agent.sources.camera.genicam.producers import missing_producer

        return missing_producer(self._producer())

    def genicam_warnings(self) -> Iterator[tuple[Loc, str]]:
        """Yield what keeps this machine from opening the camera, without loading a producer."""
        from edge_agent.sources.camera.genicam.producers import require_genicam

        try:
            require_genicam()
        except ConfigError as error:
            yield ("camera",), str(error)
        if missing := self.missing_producer():
            yield ("producer" if self.producer else "camera",), missing

    def _producer(self) -> str | None:
        return None if self.producer is None else str(self.producer)


GENICAM_KEYS = tuple(GenicamKeys.__annotations__)
