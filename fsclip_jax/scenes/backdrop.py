"""Backdrops made by rule: cloud, grain, stripes, tiles, wood and paper."""

import colorsys

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage


def cloud(
    rng: np.random.Generator, size: int, octaves: int = 5, fall: float = 0.55
) -> Float[np.ndarray, "size size"]:
    """Noise of several octaves, ``sum_o fall^o n_o``, where ``n_o`` varies ``2^o`` times as fast.

    Values are scaled to 0 to 1.

    Example:
        >>> noise = cloud(np.random.default_rng(0), 64)
        >>> noise.shape, float(noise.min()), float(noise.max())
        ((64, 64), 0.0, 1.0)
    """
    total = np.zeros((size, size))
    for octave in range(octaves):
        cells = 3 * 2**octave
        bend = _spline(np.linspace(1, cells + 1, size), cells + 3)
        points = rng.standard_normal((cells + 3, cells + 3))
        # Not a matrix product: its last bits differ with the number of threads.
        rows = np.einsum("ip,pq->iq", bend, points)
        total += fall**octave * np.einsum("iq,jq->ij", rows, bend)
    return _to_unit(total)


def draw_backdrop(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Draw a backdrop: a pattern between two colours of one hue, with grain on it.

    Example:
        >>> one, other = (draw_backdrop(np.random.default_rng(3), 32) for _ in range(2))
        >>> bool((one == other).all())
        True
    """
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, size)
    dark, light = _two_colours(rng)
    pixels = dark + pattern[..., None] * (light - dark)
    light_falls = _slope(rng, size) - 0.5
    pixels = pixels * (1 + rng.uniform(0, 0.35) * light_falls[..., None])
    pixels = pixels + rng.uniform(1, 5) * rng.standard_normal((size, size, 1))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _spline(at: Float[np.ndarray, "size"], points: int) -> Float[np.ndarray, "size points"]:
    """Weights of the points 0, 1, ... in a cubic B-spline at the given places."""
    away = np.abs(at[:, None] - np.arange(points))
    near = 2 / 3 - away**2 + away**3 / 2
    return np.where(away < 1, near, np.clip(2 - away, 0, None) ** 3 / 6)


def _to_unit(x: Float[np.ndarray, "size size"]) -> Float[np.ndarray, "size size"]:
    low, high = x.min(), x.max()
    return (x - low) / max(high - low, 1e-9)


def _slope(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    """Rise from 0 to 1 in some direction."""
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:size, :size]
    return _to_unit(np.cos(angle) * columns + np.sin(angle) * rows)


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    hue, saturation = rng.uniform(), rng.uniform(0.02, 0.45)
    value, contrast = rng.uniform(0.45, 0.95), rng.uniform(0.12, 0.4)
    other = (hue + rng.uniform(-0.06, 0.06)) % 1.0
    light = colorsys.hsv_to_rgb(hue, saturation, value)
    dark = colorsys.hsv_to_rgb(other, min(1.0, saturation * 1.2), value - contrast)
    return 255 * np.array(dark), 255 * np.array(light)


def _clouds(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    return cloud(rng, size, fall=rng.uniform(0.4, 0.7))


def _paper(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    """Nearly even, with fibres: noise that is blurred along one direction."""
    fibres = rng.standard_normal((size, size))
    sigma = (rng.uniform(0.6, 1.5), rng.uniform(2, 6))
    return 0.6 + 0.3 * (_to_unit(ndimage.gaussian_filter(fibres, sigma, mode="wrap")) - 0.5)


def _stripes(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    waves = rng.uniform(4, 14)
    sharp = rng.uniform(1, 8)
    wave = np.sin(2 * np.pi * waves * _slope(rng, size))
    return 0.5 + 0.5 * np.tanh(sharp * wave) / np.tanh(sharp)


def _tiles(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    side = int(rng.integers(24, 56))
    rows, columns = np.mgrid[:size, :size] + rng.integers(0, side, 2)[:, None, None]
    shade = rng.uniform(0.4, 1.0, (size // side + 3, size // side + 3))
    tiles = shade[rows // side, columns // side]
    joint = (rows % side < 2) | (columns % side < 2)
    return np.where(joint, 0.0, tiles)


def _wood(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    """Rings: a wave along one direction that noise bends."""
    bent = _slope(rng, size) * rng.uniform(5, 12) + 2.5 * cloud(rng, size, octaves=3)
    return 0.5 + 0.5 * np.sin(2 * np.pi * bent)


_PATTERNS = (_clouds, _slope, _paper, _stripes, _tiles, _wood)
