"""A CLIP that stays loaded: pictures and prompts to unit features, in two lines."""

import functools
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from fsclip_jax.prediction.given import PictureLike, as_pictures
from fsclip_jax.prediction.images import content_of, encode_pictures, loaded_source
from fsclip_jax.typing import Bool, Float


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
        found = self._vectors(listed, verbose)
        for place, vector in enumerate(found):
            if isinstance(vector, str):
                raise UserError(
                    f"picture {place} cannot be read ({vector}); leave it out or repair it"
                )
        return np.stack([np.zeros(self._dim, np.float32), *found])[1:]

    def encode_files(
        self, files: Sequence[str | Path]
    ) -> tuple[Float[np.ndarray, "n dim"], Bool[np.ndarray, " n"]]:
        """Encode picture files, and say which could be read; of the others the features are 0."""
        found = self._vectors(list(files), verbose=False)
        features = np.zeros((len(found), self._dim), np.float32)
        for place, vector in enumerate(found):
            if not isinstance(vector, str):
                features[place] = vector
        return features, np.array([not isinstance(vector, str) for vector in found], bool)

    def keep(self, files: Sequence[str], features: Float[np.ndarray, "n dim"]) -> None:
        """Keep the features of files that were encoded otherwise."""
        prefix, sums = _context(self.backbone), map(content_of, files)
        pairs = zip(sums, features, strict=True)
        self.kept.put({prefix + sum_: each for sum_, each in pairs if sum_ is not None})

    def _vectors(self, listed: Sequence[PictureLike], verbose: bool) -> list[np.ndarray | str]:
        """Look up or encode pictures; in place of a vector stands why one cannot be read."""
        prefix = _context(self.backbone)
        sums = map(content_of, listed)
        names = [place if found is None else prefix + found for place, found in enumerate(sums)]
        known = self.kept.get([name for name in names if isinstance(name, bytes)], self._dim)
        vectors: dict[bytes | int, np.ndarray | str] = dict(known.items())
        first = {name: place for place, name in reversed(list(enumerate(names)))}
        todo = sorted(place for name, place in first.items() if name not in vectors)
        new = self._encode([listed[place] for place in todo], verbose)
        found = {names[place]: vector for place, vector in zip(todo, new, strict=True)}
        self.kept.put(
            {
                name: vector
                for name, vector in found.items()
                if isinstance(name, bytes) and not isinstance(vector, str)
            }
        )
        vectors |= found
        return [vectors[name] for name in names]

    def encode_text(self, texts: str | Sequence[str]) -> Float[np.ndarray, "n dim"]:
        """Encode prompts, as they are, to unit features.

        Raises:
            UserError: one is no text, or this is an image tower without text.
        """
        listed = [texts] if isinstance(texts, str) or not isinstance(texts, Iterable) else [*texts]
        if odd := [one for one in listed if not isinstance(one, str)]:
            raise UserError(f"a text is {odd[0]!r}; give a string, or a list of them")
        if not listed:
            return np.zeros((0, self._dim), np.float32)
        return encode_prompts(self.backbone, listed)

    @property
    def _dim(self) -> int:
        return self.backbone.embed_dim

    def _encode(self, pictures: Sequence[PictureLike], verbose: bool) -> list[np.ndarray | str]:
        found: list[np.ndarray | str] = [""] * len(pictures)
        if not pictures:
            return found
        quiet = None if verbose else io.StringIO()
        with Progress(len(pictures), "pictures", "encode", stream=quiet) as progress:
            for part in encode_pictures(loaded_source(pictures), self.backbone):
                for row, feature in zip(part.rows, part.features, strict=True):
                    found[row] = feature
                for row, why in part.lost:
                    found[row] = why
                progress.advance(len(part.rows) + len(part.lost))
        return found


def load_encoder(spec: str | os.PathLike = "mini") -> Encoder:
    """Load a CLIP and keep it for the next call in this process; the last two are kept.

    Features of pictures are kept in ``pictures.sqlite`` in the cache of feature banks.

    Args:
        spec: see ``clip.load.load_clip``.

    Raises:
        UserError: see ``clip.load.load_clip``.
    """
    spec = os.fspath(spec)
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
