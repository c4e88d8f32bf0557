"""Build the bundled emoji data set: one sprite sheet per art set and ``emoji.json``.

    python scripts/build_emoji.py --npm build/npm --out fsclip_jax/assets/emoji

``--npm`` is the folder that holds ``node_modules``; where that is missing, the pinned packages
are installed there first (needs ``npm``; no install script of theirs is run). Needs ``resvg``
0.2.0 from PyPI. The same packages give the same bytes.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import emoji_concepts
import iconify
import numpy as np
from emoji_concepts import FAMILIES, FLUENT_3D, SETS, Concept
from PIL import Image

PACKAGES = {
    "@iconify/json": "2.2.535",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "emojibase-data": "17.0.0",
    "unicode-emoji-json": "0.9.0",
}
CELL = 64
COLUMNS = 25
MARGIN = 2
"""Pixels around a 3D picture; about the margin that ``iconify.svg`` leaves."""

FLUENT_3D_INFO = {
    "name": "Fluent Emoji 3D",
    "author": {"name": "Microsoft Corporation", "url": "https://github.com/lobehub/fluent-emoji"},
    "license": {
        "title": "MIT",
        "spdx": "MIT",
        "url": "https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE",
    },
}
"""Facts of the one set that is not in Iconify, in the form Iconify gives them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and build the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--npm", type=Path, default=Path("build/npm"), help="folder of node_modules"
    )
    parser.add_argument("--out", type=Path, default=Path("fsclip_jax/assets/emoji"))
    args = parser.parse_args(argv)
    if not emoji_concepts.node_modules(args.npm).joinpath("@iconify/json").is_dir():
        install(args.npm)
    versions = installed(emoji_concepts.node_modules(args.npm))
    for package, pinned in PACKAGES.items():
        if versions[package] != pinned:
            print(f"note: {package} is {versions[package]}, the bundle was built from {pinned}")
    build(args.npm, args.out, versions)
    return 0


def install(folder: Path) -> None:
    """Install the pinned npm packages into a folder, without running their scripts."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"{folder} holds no node_modules and there is no npm to install them with")
    folder.mkdir(parents=True, exist_ok=True)
    pinned = [f"{package}@{version}" for package, version in PACKAGES.items()]
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run([*command, "--prefix", str(folder), *pinned], check=True)


def installed(modules: Path) -> dict[str, str]:
    """Read the versions of the packages that are there."""
    return {
        package: json.loads((modules / package / "package.json").read_text("utf-8"))["version"]
        for package in PACKAGES
    }


def build(npm_root: Path, out: Path, versions: Mapping[str, str]) -> None:
    """Draw every cell, pack the sheets and write them with their index."""
    modules = emoji_concepts.node_modules(npm_root)
    concepts = emoji_concepts.benchmark_concepts(emoji_concepts.match(npm_root))
    concepts = sorted(concepts, key=class_order)
    out.mkdir(parents=True, exist_ok=True)
    entries = []
    for set_name in SETS:
        info, cells = draw_set(modules, set_name, concepts)
        sheet = pack(cells)
        file = f"{set_name}.webp"
        # For lossless files quality means effort; 100 takes a hundred times as long for 5 %.
        Image.fromarray(sheet).save(out / file, lossless=True, quality=80, method=6)
        entries.append(describe_set(set_name, file, info, len(cells), sheet))
        print(f"{file}: {len(cells)} cells, {(out / file).stat().st_size / 1e6:.2f} MB")
    index = {
        "format": 1,
        "cell": CELL,
        "columns": COLUMNS,
        "packages": dict(versions),
        "sets": entries,
        "classes": describe_classes(concepts),
    }
    (out / "emoji.json").write_text(dump(index), "utf-8")
    print(f"{len(concepts)} classes, {sum(entry['count'] for entry in entries)} images in {out}")


def class_order(concept: Concept) -> str:
    """Sort key of the classes: pseudo-random, fixed, and independent of the other classes."""
    return hashlib.sha256(concept.code_point.encode()).hexdigest()


def draw_set(
    modules: Path, set_name: str, concepts: Sequence[Concept]
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Draw one set's icons of the given concepts, in their order.

    Returns:
        Facts about the set in Iconify's form, and pictures uint8 ``[64 64 3]`` on white.
    """
    icons = [concept.icons[set_name] for concept in concepts if set_name in concept.icons]
    if set_name == FLUENT_3D:
        folder = emoji_concepts.fluent_3d(modules)
        return FLUENT_3D_INFO, [shrink(folder / icon) for icon in icons]
    icon_set = iconify.load_set(modules, set_name)
    return icon_set["info"], [draw(icon_set, icon) for icon in icons]


