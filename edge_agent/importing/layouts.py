"""The methods whose published prompts can be imported, by name."""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.detectors.clip.adaclip import AdaClip
from edge_agent.detectors.clip.afclip import AfClip
from edge_agent.detectors.clip.anomalyclip import AnomalyClip
from edge_agent.detectors.clip.aprilgan import AprilGan
from edge_agent.detectors.clip.bayespfl import BayesPfl
from edge_agent.detectors.clip.crane import Crane
from edge_agent.detectors.clip.craneplus import CranePlus
from edge_agent.detectors.clip.faprompt import FaPrompt
from edge_agent.detectors.clip.glocalclip import GlocalClip
from edge_agent.detectors.clip.vcpclip import VcpClip
from edge_agent.detectors.cops import Cops
from edge_agent.detectors.tipsomaly import Tipsomaly
from edge_agent.detectors.vip2clip import ViP2Clip
from edge_agent.importing.adaclip import AdaClipLayout
from edge_agent.importing.afclip import AfClipLayout
from edge_agent.importing.aprilgan import AprilGanLayout
from edge_agent.importing.bayespfl import BayesPflLayout
from edge_agent.importing.cops import CopsLayout
from edge_agent.importing.layout import Layout
from edge_agent.importing.object_prompts import ANOMALYCLIP, CRANE, CRANEPLUS, FAPROMPT, GLOCALCLIP, ObjectPromptsLayout
from edge_agent.importing.tipsomaly import TipsomalyLayout
from edge_agent.importing.vcpclip import VcpClipLayout
from edge_agent.importing.vip2clip import ViP2ClipLayout

LAYOUTS: Mapping[str, Layout] = {
    Tipsomaly.name: TipsomalyLayout(),
    ViP2Clip.name: ViP2ClipLayout(),
    Cops.name: CopsLayout(),
    AfClip.name: AfClipLayout(),
    AprilGan.name: AprilGanLayout(),
    VcpClip.name: VcpClipLayout(),
    BayesPfl.name: BayesPflLayout(),
    AdaClip.name: AdaClipLayout(),
    AnomalyClip.name: ObjectPromptsLayout(ANOMALYCLIP),
    Crane.name: ObjectPromptsLayout(CRANE),
    CranePlus.name: ObjectPromptsLayout(CRANEPLUS),  # the same names: which one a file is for, whoever imports it says
    GlocalClip.name: ObjectPromptsLayout(GLOCALCLIP),
    FaPrompt.name: ObjectPromptsLayout(FAPROMPT),
}
