"""What a study has of steered latents."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class LatentSteeringQueries:
    """Mixed into Store, which gives `frame`."""

    def latent_steerings(self: _HasFrame) -> pd.DataFrame:
        """One row a map, without its lists: which model, what was added where, how much of it."""
        return self.frame(
            "SELECT * EXCLUDE (problem_ids, truths, texts, answers, first_answers), len(problem_ids) AS n FROM"
            " latent_steerings ORDER BY model_id, kind, space, vectors, rotated, scored_means, coefficient"
        )

    def latent_steering(self: _HasFrame, steering_id: str) -> pd.DataFrame:
        """The row of one map, lists and all; empty where there is none."""
        return self.frame("SELECT * FROM latent_steerings WHERE steering_id = $s", s=steering_id)

    def latent_steering_cells(self: _HasFrame, steering_id: str) -> pd.DataFrame:
        """Every cell of one map, with the number of each problem's answer."""
        return self.frame(
            "SELECT * EXCLUDE (steering_id) FROM latent_steering_cells WHERE steering_id = $s ORDER BY vector, target,"
            " exit",
            s=steering_id,
        )
