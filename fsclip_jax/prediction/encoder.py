"""A CLIP that stays loaded: pictures and prompts to unit features, in two lines."""

import functools
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from fsclip_jax.clip.load import Backbone, find_model, load_clip
from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import default_cache
from fsclip_jax.features.identity import preprocessing_of
from fsclip_jax.features.kept import KeptFeatures
from fsclip_jax.features.progress import Progress
from fsclip_jax.features.text import encode_prompts
from fsclip_jax.prediction.images import (
    PictureLike,
    as_pictures,
    content_of,
    encode_pictures,
    loaded_source,
)
from fsclip_jax.typing import Float


@dataclass(frozen=True, eq=False)
class Encoder:
    """Both towers of a CLIP, and the features of the pictures that were seen before.

    Example:
        >>> from PIL import Image
        >>> clip = load_encoder("mini")
        >>> images = clip.encode_image([Image.new("RGB", (40, 40), "red")])
        >>> texts = clip.encode_text(["red square", "cat"])
        >>> (images @ texts.T).shape
        (1, 2)
    """

    backbone: Backbone
    kept: KeptFeatures = field(repr=False)
    """Features by the content of the picture; whoever asks twice is answered at once."""

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax."""
        return self.backbone.logit_scale

    def encode_image(self, pictures: Any, *, verbose: bool = False) -> Float[np.ndarray, "n dim"]:
        """Encode pictures to unit features.

        Args:
            pictures: one or many: whatever ``images.as_pictures`` takes.
            verbose: show on the error stream how far it is.

        Raises:
            UserError: a picture cannot be read, or there is something else in its place.
        """
        listed = as_pictures(pictures)
        if listed is None:
            raise UserError(
                f"{type(pictures).__name__} holds no pictures; give files, their bytes, PIL "
                "images, or uint8 arrays [height width 3]"
            )
        prefix = _context(self.backbone)
        sums = map(content_of, listed)
        names = [place if found is None else prefix + found for place, found in enumerate(sums)]
        known = self.kept.get([name for name in names if isinstance(name, bytes)], self._dim)
        vectors: dict[bytes | int, np.ndarray] = dict(known.items())
        first = {name: place for place, name in reversed(list(enumerate(names)))}
        todo = sorted(place for name, place in first.items() if name not in vectors)
        new = self._encode([listed[place] for place in todo], todo, verbose)
        found = {names[place]: vector for place, vector in zip(todo, new, strict=True)}
        self.kept.put({name: found[name] for name in found if isinstance(name, bytes)})
        vectors |= found
        return np.stack([np.zeros(self._dim, np.float32), *(vectors[name] for name in names)])[1:]

    def encode_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n dim"]:
        """Encode prompts, as they are, to unit features."""
        listed = [texts] if isinstance(texts, str) else list(texts)
        return encode_prompts(self.backbone, listed)

    @property
    def _dim(self) -> int:
        return self.backbone.embed_dim

    def _encode(
        self, pictures: Sequence[PictureLike], places: Sequence[int], verbose: bool
    ) -> Float[np.ndarray, "n dim"]:
        found = [np.zeros((0, self._dim), np.float32)]
        if not pictures:
            return found[0]
        quiet = None if verbose else io.StringIO()
        with Progress(len(pictures), "pictures", "encode", stream=quiet) as progress:
            for part in encode_pictures(loaded_source(pictures), self.backbone):
                for row, why in part.lost:
                    raise UserError(
                        f"picture {places[row]} cannot be read ({why}); leave it out or repair it"
                    )
                found.append(part.features)
                progress.advance(len(part.rows))
        return np.concatenate(found)


def load_encoder(spec: str = "mini") -> Encoder:
    """Load a CLIP and keep it for the next call in this process; the last two are kept.

    Features of pictures are kept in ``pictures.sqlite`` in the cache of feature banks.

    Args:
        spec: see ``clip.load.load_clip``.

    Raises:
        UserError: see ``clip.load.load_clip``.
    """
    place = find_model(spec)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    stamps = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return Encoder(_loaded(spec, stamps), KeptFeatures(default_cache() / "pictures.sqlite"))


@functools.lru_cache(maxsize=2)
def _loaded(spec: str, _stamps: tuple[tuple[str, int, int], ...]) -> Backbone:
    return load_clip(spec)  # the stamps tell what lay in one place at different times apart


def _context(backbone: Backbone) -> bytes:
    """Sum up all that a feature depends on but the picture."""
    of = [backbone.sha256, preprocessing_of(backbone), jax.default_backend()]
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).digest()
