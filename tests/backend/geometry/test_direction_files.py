"""A vector comes out of each kind of file as it went in; what cannot be used is refused in words, and nothing in a file
is run.
"""

import hashlib
import io
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.numpy import save as save_safetensors
from safetensors.torch import save as save_torch_safetensors

from backend.geometry import direction_files
from backend.geometry.direction_files import DirectionFileError, FileVector, candidates_in, read_direction

D, N_LAYERS = 16, 5
RNG = np.random.default_rng(0)
VECTOR = RNG.standard_normal(D).astype(np.float32)
BY_LAYER = RNG.standard_normal((N_LAYERS, D)).astype(np.float32)


def is_unit_of(found: FileVector, vector: np.ndarray) -> bool:
    """Whether `found` is exactly that vector over its length."""
    exact = vector.astype(np.float64)
    norm = np.linalg.norm(exact)
    return found.norm == norm and np.array_equal(found.vector, (exact / norm).astype(np.float32))


def written(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def pt(content, **options) -> bytes:
    return written(lambda stream: torch.save(content, stream, **options))


def npy(array: np.ndarray, **options) -> bytes:
    return written(lambda stream: np.save(stream, array, **options))


def npz(**arrays: np.ndarray) -> bytes:
    return written(lambda stream: np.savez(stream, **arrays))


def gguf(folder: Path, architecture: str = "controlvector", *, tensors=None, kind=None) -> bytes:
    """As repeng writes it: one vector for each block from the first on, which is number 1."""
    path = folder / "made.gguf"
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", N_LAYERS - 1)
    writer.add_array("notes", ["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    for key, array in (tensors or {f"direction.{k}": BY_LAYER[k] for k in range(1, N_LAYERS)}).items():
        writer.add_tensor(key, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("v.safetensors", save_safetensors({"v": VECTOR})),
        ("v.pt", pt({"v": torch.tensor(VECTOR)})),
        ("v.pth", pt({"v": torch.nn.Parameter(torch.tensor(VECTOR))})),
        ("old.pt", pt({"v": torch.tensor(VECTOR)}, _use_new_zipfile_serialization=False)),
        ("v.npz", npz(v=VECTOR)),
        ("V.NPZ", written(lambda stream: np.savez_compressed(stream, v=VECTOR[None]))),
        ("v.npy", npy(VECTOR)),
        ("wide.npy", npy(VECTOR.astype(">f8"))),
        ("row.npy", npy(VECTOR[None])),
    ],
)
def test_a_vector_comes_out_as_it_went_in(name, data):
    found = read_direction(data, name, d_model=D, layer=3)
    assert is_unit_of(found, VECTOR) and found.vector.dtype == np.float32
    assert (found.name, found.sha256, found.layer) == (name, hashlib.sha256(data).hexdigest(), None)
    assert found.key == candidates_in(data, name)[0].key


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_format_is_read(dtype):
    tensor = torch.tensor(VECTOR).to(dtype)
    for name, data in (("v.pt", pt(tensor)), ("v.safetensors", save_torch_safetensors({"v": tensor}))):
        assert is_unit_of(read_direction(data, name, d_model=D), tensor.float().numpy())


def test_a_path_is_read_like_its_bytes(tmp_path):
    (tmp_path / "v.npy").write_bytes(npy(VECTOR))
    assert is_unit_of(read_direction(tmp_path / "v.npy", "v.npy", d_model=D), VECTOR)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: ("a.npy", npy(a)),
        lambda a: ("a.npy", npy(np.asfortranarray(a))),
        lambda a: ("a.pt", pt(torch.tensor(a).T.contiguous().T)),
        lambda a: ("a.npz", npz(array=a)),
    ],
)
def test_of_one_vector_for_each_block_the_layer_chooses_its_own(make):
    name, data = make(BY_LAYER)
    for layer in range(N_LAYERS):
        found = read_direction(data, name, d_model=D, layer=layer, n_layers=N_LAYERS)
        assert is_unit_of(found, BY_LAYER[layer]) and found.layer == layer
    with pytest.raises(DirectionFileError, match="one vector for each of 5 blocks"):
        read_direction(data, name, d_model=D, layer=N_LAYERS)
    with pytest.raises(DirectionFileError, match="choose a layer"):
        read_direction(data, name, d_model=D)
    with pytest.raises(DirectionFileError, match=re.escape("shape (5, 16)") + ".*" + re.escape("(3, 16) was expected")):
        read_direction(data, name, d_model=D, layer=1, n_layers=3)


