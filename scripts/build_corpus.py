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
is not a benchmark class, so an icon nobody could match stays out; nor does a drawing enter, under
whatever name or alias, that shows a benchmark class too. Then every picture is compared with every
benchmark rendering, and near copies are dropped. Names of benchmark classes do occur:
an icon that somebody else drew and called "dog" is what the model learns "dog" from.
"""

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import corpus_names
import emoji_concepts
import iconify
import numpy as np
from corpus_pictures import KINDS, Entry, draw_all, ink_distance, small

BUNDLE = Path(__file__).parent.parent / "fsclip_jax/assets/emoji/emoji.json"

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


def benchmark_codes(matched: Iterable[emoji_concepts.Concept]) -> set[str]:
    """Return the code points of the benchmark, as matched now and as bundled."""
    index = json.loads(BUNDLE.read_text("utf-8"))
    bundled = {entry["code_point"] for entry in index["classes"]}
    return bundled | {concept.code_point for concept in matched}


def emoji_entries(
    npm: Path,
    concepts: Sequence[emoji_concepts.Concept],
    benchmark: set[str],
    vocabulary: corpus_names.Vocabulary,
) -> Iterator[Entry]:
    """Choose the emoji art of concepts outside the benchmark, by code point and by drawing."""
    sets = {
        name: iconify.load_set(npm, name)
        for name in emoji_concepts.SETS
        if name != emoji_concepts.FLUENT_3D
    }

    def drawing(set_name: str, icon: str) -> tuple[str, str]:
        found = iconify.resolve(sets[set_name], icon).name if set_name in sets else icon
        return set_name, found

    taken = {
        drawing(*art)
        for concept in concepts
        if concept.code_point in benchmark
        for art in concept.icons.items()
    }
    for concept in concepts:
        if concept.code_point in benchmark:
            continue
        names = vocabulary.with_synonyms(corpus_names.plain(concept.name), [])
        weight = 0.3 if concept.group == "Flags" else 1.0
        for set_name, icon in concept.icons.items():
            if drawing(set_name, icon) not in taken:
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
    kept = [
        (label, image) for (label, _), image in zip(art, drawn, strict=True) if image is not None
    ]
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
        writer.writerow(["set", "title", "author", "url", "licence", "pictures"])
        for name in sets:
            writer.writerow([name, *infos[name], taken[name]])
    return Counter(entry.kind for entry in entries)


def set_infos(npm: Path) -> dict[str, tuple[str, str, str, str]]:
    """Return title, author, address and licence of every set that can be used."""
    catalogue = json.loads((npm / "node_modules/@iconify/json/collections.json").read_text())
    infos = {
        name: (
            info["name"],
            info["author"]["name"],
            info["author"].get("url", ""),
            info["license"]["spdx"],
        )
        for name, info in catalogue.items()
        if "spdx" in info["license"]
    }
    infos[emoji_concepts.FLUENT_3D] = (
        "Fluent Emoji 3D",
        "Microsoft Corporation",
        "https://github.com/microsoft/fluentui-emoji",
        "MIT",
    )
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
    classes = benchmark_codes(benchmark)
    vocabulary = corpus_names.Vocabulary.of(benchmark, concepts, args.npm)
    sets = icon_sets(args.npm)
    entries = [
        *emoji_entries(args.npm, concepts, classes, vocabulary),
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
