"""Read icon sets in Iconify's JSON format and draw their icons.

Both asset builders (``build_emoji.py`` and ``build_corpus.py``) draw through this module, so that
the benchmark and the pretraining corpus are rendered alike.

Iconify's format: https://iconify.design/docs/types/iconify-json.html
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from resvg import render as resvg_render
from resvg import usvg

IconSet = dict[str, Any]
"""One parsed ``SET.json``: ``icons``, ``aliases``, ``info``, defaults of the view box."""

_BOX = ("left", "top", "width", "height")
_MAX_ALIASES = 8


@dataclass(frozen=True)
class Icon:
    """An icon with its aliases followed: the SVG body, its box, and how it is turned."""

    name: str
    body: str
    left: float
    top: float
    width: float
    height: float
    h_flip: bool
    v_flip: bool
    rotate: int

    @property
    def turned(self) -> bool:
        """Whether the icon is a flipped or rotated form of its drawing."""
        return self.h_flip or self.v_flip or self.rotate != 0


def load_set(root: Path, name: str) -> IconSet:
    """Parse one icon set.

    Args:
        root: the folder that holds npm's ``node_modules``, or ``node_modules`` itself.
        name: the set's prefix, such as ``"noto"``.

    Returns:
        The parsed JSON.
    """
    root = Path(root)
    modules = root / "node_modules" if (root / "node_modules").is_dir() else root
    return json.loads((modules / "@iconify/json/json" / f"{name}.json").read_text("utf-8"))


def resolve(icon_set: IconSet, name: str) -> Icon:
    """Follow an icon's aliases; flips and quarter turns add up along the way.

    Args:
        icon_set: the parsed set.
        name: an icon or an alias of it.

    Returns:
        The icon. ``Icon.name`` is the drawing's own name, not the alias.

    Raises:
        KeyError: the set has no such icon, or its aliases run in a circle.
    """
    icons, aliases = icon_set["icons"], icon_set.get("aliases", {})
    box: dict[str, float] = {}
    h_flip, v_flip, rotate = False, False, 0
    target = name
    for _ in range(_MAX_ALIASES):
        entry = icons.get(target) or aliases[target]
        h_flip ^= entry.get("hFlip", False)
        v_flip ^= entry.get("vFlip", False)
        rotate += entry.get("rotate", 0)
        for side in _BOX:
            if side in entry:
                box.setdefault(side, entry[side])
        if "body" in entry:
            break
        target = entry["parent"]
    else:
        raise KeyError(f"the aliases of {name!r} do not end")
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    sides = {s: box.get(s, icon_set.get(s, defaults[s])) for s in _BOX}
    return Icon(
        name=target, body=entry["body"], h_flip=h_flip, v_flip=v_flip, rotate=rotate % 4, **sides
    )


def svg(
    icon_set: IconSet, name: str, size: int = 64, pad: float = 0.03, color: str = "#000"
) -> str:
    """Write an icon as a square SVG picture.

    Args:
        icon_set: the parsed set.
        name: an icon or an alias of it.
        size: side of the picture in pixels.
        pad: margin on each side, as a part of the icon's longer side.
        color: what ``currentColor`` stands for; one-colour icons are drawn in it.

    Returns:
        The SVG text. The icon keeps its aspect ratio and stands in the middle.

    Raises:
        KeyError: the set has no such icon.
    """
    icon = resolve(icon_set, name)
    x, y = icon.left + icon.width / 2, icon.top + icon.height / 2
    body = icon.body
    if icon.rotate:
        body = f'<g transform="rotate({90 * icon.rotate} {x} {y})">{body}</g>'
    if icon.h_flip or icon.v_flip:
        sx, sy = (-1 if icon.h_flip else 1), (-1 if icon.v_flip else 1)
        turn = f"translate({x} {y}) scale({sx} {sy}) translate({-x} {-y})"
        body = f'<g transform="{turn}">{body}</g>'
    side = max(icon.width, icon.height) * (1 + 2 * pad)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size}" height="{size}" color="{color}" '
        f'viewBox="{x - side / 2} {y - side / 2} {side} {side}">'
        f"{body.replace('currentColor', color)}</svg>"
    )


def render(svg_text: str, size: int) -> np.ndarray | None:
    """Draw an SVG picture on white.

    Args:
        svg_text: a picture whose ``width`` and ``height`` are ``size``.
        size: side of the picture in pixels.

    Returns:
        uint8 ``[size size 3]``, or None if the picture is broken or the renderer gives up on it.
    """
    try:
        tree = usvg.Tree.from_str(svg_text, usvg.Options.default())
        png = bytes(resvg_render(tree, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        # A panic inside resvg is a BaseException; uncaught it would hang a process pool.
        return None
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    canvas.alpha_composite(picture)
    image = np.asarray(canvas.convert("RGB"))
    return image if image.shape == (size, size, 3) else None