def test_a_row_more_than_blocks_may_be_of_the_embeddings_so_a_person_chooses_the_row():
    """As persona vectors are written: hidden states of transformers, whose entry k is the output of block k − 1."""
    data, of = pt(torch.tensor(BY_LAYER)), {"d_model": D, "n_layers": N_LAYERS - 1}
    with pytest.raises(
        DirectionFileError, match=r"5 rows, one more than the model's 4 blocks, .*embeddings.* For layer 2 choose row 3"
    ):
        read_direction(data, "v.pt", layer=2, **of)
    (entry,) = candidates_in(data, "v.pt")
    choices = entry.rows(**of)
    assert list(choices) == [1, 2, 3, 4] and choices[3] == "row 3: the output of block 2" and "final norm" in choices[4]
    for row in choices:
        found = read_direction(data, "v.pt", layer=0, row=row, **of)
        assert is_unit_of(found, BY_LAYER[row]) and (found.layer, found.key) == (row - 1, f"tensor[{row}]")
        again = read_direction(data, "v.pt", key=found.key, **of)  # the key that a kept run has
        assert np.array_equal(again.vector, found.vector) and again.layer == found.layer
    with pytest.raises(DirectionFileError, match="row 0 is of the embeddings"):
        read_direction(data, "v.pt", row=0, **of)
    with pytest.raises(DirectionFileError, match="rows 0 to 4; row 5 was asked for"):
        read_direction(data, "v.pt", row=5, **of)


def test_where_rows_are_blocks_or_the_vector_is_one_there_is_no_row_to_choose():
    (by_layer,), (one,) = candidates_in(npy(BY_LAYER), "v.npy"), candidates_in(npy(VECTOR), "v.npy")
    assert by_layer.rows(D, N_LAYERS) == one.rows(D, N_LAYERS) == by_layer.rows(D + 1, N_LAYERS - 1) == {}
    assert list(by_layer.rows(D, 9)) == [0, 1, 2, 3, 4]  # rows of something else: their layer is not known
    found = read_direction(npy(BY_LAYER), "v.npy", d_model=D, n_layers=9, row=2)
    assert is_unit_of(found, BY_LAYER[2]) and found.layer is None


@pytest.mark.parametrize("layer", [-1, 5, 99])
def test_a_layer_that_the_model_lacks_is_refused_also_counted_from_the_end(layer):
    with pytest.raises(
        DirectionFileError, match=rf"layer {layer} was asked for; choose one of the model's 5 blocks, 0 to 4"
    ):
        read_direction(npy(BY_LAYER), "v.npy", d_model=D, layer=layer, n_layers=N_LAYERS)
    for key in (f"layer_{layer}", f"layers.{layer}.v"):
        with pytest.raises(DirectionFileError, match=r"counts blocks from the end|the model has 5 blocks, 0 to 4"):
            read_direction(npz(**{key: VECTOR}), "v.npz", d_model=D, n_layers=N_LAYERS)


@pytest.mark.parametrize(
    "content",
    [
        {3: torch.tensor(VECTOR), 1: torch.tensor(-VECTOR)},
        {"layer_activations": {3: torch.tensor(VECTOR)}, "layer_type": "decoder_block"},
        {"model_type": "llama", "directions": {3: torch.tensor(VECTOR), 2: torch.tensor(-VECTOR)}},
        {"vector": torch.tensor(VECTOR), "layer": 3},
        {"vector": torch.tensor(VECTOR), "layer": torch.tensor(3)},
        {"evil": {"vector": torch.tensor(VECTOR), "hook_name": "blocks.4.hook_resid_pre"}},
        {"vector": torch.tensor(VECTOR), "config": {"hook_layer": 3, "hook_point": "resid_post"}},
        {"hidden_states": {4: torch.tensor(VECTOR)}},
        {"model.layers.3": torch.tensor(VECTOR)},
        {"resid_post_layer_3": torch.tensor(VECTOR)},
        {3: {"mean": torch.tensor(VECTOR), "count": 9}},
    ],
    ids=[
        "by layer",
        "steering-vectors",
        "repeng",
        "layer beside",
        "tensor beside",
        "hook beside",
        "configuration",
        "hidden",
        "module",
        "submodule",
        "labels by layer",
    ],
)
def test_a_file_says_its_layer_by_keys_and_by_what_stands_beside_the_vector(content):
    data = pt(content)
    key = next(entry.key for entry in candidates_in(data, "v.pt") if entry.layer == 3)
    found = read_direction(data, "v.pt", d_model=D, n_layers=N_LAYERS, layer=3)
    assert (found.layer, found.key) == (3, key) and is_unit_of(found, VECTOR)


