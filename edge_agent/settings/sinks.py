"""The sections of config.yaml that make a sink: what is told of each inspection, and may request pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from edge_agent.settings.finding import Finding
from edge_agent.settings.section import Loc, Section

if TYPE_CHECKING:
    from edge_agent.core import Sink, SinkContext


MQTT, OPCUA = "mqtt", "opcua"  # keys of sections whose receivers may request pictures


class SinkSection(Section):
    """A kind of sink: its keys in the file, and all that the agent needs to know of the kind.

    A new kind is a subclass that is added to config.config.Config as a field. Import what build() and check() need inside
    them, so that a config loads fast.
    """

    @abstractmethod
    def build(self, context: SinkContext) -> Sink:
        """Build the sink; it connects at once."""

    @abstractmethod
    def describe(self, agent: str) -> str:
        """Return where what goes, in one line without secrets. agent: the agent's name."""

    def require(self) -> None:
        """Raise ConfigError for what is missing already, such as a password, before anything is loaded."""

    def check(self, agent: str, stations: Collection[str] = (), asked: Collection[str] = ()) -> Iterator[Finding]:
        """Examine whether the sink would work from this machine now.

        Args:
            agent: the agent's name.
            stations: names of all stations.
            asked: names of those whose pictures the sink requests.
        """
        return iter(())

    def clash(self, other: SinkSection) -> tuple[Loc, str] | None:
        """Return why it cannot be there beside another of its kind, of another station, with the key; None if it can."""
        return None

    def warnings(self) -> Iterator[tuple[Loc, str]]:
        """Yield what works but may not be meant, each with its key within this section."""
        return iter(())
