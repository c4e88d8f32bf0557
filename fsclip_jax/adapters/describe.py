"""What the docstrings of a method say of it, as Markdown: the pages of methods are made of this."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import (
    Adapter,
    grids_of,
    is_meta_learned,
    needs_of,
    reads_patches,
    runs_without_text,
)
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.search import grid_settings
from fsclip_jax.transductive.catalog import REFINEMENTS

_SECTION = re.compile(r"^(Attributes|Example|Source):[ \n]", re.M)


def kind_of(adapter: Adapter) -> str:
    """Say how a method comes by its classifier.

    Example:
        >>> kind_of(get_adapter("ridge")), kind_of(get_adapter("meta_adapter"))
        ('closed form', 'meta-learned')
    """
    if is_meta_learned(adapter):
        return "meta-learned"
    if "words" in needs_of(adapter):
        return "learned prompt"
    return "trained on the shots" if hasattr(adapter, "train") else "closed form"


def source_of(adapter: object) -> str:
    """Return the authors and title of a method's source, without section and edition.

    Example:
        >>> source_of(get_adapter("coop"))
        'Zhou et al., "Learning to Prompt for Vision-Language Models"'
    """
    source = " ".join(_sections(type(adapter)).get("Source", "").split())
    title = re.match('(.*?"[^"]+?)[,.]?"', source)
    return f'{title[1]}"' if title else re.split("[;.]", source)[0]


class MethodSummary(NamedTuple):
    """What a method is, in a line."""

    name: str
    kind: str
    """How it comes by its classifier; see :func:`kind_of`."""
    searched: tuple[str, ...]
    """Scalars that are chosen on val images or held-out shots."""
    needs: tuple[str, ...]
    """What it needs beside image features and class names."""
    source: str
    cost: str
    """Steps of the fit to a task, beside which a fit in closed form costs nothing."""


def methods() -> tuple[MethodSummary, ...]:
    """Return all few-shot methods, the plainest first.

    Example:
        >>> [method.name for method in methods()][:2]
        ['zero_shot', 'prototype']
    """
    found = []
    for name in ADAPTERS:
        adapter = get_adapter(name)
        searched = tuple(grids_of(adapter)[0].names) if grids_of(adapter) else ()
        needs = tuple(sorted(needs_of(adapter)))
        found.append(
            MethodSummary(
                name, kind_of(adapter), searched, needs, source_of(adapter), _cost(adapter)
            )
        )
    return tuple(found)


def refinements() -> tuple[MethodSummary, ...]:
    """Return what refines the answers of methods by the queries.

    Example:
        >>> [each.name for each in refinements()], refinements()[0].needs
        (['transclip', 'stata', 'tda'], ('queries',))
    """
    return tuple(
        MethodSummary(
            name,
            "test-time" if one.online else "transductive",
            (),
            ("queries", *(["text"] if one.needs_text else [])),
            source_of(one),
            f"{one.steps} steps" if hasattr(one, "steps") else "",
        )
        for name, one in ((name, make()) for name, make in REFINEMENTS.items())
    )


def _cost(adapter: Adapter) -> str:
    if is_meta_learned(adapter):
        return ""
    if told := getattr(adapter, "cost", ""):
        return str(told)
    units = (name for name in ("epochs", "iterations", "steps") if hasattr(adapter, name))
    return next((f"{getattr(adapter, name)} {name}" for name in units), "")


def method_markdown(name: str, level: int = 2) -> str:
    """Return the section on one method: what it does, its equation, fields, grid and source.

    Everything is read off the method's own file: the docstrings of the module and the class, the
    fields with their defaults, the scalars of ``init``, and the declared grid. ``level`` is that
    of the heading.

    Example:
        >>> print(method_markdown("zero_shot").splitlines()[0])
        ## `zero_shot`
    """
    of_queries = next((each for each in refinements() if each.name == name), None)
    adapter: Any = REFINEMENTS[name]() if of_queries else get_adapter(name)
    parts = _sections(type(adapter))
    opening = _markdown(inspect.getdoc(inspect.getmodule(type(adapter))) or "")
    lines = [f"{'#' * level} `{name}`", "", opening, "", _markdown(parts["text"])]
    facts = [] if of_queries else list(_facts(adapter))
    if of_queries:
        needs = ", ".join(f"needs {each}" for each in of_queries.needs)
        facts.append(f"- Kind: {of_queries.kind}, {needs}; refines the answers of any method.")
    if "Source" in parts:
        facts.append(f"- Source: {_markdown(' '.join(parts['Source'].split()))}")
    fields = list(_fields(adapter, parts.get("Attributes", "")))
    table = ["| field | default | what it is |", "|---|---|---|", *fields, ""] if fields else []
    return "\n".join([*lines, "", *table, *facts, ""])


def _facts(adapter: Adapter) -> Iterator[str]:
    yield f"- Kind: {', '.join([kind_of(adapter), *_conditions(adapter)])}."
    if start := _start(adapter):
        yield f"- Parameters before any search: {start}."
    if grid_settings(adapter):
        yield f"- Searched: {_searched(adapter)}."


def _sections(kind: type) -> dict[str, str]:
    """Split a class docstring into its ``text`` and what follows each heading."""
    pieces = _SECTION.split(inspect.cleandoc(kind.__doc__ or ""))
    named = zip(pieces[1::2], pieces[2::2], strict=True)
    return {"text": pieces[0].strip(), **{name: body.strip("\n") for name, body in named}}


def _markdown(text: str) -> str:
    """Turn what docstrings use of reStructuredText into Markdown."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda role: f"`{role[1].rsplit('.', 1)[-1]}`", text)
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            blocks.append("```\n" + inspect.cleandoc(block) + "\n```")
        else:
            blocks.append(re.sub(r"::$", ":", block.replace("``", "`")))
    return "\n\n".join(blocks)


def _cell(text: str) -> str:
    return _markdown(" ".join(text.split())).replace("|", "\\|")


def _fields(adapter: Any, described: str) -> Iterator[str]:
    """One row of the table a field: its name, its default, and its line under ``Attributes``."""
    lines = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", described, re.M))
    for field in dataclasses.fields(adapter):
        words = " ".join(lines.get(field.name, "").split())
        yield f"| `{field.name}` | {_value(field.default)} | {_cell(words)} |"


def _conditions(adapter: Adapter) -> list[str]:
    needed = [f"needs {name}" for name in sorted(needs_of(adapter))]
    free = ["runs without text"] if runs_without_text(adapter) else []
    return [*needed, *free, *(["looks at patches of the query"] if reads_patches(adapter) else [])]


def _start(adapter: Adapter) -> str:
    """The scalars of ``init``; matrices and nested parameters are learned, and not listed."""
    params = adapter.init(jax.random.key(0), 8)
    scalars = {name: x for name, x in params.items() if not isinstance(x, dict) and not jnp.ndim(x)}
    return ", ".join(f"`{name}` {float(x):g}" for name, x in scalars.items())


def _searched(adapter: Adapter) -> str:
    values = grid_settings(adapter)
    spans = [f"`{name}` {x.min():.3g} to {x.max():.3g}" for name, x in values.items()]
    return f"{', '.join(spans)}; {len(next(iter(values.values()))):,} settings"


def _value(default: Any) -> str:
    return f"{default:,}" if type(default) is int else f"`{default!r}`"
