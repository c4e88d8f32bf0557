"""A trained adapter in a folder with its card, as ``fsclip export`` and the hub have it."""

from pathlib import Path

from fsclip_jax.adapters.checkpoint import WEIGHTS_FILE, save_adapter
from fsclip_jax.fitting.card import Origin, card_of
from fsclip_jax.report.card import write_card

PURPOSE = (
    "Trained parameters of a few-shot adapter, under the names of its published PyTorch code "
    "where there is one."
)
_USE = f"""Here: `fsclip eval --checkpoint PLACE`, `fsclip predict --checkpoint PLACE`, where PLACE
is this folder, or `OWNER/NAME` of its repository on the Hugging Face hub. In PyTorch:

```python
from safetensors.torch import load_file

tensors = load_file("{WEIGHTS_FILE}")
```"""
_OF_FILE = ("sha256", "method", "config")


def write_adapter(folder: Path, origin: Origin) -> list[str]:
    """Write an adapter, its description and its card into a folder; return the file names."""
    adapter, meta = origin.adapter, origin.meta
    kept = {name: value for name, value in meta.items() if name not in _OF_FILE}
    save_adapter(folder, adapter.name, origin.params, kept, adapter=adapter)
    card = card_of(origin, title=title_of(origin), purpose=PURPOSE, use=_USE)
    return write_card(folder, card)


def title_of(origin: Origin) -> str:
    """Return the title of the card of an adapter."""
    return f"{origin.adapter.name} for {origin.meta.get('backbone', 'a CLIP')}"
