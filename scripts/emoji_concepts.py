"""Find which icon of which art set shows which Unicode emoji.

Some sets come with a table of code points. The others only name their icons, each in its own
way (``person-in-bed``, ``sleeping-accommodation``, ``manbed``), so their names are looked up in
a lexicon of all that an emoji is called: its CLDR name, its Unicode character name, the names
of the sets that have a table, short codes, and the aliases that the sets give one icon.
``build_emoji.py`` takes the benchmark from this, ``build_corpus.py`` everything else.
"""

import dataclasses
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import iconify

FLUENT_3D = "fluent-emoji-3d"
"""The one set that is not in Iconify: ``@lobehub/fluent-emoji-3d``, files named by code point."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "noto": ("noto",),
    "noto_v1": ("noto-v1",),
    "twemoji": ("twemoji",),
    "fluent": ("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", FLUENT_3D),
    "emojione": ("emojione", "emojione-monotone"),
    "fxemoji": ("fxemoji",),
    "streamline": ("streamline-emojis",),
}
"""The sets by the artists who drew them; sets of one family are renderings of one drawing."""

SETS = tuple(name for sets in FAMILIES.values() for name in sets)

OBJECT_GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Objects", "Activities")

MIN_SETS = 8
"""A benchmark concept is drawn in at least this many sets."""

WRONG = frozenset(
    {
        ("streamline-emojis", "turkey"),  # the flag
        ("fxemoji", "construction"),  # a crane, not the barrier
        ("fxemoji", "sunglasses"),  # a face that wears them
        ("fxemoji", "keyboard"),  # of a piano
        ("fxemoji", "tram car"),  # a black shape
        ("fxemoji", "downwards button"),  # a hand that points down
        ("fxemoji", "person pouting"),  # a pouting face
        ("emojione-monotone", "milky way"),  # a black square, like the next
        ("emojione-monotone", "moon viewing ceremony"),
    }
)
"""(set, concept) pairs whose icon has the right name and does not show it."""

_CLOCK_FACE = re.compile(r"o'clock$|-thirty$")
_SHORT_CODES = ("cldr", "emojibase", "github", "iamcal", "joypixels")
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d\u2013", "''\"\"-")


@dataclass(frozen=True)
class Concept:
    """One Unicode emoji and the icons that show it."""

    code_point: str
    """Hexadecimal code points joined by ``-``, lower case, without the variation selector."""
    name: str
    """CLDR name with straight ASCII punctuation."""
    group: str
    """One of Unicode's groups, such as ``Food & Drink``."""
    icons: Mapping[str, str]
    """By set: the icon's name, or its file name in ``fluent-emoji-3d``."""


class Evidence(IntEnum):
    """Why a name is taken to mean a concept; the smaller the stronger."""

    CLDR_NAME = 0
    UNICODE_NAME = 1
    CODE_POINT_TABLE = 2
    ALIAS = 3
    SHORT_CODE = 4
    COUNTRY = 5


Lexicon = dict[str, dict[str, Evidence]]
"""What a name may mean: name -> code point -> strongest evidence."""


def match(npm_root: Path) -> list[Concept]:
    """Match the icons of all sets to all of Unicode's emoji.

    Args:
        npm_root: the folder that holds npm's ``node_modules``, or ``node_modules`` itself.

    Returns:
        Every concept in Unicode's order, also those that no set draws.
    """
    modules = node_modules(npm_root)
    bare = _unicode_concepts(modules)
    sets = {name: iconify.load_set(modules, name) for name in SETS if name != FLUENT_3D}
    tables = {name: _code_point_table(icon_set, bare) for name, icon_set in sets.items()}
    lexicon = _lexicon(bare, sets, tables, _short_codes(modules))
    chosen = {name: _choose(name, sets[name], tables[name], lexicon) for name in sets}
    chosen[FLUENT_3D] = {
        code_point_key(file.stem): file.name for file in sorted(fluent_3d(modules).glob("*.webp"))
    }
    return [
        dataclasses.replace(
            concept,
            icons={
                name: chosen[name][concept.code_point]
                for name in SETS
                if concept.code_point in chosen[name] and (name, concept.name) not in WRONG
            },
        )
        for concept in bare.values()
    ]


