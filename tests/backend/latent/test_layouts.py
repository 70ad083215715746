import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.latent import layouts
from backend.latent.kinds import LatentError, Unsaid
from backend.latent.loading import identify, load_latent
from backend.latent.loop import branch, run
from backend.latent.problems import LatentProblem
from backend.latent.runs import runs
from tests.latent_layouts import write_coconut, write_codi_a, write_codi_b

QUESTIONS = [
    "Tom has 5 apples . Tom finds 3 more . how many are there now ?",
    "Tom has 9 apples . Tom loses 2 more . how many are there now ?",
    "Tom finds 7 apples . Tom finds 8 more . how many has Tom now ?",
]
PROBLEMS = [LatentProblem(str(n), question, "8", ("8",), ("5", "3"), False) for n, question in enumerate(QUESTIONS)]
V = 57  # of the base's vocabulary
K, MOST = 4, 6


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def a(family, tmp_path_factory):
    return write_codi_a(family, tmp_path_factory.mktemp("a"))


@pytest.fixture(scope="module")
def b(family, tmp_path_factory):
    return write_codi_b(family, tmp_path_factory.mktemp("b"), pickled=True)


@pytest.fixture(scope="module")
def coconut(family, tmp_path_factory):
    return write_coconut(family, tmp_path_factory.mktemp("c"))


def questions_of(model):
    return torch.tensor([model.tokenizer(question)["input_ids"] for question in QUESTIONS])


def check_loop(written, model, before, after, n_allowed):
    """Hidden states and answers of the model that was read are those of the published loop, each question alone and
    among others.
    """
    together = run(model, questions_of(model), K)
    answers = model.answer(together, MOST)
    assert any(answers)
    for row, question in enumerate(QUESTIONS):
        read, hidden = written.thoughts(question, before, K)
        torch.testing.assert_close(together.h[row], hidden[-1], rtol=1e-4, atol=1e-4)
        assert list(answers[row]) == written.answer(read, after, n_allowed, MOST)
        alone = run(model, questions_of(model)[row : row + 1], K)
        torch.testing.assert_close(alone.h[0], together.h[row], rtol=1e-5, atol=1e-5)
        assert model.answer(alone, MOST) == [answers[row]]


def check_branches(model):
    state = run(model, questions_of(model), 2)
    steps = [torch.ones(3, 16), -torch.ones(3, 16)]
    one, other = (model.feed(branch(state), z).h for z in steps)
    again, first = (model.feed(branch(state), z).h for z in reversed(steps))
    assert torch.equal(one, first) and torch.equal(other, again) and not torch.equal(one, other)


def test_codi_a_runs_as_its_own_loop_does(a):
    unsaid = Unsaid(base=str(a.base))
    assert [layouts.is_codi_a(a.folder), layouts.is_codi_b(a.folder), layouts.is_coconut(a.folder)] == [1, 0, 0]
    model = layouts.read_codi_a(a.folder, "a", "r", unsaid)
    assert (model.before, model.after, model.n_answer_tokens) == ((V + 1,), (V + 2,), V + 2)
    check_loop(a, model, [V + 1], [V + 2], V + 2)
    check_branches(model)


def test_codi_a_that_keeps_eos_has_it_after_the_question_and_before_the_answer(a):
    model = layouts.read_codi_a(a.folder, "a", "r", Unsaid(base=str(a.base), remove_eos=False))
    eos = a.tokenizer.eos_token_id
    check_loop(a, model, [eos, V + 1], [V + 2, eos], V + 2)


def test_codi_b_runs_as_its_own_loop_does_and_answers_at_once_as_it_was_trained_to(b):
    assert [layouts.is_codi_a(b.folder), layouts.is_codi_b(b.folder), layouts.is_coconut(b.folder)] == [0, 1, 0]
    eos = b.tokenizer.eos_token_id
    bocot, eocot = b.tokenizer.convert_tokens_to_ids(["<|bocot|>", "<|eocot|>"])
    for remove_eos, end in ((True, []), (False, [eos])):
        model = layouts.read_codi_b(b.folder, "b", "r", Unsaid(base=str(b.base), remove_eos=remove_eos))
        check_loop(b, model, [*end, bocot], [eocot], len(b.tokenizer) - 1)
        for question, found in zip(QUESTIONS, model.answer_directly(questions_of(model), MOST), strict=True):
            read, _ = b.thoughts(question, end, 0)
            assert list(found) == b.answer(read, [eocot], len(b.tokenizer) - 1, MOST)
        of_runs = {ran.place: ran.answers for ran in runs(model, PROBLEMS, 1, MOST)}
        directly = model.answer_directly(questions_of(model), MOST)
        after_bot = model.answer(run(model, questions_of(model), 1), MOST)
        assert [of_runs[place] for place in range(len(QUESTIONS))] == list(zip(directly, after_bot, strict=True))


def test_coconut_feeds_hidden_states_themselves(coconut):
    assert layouts.is_coconut(coconut.folder) and not layouts.is_codi_a(coconut.folder)
    model = layouts.read_coconut(coconut.folder, "c", "r", Unsaid(base=str(coconut.base)))
    line, start, end = coconut.tokenizer.convert_tokens_to_ids(["<line>", "<|start-latent|>", "<|end-latent|>"])
    assert (model.projection, model.before) == (None, (line, start))
    check_loop(coconut, model, [line, start], [end], len(coconut.tokenizer))
    check_branches(model)


