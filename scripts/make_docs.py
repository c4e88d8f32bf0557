"""Fill what the pages take from the program: flags, methods, data sets, backbones, metrics.

    python scripts/make_docs.py            writes the pages anew
    python scripts/make_docs.py --check    exits with 1 if a page is not what this would write

A block of a page begins with ``<!-- generated: NAME -->`` and ends with ``<!-- end -->``; what is
between them is never written by hand. ``BLOCKS`` says which names there are.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fsclip_jax.cli.completion import CONFIGS as COMMANDS
from fsclip_jax.cli.options import options_of

ROOT = Path(__file__).resolve().parents[1]

BLOCK = re.compile(r"(<!-- generated: ([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return the pages that may have blocks."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """Return a page with the blocks as the program would have them now."""

    def made(block: re.Match[str]) -> str:
        return f"{block[1]}{BLOCKS[block[2]]().strip()}\n{block[3]}"

    return BLOCK.sub(made, text)


def flags() -> str:
    """Return a section with a table of flags for every command."""
    parts = []
    for command, config in COMMANDS.items():
        said = inspect.cleandoc(config.__doc__ or "").partition("\n\n")[0]
        rows = [f"|{flag}|{default}|{cell(text)}|" for flag, default, text in flags_of(config)]
        head = ["|flag|default|meaning|", "|---|---|---|"]
        parts.append("\n".join([f"## fsclip {command}", "", said, "", *head, *rows]))
    return "\n\n".join(parts)


def flags_of(config: type) -> Iterator[tuple[str, str, str]]:
    """Yield every field as it is typed, its default, and its docstring."""
    for option in options_of(config):
        choices = " " + cell("|".join(option.choices)) if option.choices else ""
        name = option.flags[0] + choices if option.flags else option.field.upper()
        default = option.default and f"`{option.default}`"
        yield f"`{name}`", "required" if default is None else default, option.text


def methods() -> str:
    """Return the section of every method, from its docstrings."""
    from fsclip_jax.adapters.catalog import ADAPTERS
    from fsclip_jax.adapters.describe import method_markdown
    from fsclip_jax.transductive.catalog import REFINEMENTS

    parts = [method_markdown(name, level=3) for name in (*ADAPTERS, *REFINEMENTS)]
    return re.sub(r"^\| .*", lambda row: tight(row[0]), "\n\n".join(parts), flags=re.M)


def data_sets() -> str:
    """Return the table of published data sets, and whose they are."""
    from fsclip_jax.data.catalog import KNOWN_SETS

    rows = ["|name|data set|classes|train|val|test|template|CoOp's folder|TFDS|", "|---" * 9 + "|"]
    for known in KNOWN_SETS:
        coop, tfds = known.coop, known.tfds
        folder = f"`{coop.folder}/{coop.images}`" if coop else "-"
        numbers = [f"{number:,}" for number in (known.classes, *known.sizes)]
        cells = (f"`{known.name}`", known.title, *numbers, known.templates[0])
        places = (folder, f"`{tfds.spec}` {tfds.version}" if tfds else "-")
        rows.append("|" + "|".join((*cells, *places)) + "|")
    return "\n".join(rows)


def backbones() -> str:
    """Return the table of families, and of each the layouts it comes in and published models."""
    from fsclip_jax.clip.families import FAMILIES, TITLES, family_of
    from fsclip_jax.clip.published import KNOWN

    rows = ["|family|layouts|published, such as|", "|---|---|---|"]
    for family in FAMILIES:
        known = [model.id for model in KNOWN if family_of(model.config) is family]
        some = f"{len(known)}: {', '.join(f'`{name}`' for name in known[:3])}"
        layouts = ", ".join(TITLES[name] for name in family.layouts)
        rows.append(f"|{family.name}|{layouts}|{some if known else '-'}|")
    return "\n".join(rows)


def metrics() -> str:
    """Return the table of every number that a report can hold."""
    from fsclip_jax.report.metrics import METRICS

    rows = [f"|`{m.name}`|{m.label}|{m.better}|{cell(m.about)}|" for m in METRICS]
    return "\n".join(["|name|number|better|how|", "|---" * 4 + "|", *rows])


def defaults() -> str:
    """Return what `train` and `eval` do without a configuration, beside what it may leave out."""
    from fsclip_jax.cli.parsing import load_config

    rows = ["|flag of|without `CONFIG.py`|left out of one|", "|---|---|---|"]
    for command, part in (("train", "train"), ("eval", "evaluate")):
        bare = load_config(ROOT / "configs" / "quickstart.py", part, COMMANDS[command])
        for one, other in zip(
            options_of(COMMANDS[command], bare), options_of(COMMANDS[command]), strict=True
        ):
            if one.default != other.default:
                rows.append(f"|`{command} {one.flags[0]}`|`{one.default}`|`{other.default}`|")
    return "\n".join(rows)


def pictures() -> str:
    """Return how many pictures of a class a folder without split folders must hold."""
    from fsclip_jax.data.splits import split_sizes
    from fsclip_jax.training.config import EMOJI_RECIPE

    def least(train: int) -> int:
        return next(n for n in range(2, 1000) if split_sizes(n)[0] >= train)

    shots = (1, 2, 4, 8, 16)
    rows = ["|to|" + "|".join(f"{k}-shot" for k in shots) + "|train|", "|---" * 7 + "|"]
    # A task to train on takes one picture to ask about beside the fewest shots.
    train = least((EMOJI_RECIPE.min_shot or EMOJI_RECIPE.shot) + 1)
    counts = "|".join(str(least(k)) for k in shots)
    return "\n".join([*rows, f"|pictures of each class|{counts}|{train}|"])


def failures() -> str:
    """Return the table of what failures cost, for hosts that may be taken back every day."""
    from failures import HOSTS, INTERVALS, Job, table

    return table(Job(), HOSTS, INTERVALS)


def scaling() -> str:
    """Return what every stage costs by the number of pictures."""
    from scaling import byte_table, time_tables

    return f"{byte_table()}\n\n{time_tables()}"


def limits() -> str:
    """Return what breaks first, and what to do."""
    from scaling import limit_table

    return limit_table()


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return text.replace("|", "\\|")


def tight(row: str) -> str:
    """Return a row of a table without the spaces around its bars."""
    return re.sub(r" *(?<!\\)\| *", "|", row)


BLOCKS: dict[str, Callable[[], str]] = {
    "flags": flags,
    "defaults": defaults,
    "pictures": pictures,
    "methods": methods,
    "data sets": data_sets,
    "backbones": backbones,
    "metrics": metrics,
    "failures": failures,
    "scaling": scaling,
    "limits": limits,
}
"""What writes each block."""


def main(argv: list[str]) -> int:
    """Write the pages, or say which of them are stale; return the exit code."""
    stale = []
    for page in pages():
        text = page.read_text("utf-8")
        if (made := filled(text)) != text:
            stale.append(page.relative_to(ROOT))
            if "--check" not in argv:
                page.write_text(made, "utf-8")
    if stale and "--check" in argv:
        print(f"stale: {', '.join(map(str, stale))}; `make docs` writes them anew", file=sys.stderr)
        return 1
    print(f"{'wrote ' + ', '.join(map(str, stale)) if stale else 'every page is up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
