"""Where in a model something was read, by the names that tools give to hook points.

The one reading of such names, for dictionaries, vectors and control vectors.

1. A name is split at dots, slashes and brackets. A word such as `layers`, `blocks` or `h` with a number says which
   block.
2. The other words say which site of the block: `resid_pre` is what enters it, `resid_post` (or no word) what leaves
   it, and so on.
3. What enters block k is the output of block k − 1; what enters block 0 are the embeddings, no block's output.
   Everything else (the middle of a block, its MLP, attention and norms, what stands before or after the blocks) is not
   the residual stream at a layer.

Names as in TransformerLens (blocks.3.hook_resid_pre) and its bridge (blocks.3.hook_in), as modules of Hugging Face
(model.layers.12, transformer.h.5, gpt_neox.layers.3.mlp) with .input and .output (nnsight), as those of hidden_states
(entry k enters block k), as names of submodules (resid_post_layer_12, layer_13_out) and as folders (mlp_out_layer1,
layer_20/width_16k, Llama3_1-8B-Base-L15R-8x).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from backend.errors import AnchorscopeError

# What each site is, {k} being the block. Only the first two are the residual stream at a layer.
SITES = {
    "output": "the output of block {k}",
    "input": "the input of block {k}",
    "middle": "the middle of block {k}, between its attention and its MLP",
    "mlp": "the MLP of block {k}",
    "attention": "the attention of block {k}",
    "mixer": "the state-space mixer of block {k}",
    "norm": "a norm of block {k}",
    "inside": "something inside block {k}",
    "two": "two places of block {k}, as a transcoder reads",
    "several": "several blocks, from block {k} on",
    "embeddings": "the embeddings, before block 0",
    "end": "the end of the model, after the last block",
    "elsewhere": "another part of the model than its language blocks",
}
_WORDS = {  # words of a name, less `hook_` and final `_all`, by the site they say
    "output": r"resid_post|resid_out|resid|residual|residual_stream|resid_stream|res|r|out|outputs?|decoder_block",
    "input": r"resid_pre|resid_in|in|inputs?|hidden_states",
    "middle": r"resid_mid(_after_ln)?",
    "mlp": (
        r"mlps?(_(out|in|outputs?|inputs?|pre|post|act))?|m|ffn(_out)?|feed_?forward|ff|(block_sparse_)?moe|experts?"
    ),
    "attention": (
        r"(self_)?att(n|ention)?(_(out|in|outputs?|inputs?|scores))?|linear_attn|a|"
        r"hook_(z|q|k|v|result|pattern|rot_q|rot_k)"
    ),
    "mixer": r"mixer|mamba|ssm",
    "norm": r"ln_?\d?|norm_?\d?|\w*layer_?norm\w*|\w*rms_?norm\w*",
    "two": r"transcoders?|tc|in_and_out",
    "embeddings": r"(pos_)?embed(s|dings?|ding_layer|_tokens|_in)?|wte|wpe|(tok|word)_embeddings",
    "end": r"ln_f|ln_final|final_layer_?norm|final_norm|norm_f|lm_head|unembed|embed_out|hook_unembed",
    "elsewhere": r"vision_(tower|model)|visual|audio_tower|multi_modal_projector",  # of models that also see or hear
}
_SITE_OF = {site: re.compile(words) for site, words in _WORDS.items()}
_LETTERS = ("r", "a", "m", "tc", "res", "att")  # that only mean a site in the names of published folders
_PLAIN = re.compile(r"(language_|text_|base_)?model|transformer|gpt_neox|backbone|decoder|_orig_mod|module")
_CONTAINERS = r"layers?|blocks?|blk|h|directions?|layer_activations|hidden_states?"
_WITH_NUMBER = re.compile(
    r"(?:(?P<before>.*?)[_-])??(?P<of>layers?|blocks?|blk|hidden_states?)[_-]?(?P<k>-?\d{1,4})(?P<after>(?:[_-].*)?)"
)
_SCOPE = re.compile(r"(?:.*-)?L(?P<k>\d{1,4})(?P<site>R|A|M|TC)(?:-\d+x)?")  # Llama Scope's folders
_REPOSITORY = re.compile(r".*scope.*-(?P<site>res|mlp|att|transcoders)(?:-.*)?")  # Gemma Scope's
_NAMES = (  # keys whose value is a name of a hook point, and keys whose value is a block's number
    "hook_name",
    "hook_point",
    "hook_point_in",
    "hf_hook_point_in",
    "hook_name_in",
    "hookpoint",
    "hook",
    "hook_type",
    "module",
    "module_name",
    "submodule_name",
    "layer_type",
    "site",
)
_TARGETS = ("hook_name_out", "hook_point_out", "hf_hook_point_out")
_NUMBERS = (
    "hook_layer",
    "hook_point_layer",
    "layer",
    "layer_idx",
    "layer_index",
    "layer_num",
    "layer_number",
    "layer_id",
    "target_layer",
)
_HEADS = ("hook_head_index", "hook_point_head_index")


class HookPointError(AnchorscopeError):
    """A hook point that is not the residual stream at a layer, or that the model does not have."""


@dataclass(frozen=True)
class HookPoint:
    """What a name says: a block, 0-based, or a site, or both; None is what it does not say."""

    block: int | None
    site: str | None = None  # one of SITES
    said: str = ""  # the words that say it

    @property
    def layer(self) -> int | None:
        """The block whose output it is; None where it is no block's output, or where no block is named."""
        if self.fault() is not None or self.block is None:
            return None
        return self.block - (self.site == "input")

    def fault(self, n_layers: int | None = None) -> str | None:
        """Why it is not the residual stream at a layer of a model of `n_layers` blocks; None where it is."""
        if self.block is not None and self.block < 0:
            return f"{self.said} counts blocks from the end; a block's number from 0 on was expected"
        if self.site == "input" and self.block == 0:
            return f"{self.said} is the embeddings, which enter block 0 and are no block's output"
        if self.site not in (None, "output", "input"):
            return f"{self.said} is {self.words}, not the residual stream at the output of a block"
        if n_layers is not None and self.block is not None and self.block - (self.site == "input") >= n_layers:
            return f"{self.said} is {self.words}, but the model has {n_layers} blocks, 0 to {n_layers - 1}"
        return None

    @property
    def words(self) -> str:
        """As a reader is told: where a name says the input of a block, also whose output that is."""
        words = SITES[self.site or "output"]
        words = words.replace("block {k}", "a block") if self.block is None else words.format(k=self.block)
        if self.site == "input" and self.block:
            return f"{words}, which is the output of block {self.block - 1}"
        return words


