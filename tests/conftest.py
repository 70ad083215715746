"""Fixtures for the whole suite: tiny random language models of every family, made here and never downloaded."""

import gc
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that share two cores stall at every small operation
os.environ["ANCHORSCOPE_DEMO"] = ""  # dashboards in tests know the studies they are given, not the shipped one

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import had_once

gc.disable()  # until all tests are collected: to look through what is imported, again and again, took a third of it
_MAIN = sys.modules["__main__"]
os.fsync = lambda descriptor: None  # what a test writes need not outlive a power cut, and each wait for a disk is 4 ms
TINY_VOCABULARY = 384
TINY_CORPUS = [
    "Let me think step by step. First, we need to find the total cost of 3 apples and 4 pears.",
    "Wait, that is not right. The answer is 42, so the final answer is \\boxed{42}.\n\nTherefore 6 * 7 = 42.",
    "What is the sum of 12 and 30? However, we should check the result again: 12 + 30 = 42.",
]
TINY_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'"
    " }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _tiny_config(family: str, tokens: dict[str, int]):
    import transformers as hf

    shape = {
        "vocab_size": TINY_VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
        **tokens,
    }
    grouped = {"num_key_value_heads": 2}
    windows = {"head_dim": 16, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
    match family:
        case "llama":
            return hf.LlamaConfig(**shape, **grouped, tie_word_embeddings=True)
        case "qwen2":
            return hf.Qwen2Config(**shape, **grouped)
        case "qwen3":
            return hf.Qwen3Config(**shape, **grouped, head_dim=32)
        case "gemma2":
            return hf.Gemma2Config(**shape, **grouped, **windows, query_pre_attn_scalar=16)
        case "gemma3":
            return hf.Gemma3TextConfig(**shape, **grouped, **windows, query_pre_attn_scalar=16)
        case "gpt2":
            return hf.GPT2Config(
                **{
                    "vocab_size": TINY_VOCABULARY,
                    "n_embd": 64,
                    "n_layer": 4,
                    "n_head": 4,
                    "n_positions": 2048,
                    "initializer_range": 0.2,
                },
                **tokens,
            )
        case "gpt_neox":
            return hf.GPTNeoXConfig(**shape, use_parallel_residual=True)
    raise ValueError(f"no tiny model of family {family!r}")


FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "gpt_neox")


def make_tiny_model(family: str, folder: Path) -> Path:
    """A 4-layer random model of width 64 with a byte-level BPE tokenizer and a chat template, saved as a Hugging Face
    folder.

    Weights are drawn ten times wider than usual, so that attention looks somewhere and next-token distributions are far
    from uniform.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        TINY_CORPUS,
        trainers.BpeTrainer(
            vocab_size=TINY_VOCABULARY,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    tokenizer.chat_template = TINY_TEMPLATE
    torch.manual_seed(1)
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    model = AutoModelForCausalLM.from_config(_tiny_config(family, tokens), dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Callable[[str], Path]:
    """`tiny_folder(family)`: the folder of a tiny model, for `load_model(str(folder))`; made once a session."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = make_tiny_model(family, tmp_path_factory.mktemp(f"tiny-{family}"))
        return made[family]

    return folder


def tune(model, seed: int = 5) -> None:
    """Moves every weight a little, in place: a model that was made from another."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn(weight.shape, generator=draw)


def tuned(base):
    """A copy of a LoadedModel that was tuned, named so."""
    import copy
    from dataclasses import replace

    model = copy.deepcopy(base.model)
    tune(model)
    return replace(base, model=model, name="tuned")


@pytest.fixture(scope="session")
def tiny(tiny_folder, tmp_path_factory):
    """`tiny(family)`: that model as a LoadedModel in float32, one of `FAMILIES`; loaded once a session, so leave it as
    it was.
    """
    from backend.models.loading import load_model

    loaded = {}

    def model(family: str):
        if family not in loaded:
            loaded[family] = load_model(str(tiny_folder(family)))
        return loaded[family]

    return model


def pytest_runtest_setup() -> None:
    """AppTest leaves its script as `__main__`, and every process that is spawned later would run it first."""
    sys.modules["__main__"] = _MAIN


@pytest.fixture(scope="module", autouse=True)
def _as_many_threads_as_before():
    """What leaves a process with more threads for every small product makes all that comes after it slow."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if before is not None:
        assert sys.modules["torch"].get_num_threads() == before


def pytest_collection_finish() -> None:
    """What all tests have imported stays: the collector need not look through half a million objects again."""
    had_once.prepare()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


def pytest_unconfigure() -> None:
    """Let go of every store that a test or a page left open: duckdb complains at exit of connections that are still
    there.
    """
    if "streamlit" in sys.modules:
        sys.modules["streamlit"].cache_resource.clear()
    gc.unfreeze()
    gc.collect()
