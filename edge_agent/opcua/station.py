"""One station in the server's address space: a VisionSystem of OPC 40100-1, and plain variables for plain clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from asyncua import Node, Server, ua
from asyncua.server.event_generator import EventGenerator

from edge_agent.core import Evaluation
from edge_agent.opcua.types import (
    AUTOMATIC_MODE,
    COMPLETED,
    MODES,
    STATES,
    STRUCTURES,
    VISION_STATE_MACHINE,
    VISION_SYSTEM,
    Types,
    made,
    node_id,
)

# The plain variables, and their types.
VALUES: dict[str, ua.VariantType] = {
    "LastEvaluation": ua.VariantType.String,
    "LastScore": ua.VariantType.Double,
    "LastPartId": ua.VariantType.String,
    "LastResultId": ua.VariantType.String,
    "LastReason": ua.VariantType.String,
    "LastTime": ua.VariantType.DateTime,
    "AlarmActive": ua.VariantType.Boolean,
    "SourceUp": ua.VariantType.Boolean,
    "Ready": ua.VariantType.Boolean,
    "NotReadyReason": ua.VariantType.String,
    "CountOK": ua.VariantType.UInt64,
    "CountNotOK": ua.VariantType.UInt64,
    "CountNotDecidable": ua.VariantType.UInt64,
}
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
UNDECIDED = float("nan")  # the score where there is none
Job = Callable[[Any, Any], Awaitable[list[ua.Variant] | ua.StatusCode]]  # (MeasId, PartId) to the method's outputs


@dataclass(frozen=True, slots=True)
class Result:
    """What a client is told of one inspection, or of a job without one. late: it is not the verdict, which did not come in time."""

    id: str
    part_id: str
    job_id: str
    meas_id: str
    evaluation: Evaluation
    score: float
    reason: str
    simulated: bool
    recipe: str
    configuration: str
    at: datetime
    late: bool = False


class StationNodes:
    """The nodes of a station. Their ids are made of its name, so that they are the same after a restart."""

    def __init__(self, types: Types, name: str) -> None:
        """types: of the server. name: of the station."""
        self._types, self._name = types, name
        self._values: dict[str, Node] = {}
        self._state: Node | None = None
        self._mode: Node | None = None
        self._events: list[EventGenerator] = []
        self._shown: dict[str, Any] = {}

    async def build(self, server: Server, start_job: Job | None) -> None:
        """Add the nodes. start_job: what StartSingleJob does; None: the station takes no jobs."""
        vision = self._types.vision
        system = await server.nodes.objects.add_object(
            *self._own(""), objecttype=node_id(VISION_SYSTEM, vision), instantiate_optional=False
        )
        machine = await self._machine(server, system, "VisionStateMachine", VISION_STATE_MACHINE)
        mode = await self._machine(server, machine, "AutomaticModeStateMachine", AUTOMATIC_MODE)
        self._state, self._mode = await self._current(machine, "State"), await self._current(mode, "Mode")
        if start_job:
            await self._add_method(mode, start_job)
        for name, kind in VALUES.items():
            value = EPOCH if kind is ua.VariantType.DateTime else ua.get_default_value(kind)
            if kind is ua.VariantType.String:
                value = ""
            self._values[name] = await system.add_variable(*self._own(name), value, kind)
            self._shown[name] = value
        await self.show(LastEvaluation=Evaluation.UNDEFINED.value, LastScore=UNDECIDED)
        # Also from the Server object, where clients subscribe to the events of all stations at once.
        for emitter in (system, server.nodes.server):
            generator = await server.get_event_generator(self._types.event, emitter.nodeid)
            generator.event.SourceNode, generator.event.SourceName = system.nodeid, self._name
            self._events.append(generator)

    async def show(self, **values: Any) -> None:
        """Write those of VALUES that have changed."""
        for name, value in values.items():
            if self._shown[name] != value:
                self._shown[name] = value
                await self._values[name].write_value(value, VALUES[name])

    async def count(self, evaluation: Evaluation) -> None:
        """Count an inspection."""
        name = f"Count{evaluation.value}"
        await self.show(**{name: self._shown[name] + 1})

    async def stand(self, state: str, mode: str) -> None:
        """Show the states of both machines. state: one of STATES. mode: one of MODES."""
        assert self._state
        assert self._mode
        for node, name, numbers in ((self._state, state, STATES), (self._mode, mode, MODES)):
            if self._shown.get(str(node)) != name:
                self._shown[str(node)] = name
                await node.write_value(ua.LocalizedText(name))
                id_ = await node.get_child("0:Id")
                await id_.write_value(node_id(numbers[name], self._types.vision))

    async def tell(self, result: Result) -> None:
        """Show a result, and send its event."""
        await self.show(
            LastEvaluation=result.evaluation.value,
            LastScore=result.score,
            LastPartId=result.part_id,
            LastResultId=result.id,
            LastReason=result.reason,
            LastTime=result.at,
        )
        for generator in self._events:
            event = generator.event
            event.IsPartial, event.IsSimulated, event.ResultState = False, result.simulated, COMPLETED
            event.MeasId, event.PartId = made("MeasIdDataType", result.meas_id), made("PartIdDataType", result.part_id)
            event.InternalRecipeId = made("RecipeIdInternalDataType", result.recipe)
            event.InternalConfigurationId = made("ConfigurationIdDataType", result.configuration)
            event.JobId, event.ResultId = made("JobIdDataType", result.job_id), made("ResultIdDataType", result.id)
            event.CreationTime = result.at
            event.Evaluation, event.Score = result.evaluation.value, result.score
            event.Reason, event.Late = result.reason, result.late
            event.Severity = 100 if result.evaluation is Evaluation.OK else 500
            event.Message = ua.LocalizedText(f"{self._name} {result.part_id} {result.evaluation.value}".strip())
            await generator.trigger()

    def _own(self, name: str) -> tuple[ua.NodeId, ua.QualifiedName]:
        id_ = f"{self._name}.{name}" if name else self._name
        return node_id(id_, self._types.own), ua.QualifiedName(name or self._name, self._types.own)

    async def _machine(self, server: Server, parent: Node, name: str, type_number: int) -> Node:
        """Add a state machine; its states are those of the type."""
        vision = self._types.vision
        node = node_id(f"{self._name}.{name}", self._types.own), ua.QualifiedName(name, vision)
        machine = await parent.add_object(*node)
        await machine.delete_reference(
            ua.ObjectIds.BaseObjectType, ua.ObjectIds.HasTypeDefinition, forward=True, bidirectional=False
        )
        await machine.add_reference(node_id(type_number, vision), ua.ObjectIds.HasTypeDefinition, bidirectional=False)
        return machine

    async def _current(self, machine: Node, what: str) -> Node:
        """Add CurrentState with its Id."""
        node = node_id(f"{self._name}.{what}", self._types.own)
        current = await machine.add_variable(
            node, ua.QualifiedName("CurrentState", 0), ua.LocalizedText(""), ua.VariantType.LocalizedText
        )
        id_ = node_id(f"{self._name}.{what}.Id", self._types.own)
        await current.add_property(id_, ua.QualifiedName("Id", 0), ua.NodeId(), ua.VariantType.NodeId)
        return current

    async def _add_method(self, mode: Node, start_job: Job) -> None:
        vision = self._types.vision

        async def start(parent: ua.NodeId, *given: ua.Variant) -> list[ua.Variant] | ua.StatusCode:
            meas, part = ([one.Value for one in given] + [None, None])[:2]
            return await start_job(meas, part)

        inputs = [
            _argument("MeasId", "MeasIdDataType", vision),
            _argument("PartId", "PartIdDataType", vision),
            _argument("RecipeId", "RecipeIdExternalDataType", vision),
            _argument("ProductId", "ProductIdDataType", vision),
            ua.Argument(Name="Parameters", DataType=node_id(ua.ObjectIds.BaseDataType), ValueRank=1),
        ]
        outputs = [
            _argument("JobId", "JobIdDataType", vision),
            ua.Argument(Name="Error", DataType=node_id(ua.ObjectIds.Int32), ValueRank=-1),
        ]
        node = node_id(f"{self._name}.StartSingleJob", self._types.own), ua.QualifiedName("StartSingleJob", vision)
        await mode.add_method(*node, start, inputs, outputs)


def _argument(name: str, structure: str, vision: int) -> ua.Argument:
    return ua.Argument(Name=name, DataType=node_id(STRUCTURES[structure][0], vision), ValueRank=-1)