def benchmark_concepts(concepts: Iterable[Concept]) -> list[Concept]:
    """Pick the classes of the benchmark: well covered things, without the clock faces.

    Args:
        concepts: what ``match`` returned.

    Returns:
        The concepts of the object groups that at least ``MIN_SETS`` sets draw, in order.
    """
    return [
        concept
        for concept in concepts
        if concept.group in OBJECT_GROUPS
        and len(concept.icons) >= MIN_SETS
        and not _CLOCK_FACE.search(concept.name)
    ]


def node_modules(npm_root: Path) -> Path:
    """Accept either ``node_modules`` or the folder that holds it."""
    inner = Path(npm_root) / "node_modules"
    return inner if inner.is_dir() else Path(npm_root)


def fluent_3d(modules: Path) -> Path:
    """Return the folder of the 3D pictures."""
    return modules / "@lobehub" / FLUENT_3D / "assets"


def code_point_key(text: str) -> str:
    """Write code points one way: lower case, joined by ``-``, no variation selector.

    Example:
        >>> code_point_key("2764 FE0F")
        '2764'
    """
    parts = re.split(r"[-\s]+", text.lower())
    return "-".join(part for part in parts if part and part != "fe0f")


def slug(name: str) -> str:
    """Reduce a name to lower-case ASCII words joined by ``-``.

    Example:
        >>> slug("Salt & Piñata's")
        'salt-and-pinatas'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = plain.replace("&", " and ").replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def _unicode_concepts(modules: Path) -> dict[str, Concept]:
    concepts = {}
    for emoji, entry in _read_json(modules / "unicode-emoji-json/data-by-emoji.json").items():
        key = code_point_key("-".join(f"{ord(char):x}" for char in emoji))
        name = entry["name"].translate(_STRAIGHT)
        concepts[key] = Concept(key, name, entry["group"], {})
    return concepts


def _short_codes(modules: Path) -> dict[str, list[str]]:
    codes: dict[str, list[str]] = defaultdict(list)
    for source in _SHORT_CODES:
        path = modules / f"emojibase-data/en/shortcodes/{source}.json"
        for code_point, names in _read_json(path).items():
            codes[code_point_key(code_point)] += [names] if isinstance(names, str) else names
    return codes


def _code_point_table(icon_set: iconify.IconSet, concepts: Mapping[str, Concept]) -> dict[str, str]:
    """Icons by code point, as the set itself says; empty if it does not."""
    table = {code_point_key(key): name for key, name in icon_set.get("chars", {}).items()}
    return {key: name for key, name in table.items() if key in concepts}


def _lexicon(
    concepts: Mapping[str, Concept],
    sets: Mapping[str, iconify.IconSet],
    tables: Mapping[str, Mapping[str, str]],
    short_codes: Mapping[str, Sequence[str]],
) -> Lexicon:
    lexicon: Lexicon = defaultdict(dict)

    def note(name: str, key: str, evidence: Evidence) -> None:
        meanings = lexicon[slug(name)]
        meanings[key] = min(evidence, meanings.get(key, evidence))

    for concept in concepts.values():
        for name, evidence in _official_names(concept):
            note(name, concept.code_point, evidence)
        for code in short_codes.get(concept.code_point, ()):
            note(code, concept.code_point, Evidence.SHORT_CODE)
    for set_name, table in tables.items():
        for name, key, evidence in _table_names(sets[set_name], table):
            note(name, key, evidence)
    # A second pass lets what one set's aliases taught explain another set's names.
    for set_name in [name for name, table in tables.items() if not table] * 2:
        for names in _alias_groups(sets[set_name]):
            known = {key for name in names if (key := _sure(lexicon, slug(name)))}
            if len(known) == 1:
                for name in names:
                    note(name, *known, Evidence.SHORT_CODE)
    return lexicon


def _official_names(concept: Concept) -> Iterator[tuple[str, Evidence]]:
    yield concept.name, Evidence.CLDR_NAME
    if "-" not in concept.code_point:
        character = chr(int(concept.code_point, 16))
        yield unicodedata.name(character, concept.name), Evidence.UNICODE_NAME
    if concept.group == "Flags" and concept.name.startswith("flag "):
        country = concept.name.removeprefix("flag ")
        yield f"flag for {country}", Evidence.UNICODE_NAME
        yield country, Evidence.COUNTRY


def _table_names(
    icon_set: iconify.IconSet, table: Mapping[str, str]
) -> Iterator[tuple[str, str, Evidence]]:
    """Names that a code point table vouches for, and aliases of an icon with one meaning."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for key, name in table.items():
        yield name, key, Evidence.CODE_POINT_TABLE
        meanings[iconify.resolve(icon_set, name).name].add(key)
    for alias in icon_set.get("aliases", {}):
        icon = iconify.resolve(icon_set, alias)
        if not icon.turned and len(meanings[icon.name]) == 1:
            yield alias, *meanings[icon.name], Evidence.ALIAS


