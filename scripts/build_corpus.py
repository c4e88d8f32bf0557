"""Build the pretraining corpus of the mini CLIP: small pictures with names.

    python scripts/build_corpus.py --npm DIR --out DIR

``DIR`` of ``--npm`` holds ``node_modules`` with ``@iconify/json``, ``@lobehub/fluent-emoji-3d``,
``unicode-emoji-json`` and ``emojibase-data``. The output is no part of the repository:

========================  =====================================================================
``pictures.npy``          uint8 [n 48 48 3]: multi-colour pictures on white
``glyphs.npy``            uint8 [m 48 48 2]: ink of one-colour icons; areas that can be painted
``index.npz``             per picture, then per glyph: name ids, sampling weight, set, kind
``names.json``            the distinct names
``sources.csv``           every set with author, licence and number of pictures taken
``benchmark.npz``         the benchmark's renderings: never trained on; for the copy check, and
                          for the zero-shot accuracy that the training log shows
``report.json``           what was taken, what was dropped and why
========================  =====================================================================

No art of a benchmark class may enter. Emoji art enters only when it was matched to a concept that
is not a benchmark class, so an icon nobody could match stays out. Then every picture is compared
with every benchmark rendering, and near copies are dropped. Names of benchmark classes do occur:
an icon that somebody else drew and called "dog" is what the model learns "dog" from.
"""

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path

import corpus_names
import emoji_concepts
import iconify
import numpy as np
from PIL import Image
from scipy import ndimage

SIZE = 48
SMALL = 16
"""Side at which pictures are compared with the benchmark."""

COPY_DISTANCE = 0.30
"""Pictures nearer than this to a benchmark rendering are copies; see ``ink_distance``."""

PERMISSIVE = {
    *("MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0", "CC-BY-3.0", "ISC", "OFL-1.1", "BSD-3-Clause"),
    "Unlicense",
}
LEFT_OUT = {"Logos", "Programming", "Flags / Maps", "Emoji"}
MAX_WORDS = 3
MAX_VARIANTS = 3
"""Drawings of one name that one set may give."""

KINDS = ("emoji", "color", "glyph")
INK = 96
"""Ink darker than this bounds the areas of a glyph."""


@dataclass(frozen=True)
class Entry:
    """One picture to draw: where it comes from and what it is called."""

    set_name: str
    icon: str
    names: tuple[str, ...]
    kind: str
    weight: float


def icon_sets(npm: Path) -> dict[str, dict]:
    """Return the catalogue entries of the sets that may be used, by prefix."""
    catalogue = json.loads((npm / "node_modules/@iconify/json/collections.json").read_text())
    return {
        name: info
        for name, info in catalogue.items()
        if info["license"].get("spdx") in PERMISSIVE
        and info.get("category") not in LEFT_OUT
        and name not in emoji_concepts.SETS
    }


def plain_aliases(icon_set: iconify.IconSet) -> dict[str, list[str]]:
    """Return the other names of each icon whose drawing is not turned."""
    others = defaultdict(list)
    for alias in icon_set.get("aliases", {}):
        icon = iconify.resolve(icon_set, alias)
        if not icon.turned:
            others[icon.name].append(alias)
    return others


def icon_entries(
    npm: Path, sets: dict[str, dict], vocabulary: corpus_names.Vocabulary
) -> Iterator[Entry]:
    """Choose the icons whose name says something about the benchmark's words.

    Multi-colour icons all enter, because colour is rare. One-colour icons enter when a word of
    their name occurs in a benchmark name or a synonym of one.
    """
    for set_name, info in sets.items():
        icon_set = iconify.load_set(npm, set_name)
        aliases = plain_aliases(icon_set)
        kind = "color" if info.get("palette") else "glyph"
        variants: Counter[str] = Counter()
        for icon, entry in icon_set["icons"].items():
            name = corpus_names.normalise(icon)
            words = name.split()
            if entry.get("hidden") or not words or len(words) > MAX_WORDS + (kind == "color"):
                continue
            relevance = vocabulary.relevance(words)
            if kind == "glyph" and not relevance:
                continue
            variants[name] += 1
            if variants[name] > MAX_VARIANTS:
                continue
            others = [corpus_names.normalise(a) for a in aliases[icon]]
            names = vocabulary.with_synonyms(name, others)
            yield Entry(set_name, icon, names, kind, max(relevance, 0.25))