def draw(icon_set: iconify.IconSet, icon: str) -> np.ndarray:
    """Draw an icon at 64 px; where the renderer fails there, at 192 px and averaged 3 x 3.

    The renderer gives up on one icon (Fluent's articulated lorry) at some sizes only.
    """
    picture = iconify.render(iconify.svg(icon_set, icon, CELL), CELL)
    if picture is None:
        large = iconify.render(iconify.svg(icon_set, icon, 3 * CELL), 3 * CELL)
        if large is None:
            raise RuntimeError(f"{icon_set['prefix']}: {icon} cannot be drawn")
        picture = np.asarray(Image.fromarray(large).reduce(3))
    return picture


def shrink(path: Path) -> np.ndarray:
    """Put a picture on white and reduce it to the cell less its margin."""
    with Image.open(path) as file:
        picture = file.convert("RGBA")
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    side = CELL - 2 * MARGIN
    cell = Image.new("RGB", (CELL, CELL), "white")
    cell.paste(canvas.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (MARGIN,) * 2)
    return np.asarray(cell)


def pack(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Lay the pictures out row by row; what is left of the last row is white."""
    rows = -(-len(cells) // COLUMNS)
    sheet = np.full((rows * CELL, COLUMNS * CELL, 3), 255, np.uint8)
    for index, cell in enumerate(cells):
        top, left = (CELL * part for part in divmod(index, COLUMNS))
        sheet[top : top + CELL, left : left + CELL] = cell
    return sheet


def describe_set(
    set_name: str, file: str, info: Mapping[str, Any], count: int, sheet: np.ndarray
) -> dict[str, Any]:
    """Say whose art a sheet holds, under which licence, and what its pixels are."""
    family = next(name for name, sets in FAMILIES.items() if set_name in sets)
    return {
        "name": set_name,
        "title": info["name"],
        "file": file,
        "family": family,
        "author": info["author"]["name"],
        "url": info["author"]["url"],
        "licence": info["license"]["spdx"],
        "licence_url": info["license"]["url"],
        "count": count,
        "sha256": hashlib.sha256(sheet.tobytes()).hexdigest(),
    }


def describe_classes(concepts: Sequence[Concept]) -> list[dict[str, Any]]:
    """List the classes with the cell they have in every sheet; None where a set lacks them."""
    used = dict.fromkeys(SETS, 0)
    classes = []
    for concept in concepts:
        cells: list[int | None] = []
        for set_name in SETS:
            cells.append(used[set_name] if set_name in concept.icons else None)
            used[set_name] += set_name in concept.icons
        classes.append(
            {
                "name": concept.name,
                "code_point": concept.code_point,
                "group": concept.group,
                "cells": cells,
            }
        )
    return classes


def dump(index: Mapping[str, Any]) -> str:
    """Write the index as JSON with one line per set and per class, so that diffs can be read."""
    fields = []
    for name, value in index.items():
        if isinstance(value, list):
            lines = ",\n".join(f"    {json.dumps(item)}" for item in value)
            fields.append(f'  "{name}": [\n{lines}\n  ]')
        else:
            fields.append(f'  "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
