"""Training: gradients are autograd's, a stopped training goes on bit for bit, and planted features are found and told
apart.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.crosscoder import train
from backend.crosscoder.diff import LatentScaling, classify, nrn
from backend.crosscoder.kinds import TRAINED
from backend.crosscoder.train import CrosscoderTrainingError, Settings, Trainer

SETTINGS = Settings(
    n_models=2, width=6, n_features=20, k=3, batch=32, steps=50, warmup=5, dead_after=64, aux_k=4, penalty=0.3
)


def batch(seed=0, n=32, settings=SETTINGS):
    return torch.randn(n, settings.n_models, settings.width, generator=torch.Generator().manual_seed(seed))


def reference_loss(trainer, a, kept):
    """The loss as DEFINITIONS writes it, dense and traced. `kept` (n,
    n_features) marks the codes that batchtopk and topk keep."""
    own = trainer.settings
    flat = a.reshape(len(a), -1)
    f = flat @ trainer.encoder.t() + trainer.encoder_bias
    f = f if own.kind == "linear" else torch.relu(f) * kept
    error = f @ trainer.decoder + trainer.decoder_bias - flat
    loss = error.square().sum() / len(a)
    norms = trainer.decoder.view(own.n_features, own.n_models, own.width).norm(dim=2).sum(1)
    if own.kind in ("l1", "linear"):
        loss = loss + own.penalty * (f.abs() * norms).sum() / len(a)
    return loss, f, error


def kept_by_sorting(trainer, a):
    own = trainer.settings
    with torch.no_grad():
        f = torch.relu(a.reshape(len(a), -1) @ trainer.encoder.t() + trainer.encoder_bias)
        if own.kind == "l1":
            return torch.ones_like(f)
        gate = f * trainer.decoder.view(own.n_features, own.n_models, own.width).norm(dim=2).sum(1)
        if own.kind == "topk":
            return (gate >= gate.sort(dim=1, descending=True).values[:, own.k - 1 : own.k]).float() * (gate > 0)
        bound = gate.flatten().sort(descending=True).values[len(a) * own.k - 1]
        return (gate >= bound).float()


@pytest.mark.parametrize("kind", list(TRAINED))
@pytest.mark.parametrize("dense", [False, True])
def test_gradients_are_those_of_autograd(kind, dense, monkeypatch):
    monkeypatch.setattr(train, "_DENSE", 0.0 if dense else 1.0)
    settings = replace(SETTINGS, kind=kind, penalty_warmup=0.0, aux=0.0)
    trainer, a = Trainer(settings), batch()
    for number in range(3):  # away from the tied beginning
        trainer.step(batch(number + 1))
    kept = kept_by_sorting(trainer, a)
    loss, f, _ = reference_loss(trainer, a, kept)
    expected = torch.autograd.grad(loss, trainer.parameters)
    with torch.no_grad():
        found, measured = trainer.gradients(a.reshape(len(a), -1))
    assert measured.loss == pytest.approx(loss.item(), rel=1e-5)
    assert measured.l0 == pytest.approx(SETTINGS.k if kind == "linear" else (f > 0).sum().item() / len(a))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_our_loss_is_crosscoder_learnings_times_the_number_of_models_and_its_penalty_ours_over_it():
    """Its loss is the mean over tokens *and models* of squared distances plus l1_penalty times the mean over tokens of
    weighted codes.
    """
    settings = replace(SETTINGS, kind="l1", penalty_warmup=0.0, aux=0.0)
    trainer, a = Trainer(settings), batch()
    with torch.no_grad():
        measured = trainer.gradients(a.reshape(len(a), -1))[1]
        dictionary = trainer.dictionary(torch.ones(2), {})
        codes = dictionary.encode(a)
        mse = (a - dictionary.decode(codes)).pow(2).sum(dim=-1).mean()
        weighted = (codes * dictionary.decoder.norm(dim=2).sum(0)).sum(dim=-1).mean()
    assert measured.loss == pytest.approx(2 * (mse + settings.penalty / 2 * weighted).item(), rel=1e-5)


def test_dead_features_learn_what_the_others_leave_over():
    settings = replace(SETTINGS, aux=0.5)
    trainer, a = Trainer(settings), batch()
    trainer.silent[:10] = 10_000
    kept = kept_by_sorting(trainer, a)
    kept[:, :10] = 0
    with torch.no_grad():
        trainer.encoder_bias[:10] = -0.3  # so that they are not among the kept ones
        trainer.encoder[:10] *= 0.2
    kept = kept_by_sorting(trainer, a)
    assert kept[:, :10].sum() == 0
    loss, _, error = reference_loss(trainer, a, kept)
    f = torch.relu(a.reshape(len(a), -1) @ trainer.encoder.t() + trainer.encoder_bias)[:, :10]
    top = torch.zeros_like(f).scatter(1, f.topk(4, dim=1).indices, 1.0)
    left = (f * top) @ trainer.decoder[:10] + error.detach()
    loss = loss + 0.5 * left.square().sum() / error.detach().square().sum()
    expected = torch.autograd.grad(loss, trainer.parameters)
    with torch.no_grad():
        found, measured = trainer.gradients(a.reshape(len(a), -1))
    assert measured.loss == pytest.approx(loss.item(), rel=1e-5) and measured.dead == 0.5
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_kept_codes_are_the_largest_of_the_batch_whatever_was_kept_before():
    trainer = Trainer(SETTINGS)
    for number in range(6):
        a = batch(number)
        trainer.threshold *= (0.0, 1.0, 100.0)[number % 3]  # no guess, a good one, one that is far too high
        kept = kept_by_sorting(trainer, a)
        _, measured = trainer.gradients(a.reshape(len(a), -1).detach())
        assert measured.l0 == kept.sum().item() / len(a) == SETTINGS.k
        trainer.step(a)


def test_topk_keeps_the_largest_of_each_token_and_its_dictionary_the_same():
    trainer, a = Trainer(replace(SETTINGS, kind="topk")), batch()
    kept = kept_by_sorting(trainer, a)
    assert (kept.sum(1) == SETTINGS.k).all()
    codes = trainer.dictionary(torch.ones(2), {}).encode(a)
    assert torch.equal(codes > 0, kept > 0)
    assert trainer.step(a).l0 == SETTINGS.k


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped():
    whole = Trainer(SETTINGS)
    for number in range(8):
        whole.step(batch(number))
    begun = Trainer(SETTINGS)
    for number in range(5):
        begun.step(batch(number))
    resumed = Trainer(replace(SETTINGS))
    resumed.restore(begun.tensors())
    for number in range(5, 8):
        resumed.step(batch(number))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name


def test_activations_of_another_shape_or_not_finite_are_refused():
    trainer = Trainer(SETTINGS)
    with pytest.raises(CrosscoderTrainingError, match=r"shape \(4, 1, 6\), expected \(n, 2, 6\)"):
        trainer.step(torch.zeros(4, 1, 6))
    with pytest.raises(CrosscoderTrainingError, match="not finite"):
        trainer.step(torch.full((32, 2, 6), float("nan")))


def test_a_linear_crosscoder_without_a_penalty_explains_what_as_many_principal_components_do():
    """Baldi & Hornik 1989: no linear code of 4 numbers explains more, and gradient steps come close."""
    rng = np.random.default_rng(4)
    a = rng.normal(size=(512, 12)) * np.linspace(3, 0.3, 12) @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    spectrum = np.linalg.svd(a - a.mean(0), compute_uv=False) ** 2
    best = spectrum[:4].sum() / spectrum.sum()
    settings = replace(SETTINGS, kind="linear", penalty=0.0, n_features=4, steps=300, learning_rate=0.04, decay=0.5)
    trainer, data = Trainer(settings), torch.tensor(a, dtype=torch.float32).view(-1, 2, 6)
    for _ in range(settings.steps):
        trainer.step(data)
    rebuilt = trainer.dictionary(torch.ones(2), {}).decode(trainer.dictionary(torch.ones(2), {}).encode(data))
    explained = 1 - ((data - rebuilt) ** 2).sum().item() / ((a - a.mean(0)) ** 2).sum()
    assert best - 0.02 < explained < best + 1e-6


def test_of_a_linear_crosscoder_k_codes_a_token_are_said_to_fire_and_all_are_kept():
    trainer = Trainer(replace(SETTINGS, kind="linear", penalty=0.0, steps=350, learning_rate=8e-3))
    for number in range(350):  # until codes have settled: the threshold is a running mean
        measured = trainer.step(batch(number, n=512))
    assert measured.l0 == SETTINGS.k
    a = batch(999, n=4096)
    dictionary = trainer.dictionary(torch.ones(2), {"layer": 1})
    codes = dictionary.encode(a)
    assert (codes < 0).any() and not (codes == 0).any() and dictionary.k == SETTINGS.k
    firing = codes.abs() > dictionary.fires_above
    assert firing.sum().item() / len(a) == pytest.approx(SETTINGS.k, rel=0.15)


@pytest.mark.parametrize("kind", list(TRAINED))
def test_models_of_unequal_width_are_trained_as_if_what_lies_beyond_a_width_did_not_exist(kind):
    """The same steps by autograd on the joined vector of 4 + 6 numbers, with Adam, give the same weights."""
    settings = replace(SETTINGS, kind=kind, widths=(4, 6), penalty_warmup=0.0, aux=0.0, warmup=1, decay=0.0)
    trainer, own = Trainer(settings), torch.tensor([True] * 4 + [False] * 2 + [True] * 6)
    tight = [p.detach().clone().requires_grad_() for p in (trainer.encoder[:, own], trainer.decoder[:, own])]
    tight += [trainer.encoder_bias.detach().clone().requires_grad_(), trainer.decoder_bias[own].detach().clone()]
    tight[3].requires_grad_()
    adam = torch.optim.Adam(tight, lr=settings.learning_rate)
    for number in range(5):
        a = batch(number)
        a[:, 0, 4:] = 0
        joined = a.flatten(1)[:, own]
        f = joined @ tight[0].t() + tight[2]
        norms = tight[1][:, :4].norm(dim=1) + tight[1][:, 4:].norm(dim=1)
        if kind != "linear":
            f = torch.relu(f) * kept_by_sorting(trainer, a)
        loss = (f @ tight[1] + tight[3] - joined).square().sum() / len(a)
        if "penalty" in TRAINED[kind]:
            loss = loss + settings.penalty * (f.abs() * norms).sum() / len(a)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tight, 1.0)
        adam.step()
        trainer.step(a)
    dictionary = trainer.dictionary(torch.ones(2), {})
    assert dictionary.widths == (4, 6)  # which refuses weights that are not zero beyond them
    torch.testing.assert_close(trainer.encoder[:, own], tight[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trainer.decoder[:, own], tight[1], rtol=1e-4, atol=1e-5)


def planted(n, rng, width=48, shared=24, own=12, narrow=None):
    """Activations of sparse true features: shared ones (a direction in each model),
    base-only and distilled-only ones. With `narrow` the base model has that width alone."""
    truth = rng.normal(size=(shared + 2 * own, 2, width))
    truth[:, 0, narrow:] = 0 if narrow else truth[:, 0, narrow:]
    truth /= np.linalg.norm(truth, axis=2, keepdims=True)
    truth[shared : shared + own, 1] = 0
    truth[shared + own :, 0] = 0
    codes = (rng.random((n, len(truth))) < 0.05) * rng.uniform(0.5, 1.5, size=(n, len(truth)))
    sizes = np.sqrt([narrow or width, width])  # of the activations: √d
    return truth, np.einsum("nk,kmd->nmd", codes, truth) * sizes[:, None]


@pytest.mark.parametrize("narrow", [None, 32])
def test_planted_features_are_recovered_and_told_apart(narrow):
    """k is a little below the true 2.4 codes a token: a dictionary that may use more codes than there are splits
    features. Of two models of one width, and of a base that is narrower.
    """
    shared, own, width, n_features = 24, 12, 48, 64
    truth, activations = planted(40_000, np.random.default_rng(0), width, shared, own, narrow)
    data = torch.tensor(activations, dtype=torch.float32)
    sizes = {"n_models": 2, "width": width, "n_features": n_features, "k": 2, "batch": 1024}
    sizes |= {"widths": None if narrow is None else (narrow, width)}
    trainer = Trainer(Settings(**sizes, steps=700, warmup=50, learning_rate=3e-3, dead_after=20_000, aux_k=16))
    for step in range(trainer.settings.steps):
        measured = trainer.step(data[torch.randint(len(data), (1024,), generator=torch.Generator().manual_seed(step))])
    assert min(measured.variance_explained) > 0.9
    dictionary = trainer.dictionary(torch.ones(2), {})
    truth = truth * np.sqrt([narrow or width, width])[:, None]
    joined, true = (
        rows.reshape(len(rows), -1) / np.linalg.norm(rows.reshape(len(rows), -1), axis=1, keepdims=True)
        for rows in (dictionary.decoder.permute(1, 0, 2).numpy(), truth)
    )
    cosines = true @ joined.T
    assert (cosines.max(1) > 0.9).mean() >= 0.95
    scaling = LatentScaling(dictionary)
    for part in data.split(4096):
        scaling.add(part, dictionary.encode(part))
    found = scaling.statistics()
    classes = classify(nrn(dictionary, order="rms"), found.nu_eps, found.nu_r)
    said = classes[cosines.argmax(1)]
    places = {
        "shared": slice(shared),
        "base only": slice(shared, shared + own),
        "distilled only": slice(shared + own, None),
    }
    for name, where in places.items():
        right = (said[where] == name).sum()
        assert 2 * right / ((said == name).sum() + len(said[where])) >= 0.95, name  # F1


def test_the_dictionary_keeps_the_codes_that_training_kept():
    trainer = Trainer(replace(SETTINGS, steps=300))
    for number in range(300):
        trainer.step(batch(number, n=512))
    a = batch(999, n=4096)
    codes = trainer.dictionary(torch.ones(2), {"layer": 1}).encode(a)
    assert (codes > 0).sum().item() / len(a) == pytest.approx(SETTINGS.k, rel=0.15)
