"""Names of icons: stripped of style words, related to the benchmark's names, given synonyms."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import emoji_concepts

MAX_NAMES = 6
"""Names that one picture may have: its own, then synonyms."""

_STYLE_WORDS = (
    "outline outlined filled fill solid bold regular light thin duotone twotone two tone rounded "
    "round sharp linear broken line alt small large s l m xs xl sm md lg rtl ltr color colored "
    "flat fa icon"
)
_STYLE = frozenset(_STYLE_WORDS.split())
_LEADING_STYLE = frozenset(("baseline", "outline", "twotone", "bx", "bxs", "solid", "icon"))
_FUNCTION_WORDS = "with and of the in a an on no not for to s from off at by"
_FUNCTION = frozenset(_FUNCTION_WORDS.split())
_SHORT_CODES = ("cldr", "emojibase", "github", "iamcal", "joypixels")


def plain(name: str) -> str:
    """Reduce a name to lower-case ASCII words.

    Example:
        >>> plain("T-Rex")
        't rex'
    """
    return emoji_concepts.slug(name).replace("-", " ")


def normalise(icon: str) -> str:
    """Strip the style and size words of an icon's name.

    Example:
        >>> normalise("sleeping-face-20-filled")
        'sleeping face'
    """
    words = [word for word in re.split(r"[-_:.\s]+", icon.lower()) if word]
    while len(words) > 1 and (words[-1] in _STYLE or re.fullmatch(r"\d+(px)?", words[-1])):
        words.pop()
    while len(words) > 1 and words[0] in _LEADING_STYLE:
        words.pop(0)
    return " ".join(words)


def singular(word: str) -> str:
    """Take the plural s off a word, so that "cars" counts as "car"."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _singulars(phrase: str) -> str:
    return " ".join(map(singular, phrase.split()))


@dataclass(frozen=True)
class Vocabulary:
    """The words of the benchmark's names, and what else an emoji is called."""

    words: frozenset[str]
    """Content words of benchmark names and of their synonyms, singular."""
    phrases: frozenset[str]
    """Benchmark names and their synonyms."""
    synonyms: dict[str, tuple[str, ...]]
    """By singular name: all names of whatever it may mean, CLDR names and short codes."""

    @classmethod
    def of(
        cls,
        benchmark: Iterable[emoji_concepts.Concept],
        concepts: Iterable[emoji_concepts.Concept],
        npm: Path,
    ) -> "Vocabulary":
        """Read the names of all emoji; only names, no art."""
        called = {concept.code_point: {plain(concept.name)} for concept in concepts}
        for source in _SHORT_CODES:
            path = emoji_concepts.node_modules(npm) / f"emojibase-data/en/shortcodes/{source}.json"
            for code, names in json.loads(path.read_text("utf-8")).items():
                key = emoji_concepts.code_point_key(code)
                if key in called:
                    each = [names] if isinstance(names, str) else names
                    called[key].update(plain(name.replace("_", " ")) for name in each)
        synonyms: dict[str, set[str]] = defaultdict(set)
        for names in called.values():
            for name in names:
                synonyms[_singulars(name)] |= names
        phrases = {name for concept in benchmark for name in called[concept.code_point]}
        words = {singular(word) for phrase in phrases for word in phrase.split()}
        return cls(
            words=frozenset(word for word in words - _FUNCTION if not word.isdigit()),
            phrases=frozenset(phrases),
            synonyms={name: tuple(sorted(others)) for name, others in synonyms.items()},
        )

    def shared(self, words: Sequence[str]) -> list[str]:
        """Return those of an icon's words that occur in a benchmark name, singular."""
        return [word for word in map(singular, words) if word in self.words]

    def relevance(self, words: Sequence[str]) -> float:
        """Say how much an icon's name tells about the benchmark's names.

        Returns:
            4 for a benchmark name or a synonym, 2 if all words occur in benchmark names,
            1 if one does, else 0.
        """
        phrase = " ".join(words)
        if phrase in self.phrases or _singulars(phrase) in self.phrases:
            return 4.0
        shared = self.shared(words)
        content = [word for word in words if word not in _FUNCTION]
        return 2.0 if shared and len(shared) == len(content) else float(bool(shared))

    def with_synonyms(self, name: str, aliases: Iterable[str]) -> tuple[str, ...]:
        """Return a name, the aliases its set gives it, and other names of the same emoji."""
        names = dict.fromkeys([name, *aliases, *self.synonyms.get(_singulars(name), ())])
        return tuple(names)[:MAX_NAMES]
