"""What methods need beyond features, and why it is not at hand."""

from collections.abc import Mapping
from types import MappingProxyType

from fsclip_jax.adapters.base import runs_without_text
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.features.bank import StoredBank

LEARNS_PROMPTS = "words"
"""Methods that need this train through the text tower."""

TOWERS = "towers"
"""Methods that need this train both towers, on the pictures themselves."""

BY_NAME: Mapping[str, str] = MappingProxyType(
    {LEARNS_PROMPTS: "trains through the text tower", TOWERS: "trains both towers"}
)
"""What takes so long that ``all`` leaves it out, by what the method needs."""

PROJECTION = "projection"
"""Methods that need this train the image tower's last projection, on features before it."""

INPUTS = ("prompts", LEARNS_PROMPTS, "patches", PROJECTION, TOWERS)
"""What methods may need beyond features and text; see ``Adapter.needs``."""


def not_given_by(what: str) -> dict[str, str]:
    """Say of every input that methods may need that something does not give it.

    Example:
        >>> not_given_by("boxes do not give")["patches"]
        'it needs patches of the images, which boxes do not give'
    """
    found = {name: f"it needs {name} of the images, which {what}" for name in INPUTS}
    found[TOWERS] = (
        "it trains both towers, as `fsclip eval` does, and `fsclip export --format merged`, whose "
        "model folder is a --backbone"
    )
    return found


def no_text(who: str) -> dict[str, str]:
    """Say that features are of an image tower without text, and which methods need none.

    Example:
        >>> no_text("facebook/dinov2-base")["text"]
        'facebook/dinov2-base has no text, which all methods but prototype, ridge, gda need'
    """
    without = [name for name in ADAPTERS if runs_without_text(get_adapter(name))]
    return {"text": f"{who} has no text, which all methods but {', '.join(without)} need"}


def text_missing(*banks: StoredBank) -> dict[str, str]:
    """Say of the first bank without text that it has none; empty if all have."""
    for bank in banks:
        if bank.text_features is None:
            if bank.side == "before":
                return no_text("what is before the projection")
            name = bank.manifest["backbone"].get("id")
            return no_text(f"the bank {bank.path}" if name in (None, "", "unknown") else name)
    return {}