def emoji_entries(
    concepts: Iterable[emoji_concepts.Concept],
    benchmark: set[str],
    vocabulary: corpus_names.Vocabulary,
) -> Iterator[Entry]:
    """Choose the emoji art of concepts outside the benchmark."""
    for concept in concepts:
        if concept.code_point in benchmark:
            continue
        name = corpus_names.plain(concept.name)
        names = vocabulary.with_synonyms(name, [])
        weight = 0.3 if concept.group == "Flags" else 1.0
        for set_name, icon in concept.icons.items():
            yield Entry(set_name, icon, names, "emoji", weight)


def balanced(entries: list[Entry], vocabulary: corpus_names.Vocabulary) -> list[Entry]:
    """Divide weights by how often a name's rarest benchmark word occurs: "file" is no flood.

    The weight becomes ``relevance / sqrt(count of the rarest benchmark word)`` within a kind.
    """
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for entry in entries:
        counts[entry.kind].update(set(vocabulary.shared(entry.names[0].split())))

    def scale(entry: Entry) -> float:
        shared = vocabulary.shared(entry.names[0].split())
        if entry.kind == "emoji" or not shared:
            return 1.0 if entry.kind == "emoji" else 0.1
        return float(min(counts[entry.kind][word] for word in shared)) ** -0.5

    return [replace(entry, weight=entry.weight * scale(entry)) for entry in entries]


_OPEN_SETS: dict[tuple[Path, str], iconify.IconSet] = {}
"""Parsed sets of a worker process."""


def draw(job: tuple[Path, Entry]) -> np.ndarray | None:
    """Draw one entry: ``[48 48 3]`` for pictures, ``[48 48 2]`` for glyphs, None if it fails."""
    npm, entry = job
    if entry.set_name == emoji_concepts.FLUENT_3D:
        return open_raster(emoji_concepts.fluent_3d(emoji_concepts.node_modules(npm)) / entry.icon)
    where = (npm, entry.set_name)
    if where not in _OPEN_SETS:
        _OPEN_SETS[where] = iconify.load_set(*where)
    image = iconify.render(iconify.svg(_OPEN_SETS[where], entry.icon, SIZE), SIZE)
    if image is None or image.min() == image.max():
        return None
    return image if entry.kind != "glyph" else glyph_layers(255 - image[..., 1])


def open_raster(path: Path) -> np.ndarray:
    """Read a picture file, put it on white and give it the margin that drawn icons have."""
    picture = Image.open(path).convert("RGBA")
    canvas = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    canvas.alpha_composite(picture)
    side = round(SIZE / 1.06)
    framed = Image.new("RGB", (SIZE, SIZE), "white")
    corner = (SIZE - side) // 2
    framed.paste(
        canvas.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (corner,) * 2
    )
    return np.asarray(framed)


def glyph_layers(ink: np.ndarray) -> np.ndarray:
    """Split a one-colour icon into ink and the areas that training may paint.

    Args:
        ink: uint8 ``[h w]``, 255 where the icon is drawn.

    Returns:
        uint8 ``[h w 2]``: the ink; and the area, ``8 * stroke + hole``, where ``hole`` numbers
        the white areas that ink encloses (0 is the outside) and ``stroke`` the inked parts.
    """
    holes, n_holes = ndimage.label(ink < INK)
    edge = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    outside = np.isin(np.arange(n_holes + 1), edge)
    outside[0] = True
    number = np.zeros(n_holes + 1, np.uint8)
    inner = np.flatnonzero(~outside)
    number[inner] = 1 + np.arange(len(inner)) % 7
    strokes, n_strokes = ndimage.label(ink >= INK)
    stroke = np.concatenate([[0], np.arange(n_strokes) % 7 + 1]).astype(np.uint8)
    # A soft edge belongs to the stroke it borders, else its rim would keep another colour.
    spread = ndimage.grey_dilation(stroke[strokes], size=(3, 3))
    return np.stack([ink, number[holes] + 8 * spread], -1)