def test_other_containers_say_it_as_well():
    beside = save_safetensors({"v": VECTOR}, metadata={"layer": "3", "site": "resid_post", "format": "pt"})
    assert read_direction(beside, "v.safetensors", d_model=D).layer == 3
    assert read_direction(npz(v=VECTOR, layer=np.array(3)), "v.npz", d_model=D).layer == 3
    assert read_direction(npz(v=VECTOR, hook_name=np.array("blocks.4.hook_resid_pre")), "v.npz", d_model=D).layer == 3
    named = save_torch_safetensors({"blocks.4.hook_resid_pre": torch.tensor(VECTOR)})
    assert read_direction(named, "v.safetensors", d_model=D).layer == 3


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"blocks.0.hook_resid_pre": torch.ones(D)}, "the embeddings, which enter block 0"),
        ({"hidden_states": {0: torch.ones(D)}}, "the embeddings"),
        ({"blocks.3.hook_mlp_out": torch.ones(D)}, "the MLP of block 3"),
        ({"layers.3.self_attn": torch.ones(D)}, "the attention of block 3"),
        ({"layer_activations": {2: torch.ones(D)}, "layer_type": "mlp"}, "layer_type 'mlp' is the MLP of block 2"),
        ({"layer_activations": {2: torch.ones(D)}, "layer_type": "input_layernorm"}, "a norm of block 2"),
        ({"v": torch.ones(D), "hook_name": "blocks.3.attn.hook_z"}, "the attention of block 3"),
        ({-3: torch.ones(D)}, "counts blocks from the end"),
        ({"v": torch.ones(D), "hook_name": "blocks.3.hook_resid_post", "layer": 2}, "name two blocks"),
        ({"attn_out": torch.ones(D)}, "the attention"),
    ],
)
def test_a_vector_of_another_place_is_listed_as_such_and_refused(content, what):
    (entry,) = candidates_in(pt(content), "v.pt")
    assert entry.layer is None and what in entry.fault
    with pytest.raises(DirectionFileError, match=f"v.pt: .* cannot be used: .*{what}"):
        read_direction(pt(content), "v.pt", d_model=D, layer=1, n_layers=N_LAYERS)


def test_where_nothing_inside_says_the_layer_the_files_name_may_say_it():
    vector = np.ones(D, np.float32)
    for name, layer in (
        ("layer_1", 1),
        ("blocks.2.hook_resid_pre", 1),
        ("happy_layer_2_seed0", 2),
        ("2", None),
        ("v2.1", None),
    ):
        assert read_direction(npy(vector), f"{name}.npy", d_model=D, n_layers=4).layer == layer
    assert read_direction(npz(layer_3=vector), "layer_1.npz", d_model=D, n_layers=4).layer == 3  # what is inside leads
    with pytest.raises(DirectionFileError, match=r"blocks\.2\.hook_mlp_out is the MLP of block 2"):
        read_direction(npy(vector), "blocks.2.hook_mlp_out.npy", d_model=D, n_layers=4)


