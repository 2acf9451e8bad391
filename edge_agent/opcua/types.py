"""The types of OPC 40100-1 (Machine Vision) that the server uses, built by their numbers and names.

Numbers, names and fields are those of the companion specification; of its types only what the agent has something for is
here. What the agent says beyond it is a subtype in the agent's own namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asyncua import Node, Server, ua

MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
OWN = "urn:edge-agent:stations"

TRIMMED_STRING, RESULT_STATE = 3017, 3009
VISION_SYSTEM, VISION_STATE_MACHINE, AUTOMATIC_MODE = 1003, 1017, 1021
RESULT_READY = 1024
START_SINGLE_JOB = 7098
# Of the two state machines: by name, the number of the state's node.
STATES = {"Preoperational": 5028, "Halted": 5029, "Error": 5030, "Operational": 5031}
MODES = {"Initialized": 5056, "Ready": 5057, "SingleExecution": 5058, "ContinuousExecution": 5059}
COMPLETED = 1  # of ResultStateDataType

TEXT, WORDS = ua.VariantType.String, ua.VariantType.LocalizedText
_DESCRIBED = (("Id", TEXT, False), ("Description", WORDS, True))
_VERSIONED = (
    ("Id", TEXT, False),
    ("Version", TEXT, True),
    ("Hash", ua.VariantType.ByteString, True),
    ("HashAlgorithm", TEXT, True),
    ("Description", WORDS, True),
)
# By name: number, number of its binary encoding, fields as (name, type, whether it is optional).
STRUCTURES: dict[str, tuple[int, int, tuple[tuple[str, ua.VariantType, bool], ...]]] = {
    "ProductIdDataType": (3003, 5224, _DESCRIBED),
    "PartIdDataType": (3004, 5013, _DESCRIBED),
    "MeasIdDataType": (3015, 5006, _DESCRIBED),
    "JobIdDataType": (3016, 5008, (("Id", TEXT, False),)),
    "ResultIdDataType": (3021, 5274, (("Id", TEXT, False),)),
    "RecipeIdExternalDataType": (3002, 5002, _VERSIONED),
    "RecipeIdInternalDataType": (3013, 5268, _VERSIONED),
    "ConfigurationIdDataType": (3008, 5090, _VERSIONED),
}
# The fields of an event, in the words of the specification, and their types; then those of the agent's own subtype.
EVENT_FIELDS: dict[str, str | ua.VariantType] = {
    "IsPartial": ua.VariantType.Boolean,
    "IsSimulated": ua.VariantType.Boolean,
    "ResultState": ua.VariantType.Int32,
    "MeasId": "MeasIdDataType",
    "PartId": "PartIdDataType",
    "InternalRecipeId": "RecipeIdInternalDataType",
    "InternalConfigurationId": "ConfigurationIdDataType",
    "JobId": "JobIdDataType",
    "ResultId": "ResultIdDataType",
    "CreationTime": ua.VariantType.DateTime,
}
OWN_FIELDS = {
    "Evaluation": ua.VariantType.String,
    "Score": ua.VariantType.Double,
    "Reason": ua.VariantType.String,
    "Late": ua.VariantType.Boolean,
}
OWN_EVENT = "InspectionResultReadyEventType"


@dataclass(frozen=True, slots=True)
class Types:
    """The types as one server has them. vision, own: index of the namespaces. event: the type of the agent's events."""

    vision: int
    own: int
    event: Node


def node_id(id_: int | str, namespace: int = 0) -> ua.NodeId:
    """Return a node's id. id_: its number or name. namespace: index, default that of OPC UA itself."""
    return ua.NodeId(ua.String(id_) if isinstance(id_, str) else ua.Int32(id_), ua.Int16(namespace))


def made(name: str, id_: str) -> Any:
    """Return one of STRUCTURES that holds an id."""
    return getattr(ua, name)(Id=id_)


async def build(server: Server) -> Types:
    """Add the types to a server; the namespaces have the same index in every server."""
    vision, own = await server.register_namespace(MACHINE_VISION), await server.register_namespace(OWN)
    text = server.get_node(ua.ObjectIds.String)
    await text.add_data_type(node_id(TRIMMED_STRING, vision), ua.QualifiedName("TrimmedString", vision))
    number = server.get_node(ua.ObjectIds.Int32)
    await number.add_data_type(node_id(RESULT_STATE, vision), ua.QualifiedName("ResultStateDataType", vision))
    for name, (type_id, encoding_id, fields) in STRUCTURES.items():
        await _structure(server, vision, name, type_id, encoding_id, fields)
    await server.load_data_type_definitions()
    objects = server.nodes.base_object_type
    machine = server.get_node(ua.ObjectIds.FiniteStateMachineType)
    await objects.add_object_type(node_id(VISION_SYSTEM, vision), ua.QualifiedName("VisionSystemType", vision))
    for number_, name in (
        (VISION_STATE_MACHINE, "VisionStateMachineType"),
        (AUTOMATIC_MODE, "VisionAutomaticModeStateMachineType"),
    ):
        kind = await machine.add_object_type(node_id(number_, vision), ua.QualifiedName(name, vision))
        for state, state_id in (STATES if number_ == VISION_STATE_MACHINE else MODES).items():
            node = node_id(state_id, vision), ua.QualifiedName(state, vision)
            await kind.add_object(*node, objecttype=node_id(ua.ObjectIds.StateType), instantiate_optional=False)
    event = await server.nodes.base_event_type.add_object_type(
        node_id(RESULT_READY, vision), ua.QualifiedName("ResultReadyEventType", vision)
    )
    for name, kind_ in EVENT_FIELDS.items():
        await _field(event, vision, own, name, kind_)
    own_event = await event.add_object_type(node_id(OWN_EVENT, own), ua.QualifiedName(OWN_EVENT, own))
    for name, kind_ in OWN_FIELDS.items():
        await _field(own_event, own, own, name, kind_)
    return Types(vision, own, own_event)


async def _structure(server: Server, vision: int, name: str, type_id: int, encoding_id: int, fields: Any) -> None:
    from asyncua.common.manage_nodes import create_data_type, create_encoding
    from asyncua.common.structures104 import new_struct_field

    structure = server.nodes.base_structure_type
    kind = await create_data_type(structure, node_id(type_id, vision), ua.QualifiedName(name, vision))
    encoding = await create_encoding(kind, node_id(encoding_id, vision), ua.QualifiedName("Default Binary", 0))
    is_optional = any(optional for _, _, optional in fields)
    definition = ua.StructureDefinition(
        DefaultEncodingId=encoding.nodeid,
        BaseDataType=structure.nodeid,
        StructureType=ua.StructureType.StructureWithOptionalFields if is_optional else ua.StructureType.Structure,
        Fields=[new_struct_field(field, type_, optional=optional) for field, type_, optional in fields],
    )
    await kind.write_data_type_definition(definition)


async def _field(event: Node, named: int, own: int, name: str, kind: str | ua.VariantType) -> None:
    node = node_id(f"{OWN_EVENT}.{name}", own), ua.QualifiedName(name, named)
    if isinstance(kind, str):
        value = ua.Variant(made(kind, ""), ua.VariantType.ExtensionObject)
        await event.add_property(*node, value, datatype=node_id(STRUCTURES[kind][0], named))
    else:
        await event.add_property(
            *node, ua.Variant(ua.get_default_value(kind), kind), varianttype=kind, datatype=node_id(kind.value)
        )