def hook_point_named(name: str, *, is_label: bool = False) -> HookPoint | None:
    """What one name says; None where it says nothing of a hook point.

    A name that people chose for a vector is a label (`is_label`): unknown words in it mean nothing, and a number alone
    is a block's. In the name of a hook or module they are a part of the block, which is not its output.
    """
    block, sites, unknown = None, [], False
    parts = [part for part in re.split(r"[./\[\]\s:,()']+", name) if part]
    for i, part in enumerate(parts):
        if re.fullmatch(r"-?\d{1,4}", part):
            container = parts[i - 1] if i and re.fullmatch(_CONTAINERS, parts[i - 1]) else None
            if block is None and (container or is_label):
                block = int(part)
                sites += ["input"] if container and container.startswith("hidden_state") else []
        elif re.fullmatch(_CONTAINERS, part):
            continue
        elif found := _WITH_NUMBER.fullmatch(part):
            if block is None:
                block = int(found["k"])
            sites += ["input"] if found["of"].startswith("hidden_state") else []
            sites += ["several"] if re.match(r"[_-]\d", found["after"]) else []
            around = [words.strip("_-") for words in (found["before"] or "", found["after"])]
            sites += filter(None, map(_site, around))
            unknown |= any(words and _site(words) is None for words in around)
        elif site := _site(part):
            sites.append(site)
        else:
            unknown |= _PLAIN.fullmatch(part) is None
    wrong = [site for site in sites if site not in ("output", "input")]
    if is_label and block is None:  # `attention` may be what the vector is about; `attn_out` is not
        return HookPoint(None, wrong[0], name) if wrong and "_" in name else None
    if wrong:
        return HookPoint(block, "end" if wrong[0] == "norm" and block is None and len(parts) > 1 else wrong[0], name)
    if unknown and not is_label and block is not None:
        return HookPoint(block, "inside", name)
    if block is None and not sites:
        return None
    return HookPoint(block, "input" if "input" in sites else "output" if sites else None, name)


