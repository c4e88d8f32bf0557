"""What the text tower is asked about every class: templates, or sentences from a file."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fsclip_jax.data.catalog import find_builder, find_known
from fsclip_jax.data.names import same_name
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.templates import BARE, ENSEMBLE, prompts
from fsclip_jax.errors import UserError, some, suggestion
from fsclip_jax.json_files import read_layout

TemplateChoice: TypeAlias = Literal["single", "ensemble"]
"""``single``: the one template of the data set. ``ensemble``: seven templates, and beside them
the data set's own one unless it is ImageNet."""

_FORM = '{"CLASS": ["a sentence", "another one"], ...}'


@dataclass(frozen=True)
class ClassPrompts:
    """The prompts of every class, made of the templates unless there is a file.

    Classes may differ in their number of texts; ``file`` is the file's name and sha256.
    """

    each: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    file: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()


def choose_prompts(
    source: ImageSource,
    templates: TemplateChoice = "single",
    file: Path | None = None,
    bare: bool = False,
) -> ClassPrompts:
    """Write the prompts of every class of a data set.

    A ``bare`` backbone knows bare names only, as the bundled mini CLIP: whatever the templates are,
    it is asked the name alone, but a file counts all the same.

    Raises:
        UserError: a template without ``{}``, or something is wrong with the file.
    """
    chosen = BARE if bare else ensemble_of(source) if templates == "ensemble" else source.templates
    if file is not None:
        each, notes = read_prompt_file(file, source.class_names)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return ClassPrompts(each, chosen, {"name": file.name, "sha256": digest}, notes)
    wrong = [template for template in chosen if "{}" not in template]
    if wrong or not chosen:
        given = repr(wrong[0]) if wrong else "no template"
        raise UserError(f"a prompt template needs {{}} where the class name goes; given: {given}")
    return ClassPrompts(tuple(tuple(prompts(n, chosen)) for n in source.class_names), chosen)


def ensemble_of(source: ImageSource) -> tuple[str, ...]:
    """Return the ensemble of templates for a data set.

    These are the seven templates on ImageNet; on all other data its own template beside them, as in
    CoOp's zero-shot baseline.
    """
    kind, _, rest = source.spec.partition(":")
    name = rest.partition("@")[0]
    known = find_builder(name) if kind == "tfds" else find_known(name) if kind != "folder" else None
    if known and known.templates == source.templates:
        return known.ensemble
    return (*ENSEMBLE, *source.templates)


def read_prompt_file(
    path: Path, class_names: Sequence[str]
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Read descriptions of classes, such as a language model writes (the layout of CuPL).

    ``{"tench": ["A tench is a fish ...", ...], ...}``. Case and ``_`` in the names of classes
    do not matter; a sentence may hold ``{}`` for the name.

    Classes of equal names get equal sentences.

    Raises:
        UserError: the file is missing or has another layout, a class has no sentences, or two
            spellings of one class are there.

    Source: Pratt et al., What Does a Platypus Look Like? Generating Customized Prompts for
    Zero-Shot Image Classification, ICCV 2023.
    """
    content = _read(path)
    spelled: dict[str, str] = {}
    for name in content:
        if spelled.setdefault(same_name(name), name) != name:
            raise UserError(
                f"{path}: {name!r} and {spelled[same_name(name)]!r} are one class; join them"
            )
    missing = [name for name in class_names if same_name(name) not in spelled]
    wanted = {same_name(name) for name in class_names}
    unknown = [name for folded, name in spelled.items() if folded not in wanted]
    if missing:
        hint = suggestion(missing[0], unknown).replace("did you mean", "is it called")
        raise UserError(
            f"{path}: no sentences for {len(missing)} of {len(class_names)} classes: "
            f"{some(missing)}{hint}" + (f"; not in the data: {some(unknown)}" if unknown else "")
        )
    notes: tuple[str, ...] = ()
    if unknown:
        notes = (f"{path}: {len(unknown)} classes are not in the data: {some(unknown)}",)
    each = tuple(
        tuple(prompt.replace("{}", name) for prompt in content[spelled[same_name(name)]])
        for name in class_names
    )
    return each, notes


def _read(path: Path) -> dict[str, list[str]]:
    content: dict[str, Any] = read_layout(path, dict[str, Any], "prompt file", _FORM)
    if not content:
        raise UserError(f"{path} holds no classes; expected is {_FORM}")
    for name, sentences in content.items():
        good = isinstance(sentences, list) and sentences
        if not good or not all(isinstance(text, str) and text.strip() for text in sentences):
            raise UserError(
                f"{path}: the class {name!r} has no list of sentences; expected is {_FORM}"
            )
    return content