def small(pictures: np.ndarray) -> np.ndarray:
    """Average pictures down to ``SMALL`` pixels: float32 ``[n SMALL*SMALL*3]`` of ink, 0 on white.

    Args:
        pictures: uint8 ``[n h w 3]``, or ``[n h w 2]`` glyphs.
    """
    ink = pictures[..., :1].repeat(3, -1) if pictures.shape[-1] == 2 else 255 - pictures
    n, side = len(ink), ink.shape[1] // SMALL
    blocks = ink.reshape(n, SMALL, side, SMALL, side, 3).astype(np.float32)
    return blocks.mean((2, 4)).reshape(n, -1) / 255


def ink_distance(pictures: np.ndarray, benchmark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each picture's distance to the nearest benchmark rendering, and which that is.

    ``d(a, b) = |a - b| / max(|a|, |b|)`` over 16-pixel ink: 0 for a copy, about 1 for unrelated
    drawings, and thin drawings on much white are not near each other merely for being thin.
    """
    norm_a = np.linalg.norm(pictures, axis=1)[:, None]
    norm_b = np.linalg.norm(benchmark, axis=1)[None]
    square = norm_a**2 + norm_b**2 - 2 * pictures @ benchmark.T
    distance = np.sqrt(np.maximum(square, 0)) / np.maximum(np.maximum(norm_a, norm_b), 1e-6)
    return distance.min(1), distance.argmin(1)


def draw_all(npm: Path, entries: list[Entry], workers: int) -> list[np.ndarray | None]:
    """Draw every entry on a few processes, telling how far it is."""
    images: list[np.ndarray | None] = []
    with Pool(workers) as pool:
        for image in pool.imap(draw, ((npm, entry) for entry in entries), chunksize=256):
            images.append(image)
            if len(images) % 20_000 == 0:
                print(f"drawn {len(images)} of {len(entries)}", flush=True)
    return images


def draw_benchmark(
    npm: Path, out: Path, benchmark: list[emoji_concepts.Concept], workers: int
) -> np.ndarray:
    """Draw the benchmark as the corpus is drawn, write it beside the corpus and return it."""
    art = [
        (label, Entry(set_name, icon, (), "emoji", 0))
        for label, concept in enumerate(benchmark)
        for set_name, icon in concept.icons.items()
    ]
    drawn = draw_all(npm, [entry for _, entry in art], workers)
    kept = [(label, image) for (label, _), image in zip(art, drawn, strict=True) if image is not None]
    pictures = np.stack([image for _, image in kept])
    out.mkdir(parents=True, exist_ok=True)
    labels = np.array([label for label, _ in kept], np.int32)
    names = np.array([concept.name for concept in benchmark])
    np.savez(out / "benchmark.npz", pictures=pictures, labels=labels, names=names)
    return pictures


def drop_copies(
    entries: list[Entry], images: list[np.ndarray | None], benchmark: np.ndarray
) -> tuple[list[Entry], list[np.ndarray], dict[str, object]]:
    """Leave out what failed to draw and what looks like a benchmark rendering."""
    kept: list[Entry] = []
    pictures: list[np.ndarray] = []
    dropped: list[str] = []
    failed = 0
    for start in range(0, len(entries), 1024):
        part = [
            (e, i)
            for e, i in zip(
                entries[start : start + 1024], images[start : start + 1024], strict=True
            )
            if i is not None
        ]
        failed += len(entries[start : start + 1024]) - len(part)
        ink = np.concatenate([small(image[None]) for _, image in part])
        distance, _ = ink_distance(ink, benchmark)
        for (entry, image), near in zip(part, distance, strict=True):
            if near < COPY_DISTANCE:
                dropped.append(f"{entry.set_name}:{entry.icon}")
            else:
                kept.append(entry)
                pictures.append(image)
    return kept, pictures, {"not drawn": failed, "near copies": len(dropped), "copies": dropped}


def write(out: Path, entries: list[Entry], images: list[np.ndarray], infos: dict) -> Counter[str]:
    """Write the corpus: pictures first, then glyphs, in the order of ``index.npz``."""
    out.mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(entries)), key=lambda i: entries[i].kind == "glyph")
    entries = [entries[i] for i in order]
    images = [images[i] for i in order]
    n_pictures = sum(entry.kind != "glyph" for entry in entries)
    np.save(out / "pictures.npy", np.stack(images[:n_pictures]))
    np.save(out / "glyphs.npy", np.stack(images[n_pictures:]))
    names = sorted({name for entry in entries for name in entry.names})
    number = {name: i for i, name in enumerate(names)}
    ids = np.full((len(entries), corpus_names.MAX_NAMES), -1, np.int32)
    for row, entry in zip(ids, entries, strict=True):
        row[: len(entry.names)] = [number[name] for name in entry.names]
    sets = sorted({entry.set_name for entry in entries})
    np.savez(
        out / "index.npz",
        names=ids,
        weight=np.array([entry.weight for entry in entries], np.float32),
        kind=np.array([KINDS.index(entry.kind) for entry in entries], np.int8),
        source=np.array([sets.index(entry.set_name) for entry in entries], np.int16),
    )
    (out / "names.json").write_text(json.dumps(names))
    taken = Counter(entry.set_name for entry in entries)
    with (out / "sources.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "title", "author", "licence", "pictures"])
        for name in sets:
            writer.writerow([name, *infos[name], taken[name]])
    return Counter(entry.kind for entry in entries)


def set_infos(npm: Path) -> dict[str, tuple[str, str, str]]:
    """Return title, author and licence of every set that can be used."""
    catalogue = json.loads((npm / "node_modules/@iconify/json/collections.json").read_text())
    infos = {
        name: (info["name"], info["author"]["name"], info["license"]["spdx"])
        for name, info in catalogue.items()
        if "spdx" in info["license"]
    }
    infos[emoji_concepts.FLUENT_3D] = ("Fluent Emoji 3D", "Microsoft Corporation", "MIT")
    return infos


def main() -> None:
    """Build the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npm", type=Path, required=True, help="folder holding node_modules")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()

    concepts = emoji_concepts.match(args.npm)
    benchmark = emoji_concepts.benchmark_concepts(concepts)
    classes = {concept.code_point for concept in benchmark}
    vocabulary = corpus_names.Vocabulary.of(benchmark, concepts, args.npm)
    sets = icon_sets(args.npm)
    entries = [
        *emoji_entries(concepts, classes, vocabulary),
        *icon_entries(args.npm, sets, vocabulary),
    ]
    entries = balanced(entries, vocabulary)
    print(f"{len(entries)} pictures of {len(sets)} sets to draw", flush=True)
    renderings = draw_benchmark(args.npm, args.out, benchmark, args.workers)
    images = draw_all(args.npm, entries, args.workers)
    entries, kept, report = drop_copies(entries, images, small(renderings))
    counts = write(args.out, entries, kept, set_infos(args.npm))
    report["pictures"] = dict(counts)
    report["benchmark renderings compared"] = len(renderings)
    (args.out / "report.json").write_text(json.dumps(report, indent=1))
    print({key: value for key, value in report.items() if key != "copies"})


if __name__ == "__main__":
    main()