def hook_point_of_folder(parts: Iterable[str]) -> HookPoint | None:
    """What folders, outermost first, say: the innermost that names a block, and the site in its name or one above."""
    found, site, above = None, None, ""
    for part in parts:
        if scope := _SCOPE.fullmatch(part):
            found = HookPoint(int(scope["k"]), _site(scope["site"], letters=True), part)
        elif repository := _REPOSITORY.fullmatch(part.lower()):
            site, above = _site(repository["site"], letters=True), part
        elif re.fullmatch(r"-?\d+", part):
            continue
        elif (one := hook_point_named(part, is_label=True)) and one.block is not None:
            found = one
        elif _site(part) is not None:
            site, above = _site(part), part
            found = HookPoint(None, site, part) if site == "embeddings" else found
    if found is not None and found.site is None and site is not None:
        found = replace(found, site=site, said=f"{above}/{found.said}")
    return found


def hook_point_stated(statements: Mapping[str, Any], *, where: str = "") -> HookPoint | None:
    """What a configuration says, by the keys that tools write a hook, a module or a layer under; None for nothing.

    `where` names the configuration. Raises HookPointError where two statements contradict each other.
    """
    where = f"{where}: " if where else ""
    blocks = {key: int(value) for key in _NUMBERS if _is_whole(value := statements.get(key))}
    found: list[HookPoint] = []
    for key in (*_NAMES, *_NUMBERS):
        value = statements.get(key)
        if isinstance(value, str) and value.strip() and key not in blocks:
            named = hook_point_named(value.replace("{layer}", str(next(iter(blocks.values()), ""))))
            if named is not None:
                found.append(replace(named, said=f"{where}{key} {value[:80]!r}"))
    side = statements.get("io")  # of dictionary_learning's buffer
    if all(one.site is None for one in found) and side in ("in", "in_and_out"):
        found.append(HookPoint(None, _site(side), f"{where}io {side!r}"))
    found += [HookPoint(block, None, f"{where}{key} {block}") for key, block in blocks.items()]
    for key in _HEADS:
        if _is_whole(statements.get(key)):
            found.append(HookPoint(None, "attention", f"{where}{key} {statements[key]}"))
    for source, target in zip(("hook_name", "hook_point_in", "hf_hook_point_in"), _TARGETS, strict=True):
        if isinstance(out := statements.get(target), str) and out and out != statements.get(source, out):
            found.append(HookPoint(None, "two", f"{where}{target} {out[:80]!r}"))
    return together(found)


def together(found: Sequence[HookPoint]) -> HookPoint | None:
    """One hook point of several statements about it. Raises HookPointError where they contradict each other."""
    if not found:
        return None
    for one in found:
        if one.site not in (None, "output", "input"):
            return replace(one, block=next((other.block for other in found if other.block is not None), None))
    with_block = [one for one in found if one.block is not None]
    with_site = [one for one in found if one.site is not None]
    site = with_site[0].site if with_site else None
    for one in with_block[1:]:
        if one.block != with_block[0].block:
            raise HookPointError(f"{with_block[0].said} and {one.said} name two blocks; correct one of them.")
    for one in with_site[1:]:
        if one.site != site:
            raise HookPointError(f"{with_site[0].said} and {one.said} name two hook points; correct one of them.")
    block = with_block[0].block if with_block else None
    said = with_site[0].said if with_site else found[0].said
    if with_site and with_site[0].block is None and with_block:
        said += f" with {with_block[0].said.rpartition(': ')[2]}"
    return HookPoint(block, site, said)


def name_of(layer: int) -> str:
    """The output of block `layer`, as crosscoder_learning names the activations that its crosscoders are trained on."""
    return f"layer_{layer}_out"


def _site(words: str, *, letters: bool = False) -> str | None:
    words = words.lower().removesuffix("_all")
    bare = words.removeprefix("hook_")
    if bare in _LETTERS and not letters:
        return None
    for site, pattern in _SITE_OF.items():
        if pattern.fullmatch(words) or pattern.fullmatch(bare):
            return site
    return "inside" if words.startswith("hook_") else None


def _is_whole(value: Any) -> TypeGuard[int | str]:
    if isinstance(value, str):
        return re.fullmatch(r"-?\d{1,4}", value) is not None
    return isinstance(value, int) and not isinstance(value, bool)
