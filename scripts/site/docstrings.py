"""Docstrings as Markdown: what is reStructuredText in them, roles and tables, made readable."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
ROLE = re.compile(r":[a-z]+:(`[^`]+`)")
TABLE = re.compile(
    r"^=+(?: +=+)+\n(?:.+\n)+?=+(?: +=+)+$(?:\n(?:.+\n)+?=+(?: +=+)+$)?", re.MULTILINE
)


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Return a docstring without roles, its tables as they are typed.

    Example:
        >>> markdown("See :func:`refine`.")
        'See `refine`.'
    """
    text = EXAMPLE.sub("Examples:", ROLE.sub(r"\1", text))
    return TABLE.sub(lambda table: "```text\n" + table[0].replace("``", "") + "\n```", text)