def test_a_pointer_in_place_of_the_file_is_said():
    with pytest.raises(DirectionFileError, match=r"a\.safetensors is a pointer of Git LFS"):
        candidates_in(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a.safetensors")


def test_a_list_of_vectors_is_one_array_and_another_lists_places_are_no_layers():
    rows = [torch.tensor(row) for row in BY_LAYER]
    assert is_unit_of(read_direction(pt(rows), "v.pt", d_model=D, layer=2, n_layers=N_LAYERS), BY_LAYER[2])
    (entry,) = candidates_in(pt({"vectors": tuple(rows)}), "v.pt")
    assert (entry.key, entry.shape, entry.layer) == ("vectors", (5, 16), None)
    pairs = candidates_in(pt([{"vector": rows[0], "anchor": 4}, {"vector": rows[1], "anchor": 9}]), "v.pt")
    assert [(entry.key, entry.layer) for entry in pairs] == [("item0.vector", None), ("item1.vector", None)]


def test_of_several_vectors_at_one_layer_a_row_is_chosen():
    data = npz(layer_2=BY_LAYER[:3])
    assert list(candidates_in(data, "v.npz")[0].rows(D, N_LAYERS)) == [0, 1, 2]
    with pytest.raises(DirectionFileError, match=r"has 3 vectors of layer 2; choose a row, as layer_2\[0\]"):
        read_direction(data, "v.npz", d_model=D, layer=2, n_layers=N_LAYERS)
    found = read_direction(data, "v.npz", d_model=D, key="layer_2[1]", n_layers=N_LAYERS)
    assert is_unit_of(found, BY_LAYER[1]) and found.layer == 2


def test_a_layer_beside_an_array_with_a_row_for_each_block_does_not_choose_the_row():
    """As files that keep the best layer beside the vectors of all."""
    data = pt({"vectors": torch.tensor(BY_LAYER), "layer": 4})
    found = read_direction(data, "v.pt", d_model=D, layer=2, n_layers=N_LAYERS)
    assert is_unit_of(found, BY_LAYER[2]) and found.layer == 2


def test_axes_of_one_are_no_rows():
    data = npy(BY_LAYER[:, None])
    assert is_unit_of(read_direction(data, "v.npy", d_model=D, layer=3, n_layers=N_LAYERS), BY_LAYER[3])


@pytest.mark.parametrize("content", [{"v": np.ones(D)}, {"v": np.float32(3)}])
def test_a_pickle_of_numpy_arrays_is_refused_in_plain_words_that_advise_nothing_unsafe(content):
    with pytest.raises(
        DirectionFileError, match=r"holds NumPy arrays in a pickle \(numpy\..*never run; save tensors alone"
    ) as refused:
        candidates_in(pt(content), "v.pt")
    assert (
        "\x1b" not in str(refused.value)
        and "weights_only" not in str(refused.value)
        and "trust" not in str(refused.value)
    )


def test_venhoffs_means_by_label_are_listed_by_label():
    labels = {
        label: {"mean": torch.tensor(BY_LAYER) * sign, "count": 7}
        for label, sign in (("backtracking", 1), ("overall", -1))
    }
    data = pt(labels)
    entries = candidates_in(data, "means.pt")
    assert [(entry.key, entry.shape) for entry in entries] == [
        ("backtracking.mean", BY_LAYER.shape),
        ("overall.mean", BY_LAYER.shape),
    ]
    assert is_unit_of(read_direction(data, "means.pt", d_model=D, key="overall.mean", layer=2), -BY_LAYER[2])


def test_a_control_vector_says_after_which_block_each_of_its_vectors_goes(tmp_path):
    data = gguf(tmp_path)
    assert [(entry.key, entry.layer, entry.shape) for entry in candidates_in(data, "c.gguf")] == [
        (f"direction.{k}", k, (D,)) for k in range(1, N_LAYERS)
    ]
    for layer in range(1, N_LAYERS):
        found = read_direction(
            data, "c.gguf", d_model=D, layer=layer
        )  # its key names the layer, so none need be chosen
        assert (found.key, found.layer) == (f"direction.{layer}", layer) and is_unit_of(found, BY_LAYER[layer])
    half = gguf(tmp_path, tensors={"direction.1": VECTOR.astype(np.float16)})
    assert is_unit_of(read_direction(half, "c.gguf", d_model=D), VECTOR.astype(np.float16))


def test_layers_are_read_from_keys_that_name_them_or_are_a_number_and_from_no_others():
    names = ("layer_15.diff_in_means", "layers.3", "model.blocks.7.vector", "12", "v2", "player_9", "x")
    found = {entry.key: entry.layer for entry in candidates_in(npz(**dict.fromkeys(names, VECTOR)), "v.npz")}
    assert found == {
        "layer_15.diff_in_means": 15,
        "layers.3": 3,
        "model.blocks.7.vector": 7,
        "12": 12,
        "v2": None,
        "player_9": None,
        "x": None,
    }


def test_of_several_entries_one_is_chosen_by_key():
    data = save_safetensors({"layer_2.b": -VECTOR, "layer_10.a": VECTOR, "ids": np.arange(D)})
    assert [entry.key for entry in candidates_in(data, "v.safetensors")] == [
        "layer_2.b",
        "layer_10.a",
    ]  # whole numbers are no vector
    assert is_unit_of(read_direction(data, "v.safetensors", d_model=D, key="layer_2.b"), -VECTOR)
    assert is_unit_of(read_direction(data, "v.safetensors", d_model=D, layer=10), VECTOR)
    with pytest.raises(DirectionFileError, match=r"v.safetensors has 2 entries \(layer_2.b, layer_10.a\); choose one"):
        read_direction(data, "v.safetensors", d_model=D, layer=3)
    with pytest.raises(DirectionFileError, match=r"no entry 'c'; it has layer_2.b"):
        read_direction(data, "v.safetensors", d_model=D, key="c")


@pytest.mark.parametrize(
    "array", [np.ones(D + 1), np.ones((N_LAYERS, D - 1)), np.ones((2, N_LAYERS, D)), np.ones((D, 1))]
)
def test_a_shape_that_does_not_fit_is_refused_with_what_was_found_and_expected(array):
    said = re.escape(
        f"v.npy: array has shape {array.shape}; a vector (16,) or one for each block (n_layers, 16) was expected"
    )
    with pytest.raises(DirectionFileError, match=said):
        read_direction(npy(array), "v.npy", d_model=D, layer=0)


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "1 values that are NaN"), (np.inf, "infinite"), (1e300, "infinite")]
)
def test_values_that_are_not_numbers_are_refused(value, words):
    array = VECTOR.astype(np.float64)
    array[3] = value
    with pytest.raises(DirectionFileError, match=words):
        read_direction(npy(array), "v.npy", d_model=D)


