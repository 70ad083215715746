"""How far a sampling is, told in tokens: samples that run side by side all end late, and until then their count would
say nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.models.sampling import Sample


@dataclass
class Written:
    """`n_samples` of at most `longest` tokens each. Give `draw` to `sampled_in_steps`, and `end` what ended."""

    n_samples: int
    longest: int
    tokens: int = 0  # drawn so far, end tokens included
    ended: int = 0
    _of_ended: int = 0

    def draw(self, n: int) -> None:
        """So many rows drew a token each."""
        self.tokens += n

    def end(self, samples: "Iterable[Sample]") -> None:
        for sample in samples:
            self.ended += 1
            self._of_ended += len(sample.token_ids) + (sample.finish == "eos")

    @property
    def most(self) -> int:
        """Tokens if no other sample ends by itself: it shrinks to `tokens` as samples end."""
        return self._of_ended + (self.n_samples - self.ended) * self.longest