def _alias_groups(icon_set: iconify.IconSet) -> Iterable[set[str]]:
    """Every drawing's own name together with all of its unturned aliases."""
    groups = {name: {name} for name in icon_set["icons"]}
    for alias in icon_set.get("aliases", {}):
        icon = iconify.resolve(icon_set, alias)
        if not icon.turned:
            groups[icon.name].add(alias)
    return groups.values()


def _look_up(meanings: Mapping[str, Evidence]) -> tuple[str, Evidence] | None:
    """Return the meaning with the strongest evidence, or None if there is none or two."""
    if not meanings:
        return None
    strongest = min(meanings.values())
    best = [key for key, evidence in meanings.items() if evidence == strongest]
    return (best[0], strongest) if len(best) == 1 else None


def _sure(lexicon: Lexicon, name: str) -> str | None:
    found = _look_up(lexicon.get(name, {}))
    return found[0] if found and found[1] <= Evidence.ALIAS else None


def _choose(
    set_name: str,
    icon_set: iconify.IconSet,
    table: Mapping[str, str],
    lexicon: Lexicon,
) -> dict[str, str]:
    """Pick the icon of every concept in one set: by its table, then by the best evidence."""
    if set_name == "fxemoji":  # it writes names without word breaks
        lexicon = _without_breaks(lexicon)
    candidates = []
    for name in [*icon_set["icons"], *icon_set.get("aliases", {})]:
        base, variant = _variant(name) if set_name == "streamline-emojis" else (name, 0)
        readings = (lexicon.get(slug(name), {}), lexicon.get(slug(base), {}))
        found = next((meaning for meaning in map(_look_up, readings) if meaning), None)
        if found:
            candidates.append((found[1], variant, name, found[0]))
    chosen = dict(table)
    drawn = {iconify.resolve(icon_set, name).name for name in chosen.values()}
    for _, _, name, key in sorted(candidates, key=lambda item: item[:2]):
        icon = iconify.resolve(icon_set, name)
        # One drawing shows one concept, unless it is turned and the set has no table to say so.
        if key in chosen or (icon.name in drawn and (table or not icon.turned)):
            continue
        chosen[key] = name
        drawn.add(icon.name)
    return chosen


def _variant(name: str) -> tuple[str, int]:
    """Split ``cloud-2`` into ``cloud`` and 2; the first variant is preferred."""
    found = re.fullmatch(r"(.+)-([1-9])", name)
    return (found[1], int(found[2])) if found else (name, 0)


def _without_breaks(lexicon: Lexicon) -> Lexicon:
    joined: Lexicon = defaultdict(dict)
    for name, meanings in lexicon.items():
        merged = joined[name.replace("-", "")]
        for key, evidence in meanings.items():
            merged[key] = min(evidence, merged.get(key, evidence))
    return joined