@pytest.mark.parametrize("length", [1e-20, 1e20])
def test_a_very_short_or_long_vector_is_a_direction_all_the_same(length):
    found = read_direction(npy(VECTOR * np.float32(length)), "v.npy", d_model=D)
    assert np.allclose(found.vector, VECTOR / np.linalg.norm(VECTOR), atol=1e-6)
    assert found.norm == pytest.approx(length * np.linalg.norm(VECTOR.astype(float)), rel=1e-6)


def test_a_zero_vector_points_nowhere():
    with pytest.raises(DirectionFileError, match=r"v.npy.*zero everywhere"):
        read_direction(npy(np.zeros(D)), "v.npy", d_model=D)


GOOD = {
    "v.safetensors": save_safetensors({"v": VECTOR}),
    "v.pt": pt({"v": torch.tensor(VECTOR)}),
    "v.npz": npz(v=VECTOR),
    "v.npy": npy(VECTOR),
    "old.pt": pt({"v": torch.tensor(VECTOR)}, _use_new_zipfile_serialization=False),
}


@pytest.fixture
def good(tmp_path):
    return GOOD | {"v.gguf": gguf(tmp_path)}


def test_the_content_must_be_what_the_ending_says(good):
    for name, data in good.items():
        for other in {Path(other).suffix for other in good} - {Path(name).suffix}:
            with pytest.raises(
                DirectionFileError, match=rf"wrong\{other} should be .* by its ending, but its content is"
            ):
                candidates_in(data, f"wrong{other}")
    with pytest.raises(DirectionFileError, match=r"notes.txt ends in .txt; .*\.safetensors, \.pt"):
        candidates_in(b"hello", "notes.txt")
    for ending in direction_files.ENDINGS:
        for junk in (b"", b"hello, this is not a vector", b"PK\x03\x04 nor is this", b"<html></html>"):
            with pytest.raises(DirectionFileError, match=f"junk{ending}"):
                candidates_in(junk, f"junk{ending}")


