"""Files in every published layout give the numbers of that layout's own formula; what a Dictionary cannot express is
refused in words.
"""

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.crosscoder import files
from backend.crosscoder.dictionary import Dictionary
from backend.crosscoder.files import export_crosscoder_learning, load, load_decoder, save
from backend.crosscoder.kinds import DictionaryError
from backend.crosscoder.latent_df import latent_df
from backend.crosscoder.stored import decoder_row

HUB_FILE, SAE_FILE = "model.safetensors", "sae_weights.safetensors"
N, D, F = 30, 5, 8  # tokens, width, features
RNG = np.random.default_rng(0)
TOKENS = 3 * RNG.standard_normal((N, 2, D)).astype(np.float32)
ONE = TOKENS[:, :1]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0)


def written(folder: Path, name: str, arrays: dict, **configs: dict) -> Path:
    """`folder` with the arrays in a file of that kind, and each of `configs` as NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".npz"):
        np.savez(folder / name, **arrays)
    else:
        tensors = {key: torch.as_tensor(array).contiguous() for key, array in arrays.items()}
        (save_file if name.endswith(".safetensors") else torch.save)(tensors, folder / name)
    for config, content in configs.items():
        (folder / f"{config}.json").write_text(json.dumps(content))
    return folder


def agrees(dictionary: Dictionary, tokens: np.ndarray, codes: np.ndarray, rebuilt: np.ndarray) -> None:
    assert 0 < (codes > 0).mean() < 1  # there was something to keep and something to drop
    np.testing.assert_allclose(dictionary.encode(torch.tensor(tokens)).numpy(), codes, atol=1e-4)
    np.testing.assert_allclose(dictionary.decode(torch.tensor(codes)).numpy(), rebuilt, atol=1e-4)


# ---- crosscoder_learning


def crosscoder(**more) -> dict:
    return {
        "encoder.weight": normal(2, D, F),
        "encoder.bias": normal(F),
        "decoder.weight": normal(2, F, D),
        "decoder.bias": normal(2, D),
        "code_normalization_id": np.int64(1),
    } | more


def crosscoder_formula(t: dict, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """encode and decode of the published CrossCoder and BatchTopKCrossCoder: activation_global_scale multiplies where
    there is a mean.
    """
    has_mean = "activation_mean" in t and not np.isnan(t["activation_mean"]).any()
    mean = t["activation_mean"].astype(float) if has_mean else 0.0
    gain = np.broadcast_to(t["activation_global_scale"], 2).astype(float)[:, None] if has_mean else 1.0
    x = (tokens.astype(float) - mean) * gain
    codes = relu(np.einsum("nmd,mdf->nf", x, t["encoder.weight"]) + t["encoder.bias"])
    if "threshold" in t:
        w = t["decoder.weight"].astype(float)
        norm = {1: np.linalg.norm(w, axis=2).sum(0), 2: np.sqrt((w**2).sum((0, 2))), 4: np.ones(F)}[
            int(t["code_normalization_id"])
        ]
        codes = codes * (codes * norm > t["threshold"])
    return codes, (np.einsum("nf,mfd->nmd", codes, t["decoder.weight"]) + t["decoder.bias"]) / gain + mean


HUB = {"activation_dim": D, "dict_size": F, "num_layers": 2}


def test_an_l1_crosscoder_of_the_hub_layout(tmp_path):
    t = crosscoder(
        activation_mean=np.full((2, D), np.nan, np.float32),
        activation_std=np.full((2, D), np.nan, np.float32),
        activation_global_scale=np.float32(1),
        target_rms=np.float32(1),
    )
    folder = written(
        tmp_path / "hub",
        HUB_FILE,
        t,
        config=HUB | {"code_normalization": "CROSSCODER"},
        trainer_config={"trainer": {"dict_class": "CrossCoder", "lm_name": "gemma", "layer": 13}},
    )
    found = load(folder)
    assert (found.kind, found.weighted, found.k, found.scale.tolist()) == ("l1", True, None, [1, 1])
    assert found.facts["layout"] == "crosscoder_learning" and found.facts["config"]["layer"] == 13
    agrees(found, TOKENS, *crosscoder_formula(t, TOKENS))


@pytest.mark.parametrize("code_normalization", [1, 2, 4])
def test_a_batchtopk_crosscoder_keeps_what_exceeds_its_threshold_in_units_of_its_code_normalization(
    tmp_path, code_normalization
):
    t = crosscoder(code_normalization_id=np.int64(code_normalization), k=np.int32(3), threshold=np.float32(4.0))
    found = load(written(tmp_path, HUB_FILE, t, config=HUB | {"k": 7}))  # the configuration keeps k before annealing
    assert (found.kind, found.k, found.weighted) == ("batchtopk", 3, code_normalization == 1)
    agrees(found, TOKENS, *crosscoder_formula(t, TOKENS))


def test_the_normaliser_becomes_biases_and_a_scale_for_each_model(tmp_path):
    """Mean and scale act before the encoder and after the decoder; a Dictionary with other biases does the same. By
    that layout's rule since June 2025 the scale of a model is target_rms over the root of its variances' sum: one
    number a model.
    """
    mean, std = normal(2, D) + 4, np.abs(normal(2, D)) + 0.1
    scale = (1 / np.sqrt((std**2).sum(1))).astype(np.float32)
    t = crosscoder(
        activation_mean=mean,
        activation_std=std,
        activation_global_scale=scale,
        target_rms=np.float32(1),
        k=np.int32(3),
        threshold=np.float32(0.5),
    )
    found = load(written(tmp_path, HUB_FILE, t, config=HUB))
    assert found.scale.tolist() == scale.tolist() and scale[0] != scale[1]
    agrees(found, TOKENS + 4, *crosscoder_formula(t, TOKENS + 4))


def test_the_normaliser_of_older_files_is_one_number_for_all_models(tmp_path):
    t = crosscoder(
        activation_mean=normal(2, D) + 4,
        activation_std=np.abs(normal(2, D)),
        activation_global_scale=np.float32(0.3),
        target_rms=np.float32(1),
        k=np.int32(3),
        threshold=np.float32(2.0),
    )
    found = load(written(tmp_path, HUB_FILE, t, config=HUB))
    assert found.scale.tolist() == pytest.approx([0.3, 0.3])
    agrees(found, TOKENS + 4, *crosscoder_formula(t, TOKENS + 4))


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_normaliser_that_is_off_scales_nothing_whatever_its_shape(tmp_path, shape):
    off = np.full((2, D), np.nan, np.float32)
    t = crosscoder(
        activation_mean=off,
        activation_std=off.copy(),
        activation_global_scale=np.full(shape, 0.3, np.float32),
        target_rms=np.float32(1),
    )
    assert load(written(tmp_path, HUB_FILE, t, config=HUB)).scale.tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(2,), (2, 1), (1,), ()])
def test_the_factors_of_the_normaliser_may_have_an_axis_of_one(tmp_path, shape):
    t = crosscoder(
        activation_mean=normal(2, D),
        activation_std=np.full((2, D), 2, np.float32),
        target_rms=np.float32(1),
        activation_global_scale=np.full(shape, 0.3, np.float32),
    )
    assert load(written(tmp_path, HUB_FILE, t, config=HUB)).scale.tolist() == pytest.approx([0.3, 0.3])


def test_of_a_training_checkpoint_the_state_dict_is_read(tmp_path):
    t = crosscoder()
    plain = load(written(tmp_path / "plain", "ae.pt", t))
    (tmp_path / "kept").mkdir()
    state = {key: torch.as_tensor(value) for key, value in t.items()}
    torch.save({"step": 3, "state_dict": state}, tmp_path / "kept" / "ae.pt")
    assert load(tmp_path / "kept").dictionary_id == plain.dictionary_id


def test_a_pointer_in_place_of_the_weights_is_said(tmp_path):
    (tmp_path / "ae.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        DictionaryError, match=r"ae\.pt is a pointer of Git LFS, not the file itself\. Run `git lfs pull`"
    ):
        load(tmp_path)


def test_an_older_state_dict_of_a_compiled_crosscoder(tmp_path):
    t = crosscoder()
    del t["code_normalization_id"]
    compiled = {f"_orig_mod.{key}": value for key, value in t.items()}
    found = load(written(tmp_path, "ae.pt", compiled, config={"trainer": {"dict_class": "CrossCoder", "dict_size": F}}))
    assert found.kind == "l1" and found.weighted
    agrees(found, TOKENS, *crosscoder_formula(t, TOKENS))
    alone = load(
        written(tmp_path / "alone", "ae_3000.pt", t) / "ae_3000.pt", scale=(2, 0.5)
    )  # nothing beside it, and scaled activations
    agrees(
        alone,
        TOKENS / np.array([2, 0.5], np.float32)[:, None],
        crosscoder_formula(t, TOKENS)[0],
        crosscoder_formula(t, TOKENS)[1] / np.array([2, 0.5])[:, None],
    )


def statistics(decoder: np.ndarray, **columns) -> str:
    base, ft = np.linalg.norm(decoder, axis=2)
    return pd.DataFrame(
        {"dec_base_norm": base, "dec_ft_norm": ft, "tag": ["Shared"] * (F - 1) + ["IT only"]} | columns
    ).to_csv()


def test_published_statistics_of_features_must_be_of_the_weights_beside_them(tmp_path):
    t = crosscoder()
    folder = written(tmp_path, HUB_FILE, t, config=HUB)
    (folder / "latent_df.csv").write_text(statistics(t["decoder.weight"]))
    assert load(folder).facts["latent_df.csv"] == {"rows": F, "tags": {"Shared": F - 1, "IT only": 1}}
    other = np.linalg.norm(t["decoder.weight"][1], axis=1)
    other[3] *= 1.1
    for content, said in [
        (
            statistics(t["decoder.weight"], dec_ft_norm=other),
            "dec_ft_norm of feature 3 is .* the norm in the weights beside it",
        ),
        (statistics(t["decoder.weight"], dec_ft_norm="wide"), "unreadable"),
        (statistics(t["decoder.weight"]).rsplit("\n", 2)[0], "has 7 rows"),
        ("", "unreadable"),
    ]:
        (folder / "latent_df.csv").write_text(content)
        with pytest.raises(DictionaryError, match=rf"latent_df.csv: .*{said}"):
            load(folder)


@pytest.mark.parametrize("base, distilled, expected", [(0, 2, 1), (2, 0, 0), (1, 1, 0.5), (1, 2, 0.75), (0, 0, np.nan)])
def test_dec_norm_diff_is_the_publishers_and_not_nrn(base, distilled, expected):
    row = {"feature": [0], "class": ["shared"]} | {
        key: [0.0] for key in ("nu_eps", "nu_r", "frequency", "max_activation")
    }
    decoder = torch.tensor([[[base, 0.0]], [[0.0, distilled]]])
    assert latent_df(decoder, pd.DataFrame(row))["dec_norm_diff"].item() == pytest.approx(expected, nan_ok=True)


# ---- dictionary_learning: sparse autoencoders


def autoencoder(bias: str = "bias", **more) -> dict:
    return {
        "encoder.weight": normal(F, D),
        "encoder.bias": normal(F),
        "decoder.weight": normal(D, F),
        bias: normal(D),
    } | more


def trainer(name: str, **more) -> dict:
    return {
        "trainer": {"dict_class": name, "activation_dim": D, "dict_size": F, "lm_name": "pythia", "layer": 3, **more}
    }


@pytest.mark.parametrize("name", ["AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE"])
def test_a_dictionary_learning_autoencoder(tmp_path, name):
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(name, "b_dec")
    t = autoencoder(bias, **({"k": np.int32(3), "threshold": np.float32(1.5)} if bias == "b_dec" else {}))
    found = load(written(tmp_path / "trainer_0", "ae.pt", t, config=trainer(name)))
    x = ONE[:, 0] - (0 if name == "AutoEncoderNew" else t[bias])
    codes = relu(x @ t["encoder.weight"].T + t["encoder.bias"])
    if name == "AutoEncoderTopK":
        codes = codes * (codes >= np.sort(codes)[:, -3:-2])
    if name == "BatchTopKSAE":
        codes = codes * (codes > 1.5)
    agrees(found, ONE, codes, (codes @ t["decoder.weight"].T + t[bias])[:, None])


def test_an_autoencoder_with_a_normaliser(tmp_path):
    t = autoencoder(
        "b_dec",
        k=np.int32(3),
        threshold=np.float32(1.0),
        activation_mean=normal(D) + 2,
        activation_std=np.abs(normal(D)),
        activation_global_scale=np.float32(0.7),
        target_rms=np.float32(1),
    )
    found = load(
        written(tmp_path, HUB_FILE, t, config=HUB | {"num_layers": None}, trainer_config=trainer("BatchTopKSAE"))
    )
    x = (ONE[:, 0] - t["activation_mean"]) * 0.7
    codes = relu((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    codes = codes * (codes > 1.0)
    agrees(found, ONE, codes, ((codes @ t["decoder.weight"].T + t["b_dec"]) / 0.7 + t["activation_mean"])[:, None])


def test_a_jump_relu_autoencoder_counts_codes_in_decoder_norms(tmp_path):
    t = {
        "W_enc": normal(D, F),
        "b_enc": normal(F),
        "W_dec": normal(F, D),
        "b_dec": normal(D),
        "threshold": np.abs(normal(F)),
    }
    found = load(written(tmp_path, "ae.pt", t, config=trainer("JumpReluAutoEncoder")))
    before, norms = ONE[:, 0] @ t["W_enc"] + t["b_enc"], np.linalg.norm(t["W_dec"], axis=1)
    codes = relu(before * (before > t["threshold"])) * norms
    agrees(found, ONE, codes, (codes / norms @ t["W_dec"] + t["b_dec"])[:, None])


# ---- crosscoder-model-diff-replication


@pytest.mark.parametrize(("weights", "config"), [("cc_weights.pt", "cfg"), ("3.pt", "3_cfg")])
def test_a_crosscoder_of_the_model_diff_replication(tmp_path, weights, config):
    t = {"W_enc": normal(2, D, F), "W_dec": normal(F, 2, D), "b_enc": normal(F), "b_dec": normal(2, D)}
    folder = written(
        tmp_path,
        weights,
        t,
        **{config: {"d_in": D, "dict_size": F, "model_name": "gemma-2-2b", "hook_point": "blocks.14"}},
    )
    with pytest.raises(DictionaryError, match=r"scale is not given; expected 2 numbers: √d over the mean norm"):
        load(folder)
    found = load(folder, scale=(0.25, 0.5))
    scale = np.array([0.25, 0.5])[:, None]
    codes = relu(np.einsum("nmd,mdf->nf", TOKENS * scale, t["W_enc"]) + t["b_enc"])
    agrees(found, TOKENS, codes, (np.einsum("nf,fmd->nmd", codes, t["W_dec"]) + t["b_dec"]) / scale)
    assert (found.kind, found.weighted) == ("l1", True)


# ---- SAELens


def sae(**more) -> dict:
    return {"W_enc": normal(D, F), "b_enc": normal(F), "W_dec": normal(F, D), "b_dec": normal(D)} | more


def sae_codes(t: dict, *, subtract: bool = True) -> np.ndarray:
    return (ONE[:, 0] - (t["b_dec"] if subtract else 0)) @ t["W_enc"] + t["b_enc"]


SIZES = {"d_in": D, "d_sae": F}
VERSION_6 = SIZES | {
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "metadata": {"hook_name": "blocks.3.hook_resid_post"},
}


@pytest.mark.parametrize(
    "config",
    [
        VERSION_6 | {"architecture": "standard"},
        SIZES
        | {
            "activation_fn_str": "relu",
            "hook_point": "blocks.3",
            "hook_point_layer": 3,
            "normalize_activations": False,
        },
    ],
    ids=["version 6", "before"],
)
def test_a_standard_autoencoder_of_saelens(tmp_path, config):
    t = sae(scaling_factor=np.ones(F, np.float32)) if "activation_fn_str" in config else sae()
    found = load(written(tmp_path, SAE_FILE, t, cfg=config))
    codes = relu(sae_codes(t))
    assert found.kind == "relu" and found.subtract and found.facts["config"] == config
    agrees(found, ONE, codes, (codes @ t["W_dec"] + t["b_dec"])[:, None])


@pytest.mark.parametrize(
    "config",
    [
        VERSION_6 | {"architecture": "topk", "k": 2},
        SIZES | {"architecture": "topk", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}},
        SIZES | {"architecture": "standard", "activation_fn": "topk", "activation_fn_kwargs": {"k": 2}},
        VERSION_6 | {"architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": True},
    ],
    ids=["version 6", "before", "long before", "codes in decoder norms"],
)
def test_a_topk_autoencoder_of_saelens(tmp_path, config):
    t = sae()
    found = load(written(tmp_path, SAE_FILE, t, cfg=config))
    norms = np.linalg.norm(t["W_dec"], axis=1) if "rescale_acts_by_decoder_norm" in config else np.ones(F)
    before = sae_codes(t) * norms
    codes = relu(before * (before >= np.sort(before)[:, -2:-1]))
    agrees(found, ONE, codes, (codes / norms @ t["W_dec"] + t["b_dec"])[:, None])


def test_a_jumprelu_autoencoder_of_saelens(tmp_path):
    t = sae(threshold=np.abs(normal(F)))
    found = load(
        written(tmp_path, SAE_FILE, t, cfg=VERSION_6 | {"architecture": "jumprelu", "apply_b_dec_to_input": False})
    )
    before = sae_codes(t, subtract=False)
    codes = relu(before) * (before > t["threshold"])
    agrees(found, ONE, codes, (codes @ t["W_dec"] + t["b_dec"])[:, None])


def test_a_factor_that_saelens_left_out_of_the_file_is_asked_for(tmp_path):
    t, config = sae(), VERSION_6 | {"architecture": "standard", "normalize_activations": "expected_average_only_in"}
    folder = written(tmp_path, SAE_FILE, t, cfg=config)
    with pytest.raises(
        DictionaryError,
        match=r"cfg.json: normalize_activations is 'expected_average_only_in'; expected none, or scale=",
    ):
        load(folder)
    codes = relu((ONE[:, 0] * 0.5 - t["b_dec"]) @ t["W_enc"] + t["b_enc"])
    agrees(load(folder, scale=[0.5]), ONE, codes, (codes @ t["W_dec"] + t["b_dec"])[:, None] / 0.5)


# ---- Gemma Scope


@pytest.mark.parametrize("w", ["W", "w"])
def test_a_gemma_scope_autoencoder(tmp_path, w):
    t = sae(threshold=np.abs(normal(F)))
    arrays = {key.replace("W", w): value for key, value in t.items()}
    found = load(written(tmp_path / "layer_12" / "width_16k" / "average_l0_71", "params.npz", arrays))
    before = sae_codes(t, subtract=False)
    codes = before * (before > t["threshold"])
    agrees(found, ONE, codes, (codes @ t["W_dec"] + t["b_dec"])[:, None])
    assert found.facts["config"] == {"folder": "layer_12/width_16k/average_l0_71"}


def test_the_second_gemma_scope_keeps_safetensors_and_says_its_place_beside_them(tmp_path):
    t = {key.lower(): value for key, value in sae(threshold=np.abs(normal(F))).items()}
    config = {
        "architecture": "jump_relu",
        "hf_hook_point_in": "model.layers.17.output",
        "hf_hook_point_out": "model.layers.17.output",
    }
    found = load(
        written(tmp_path / "resid_post" / "layer_17_width_16k_l0_small", "params.safetensors", t, config=config)
    )
    before = ONE[:, 0] @ t["w_enc"] + t["b_enc"]
    codes = before * (before > t["threshold"])
    agrees(found, ONE, codes, (codes @ t["w_dec"] + t["b_dec"])[:, None])
    assert found.facts["layer"] == 17
    with pytest.raises(DictionaryError, match=r"affine_skip_connection is a tensor"):
        load(written(tmp_path / "affine", "params.safetensors", t | {"affine_skip_connection": normal(D, D)}))


# ---- sparsify


SPARSIFY = {
    "d_in": D,
    "num_latents": F,
    "expansion_factor": 32,
    "k": 2,
    "activation": "topk",
    "normalize_decoder": True,
}


def sparse_coder() -> dict:
    return {"encoder.weight": normal(F, D), "encoder.bias": normal(F), "W_dec": normal(F, D), "b_dec": normal(D)}


def test_a_sparse_coder_of_sparsify(tmp_path):
    t = sparse_coder()
    found = load(written(tmp_path / "layers.5", "sae.safetensors", t, cfg=SPARSIFY))
    before = relu((ONE[:, 0] - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"])
    codes = before * (before >= np.sort(before)[:, -2:-1])
    agrees(found, ONE, codes, (codes @ t["W_dec"] + t["b_dec"])[:, None])
    assert (found.kind, found.k, found.facts["layout"], found.facts["layer"]) == ("topk", 2, "sparsify", 5)
    by_factor = SPARSIFY | {"d_in": D, "num_latents": 0, "expansion_factor": F / D}
    assert load(written(tmp_path / "other", "sae.safetensors", t, cfg=by_factor)).n_features == F


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"activation": "groupmax"}, "activation is 'groupmax'; expected topk"),
        ({"transcode": True}, "transcode is True; expected false"),
        ({"skip_connection": True}, "skip_connection is True"),
        ({"d_in": 4}, "d_in is 4; expected 5"),
        ({"k": None}, "k is None; expected"),
        ({"num_latents": 9}, "num_latents is 9 .* expected 8"),
    ],
)
def test_a_sparse_coder_that_is_no_topk_autoencoder_is_refused(tmp_path, change, told):
    with pytest.raises(DictionaryError, match=told):
        load(written(tmp_path, "sae.safetensors", sparse_coder(), cfg=SPARSIFY | change))


def test_of_a_folder_with_a_dictionary_for_each_hook_point_the_choices_are_named_in_the_order_of_layers(tmp_path):
    for name in ("layers.10", "layers.9", "layers.9.mlp"):
        written(tmp_path / "run" / name, "sae.safetensors", sparse_coder(), cfg=SPARSIFY)
    with pytest.raises(
        DictionaryError,
        match=r"run: the file of weights is missing; .* folders .*: layers.9, layers.9.mlp, layers.10\.",
    ):
        load(tmp_path / "run")
    assert load(tmp_path / "run" / "layers.10").facts["layer"] == 10
    with pytest.raises(
        DictionaryError, match=r"hookpoint 'layers.9.mlp' is the MLP of block 9, not the residual stream"
    ):
        load(tmp_path / "run" / "layers.9.mlp")


# ---- Llama Scope


@pytest.mark.parametrize(
    "change", [{}, {"act_fn": "topk"}, {"norm_activation": "inference", "sparsity_include_decoder_norm": False}]
)
def test_a_dictionary_of_llama_scope(tmp_path, change):
    """Its code scales activations to norm √d by their stated mean, and compares codes times decoder norms with the
    threshold.
    """
    t = {
        "encoder.weight": normal(F, D),
        "encoder.bias": normal(F),
        "decoder.weight": normal(D, F),
        "decoder.bias": normal(D),
    }
    config = {
        "d_model": D,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "top_k": 2,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 3.0, "out": 3.0},
        "sparsity_include_decoder_norm": True,
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post",
    } | change
    folder = tmp_path / "Llama3_1-8B-Base-L15R-8x"
    written(folder / "checkpoints", "final.safetensors", t)
    written(folder, "x.npz", {}, hyperparams=config)
    found = load(folder)
    gain = np.sqrt(D) / 3 if config["norm_activation"] == "dataset-wise" else 1.0
    norms = np.linalg.norm(t["decoder.weight"], axis=0) if config["sparsity_include_decoder_norm"] else 1.0
    before = relu(ONE[:, 0] * gain @ t["encoder.weight"].T + t["encoder.bias"])
    gate = before * norms
    codes = before * (gate > 0.5 if config["act_fn"] == "jumprelu" else gate >= np.sort(gate)[:, -2:-1])
    agrees(found, ONE, codes, ((codes @ t["decoder.weight"].T + t["decoder.bias"]) / gain)[:, None])
    assert found.facts["layer"] == 15
    norms = {"dataset_average_activation_norm": {"in": 3.0, "out": 4.0}, "norm_activation": "dataset-wise"}
    for wrong, told in [
        ({"norm_activation": "token-wise"}, "norm_activation is 'token-wise'"),
        (norms, "the same for in and out"),
        ({"hook_point_in": "blocks.15.hook_mlp_out"}, "the MLP of block 15"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu'"),
        ({"use_glu_encoder": True}, "use_glu_encoder is True"),
        ({"hook_point_out": "blocks.15.hook_mlp_out"}, "two places of block 15"),
    ]:
        (folder / "hyperparams.json").write_text(json.dumps(config | wrong))
        with pytest.raises(DictionaryError, match=told):
            load(folder)


# ---- where in the model


def of_saelens(**config) -> tuple:
    return SAE_FILE, sae(), {"cfg": SIZES | config}


KISSANE = {"W_enc": normal(2, D, F), "W_dec": normal(F, 2, D), "b_enc": normal(F), "b_dec": normal(2, D)}


@pytest.mark.parametrize(
    ("layer", "name", "arrays", "configs"),
    [
        (3, *of_saelens(metadata={"hook_name": "blocks.3.hook_resid_post"})),
        (2, *of_saelens(metadata={"hook_name": "blocks.3.hook_resid_pre", "hook_head_index": None})),
        (7, *of_saelens(hook_name="blocks.8.hook_resid_pre", hook_layer=8)),
        (3, *of_saelens(hook_point="blocks.3", hook_point_layer=3)),
        (6, *of_saelens(hook_point="blocks.{layer}.hook_resid_post", hook_point_layer=6)),
        (13, HUB_FILE, crosscoder(), {"trainer_config": {"trainer": {"layer": 13}}}),
        (8, "ae.pt", autoencoder(), {"config": trainer("AutoEncoder", layer=8, submodule_name="resid_post_layer_8")}),
        (7, "ae.pt", autoencoder(), {"config": trainer("AutoEncoder", layer=8, submodule_name="resid_pre_layer_8")}),
        (
            13,
            "cc_weights.pt",
            KISSANE,
            {"cfg": {"d_in": D, "hook_point": "blocks.14.hook_resid_pre", "site": "resid_pre", "layer": 0}},
        ),
        (None, *of_saelens()),
    ],
)
def test_a_dictionary_says_of_which_layer_it_is(tmp_path, layer, name, arrays, configs):
    found = load(written(tmp_path, name, arrays, **configs), scale=(1.0, 1.0) if name == "cc_weights.pt" else None)
    assert found.facts.get("layer") == layer and ("place" in found.facts) == (layer is not None)


def test_of_gemma_scope_the_folders_say_the_layer(tmp_path):
    arrays = sae(threshold=np.abs(normal(F)))
    assert (
        load(written(tmp_path / "layer_20" / "width_16k" / "average_l0_71", "params.npz", arrays)).facts["layer"] == 20
    )
    mlp = written(tmp_path / "gemma-scope-2b-pt-mlp" / "layer_20" / "width_16k" / "average_l0_71", "params.npz", arrays)
    with pytest.raises(DictionaryError, match="gemma-scope-2b-pt-mlp/layer_20 is the MLP of block 20"):
        load(mlp)


@pytest.mark.parametrize(
    ("told", "name", "arrays", "configs"),
    [
        ("the embeddings, which enter block 0", *of_saelens(metadata={"hook_name": "blocks.0.hook_resid_pre"})),
        ("the middle of block 3", *of_saelens(metadata={"hook_name": "blocks.3.hook_resid_mid"})),
        ("the MLP of block 3", *of_saelens(hook_name="blocks.3.hook_mlp_out", hook_layer=3)),
        ("the attention of block 3", *of_saelens(hook_point="blocks.3.attn.hook_z", hook_point_layer=3)),
        ("reshape_activations is 'hook_z'", *of_saelens(reshape_activations="hook_z")),
        ("hook_head_index 2", *of_saelens(metadata={"hook_name": "blocks.3.hook_resid_post", "hook_head_index": 2})),
        ("name two blocks", *of_saelens(hook_name="blocks.3.hook_resid_post", hook_layer=4)),
        (
            "the MLP of block 8",
            "ae.pt",
            autoencoder(),
            {"config": trainer("AutoEncoder", layer=8, submodule_name="mlp_out_layer_8")},
        ),
        ("counts blocks from the end", HUB_FILE, crosscoder(), {"trainer_config": {"trainer": {"layer": -1}}}),
    ],
)
def test_a_dictionary_of_another_place_is_refused_with_what_the_place_is(tmp_path, told, name, arrays, configs):
    with pytest.raises(DictionaryError, match=told):
        load(written(tmp_path, name, arrays, **configs))


@pytest.mark.parametrize("wrap", ["_orig_mod.{}", "module.{}", "module._orig_mod.{}", "_orig_mod.module.{}"])
@pytest.mark.parametrize(
    ("name", "arrays", "configs"),
    [
        (HUB_FILE, crosscoder(k=np.int32(3), threshold=np.float32(0.1)), {"config": HUB}),
        ("ae.pt", crosscoder(), {}),
        ("ae.pt", autoencoder(), {"config": trainer("AutoEncoder")}),
        ("sae.safetensors", sparse_coder(), {"cfg": SPARSIFY}),
        ("cc_weights.pt", KISSANE, {"cfg": {"d_in": D}}),
        ("pytorch_model.bin", crosscoder(), {}),
        ("params.npz", sae(threshold=np.abs(normal(F))), {}),
        of_saelens(),
    ],
    ids=[
        "crosscoder.safetensors",
        "crosscoder.pt",
        "autoencoder.pt",
        "sparsify",
        "replication.pt",
        "crosscoder.bin",
        "gemma.npz",
        "saelens",
    ],
)
def test_wrappers_of_compiled_and_parallel_training_are_no_part_of_the_keys(tmp_path, wrap, name, arrays, configs):
    scale = (1.0, 1.0) if name == "cc_weights.pt" else None
    plain = load(written(tmp_path / "plain", name, arrays, **configs), scale=scale)
    wrapped = load(
        written(tmp_path / "wrapped", name, {wrap.format(key): value for key, value in arrays.items()}, **configs),
        scale=scale,
    )
    assert wrapped.dictionary_id == plain.dictionary_id


def test_a_wrapper_deeper_in_the_keys_is_left_out_and_two_tensors_of_one_key_are_refused(tmp_path):
    t = crosscoder()
    deep = {key.replace("encoder.", "encoder._orig_mod."): value for key, value in t.items()}
    assert (
        load(written(tmp_path / "deep", HUB_FILE, deep)).dictionary_id
        == load(written(tmp_path / "plain", HUB_FILE, t)).dictionary_id
    )
    with pytest.raises(DictionaryError, match=r"is the same tensor as .*encoder.bias"):
        load(written(tmp_path / "both", HUB_FILE, t | {"_orig_mod.encoder.bias": normal(F)}))


# ---- decoder rows alone

# Feature k's row in model m, as each tool reads it from its own file.
BY_FEATURE, BY_COLUMN = (lambda t, m: t["W_dec"]), (lambda t, m: t["decoder.weight"].T)
ROWS = {
    "crosscoder_learning": (HUB_FILE, crosscoder(), {}, lambda t, m: t["decoder.weight"][m]),
    "crosscoder_learning with a mean": (
        HUB_FILE,
        crosscoder(
            activation_mean=normal(2, D),
            activation_std=np.ones((2, D), np.float32),
            activation_global_scale=normal(2) ** 2,
        ),
        {},
        lambda t, m: t["decoder.weight"][m],
    ),
    "Kissane et al.": ("cc_weights.pt", KISSANE, {"cfg": {"d_in": D}}, lambda t, m: t["W_dec"][:, m]),
    "dictionary_learning": ("ae.pt", autoencoder(), {"config": trainer("AutoEncoder")}, BY_COLUMN),
    "sparsify": ("sae.safetensors", sparse_coder(), {"cfg": SPARSIFY}, BY_FEATURE),
    "SAELens 3.x": (
        *of_saelens(
            activation_fn_str="relu",
            hook_name="blocks.8.hook_resid_pre",
            hook_layer=8,
            device="cuda",
            finetuning_scaling_factor=False,
            normalize_activations="none",
        ),
        BY_FEATURE,
    ),
    "SAELens 6": (
        *of_saelens(
            architecture="standard",
            apply_b_dec_to_input=False,
            device="mps",
            dtype="float32",
            metadata={"hook_name": "blocks.3.hook_resid_post", "model_name": "gpt2"},
        ),
        BY_FEATURE,
    ),
    "SAELens 6, scaled inputs": (*of_saelens(normalize_activations="expected_average_only_in"), BY_FEATURE),
    "Gemma Scope 1": ("params.npz", sae(threshold=np.abs(normal(F))), {}, BY_FEATURE),
    "Gemma Scope 1, lower case": (
        "params.npz",
        {key.replace("W", "w"): value for key, value in sae(threshold=np.abs(normal(F))).items()},
        {},
        lambda t, m: t["w_dec"],
    ),
    "Gemma Scope 2": (
        "params.safetensors",
        {key.lower(): value for key, value in sae(threshold=np.abs(normal(F))).items()},
        {"config": {"architecture": "jump_relu"}},
        lambda t, m: t["w_dec"],
    ),
}
UNSAID = {"Kissane et al.": (1.0, 1.0), "SAELens 6, scaled inputs": (0.5,)}


@pytest.mark.parametrize("layout", ROWS)
def test_decoder_rows_are_those_of_the_other_tools_rule_and_need_no_encoder(tmp_path, monkeypatch, layout):
    name, arrays, configs, rule = ROWS[layout]
    folder, scale = written(tmp_path, name, arrays, **configs), UNSAID.get(layout)
    whole, read = load(folder, scale=scale), []
    tensor = files._Weights.tensor
    monkeypatch.setattr(
        files._Weights,
        "tensor",
        lambda self, key, shape, **more: read.append((key, one := tensor(self, key, shape, **more))) or one,
    )
    found = load_decoder(folder, scale=scale)
    assert found.n_models == whole.n_models and found.facts == whole.facts
    for model in range(found.n_models):
        np.testing.assert_array_equal(found.rows(model), rule(arrays, model))
        np.testing.assert_array_equal(found.rows(model), whole.decoder[model].numpy())
    left = {key for key, one in read if one.is_meta}
    assert len(left) == 1 and "enc" in left.pop()
    with pytest.raises(DictionaryError, match="there is none of number"):
        found.rows(found.n_models)


def test_decoder_rows_of_our_own_form_and_of_codes_in_decoder_norms(tmp_path):
    save(ours(), tmp_path / "own")
    np.testing.assert_array_equal(load_decoder(tmp_path / "own").rows(1), load(tmp_path / "own").decoder[1].numpy())
    config = VERSION_6 | {"architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": True}
    normed = written(tmp_path / "normed", SAE_FILE, sae(), cfg=config)
    np.testing.assert_array_equal(load_decoder(normed).rows(0), load(normed).decoder[0].numpy())


@pytest.mark.parametrize(
    ("told", "name", "arrays", "configs"),
    [
        (
            "affine_skip_connection",
            "params.safetensors",
            {key.lower(): value for key, value in sae(threshold=np.abs(normal(F))).items()}
            | {"affine_skip_connection": normal(D, D)},
            {},
        ),
        ("the attention of block 3", *of_saelens(hook_point="blocks.3.attn.hook_z", hook_point_layer=3)),
        ("normalize_activations is 'layer_norm'", *of_saelens(normalize_activations="layer_norm")),
        ("threshold is missing", "params.npz", sae(), {}),
    ],
)
def test_what_is_refused_whole_is_refused_for_its_decoder(tmp_path, told, name, arrays, configs):
    with pytest.raises(DictionaryError, match=told):
        load_decoder(written(tmp_path, name, arrays, **configs))


# ---- our own form, and the export


def ours(kind: str = "batchtopk", **changes) -> Dictionary:
    values = {
        "kind": kind,
        "encoder": normal(2, D, F),
        "encoder_bias": normal(F),
        "decoder": normal(2, F, D),
        "decoder_bias": normal(2, D),
        "scale": np.array([0.123, 0.456], np.float32),
        "threshold": np.float32(0.7) if kind == "batchtopk" else None,
        "k": 3,
        "weighted": True,
        "subtract": False,
        "facts": {"models": ["base", "distilled"], "layer": 14, "λ": 0.1},
    } | changes
    is_array = {key: isinstance(value, (np.ndarray, np.generic)) for key, value in values.items()}
    return Dictionary(**{key: torch.as_tensor(value) if is_array[key] else value for key, value in values.items()})


def is_same(one: Dictionary, other: Dictionary) -> bool:
    return (
        one.dictionary_id == other.dictionary_id
        and one.facts == other.facts
        and torch.equal(one.encoder, other.encoder)
    )


@pytest.mark.parametrize(
    "dictionary",
    [
        ours(),
        ours("l1", k=None, weighted=False),
        ours("jumprelu", threshold=normal(F), k=None),
        ours("topk", subtract=True),
    ],
    ids=lambda one: one.kind,
)
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, dictionary):
    save(dictionary, tmp_path / "a" / "b")
    assert is_same(load(tmp_path / "a" / "b"), dictionary)
    assert is_same(load(tmp_path / "a" / "b" / files.WEIGHTS), dictionary)


@pytest.mark.parametrize(
    "dictionary", [ours(), ours(weighted=False), ours("l1", k=None)], ids=["weighted", "unweighted", "l1"]
)
def test_what_is_exported_is_loaded_equal_and_reads_scaled_activations_in_its_own_layout(tmp_path, dictionary):
    export_crosscoder_learning(dictionary, tmp_path)
    assert is_same(load(tmp_path), dictionary)
    t = {key: value.numpy() for key, value in load_file(tmp_path / "model.safetensors").items()}
    agrees(
        dictionary, TOKENS, *crosscoder_formula(t, TOKENS)
    )  # by that layout's own code, which scales raw activations itself
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["dict_size"] == F and ("k" in config) == (dictionary.kind == "batchtopk")
    trainer = json.loads((tmp_path / "trainer_config.json").read_text())["trainer"]
    assert (trainer["layer"], trainer["submodule_name"]) == (14, "layer_14_out")
    (tmp_path / "trainer_config.json").unlink()
    assert load(tmp_path).dictionary_id == dictionary.dictionary_id  # nothing of its numbers stands in our own entry


class TheirCrossCoder(torch.nn.Module):
    """The parameters and buffers that crosscoder_learning's BatchTopKCrossCoder registers (its main branch, February
    2026; the normaliser's shape since its commit of 29 June 2025): a factor of the normaliser for each model,
    everything else of the configuration's sizes.
    """

    def __init__(
        self, activation_dim: int, dict_size: int, num_layers: int, k: int, code_normalization: str, target_rms: float
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.Module(), torch.nn.Module()
        self.encoder.weight = torch.nn.Parameter(torch.empty(num_layers, activation_dim, dict_size))
        self.encoder.bias = torch.nn.Parameter(torch.empty(dict_size))
        self.decoder.weight = torch.nn.Parameter(torch.empty(num_layers, dict_size, activation_dim))
        self.decoder.bias = torch.nn.Parameter(torch.empty(num_layers, activation_dim))
        unset = torch.full((num_layers, activation_dim), torch.nan)
        for name, value in {
            "target_rms": torch.tensor(target_rms),
            "activation_mean": unset,
            "activation_std": unset.clone(),
            "activation_global_scale": torch.ones(num_layers),
            "code_normalization_id": torch.tensor({"CROSSCODER": 1}[code_normalization]),
            "k": torch.tensor(k, dtype=torch.int),
            "threshold": torch.tensor(-1.0),
        }.items():
            self.register_buffer(name, value)


def test_what_is_exported_fits_the_other_librarys_module_made_from_the_configuration_beside_it(tmp_path):
    """Its from_pretrained makes the module from every key of config.json,
    and then loads the tensors with strict=True."""
    dictionary = ours()
    export_crosscoder_learning(dictionary, tmp_path)
    theirs = TheirCrossCoder(**json.loads((tmp_path / "config.json").read_text()))
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    assert torch.equal(theirs.activation_global_scale, dictionary.scale)
    by_their_rule = theirs.target_rms / (theirs.activation_std**2).sum(-1).add(1e-8).sqrt()
    assert torch.allclose(
        by_their_rule, dictionary.scale, rtol=1e-5
    )  # the deviations give the factors, were they computed anew


def test_our_exports_of_before_are_read_as_they_were(tmp_path):
    """While that layout had one factor for all models its normaliser stayed off,
    and ours stood in trainer_config.json."""
    dictionary = ours()
    export_crosscoder_learning(dictionary, tmp_path)
    tensors = load_file(tmp_path / HUB_FILE)
    off = {key: torch.full((2, D), torch.nan) for key in ("activation_mean", "activation_std")}
    tensors |= off | {"activation_global_scale": torch.tensor(1.0)}
    save_file(tensors, tmp_path / HUB_FILE)
    description = json.loads((tmp_path / "trainer_config.json").read_text())
    description["anchorscope"]["scale"] = dictionary.scale.tolist()
    (tmp_path / "trainer_config.json").write_text(json.dumps(description))
    assert is_same(load(tmp_path), dictionary)


@pytest.mark.parametrize(
    "changes", [{"kind": "relu", "threshold": None}, {"subtract": True}, {"threshold": normal(F)}, {"k": None}]
)
def test_what_the_layout_cannot_hold_is_not_exported(tmp_path, changes):
    with pytest.raises(DictionaryError, match="crosscoder_learning"):
        export_crosscoder_learning(ours(**changes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_float16_holds_takes_half_the_space_and_is_loaded_bit_for_bit(tmp_path):
    for name, dictionary in (("whole", ours()), ("half", ours().in_float16())):
        save(dictionary, tmp_path / name)
        assert is_same(load(tmp_path / name), dictionary)
    whole, half = (load_file(tmp_path / name / files.WEIGHTS) for name in ("whole", "half"))
    assert whole["decoder"].dtype == half["encoder_bias"].dtype == torch.float32
    assert half["decoder"].dtype == half["encoder"].dtype == torch.float16


def test_a_linear_dictionary_is_read_back_and_is_not_exported(tmp_path):
    linear = ours("linear", threshold=np.float32(0.7))
    save(linear, tmp_path / "ours")
    assert is_same(found := load(tmp_path / "ours"), linear) and found.kind == "linear" and found.k == 3
    with pytest.raises(DictionaryError, match=r"of kind l1 or batchtopk .* this one is linear"):
        export_crosscoder_learning(linear, tmp_path / "theirs")


def test_a_dictionary_of_unequal_widths_is_read_back_in_a_version_of_its_own_and_is_not_exported(tmp_path):
    """Programs that know no `widths` refuse version 2; what has one width is written as before, version 1."""
    narrow = D - 3
    whole = ours()
    encoder, decoder, bias = whole.encoder.clone(), whole.decoder.clone(), whole.decoder_bias.clone()
    encoder[0, narrow:], decoder[0, :, narrow:], bias[0, narrow:] = 0, 0, 0
    unequal = replace(whole, encoder=encoder, decoder=decoder, decoder_bias=bias, widths=(narrow, D))
    save(unequal, tmp_path / "unequal")
    save(whole, tmp_path / "equal")
    described = [json.loads((tmp_path / name / files.DESCRIPTION).read_text()) for name in ("unequal", "equal")]
    assert [one["version"] for one in described] == [2, 1] and "widths" not in described[1]
    found = load(tmp_path / "unequal")
    assert is_same(found, unequal) and found.widths == (narrow, D)
    with pytest.raises(DictionaryError, match="models of one width"):
        export_crosscoder_learning(unequal, tmp_path / "theirs")
    sha256 = described[0]["sha256"]
    (tmp_path / "dictionaries").mkdir()
    (tmp_path / "unequal").rename(tmp_path / "dictionaries" / unequal.dictionary_id)
    rows = [decoder_row(tmp_path, unequal.dictionary_id, sha256=sha256, model=model, feature=2) for model in (0, 1)]
    assert [row.tolist() for row in rows] == [decoder[0, 2, :narrow].tolist(), decoder[1, 2].tolist()]


def test_a_changed_byte_in_our_own_form_is_noticed(tmp_path):
    save(ours(), tmp_path)
    weights = tmp_path / files.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        DictionaryError, match=r"dictionary.safetensors: its sha256 is \w{64}; expected \w{64}, as dictionary.json"
    ):
        load(tmp_path)


def test_the_description_of_our_own_form_is_checked(tmp_path):
    save(ours(), tmp_path)
    described = json.loads((tmp_path / files.DESCRIPTION).read_text())
    for change, told in [
        ({"version": 3}, "version is 3; expected 1 or 2"),
        ({"version": 2}, "widths is None; expected whole numbers"),
        ({"version": 2, "widths": [D, D]}, "expected None, as the models' widths are equal"),
        ({"k": "3"}, "k is '3'"),
        ({"facts": None}, "facts is None"),
    ]:
        (tmp_path / files.DESCRIPTION).write_text(json.dumps(described | change))
        with pytest.raises(DictionaryError, match=told):
            load(tmp_path)


# ---- refusals


BATCHTOPK = {"k": np.int32(3), "threshold": np.float32(1.0)}
NORMALISER = {"activation_mean": normal(2, D), "activation_std": normal(2, D)}
PART_NAN = np.where(np.arange(D) == 0, np.nan, normal(2, D)).astype(np.float32)
NO_ID = {key: value for key, value in crosscoder(**BATCHTOPK).items() if key != "code_normalization_id"}


@pytest.mark.parametrize(
    ("name", "arrays", "configs", "told"),
    [
        (
            HUB_FILE,
            crosscoder() | {"r_mag": normal(F)},
            {},
            r"r_mag is a tensor of shape \(8,\) of unknown meaning; expected only",
        ),
        (
            HUB_FILE,
            crosscoder(**{"decoder.weight": normal(2, D, F)}),
            {},
            r"model.safetensors: decoder.weight is of shape \(2, 5, 8\); expected \(2, 8, 5\)",
        ),
        (
            HUB_FILE,
            crosscoder(**{"encoder.bias": np.full(F, np.nan, np.float32)}),
            {},
            "encoder.bias is NaN or infinite in 8 places",
        ),
        (
            HUB_FILE,
            crosscoder(),
            {"config": HUB | {"dict_size": 9}},
            "config.json: dict_size is 9; expected 8, to agree with model",
        ),
        (
            HUB_FILE,
            crosscoder(),
            {"config": HUB | {"encoder_layers": [1]}},
            r"encoder_layers is \[1\]; expected \[0, 1\]",
        ),
        (
            HUB_FILE,
            crosscoder(),
            {"config": {"code_normalization": "SAE"}},
            "code_normalization_id is 1, where config.json says 'SAE'",
        ),
        (
            HUB_FILE,
            crosscoder(),
            {"trainer_config": {"trainer": {"dict_class": "BatchTopKCrossCoder"}}},
            (
                "dict_class is 'BatchTopKCrossCoder'; expected CrossCoder, as model.safetensors has an encoder of rank"
                " 3 and neither"
            ),
        ),
        ("ae.pt", NO_ID, {}, "ae.pt: code_normalization is missing; expected CROSSCODER, SAE or NONE"),
        (HUB_FILE, crosscoder(**BATCHTOPK, code_normalization_id=np.int64(5)), {}, "code_normalization is DECOUPLED"),
        (HUB_FILE, crosscoder(**BATCHTOPK, code_normalization_id=np.int64(3)), {}, "code_normalization is MIXED"),
        (
            HUB_FILE,
            crosscoder(k=np.int32(3), threshold=np.float32(-1)),
            {},
            "threshold is -1.0, as training never set it",
        ),
        (HUB_FILE, crosscoder(k=np.int32(3)), {}, r"threshold is missing; expected a tensor of shape \(\)"),
        (HUB_FILE, crosscoder(**NORMALISER), {}, "activation_global_scale is missing"),
        (
            HUB_FILE,
            crosscoder(**NORMALISER | {"activation_mean": PART_NAN}),
            {},
            "is NaN in part; expected NaN everywhere",
        ),
        ("ae.pt", autoencoder(), {}, "config.json: dict_class is None; expected AutoEncoder, AutoEncoderNew"),
        (
            "ae.pt",
            autoencoder(),
            {"config": trainer("GatedAutoEncoder")},
            "dict_class is 'GatedAutoEncoder'; expected AutoEncoder,",
        ),
        ("ae.pt", autoencoder("b_dec"), {"config": trainer("BatchTopKSAE")}, "threshold is missing"),
        ("ae.pt", autoencoder(), {"config": trainer("AutoEncoder", dict_size=4)}, "dict_size is 4; expected 8"),
        ("ae.pt", {"weird": normal(F)}, {}, "its encoder is unknown among weird; expected encoder.weight or W_enc"),
        (
            "cc_weights.pt",
            {"W_enc": normal(2, D, F)},
            {"cfg": {"d_in": 4, "dict_size": F}},
            "cfg.json: d_in is 4; expected 5, as W_enc",
        ),
        (
            SAE_FILE,
            sae(),
            {"cfg": VERSION_6 | {"architecture": "gated"}},
            "architecture is 'gated'; expected standard, topk or",
        ),
        (
            SAE_FILE,
            sae(),
            {"cfg": SIZES | {"activation_fn_str": "tanh-relu"}},
            "activation_fn_str is 'tanh-relu'; expected relu",
        ),
        (
            SAE_FILE,
            sae(),
            {"cfg": SIZES | {"normalize_activations": "layer_norm"}},
            "is 'layer_norm'; expected none or",
        ),
        (SAE_FILE, sae(), {"cfg": SIZES | {"d_sae": 3}}, "cfg.json: d_sae is 3; expected 8, as W_enc"),
        (
            SAE_FILE,
            sae(),
            {"cfg": SIZES | {"architecture": "jumprelu"}},
            r"threshold is missing; expected a tensor of shape \(8,\)",
        ),
        (SAE_FILE, sae(), {"cfg": SIZES | {"architecture": "topk"}}, "k is None; expected a whole number"),
        (SAE_FILE, sae(scaling_factor=normal(F)), {"cfg": SIZES}, "scaling_factor is other than 1 in places"),
        ("params.npz", sae(), {}, r"threshold is missing; expected a tensor of shape \(8,\)"),
        (
            "params.npz",
            sae(threshold=np.array([{}] * F)),
            {},
            "params.npz: threshold is an array of object; expected numbers .* never run",
        ),
    ],
)
def test_a_refusal_names_file_key_found_and_expected(tmp_path, name, arrays, configs, told):
    folder = written(tmp_path, name, arrays, **configs)
    with pytest.raises(DictionaryError, match=told) as refused:
        load(folder)
    assert str(tmp_path) in str(refused.value)


def test_a_scale_is_refused_where_the_file_holds_its_own(tmp_path):
    save(ours(), tmp_path / "ours")
    export_crosscoder_learning(ours(), tmp_path / "export")
    written(tmp_path / "gemma", "params.npz", sae(threshold=normal(F)))
    written(tmp_path / "sae", SAE_FILE, sae(), cfg=SIZES)
    for folder in ("ours", "export", "gemma", "sae"):
        with pytest.raises(DictionaryError, match="expected none: the file says itself"):
            load(tmp_path / folder, scale=(1.0, 1.0))


@pytest.mark.parametrize("scale", [(1.0,), (1.0, 0.0), (1.0, float("nan")), "ab"])
def test_a_scale_is_one_positive_number_for_each_model(tmp_path, scale):
    with pytest.raises(DictionaryError, match="expected 2 numbers above 0"):
        load(written(tmp_path, "ae.pt", crosscoder()), scale=scale)


def test_a_folder_must_hold_one_file_of_weights(tmp_path):
    with pytest.raises(
        DictionaryError, match=r"the file of weights is missing; expected one of dictionary.safetensors"
    ):
        load(tmp_path)
    written(tmp_path, "1.pt", crosscoder())
    written(tmp_path, "2.pt", crosscoder())
    with pytest.raises(DictionaryError, match=r"is one of 1.pt, 2.pt; expected"):
        load(tmp_path)
    assert load(tmp_path / "2.pt").n_features == F
    (tmp_path / "weights.onnx").write_bytes(b"x")
    with pytest.raises(DictionaryError, match=r"its ending is .onnx; expected .safetensors, .pt, .pth, .bin, .npz"):
        load(tmp_path / "weights.onnx")


def test_a_file_larger_than_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    folder = written(tmp_path, HUB_FILE, crosscoder())
    monkeypatch.setattr(files, "MAX_BYTES", 4 * (2 * D * F + F))
    with pytest.raises(DictionaryError, match="its size as float32 is"):
        load(folder)


class Trap:
    def __reduce__(self):
        return (Path("trap").touch, ())


def test_nothing_in_a_file_is_run_and_damage_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"encoder.weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(DictionaryError, match="something other than plain tensors, which is never run"):
        load(tmp_path / "trap.pt")
    assert not (tmp_path / "trap").exists()
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DictionaryError, match="no zip archive"):
        load(tmp_path / "old.pt")
    torch.save({"encoder.weight": torch.zeros(1).expand(2, 10_000, 10_000)}, tmp_path / "wide.pt")
    with pytest.raises(DictionaryError, match="its number of values is 200,000,000; expected no more than its"):
        load(tmp_path / "wide.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(DictionaryError, match="of type list; expected a state dict"):
        load(tmp_path / "list.pt")
    for name, arrays in [(HUB_FILE, crosscoder()), ("ae.pt", crosscoder()), ("params.npz", sae(threshold=normal(F)))]:
        folder = written(tmp_path / name, name, arrays)
        data = (folder / name).read_bytes()
        for size in (0, 5, len(data) // 2, len(data) - 3):
            (folder / name).write_bytes(data[:size])
            with pytest.raises(DictionaryError):
                load(folder)


def test_an_array_that_claims_more_than_follows_is_damage(tmp_path):
    written(tmp_path, "params.npz", sae(threshold=normal(F)))
    with zipfile.ZipFile(tmp_path / "params.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["W_enc.npy"] = members["W_enc.npy"].replace(b"(5, 8), ", b"(5, 88),")
    with zipfile.ZipFile(tmp_path / "params.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(DictionaryError, match=r"W_enc says \(5, 88\)"):
        load(tmp_path)


def test_half_precision_files_are_widened(tmp_path):
    t = {key: torch.as_tensor(value) for key, value in crosscoder().items()}
    halves = {key: value.bfloat16() if value.is_floating_point() else value for key, value in t.items()}
    found = load(written(tmp_path, "ae.pt", halves))
    assert torch.equal(found.encoder, halves["encoder.weight"].float())
    assert not torch.equal(found.encoder, t["encoder.weight"])
    assert replace(found, facts={}).dictionary_id == found.dictionary_id
