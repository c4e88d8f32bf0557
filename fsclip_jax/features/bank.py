"""The feature bank in memory: as it was stored (host) and class-sorted (device)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fsclip_jax.errors import UserError
from fsclip_jax.features.layout import TEXT_FILE
from fsclip_jax.features.projection import Projection, Side, apply, read_projection
from fsclip_jax.features.selection import checked_classes, sorted_rows
from fsclip_jax.features.tensors import lengths, read_images, read_shard, read_tensor
from fsclip_jax.typing import Array, Bool, Float, Int


class Bank(NamedTuple):
    """The chosen part of a bank on the device: a pytree, sorted by class.

    The images of class ``c`` are the rows ``starts[c]`` to ``starts[c] + sizes[c] - 1``.

    Attributes:
        features: unit vectors, float32; view 0 is the plain centre crop.
        labels: class of each row, renumbered in the order in which the classes were asked for.
        sizes: number of rows of each class; 0 where a class has no image.
        domains: artist family of each row; -1 everywhere where the data has no families.
        text: unit text features (zero-shot weights), one vector a class; zero without text.
        prompts: unit vector of every prompt of each class, where the bank stores them; a prompt
            that a class does not have is zero.
        prompt_mask: true where a class has that prompt; None where there are no prompts.
        patches: of view 0, in the stored type, where they were asked for.
        text_lengths: of the text vectors as the tower gives them, where the bank keeps them.
    """

    features: Float[Array, "view n dim"]
    labels: Int[Array, " n"]
    starts: Int[Array, " classes"]
    sizes: Int[Array, " classes"]
    domains: Int[Array, " n"]
    text: Float[Array, "classes dim"]
    logit_scale: Float[Array, ""]
    prompts: Float[Array, "classes prompt dim"] | None = None
    patches: Float[Array, "n patch dim"] | None = None
    prompt_mask: Bool[Array, "classes prompt"] | None = None
    text_lengths: Float[Array, " classes"] | None = None


@dataclass(frozen=True)
class StoredBank:
    """An opened bank on the host: labels are in memory, vectors are read when asked for.

    Attributes:
        shards: the shard files and the number of images in each, in order.
        labels: class of each image, int32 [N].
        splits: index into ``SPLITS`` of each image, int8 [N].
        domains: artist family of each image, int32 [N]; None where the data has no families.
        class_names: of each class; two classes may share a name.
        text_features: unit text features, float32 [C D]; None of an image tower without text.
        side: of the last projection, that features are read on.
        text_lengths: of these vectors as the tower gives them, float32 [C]; None in banks that do
            not keep them.
    """

    path: Path
    manifest: dict[str, Any]
    shards: tuple[tuple[Path, int], ...]
    labels: np.ndarray
    splits: np.ndarray
    domains: np.ndarray | None
    keys: tuple[str, ...]
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...]
    text_features: np.ndarray | None
    logit_scale: float
    side: Side = "after"
    text_lengths: np.ndarray | None = None

    @property
    def views(self) -> int:
        """Number of views of each image."""
        return int(self.manifest["views"])

    @property
    def dim(self) -> int:
        """Width of a feature, on the side that is read."""
        return int(self.manifest["dim"]) if self.side == "after" else self.pre

    @property
    def pre(self) -> int:
        """Width before the last projection; 0 where the bank stores what is after it."""
        return int(self.manifest.get("pre", 0))

    @cached_property
    def projection(self) -> Projection | None:
        """The last projection of the image tower, where the bank stores what is before it."""
        if not self.pre:
            return None
        return read_projection(self.path / TEXT_FILE, self.pre, int(self.manifest["dim"]))

    def on(self, side: Side) -> "StoredBank":
        """Return the same bank read on a side of the last projection.

        ``before`` is for probes of what the tower pools: unit vectors, and no text, which lies
        behind the projection. ``raw`` is for methods that train it.

        Raises:
            UserError: the bank stores what is after the projection.
        """
        if side != "after" and not self.pre:
            raise UserError(
                f"the bank {self.path} holds no features before the projection: extract it with "
                "fsclip extract --features pre"
            )
        if side == "before":
            return replace(self, side=side, text_features=None, text_lengths=None)
        return replace(self, side=side)

    @property
    def patches(self) -> int:
        """Number of patches of each image; 0 where the bank does not store them."""
        return int(self.manifest.get("patches", 0))

    @cached_property
    def features(self) -> np.ndarray:
        """All features as unit vectors, float32 [V N D]."""
        return self.read(np.arange(len(self.labels)))

    @cached_property
    def prompt_features(self) -> np.ndarray | None:
        """Every prompt as a unit vector, float32 [P C D]; zero where a class has fewer.

        None where the bank does not store them.
        """
        held = self.text_features is not None
        each = read_tensor(self.path / TEXT_FILE, "prompt_features") if held else None
        if each is None:
            return None
        norms = lengths(each)
        if not np.isfinite(norms).all():
            raise UserError(
                f"{self.path / TEXT_FILE} holds a prompt that is not finite: make the bank anew"
            )
        unit: np.ndarray = each / np.where(norms > 0, norms, 1)
        return unit

    @cached_property
    def prompt_mask(self) -> np.ndarray | None:
        """True where a class has a prompt, bool [P C]; None where the bank stores no prompts.

        A bank of an earlier version says so by rows that are not zero.
        """
        if self.prompt_features is None:
            return None
        mask: np.ndarray | None = read_tensor(self.path / TEXT_FILE, "prompt_mask")
        return np.any(self.prompt_features, -1) if mask is None else mask

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read images by ascending row numbers as unit vectors, float32 [V len(rows) D].

        Before the projection, ``raw``, they have the length that the tower gives.

        Raises:
            UserError: a shard cannot be read, or holds a vector that is not finite or is zero.
        """
        projection = self.projection if self.side == "after" else None
        out = np.empty((self.views, len(rows), self.dim), np.float32)
        for path, wanted, within in self._parts(rows):
            part = read_images(path, "features", within)
            out[:, wanted] = part if projection is None else apply(projection, part)
            norms = lengths(out[:, wanted])
            if not (np.isfinite(norms).all() and norms.min() > 0):
                raise UserError(
                    f"{path} holds a feature that is not finite or is zero: make the bank anew"
                )
            if self.side != "raw":
                out[:, wanted] /= norms
        return out

    def read_patches(self, rows: np.ndarray) -> np.ndarray:
        """Read patches by ascending row numbers, unit vectors as stored, float16 [len(rows) P D].

        Raises:
            UserError: the bank stores no patches, a shard cannot be read, or a value is not
                finite.
        """
        if not self.patches:
            raise UserError(
                f"the bank {self.path} holds no patches: extract it with fsclip extract --patches"
            )
        out = np.empty((len(rows), self.patches, self.dim), np.float16)
        for path, wanted, within in self._parts(rows):
            out[wanted] = read_shard(path, "patches")[within]
            if not np.isfinite(out[wanted]).all():
                raise UserError(f"{path} holds a patch that is not finite: make the bank anew")
        return out

    def _parts(self, rows: np.ndarray) -> Iterator[tuple[Path, slice, np.ndarray]]:
        """Yield each shard that has some of the rows: which of them, and where it has them."""
        first = 0
        for path, size in self.shards:
            low, high = np.searchsorted(rows, (first, first + size))
            if high > low:
                yield path, slice(low, high), rows[low:high] - first
            first += size

    def select(
        self,
        splits: Sequence[str],
        classes: np.ndarray | None = None,
        *,
        patches: bool = False,
        on_host: bool = False,
        features: bool = True,
    ) -> Bank:
        """Put the images of some splits and classes on the device, sorted by class.

        A class without images in these splits keeps its place, its text and the size 0: whoever
        needs images of every class checks ``sizes``. Within a class the stored order is kept.

        Args:
            classes: class ids, each at most once; class ``classes[i]`` becomes label ``i``.
                None takes all.
            patches: take the patches of view 0 along. They are P times as large as a view, so
                only who reads them asks for them.
            on_host: leave the arrays in NumPy's hands, for who reads them once.
            features: without them there is no row in ``features``; `sorted_rows` says where the
                rows are.

        Raises:
            UserError: a split or class that is not there, no image at all, or patches that the bank
                does not hold.
        """
        chosen = checked_classes(len(self.class_names), classes)
        rows, labels = self.sorted_rows(splits, chosen)
        ascending = np.sort(rows)
        back = np.searchsorted(ascending, rows)
        sizes = np.bincount(labels, minlength=len(chosen)).astype(np.int32)
        domains = np.full(len(self.labels), -1) if self.domains is None else self.domains
        prompts, prompt_mask = self.prompt_features, self.prompt_mask
        text, long = self.text_features, self.text_lengths
        text = np.zeros((len(chosen), self.dim), np.float32) if text is None else text[chosen]
        put: Any = np.asarray if on_host else jnp.asarray
        return Bank(
            features=put(
                self.read(ascending)[:, back]
                if features
                else np.empty((self.views, 0, self.dim), np.float32)
            ),
            labels=put(labels),
            starts=put((np.cumsum(sizes) - sizes).astype(np.int32)),
            sizes=put(sizes),
            domains=put(domains[rows], np.int32),
            text=put(text),
            logit_scale=put(self.logit_scale, np.float32),
            prompts=None if prompts is None else put(prompts[:, chosen].transpose(1, 0, 2)),
            prompt_mask=None if prompt_mask is None else put(prompt_mask[:, chosen].T),
            patches=put(self.read_patches(ascending)[back]) if patches else None,
            text_lengths=None if long is None else put(long[chosen]),
        )

    def sorted_rows(
        self, splits: Sequence[str], classes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the stored row and the new label of each image that ``select`` gives.

        Raises:
            UserError: no image at all, or a split that is not there.
        """
        return sorted_rows(self.path, self.labels, self.splits, splits, classes)


def largest_class(bank: Bank) -> int:
    """Return the number of images of the largest class: a static size for the sampler.

    Example:
        >>> zeros = jnp.zeros
        >>> sizes = jnp.array([1, 2])
        >>> bank = Bank(zeros((1, 3, 4)), jnp.array([0, 1, 1]), jnp.array([0, 1]), sizes,
        ...             -jnp.ones(3, int), zeros((2, 4)), jnp.float32(100))
        >>> largest_class(bank)
        2
    """
    return int(np.max(np.asarray(bank.sizes)))
