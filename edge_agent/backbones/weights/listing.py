"""What `edge-agent models` shows: every known backbone, and whether it is here; of CLIPs, which are many, those here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.backbones.weights.catalog import BACKBONES, EMBEDDED, FILES
from edge_agent.backbones.weights.clip_names import EXAMPLE, PREFIX, SAFETENSORS
from edge_agent.backbones.weights.store import EMBEDDED_FOLDER, BackboneFiles, installed


@dataclass(frozen=True, slots=True)
class Row:
    """One backbone. bytes: on disk if it is here, else about what a fetch brings. folder: None when it is not here.

    image_size and width as in catalog.Backbone; millions: parameters of both towers.
    """

    name: str
    image_size: int | None
    width: int | None
    millions: float | None
    bytes: int | None
    licence: str
    folder: Path | None


def list_models(folder: Path) -> list[Row]:
    """Every known backbone in the catalog's order, the embedded one first, then fetched CLIPs. Reads no weights."""
    here = {files.name: files for files in installed(folder)}
    if all((EMBEDDED_FOLDER / name).is_file() for name in FILES):
        here[EMBEDDED] = BackboneFiles(EMBEDDED, EMBEDDED_FOLDER)
    rows = []
    for backbone in BACKBONES.values():
        files = here.get(backbone.name)
        both = (backbone.vision_millions, backbone.text_millions)
        rows.append(
            Row(
                name=backbone.name,
                image_size=backbone.image_size,
                width=backbone.width,
                millions=None if None in both else sum(filter(None, both)),
                bytes=files.size if files else backbone.about_bytes,
                licence=f"{backbone.holder}, {backbone.licence}",
                folder=files.folder if files else None,
            )
        )
    return rows + _fetched_clips(folder)


def _fetched_clips(folder: Path) -> list[Row]:
    return [
        Row(
            name=f"{PREFIX}{path.parent.parent.name}/{path.parent.name}",
            image_size=None,
            width=None,
            millions=None,
            bytes=path.stat().st_size,
            licence="see its model card",
            folder=path.parent,
        )
        for path in sorted(folder.glob(f"{PREFIX[:-1]}/*/*/{SAFETENSORS}"))
    ]


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one line each below a heading, no colour, no trailing newline."""
    cells = [("NAME", "PICTURE", "WIDTH", "PARAMETERS", "SIZE", "LICENCE", "WHERE")]
    cells += [
        (
            row.name,
            f"{row.image_size} px" if row.image_size else "",
            str(row.width or ""),
            f"{row.millions:,.0f} M" if row.millions else "",
            _size(row),
            row.licence,
            str(row.folder or "not fetched"),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def clips_too() -> str:
    """How CLIP backbones are named, which no table could list."""
    return (
        f"CLIP: any ViT that open_clip knows, as {PREFIX}MODEL/TAG, such as {EXAMPLE}: fetch it by that name, or take\n"
        f"what open_clip or huggingface_hub have in their caches; {PREFIX}MODEL@FILE and {PREFIX}MODEL/TAG@FILE read a file."
    )


def _size(row: Row) -> str:
    if row.bytes is None:
        return ""
    return f"{'' if row.folder else '~'}{row.bytes / 1e6:,.0f} MB"
