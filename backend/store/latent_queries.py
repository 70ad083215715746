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

    def latent_correct(self: _HasFrame, model_id: str) -> pd.DataFrame:
        """Answered plain runs of a model on scored problems: `problem_id`, `n_latents`, `is_correct`."""
        return self.frame(
            "SELECT r.problem_id, r.n_latents, r.is_correct FROM latent_runs r JOIN latent_problems l USING"
            " (problem_id) WHERE l.is_scored AND r.model_id = $m AND r.is_correct IS NOT NULL ORDER BY r.n_latents,"
            " l.place",
            m=model_id,
        )

    def latent_readings(self: _HasFrame, lens: str) -> pd.DataFrame:
        """Readings of scored problems under one lens: one row a model, problem and layer."""
        return self.frame(
            "SELECT r.* FROM latent_readings r JOIN latent_problems l USING (problem_id) WHERE r.lens = $lens"
            " ORDER BY r.model_id, r.layer, l.place",
            lens=lens,
        )

    def latent_tokens(self: _HasFrame) -> pd.DataFrame:
        """`model_id`, `token_id`, `text` of every token that a reading names."""
        return self.frame("SELECT model_id, token_id, text FROM latent_tokens ORDER BY model_id, token_id")

    def latent_lens_quality(self: _HasFrame) -> pd.DataFrame:
        """How far tuned lenses of latents are from the models, by model, variant, layer and step."""
        return self.frame(
            "SELECT * FROM latent_lens_quality ORDER BY model_id, layer, variant != 'all', try_cast(variant AS INT),"
            " step"
        )

    def latent_parity(self: _HasFrame, subset: str) -> pd.DataFrame:
        """Even steps against odd ones, for one subset of the problems."""
        return self.frame(
            "SELECT * FROM latent_parity WHERE subset = $subset ORDER BY model_id, lens, layer, role, measure",
            subset=subset,
        )

    def latent_near_misses(self: _HasFrame) -> pd.DataFrame:
        """Near misses beside chance, by model, lens, layer, step, kind and measure."""
        return self.frame("SELECT * FROM latent_near_misses ORDER BY model_id, lens, layer, step, kind, measure")

    def latent_difference_readings(self: _HasFrame, model_id: str) -> pd.DataFrame:
        """The lens of differences of a model's mean latents, by layer and pair."""
        return self.frame(
            "SELECT * FROM latent_difference_readings WHERE model_id = $m ORDER BY layer, earlier, later", m=model_id
        )

    def latent_components(self: _HasFrame) -> pd.DataFrame:
        """Principal components of latents, by model, space, layer and number."""
        return self.frame("SELECT * FROM latent_components ORDER BY model_id, space, layer, component")

    def latent_projections(self: _HasFrame, space: str, layer: int) -> pd.DataFrame:
        """Where problems lie on the components of a space, one row a model and problem."""
        return self.frame(
            "SELECT r.* FROM latent_projections r JOIN latent_problems l USING (problem_id) WHERE r.space = $space AND"
            " r.layer = $layer ORDER BY r.model_id, l.place",
            space=space,
            layer=layer,
        )

    def latent_attention(self: _HasFrame, subset: str, split: str) -> pd.DataFrame:
        """Where latents look, for one subset of the problems and one split of the question."""
        return self.frame(
            "SELECT * FROM latent_attention WHERE subset = $subset AND split = $split ORDER BY model_id, layer, head,"
            " step, place",
            subset=subset,
            split=split,
        )

    def latent_needs(self: _HasFrame) -> pd.DataFrame:
        """One row a scored problem, model and replacement of one latent or of all, with the donor's own answer."""
        return self.frame(
            "SELECT n.*, d.answer AS donors_answer FROM latent_needs n JOIN latent_problems l USING (problem_id) LEFT"
            " JOIN problems d ON d.problem_id = n.donor_id ORDER BY n.model_id, l.place, n.replacement, n.place,"
            " n.after, n.step"
        )
