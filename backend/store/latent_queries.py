"""What a study has of models that think in latents: who they are, what they were asked, what they answered."""

from typing import Any, Protocol

import pandas as pd


class _HasFrame(Protocol):
    def frame(self, sql: str, **values: Any) -> pd.DataFrame: ...


class LatentQueries:
    """Mixed into Store, which gives `frame`."""

    def latent_models(self: _HasFrame) -> pd.DataFrame:
        """One row a model that thinks in latents: its rows of `latent_models` and `models`; siblings of one seed stand
        together, the one with recurrence first.
        """
        return self.frame(
            "SELECT l.*, m.name, m.revision, m.n_layers, m.d_model, m.family FROM latent_models l JOIN models m USING"
            " (model_id) ORDER BY l.training_seed, l.sibling != 'latent', l.sibling != 'pause', m.name"
        )

    def latent_problems(self: _HasFrame) -> pd.DataFrame:
        """One row a problem that latent models are asked, with its question and answer; the scored ones first."""
        return self.frame(
            "SELECT p.problem_id, p.question, p.answer, p.level AS n_steps, l.is_scored, l.intermediates, l.operands,"
            " l.has_distractor FROM latent_problems l JOIN problems p USING (problem_id) ORDER BY l.place"
        )

    def latent_runs(self: _HasFrame, problem_id: str | None = None) -> pd.DataFrame:
        """Plain runs of the scored problems, or of one problem: one row a model, problem and number of latents."""
        return self.frame(
            "SELECT r.* FROM latent_runs r JOIN latent_problems l USING (problem_id) WHERE CASE WHEN $p IS NULL THEN"
            " l.is_scored ELSE r.problem_id = $p END ORDER BY r.model_id, l.place, r.n_latents",
            p=problem_id,
        )
