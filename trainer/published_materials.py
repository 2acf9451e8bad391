"""Photographs that their authors gave to the public (CC0 or public domain), out of packages that anybody may fetch.

    apt-get download ufoai-textures sweethome3d-furniture mypaint-data-extras
    pip download --no-deps --only-binary :all: --python-version 37 scikit-image==0.16.2
    trainer materials *.deb *.whl --out FOLDER

Each package's own copyright file names the licence of the files listed here; nothing else of the packages is taken.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge_agent.errors import ConfigError
from trainer.materials import LIST

Files = Callable[[str], bytes]  # a member's bytes; raises KeyError

_WOOD = ("wood", "wooden board")
_METAL = ("metal", "metal sheet", "steel")
_STONE = ("stone", "stone slab", "surface")
_TILE = ("tile", "tiled floor")
_CLOTH = ("fabric", "cloth", "textile")
_PAPER = ("paper", "leather", "surface")
_PRINT = ("printed paper", "label", "packaging")
_GROUND = ("surface", "road", "pavement")


@dataclass(frozen=True, slots=True)
class Source:
    """package: how its file's name begins. archive: a zip inside of it, whose members are meant. pictures: member to nouns."""

    package: str
    licence: str
    archive: str
    folder: str
    pictures: dict[str, tuple[str, ...]]


SOURCES: tuple[Source, ...] = (
    Source(
        "ufoai-textures",
        "public domain (Golgotha data, and what the package's copyright file lists with it)",
        "./usr/share/games/ufoai/base/0textures.pk3",
        "textures/",
        {
            **dict.fromkeys(
                (
                    f"tex_buildings/carpet0{number}.png"
                    for number in ("08", "09", "10", "11", "12", "18", "21", "23", "25")
                ),
                ("carpet", "textile"),
            ),
            "tex_buildings/floor005.png": ("carpet", "surface"),
            "tex_buildings/floor_wood01.png": _WOOD,
            "tex_buildings/metal01.png": _METAL,
            "tex_buildings/metal02.png": ("perforated sheet", "metal sheet"),
            "tex_buildings/paving001.png": ("pavement", "stone"),
            "tex_buildings/solar.jpg": ("solar cell", "tile"),
            "tex_buildings/tile01.png": _TILE,
            "tex_buildings/tile02.png": _TILE,
            "tex_buildings/tile03.png": _TILE,
            "tex_doors/door009.png": _WOOD,
            "tex_material/metall006.jpg": _METAL,
            **dict.fromkeys((f"tex_material/s_wood00{number}.png" for number in "123"), _WOOD),
            "tex_material/wood001.png": _WOOD,
            "tex_material/wood003.png": _WOOD,
            "tex_misc/barrel_side.png": _WOOD,
            "tex_misc/barrel_top2.png": _WOOD,
            "tex_misc/boxen001.png": ("plastic part", "product"),
            "tex_misc/pipes001.png": ("metal part", "product"),
            "tex_misc/pipes002.png": ("metal part", "product"),
            "tex_misc/yellowcamelcrossing.jpg": ("label", "painted surface"),
            "tex_misc/yellowtwowaysign.jpg": ("label", "painted surface"),
            "tex_nature/desert009.png": _GROUND,
            "tex_nature/dirt002.png": _GROUND,
            "tex_nature/dirt003.png": _GROUND,
            "tex_nature/jungle001.png": ("carpet", "surface"),
            "tex_nature/railway.png": ("road", "stone"),
            "tex_nature/rock017.png": _STONE,
            "tex_nature/rock018.png": _STONE,
            "tex_nature/stone001.png": _STONE,
            "tex_pics/art_africa012.png": _PRINT,
            "tex_pics/art_japan005.png": _PRINT,
            "tex_pics/art_japan010.png": _PRINT,
            "tex_pics/art_japan014.png": _PRINT,
        },
    ),
    Source(
        "sweethome3d-furniture",
        "CC0 1.0 (BlendSwap-CC-0)",
        "./usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f",
        "blendswap-cc-0/",
        {
            "antiqueChair/cherry.jpg": _WOOD,
            "bedWithTexture/wood10.jpg": _WOOD,
            "bench/image2.jpg": _WOOD,
            "bookcase/wood11.jpg": _WOOD,
            "bread/breadD.jpg": ("food", "leather"),
            "chair2/NY_Chaise_Red.jpg": _CLOTH,
            "chairWithCushion/Denim_001_COLOR.jpg": _CLOTH,
            "chair/tecido.jpg": _CLOTH,
            "chair/wood.jpg": _WOOD,
            "childHut/image1.jpg": _WOOD,
            "couch2/Fabric_011_COLOR.jpg": _CLOTH,
            "couch/Plain001.jpg": _CLOTH,
            "cupcake/sponge-cake-out-of-oven-8n-10.jpg": ("cookie", "food"),
            "cupcake/white-parchment-paper-texture.jpg": ("printed paper", "packaging"),
            "deckChair/BEuropean_Beech.jpg": _WOOD,
            "deckChair/BlueWhite_Stripes.jpg": ("textile", "packaging"),
            "emergencySign/sign.jpg": ("label", "painted surface"),
            "fireExtinguisher/label.jpg": ("label", "printed paper"),
            "kalender/kalender.jpg": ("printed paper", "label"),
            "lowerCabinet/marble_14.jpg": ("granite", "stone", "tile"),
            "oakChair/oak.jpg": _WOOD,
            "osakaChair/Wood_013_COLOR.jpg": _WOOD,
            "plantie/ground.jpg": _GROUND,
            "rangeHood/Metal009_2K_Color.jpg": ("brushed metal", *_METAL),
            "rock1/rock01.jpg": _STONE,
            "rock2/rock02.jpg": _STONE,
            "rock3/rock03.jpg": _STONE,
            "stoneLantern/1K-cave_rock_1-diffuse.jpg": _STONE,
            "tableWithTablecloth/red_checked.jpg": _CLOTH,
            "table/Wood_013_COLOR.jpg": _WOOD,
            "tatami/tatami.jpg": ("textile", "mesh"),
            "teddyBear/teddy.jpg": ("felt", "carpet"),
            "televisionCabinet/wood9.jpg": _WOOD,
            "upperCabinet/american_oak.jpg": _WOOD,
            "wardrobeWithSlidingDoors/wood12.jpg": _WOOD,
            "woodToy/ash.jpg": _WOOD,
            "woodToy/mahagoni.jpg": _WOOD,
        },
    ),
    Source(
        "mypaint-data-extras",
        "CC0 1.0 (backgrounds of MrMamurk and Ramón Miranda)",
        "",
        "./usr/share/mypaint/backgrounds/",
        {
            "ramon/HR_Canvas 01.png": _CLOTH,
            "ramon/HR_Canvas 02.png": _CLOTH,
            "ramon/HR_Cork.png": ("cork", "surface"),
            "ramon/HR_DecoPaper.png": _PAPER,
            "ramon/HR_PastelPaper 01.png": _PAPER,
            "ramon/HR_PastelPaper 02.png": _PAPER,
            "ramon/HR_RoughPaper.png": _PAPER,
            "ramon/HR_SketchPaper.png": _PAPER,
            "ramon/HR_SketchPaper 02.png": _PAPER,
            "ramon/HR_WaterColor.png": _PAPER,
            "mrmamurk/mamurk_a_1.png": _PAPER,
            "mrmamurk/mamurk_a_2.png": _PAPER,
            "mrmamurk/mamurk_b_1.png": _PAPER,
            "mrmamurk/mamurk_c_3.png": _PAPER,
            "mrmamurk/mamurk_e_1.png": _PAPER,
            "mrmamurk/mamurk_e_2.png": _PAPER,
            "mrmamurk/mamurk_f_1.png": _PAPER,
        },
    ),
    Source(
        "scikit_image",
        "CC0 1.0 or public domain (as skimage.data says)",
        "",
        "skimage/data/",
        {
            "brick.png": ("brick wall", "wall"),
            "grass.png": ("carpet", "surface"),
            "gravel.png": ("stone", "road"),
            "chelsea.png": _PRINT,
            "coffee.png": _PRINT,
            "coins.png": ("metal part", "product"),
        },
    ),
)


