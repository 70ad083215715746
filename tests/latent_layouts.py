"""Tiny latent models written to folders as their published code writes them: a wrapper's state dict, LoRA not merged.

The loops below are written out over whole texts, without a cache, on the wrapped model with LoRA beside the weights:
nothing of them is shared with what they are compared to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

WORDS = [*map(str, range(40)), "Tom", "has", "finds", "more", "apples", "how", "many", "are", "there", "now", "loses"]
R, ALPHA, PRJ = 4, 32, 24
TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


def tokenizer(*added: str) -> Any:
    """Words as tokens, a token before every text, an end; `added` come behind all others."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    entries = ["<unk>", "<s>", "</s>", "<line>", "?", "."]
    backend = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*entries, *WORDS])}, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace("\n", " <line> ")
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": list(added)})
    return made


def base(family: str, folder: Path) -> Any:
    """The base model, saved to `folder` as any model is."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    torch.manual_seed(3)
    n = len(tokenizer())
    shape: dict[str, Any] = {"vocab_size": n, "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2}
    if family == "llama":
        config: Any = LlamaConfig(
            **shape,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    else:
        config = GPT2Config(**shape, n_embd=16, n_layer=2, n_head=4, n_positions=64)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


class Wrapper(nn.Module):
    """CODI's: the language model with LoRA, and the projection."""

    def __init__(self, language_model: nn.Module, family: str, n_tokens: int) -> None:
        import warnings

        from peft import LoraConfig, get_peft_model

        super().__init__()
        language_model.resize_token_embeddings(n_tokens, mean_resizing=False)
        config = LoraConfig(r=R, lora_alpha=ALPHA, lora_dropout=0.1, target_modules=TARGETS[family])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the layers of GPT-2 are turned
            self.codi = get_peft_model(language_model, config)
        self.prj = nn.Sequential(nn.Dropout(0.0), nn.Linear(16, PRJ), nn.GELU(), nn.Linear(PRJ, 16))
        self.prj.add_module("ln", nn.LayerNorm(16))
        for name, weight in self.named_parameters():
            if "lora_B" in name or name.startswith("prj.") or name.endswith("bias"):
                nn.init.normal_(weight, std=0.2)
        self.eval().requires_grad_(False)


class Coconut(nn.Module):
    """Coconut's: the language model, and its embeddings by another name."""

    def __init__(self, language_model: nn.Module, n_tokens: int) -> None:
        super().__init__()
        self.base_causallm = language_model
        language_model.resize_token_embeddings(n_tokens, mean_resizing=False)
        self.embedding = language_model.get_input_embeddings()
        self.eval().requires_grad_(False)


@dataclass(frozen=True)
class Written:
    """A model in its folder, and what its own code makes of questions."""

    folder: Path
    base: Path
    wrapper: Any
    tokenizer: Any

    def thoughts(self, question: str, before: Sequence[int], k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The embeddings that were read (n, d) after k latents, and the last hidden states at 0 … k (k + 1, d)."""
        read = self._embedded([*self.tokenizer(question)["input_ids"], *before])
        hidden = [self._last(read)]
        for _ in range(k):
            latent = self.wrapper.prj(hidden[-1]) if isinstance(self.wrapper, Wrapper) else hidden[-1]
            read = torch.cat([read, latent[None]])
            hidden.append(self._last(read))
        return read, torch.stack(hidden)

    def answer(self, read: torch.Tensor, after: Sequence[int], n_allowed: int, most: int) -> list[int]:
        """Token ids until the end."""
        read, written = torch.cat([read, self._embedded(after)]), []
        for _ in range(most):
            token = int(self._model(inputs_embeds=read[None]).logits[0, -1, :n_allowed].argmax())
            if token == self.tokenizer.eos_token_id:
                break
            written.append(token)
            read = torch.cat([read, self._embedded([token])])
        return written

    @property
    def _model(self) -> Any:
        return self.wrapper.codi if isinstance(self.wrapper, Wrapper) else self.wrapper.base_causallm

    def _embedded(self, ids: Sequence[int]) -> torch.Tensor:
        return self._model.get_input_embeddings()(torch.tensor(list(ids), dtype=torch.long))

    def _last(self, read: torch.Tensor) -> torch.Tensor:
        return self._model(inputs_embeds=read[None], output_hidden_states=True).hidden_states[-1][0, -1]


def write_codi_a(family: str, folder: Path, *, pickled: bool = False) -> Written:
    model = base(family, folder / "base")
    spoken = tokenizer()
    wrapper = Wrapper(model, family, len(spoken) + 3)
    return _written(folder, wrapper, spoken, pickled=pickled)


def write_codi_b(family: str, folder: Path, *, pickled: bool = False) -> Written:
    model = base(family, folder / "base")
    spoken = tokenizer()
    spoken.add_special_tokens({"pad_token": "[PAD]"})
    spoken.add_special_tokens({"additional_special_tokens": ["<|bocot|>", "<|eocot|>"]})
    written = _written(folder, Wrapper(model, family, len(spoken)), spoken, pickled=pickled)
    spoken.save_pretrained(written.folder)
    return written


def write_coconut(family: str, folder: Path, *, pickled: bool = True) -> Written:
    model = base(family, folder / "base")
    spoken = tokenizer()
    spoken.add_tokens(["<|start-latent|>", "<|end-latent|>", "<|latent|>"])
    return _written(folder, Coconut(model, len(spoken)), spoken, pickled=pickled, file="checkpoint_33")


def _written(folder: Path, wrapper: Any, spoken: Any, *, pickled: bool, file: str = "pytorch_model.bin") -> Written:
    from safetensors.torch import save_file

    own = folder / "own"
    own.mkdir()
    state = wrapper.state_dict()
    if pickled:
        torch.save(state, own / file)
    else:  # a tensor that stands there by two names is written by the first of them
        kept: dict[str, torch.Tensor] = {}
        for key, value in state.items():
            if all(value.data_ptr() != one.data_ptr() for one in kept.values()):
                kept[key] = value
        save_file(kept, own / "model.safetensors")
    return Written(own, folder / "base", wrapper, spoken)