def test_the_unembedding_alone_may_be_missing_and_must_be_the_embeddings_where_it_stands_there(b):
    own = torch.load(b.folder / "pytorch_model.bin", weights_only=True)
    assert any(key.endswith("lm_head.weight") for key in own)
    changed = {key: value.clone() for key, value in own.items()}
    changed["codi.base_model.model.lm_head.weight"][5] += 1
    torch.save(changed, b.folder / "pytorch_model.bin")
    try:
        with pytest.raises(LatentError, match=r"pytorch_model\.bin: codi\.base_model\.model\.lm_head\.weight is not"):
            layouts.read_codi_b(b.folder, "b", "r", Unsaid(base=str(b.base)))
    finally:
        torch.save(own, b.folder / "pytorch_model.bin")


LORA = "codi.base_model.model.model.layers.1.self_attn.q_proj"
EMBEDDINGS = "codi.base_model.model.model.embed_tokens.weight"
WRONG = {
    "a missing weight": (lambda s: s.pop(f"{LORA}.base_layer.weight"), f"lacks {LORA}.weight"),
    "a missing half of LoRA": (lambda s: s.pop(f"{LORA}.lora_B.default.weight"), f"lacks {LORA}.lora_B.default"),
    "a missing norm": (lambda s: s.pop("prj.ln.bias"), "lacks prj.ln.bias"),
    "an unexpected key": (lambda s: s.update({"decoder.weight": torch.ones(2)}), "has decoder.weight (1 such)"),
    "a wrong width of the projection": (
        lambda s: s.update({"prj.3.weight": torch.ones(16, 23)}),
        "prj.3.weight has shape (16, 23) (float32), and (16, 24) was expected",
    ),
    "other embeddings": (
        lambda s: s.update({EMBEDDINGS: torch.ones(V + 2, 16)}),
        f"embed_tokens.weight has shape ({V + 2}, 16), and ({V + 3}, 16) was expected: {V + 3} tokens",
    ),
    "a value that is no number": (
        lambda s: s.update({"prj.1.bias": torch.full((24,), torch.nan)}),
        "prj.1.bias has values that are NaN",
    ),
    "whole numbers": (
        lambda s: s.update({"prj.1.bias": torch.ones(24, dtype=torch.int64)}),
        "prj.1.bias has shape (24,) (int64)",
    ),
}


@pytest.fixture(scope="module")
def of_llama(tmp_path_factory):
    return write_codi_a("llama", tmp_path_factory.mktemp("wrong"))


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_by_name(what, of_llama, tmp_path):
    change, said = WRONG[what]
    state = load_file(of_llama.folder / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(LatentError, match=re.escape(said)) as refused:
        layouts.read_codi_a(tmp_path, "a", "r", Unsaid(base=str(of_llama.base)))
    assert str(tmp_path / "model.safetensors") in str(refused.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_that_broke_off_is_refused_by_name(name, of_llama, tmp_path):
    if name.endswith(".bin"):
        torch.save(of_llama.wrapper.state_dict(), tmp_path / name)
        whole = (tmp_path / name).read_bytes()
    else:
        whole = (of_llama.folder / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(LatentError, match=re.escape(str(tmp_path / name)) + r".*broke off"):
        layouts.read_codi_a(tmp_path, "a", "r", Unsaid(base=str(of_llama.base)))


def test_code_in_a_file_is_not_run(tmp_path):
    import builtins

    torch.save({"codi.base_model.model.x": builtins.print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(LatentError, match="is refused: it holds print"):
        layouts.is_codi_a(tmp_path)


def test_the_scale_of_lora_is_part_of_what_is_run_and_of_who_it_is(of_llama):
    base = str(of_llama.base)
    plain, doubled = Unsaid(base=base), Unsaid(base=base, lora_alpha=64)
    found, other = (layouts.read_codi_a(of_llama.folder, "a", "r", unsaid) for unsaid in (plain, doubled))
    weight = "model.layers.0.mlp.up_proj.weight"
    state = of_llama.wrapper.state_dict()
    up = "codi.base_model.model.model.layers.0.mlp.up_proj"
    own = state[f"{up}.base_layer.weight"]
    change = state[f"{up}.lora_B.default.weight"] @ state[f"{up}.lora_A.default.weight"]
    torch.testing.assert_close(found.model.state_dict()[weight], own + 8 * change)
    torch.testing.assert_close(other.model.state_dict()[weight], own + 16 * change)
    assert layouts.identity(of_llama.folder, plain) != layouts.identity(of_llama.folder, doubled)


def test_a_folder_is_loaded_by_its_name_in_the_layout_that_its_files_are_in(a, b, coconut):
    for written, layout in ((a, "codi-a"), (b, "codi-b"), (coconut, "coconut")):
        unsaid = Unsaid(base=str(written.base), n_latents=5)
        model = load_latent(str(written.folder), unsaid=unsaid)
        assert (model.layout, model.n_latents) == (layout, 5)
        assert model.model_id == identify(str(written.folder), unsaid=unsaid)


def test_a_setting_that_a_layout_has_not_is_refused(coconut):
    with pytest.raises(LatentError, match="layout coconut, of which remove_eos is not asked"):
        identify(str(coconut.folder), unsaid=Unsaid(base=str(coconut.base), remove_eos=True))


def test_a_state_dict_of_another_kind_is_refused_by_its_key(tmp_path):
    save_file({"decoder.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(LatentError, match=r"no latent model in a layout.*begins with the key decoder\.weight"):
        identify(str(tmp_path))


def test_a_hub_id_that_is_not_here_says_so_without_a_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LatentError, match=r"nobody/no-such-latent-model .*not in its local cache"):
        identify("nobody/no-such-latent-model", unsaid=Unsaid(base="gpt2"))


def test_a_model_without_a_base_says_that_one_must_be_named(of_llama):
    with pytest.raises(LatentError, match=r"does not say which language model.*\(base\)"):
        layouts.read_codi_a(of_llama.folder, "a", "r", Unsaid())
