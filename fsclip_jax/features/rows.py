"""The rows of a class-sorted bank that stays on the disk."""

from dataclasses import dataclass

import numpy as np

from fsclip_jax.features.bank import StoredBank


@dataclass(frozen=True, eq=False)
class BankRows:
    """Reads rows of what ``stored.select`` would have put on the device.

    Attributes:
        order: stored row of each row of the selection [n].
    """

    stored: StoredBank
    order: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Views, rows and width, as ``Bank.features`` would have them."""
        return self.stored.views, len(self.order), self.stored.dim

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read rows in any order, some perhaps more than once: unit vectors, float32 [V n D]."""
        stored, places = np.unique(self.order[rows], return_inverse=True)
        found: np.ndarray = self.stored.read(stored)[:, places]
        return found