def write_materials(packages: list[Path], folder: Path) -> int:
    """Take the pictures of SOURCES out of the packages into the folder, with its list; how many. Raises ConfigError."""
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, dict[str, object]] = {}
    for source in SOURCES:
        files = _opened(source, packages)
        for member, nouns in source.pictures.items():
            name = f"{source.package}-{member.rpartition('.')[0].replace('/', '-').replace(' ', '_')}.png"
            try:
                data = files(source.folder + member)
            except KeyError:
                raise ConfigError(
                    f"{source.package}: {source.folder + member} is not in it; is it another version?"
                ) from None
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if pixels is None or not cv2.imwrite(str(folder / name), pixels):
                raise ConfigError(f"{folder / name}: not written, or {member} of {source.package} is no picture")
            listed[name] = {"nouns": nouns, "package": source.package, "member": member, "licence": source.licence}
    (folder / LIST).write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(listed)


def _opened(source: Source, packages: list[Path]) -> Files:
    found = [path for path in packages if path.name.startswith(source.package)]
    if len(found) != 1:
        raise ConfigError(f"{len(found)} of the packages named are {source.package}; exactly one is needed")
    try:
        if found[0].suffix != ".deb":
            return zipfile.ZipFile(found[0]).read
        shown = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(found[0])], check=True, capture_output=True).stdout
        files = partial(_member, shown)
        return zipfile.ZipFile(io.BytesIO(files(source.archive))).read if source.archive else files
    except (OSError, KeyError, subprocess.CalledProcessError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{found[0]}: cannot be opened as a package ({error})") from error


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(name)
        if file is None:
            raise KeyError(name)
        return file.read()