def test_a_file_that_is_cut_short_anywhere_is_refused(good):
    for name, data in good.items():
        for end in {*range(0, len(data), max(1, len(data) // 60)), len(data) - 1}:
            try:
                found = read_direction(data[:end], name, d_model=D, layer=1)
            except DirectionFileError as error:
                assert name in str(error)
            else:  # what is missing was padding at the end
                assert np.array_equal(found.vector, read_direction(data, name, d_model=D, layer=1).vector)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_never_raise_anything_else(good):
    chance = random.Random(4)
    for name, data in good.items():
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(chance.choice([1, 2, 30])):
                damaged[chance.randrange(len(damaged))] = chance.choice([0, 255, chance.randrange(256)])
            try:
                candidates_in(bytes(damaged), name)
            except DirectionFileError as error:
                assert name in str(error)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_file_is_run(tmp_path):
    mark = tmp_path / "ran"
    bomb = Bomb(mark)
    objects = np.array([bomb, None], dtype=object)
    inside = written(lambda stream: zipfile.ZipFile(stream, "w").writestr("array.npy", npy(objects, allow_pickle=True)))
    files = {
        "torch.pt": pt({"v": torch.tensor(VECTOR), "x": bomb}),
        "old.pt": pt(bomb, _use_new_zipfile_serialization=False),
        "bare.pt": pickle.dumps(bomb),
        "bare.pth": pickle.dumps({"v": [bomb]}, protocol=4),
        "objects.npy": npy(objects, allow_pickle=True),
        "objects.npz": written(lambda stream: np.savez(stream, v=VECTOR, x=objects)),
        "hidden.npz": inside,
        "bare.npy": pickle.dumps(bomb),
    }
    for name, data in files.items():
        with pytest.raises(DirectionFileError, match=name):
            candidates_in(data, name)
    assert not mark.exists()
    pickle.loads(pickle.dumps(bomb))  # it does go off where it is let
    assert mark.exists()


def test_a_file_that_claims_more_than_it_has_is_refused_before_memory_is_spent(monkeypatch, tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    huge = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(DirectionFileError, match=r"1000000000000.*but 0 bytes follow"):
        candidates_in(huge, "v.npy")
    with pytest.raises(DirectionFileError, match="tensors claim more than 64 MB"):
        candidates_in(pt(torch.ones(1).expand(10**9)), "v.pt")
    counts = b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)
    with pytest.raises(DirectionFileError, match="damaged"):
        candidates_in(counts, "v.gguf")
    endless = b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"x" + struct.pack("<IIQ", 9, 4, 2**62)
    with pytest.raises(DirectionFileError, match="bytes were expected"):
        candidates_in(endless, "v.gguf")
    monkeypatch.setattr(direction_files, "MAX_BYTES", 2000)
    for source in (npy(np.ones(300)), tmp_path / "v.npy"):
        if isinstance(source, Path):
            source.write_bytes(npy(np.ones(300)))
        with pytest.raises(DirectionFileError, match=r"v.npy has .* MB"):
            candidates_in(source, "v.npy")
    packed = written(lambda stream: np.savez_compressed(stream, v=np.zeros(100_000)))
    with pytest.raises(DirectionFileError, match="unpacks to"):
        candidates_in(packed, "v.npz")


def test_a_file_that_repeats_itself_without_end_is_refused():
    nest = [torch.ones(1)]
    for _ in range(3):
        nest = [nest] * 100  # a million entries in a few bytes
    with pytest.raises(DirectionFileError, match="10,000 entries or 4 levels"):
        candidates_in(pt(nest), "v.pt")


def test_a_gguf_that_is_no_control_vector_is_refused_with_what_it_is(tmp_path):
    with pytest.raises(DirectionFileError, match="architecture 'llama'; a control vector was expected"):
        candidates_in(gguf(tmp_path, "llama"), "model.gguf")
    quantised = {"direction.1": np.zeros((1, 34), np.uint8)}
    with pytest.raises(DirectionFileError, match="ggml type 8; a control vector in F32 or F16"):
        candidates_in(gguf(tmp_path, tensors=quantised, kind=GGMLQuantizationType.Q8_0), "c.gguf")


def test_a_file_without_vectors_is_refused():
    for name, data in (("v.npy", npy(np.arange(9))), ("v.pt", pt({"count": 3})), ("v.npz", npz(x=np.array(["text"])))):
        with pytest.raises(DirectionFileError, match=f"{name} is a .* without any floating-point array"):
            candidates_in(data, name)


def test_importing_it_costs_no_torch():
    check = "import sys, backend.geometry.direction_files; print({'torch', 'safetensors', 'gguf'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )
