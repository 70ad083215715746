"""Effects on the logits are those of the model's own final norm and unembedding;
neighbours are those of all cosines."""

import numpy as np
import pytest
import torch

from backend.crosscoder import readout
from backend.crosscoder.readout import nearest, promoted
from backend.models.layers import layers_of
from tests.conftest import FAMILIES

N = 7


def rows(d: int, n: int = 20) -> torch.Tensor:
    return torch.randn((n, d), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_what_the_models_own_norm_and_unembedding_do_to_a_row(tiny, family):
    """norm(row) − norm(−row) has no bias; a norm's only other act is to bring the row to the length √d."""
    loaded = tiny(family)
    parts, some = layers_of(loaded.model), rows(loaded.d_model)
    with torch.inference_mode():
        lengths = (
            some - some.mean(1, keepdim=True) if isinstance(parts.final_norm, torch.nn.LayerNorm) else some
        ).norm(dim=1)
        logits = parts.unembedding(parts.final_norm(some)) - parts.unembedding(parts.final_norm(-some))
        effects = (logits / 2 * (lengths / loaded.d_model**0.5)[:, None])[:, : len(loaded.tokenizer)].numpy()
    found = promoted(some, loaded, N)
    order = np.argsort(effects, axis=1)
    np.testing.assert_allclose(
        found.top_effects, np.take_along_axis(effects, order[:, ::-1][:, :N], 1), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(found.bottom_effects, np.take_along_axis(effects, order[:, :N], 1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(effects, found.top, 1), found.top_effects, rtol=1e-3, atol=1e-4)
    assert found.top.max() < len(loaded.tokenizer)


def test_neighbours_are_the_largest_cosines_of_other_rows_that_are_not_zero(monkeypatch):
    monkeypatch.setattr(readout, "_BLOCK", 6)
    some = rows(5)
    some[4] = 0
    some[9] = -2 * some[8]
    unit = some.numpy() / np.maximum(np.linalg.norm(some.numpy(), axis=1, keepdims=True), 1e-9)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    cosines[:, 4] = -np.inf
    indices, found = nearest(some, N)
    assert np.isnan(found[4]).all()
    for row in set(range(len(some))) - {4}:
        assert indices[row].tolist() == np.argsort(-cosines[row])[:N].tolist()
        np.testing.assert_allclose(found[row], np.sort(cosines[row])[::-1][:N], atol=1e-6)


def test_a_dictionary_of_few_features_has_no_more_neighbours_than_others():
    indices, cosines = nearest(rows(5, n=3), N)
    assert np.isfinite(cosines[:, :2]).all() and np.isnan(cosines[:, 2:]).all() and indices.shape == (3, N)
