"""What is said of each feature: by the study's CoTs (when and where it fires, on what, and how well all of them
reconstruct), and by the weights alone (decoder norms, the tokens it promotes, its neighbours).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from backend.cot.categories import CATEGORIES
from backend.cot.reasoning import TARGETS, target_tokens
from backend.crosscoder.stored import read_from
from backend.ids import stable_id
from precompute.estimates import Estimate, Quantities
from precompute.recording import all_cores, loaded_pair
from precompute.stages import chunks as chunks_stage
from precompute.stages import codes as codes_stage
from precompute.units import Context, Finished, Unit

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from backend.crosscoder.dictionary import Dictionary
    from backend.crosscoder.judge import Findings, ReadText

NAME, UNIT = "features", "part"
RULE = 1  # of everything here: raise it when it changes
TOKEN_SECONDS = 6e-4  # a token read, for the estimate
SCHEMES = [
    *(("function", category) for category in CATEGORIES),
    *(("reasoning", category) for category in TARGETS),
    *(("before_reasoning", category) for category in TARGETS),
]
_COLUMN = {label: column for column, label in enumerate(SCHEMES)}


def units(context: Context) -> list[Unit]:
    """For each dictionary one of what its weights say, and one of what the CoTs say."""
    units = []
    for row in codes_stage.dictionaries(context):
        inputs = {"models": codes_stage.models_of(row), "layer": row["layer"]}
        units.append(Unit(f"{row['dictionary_id']}.weights", inputs))
        if cots := list(codes_stage.coded_cots(context, row)):
            tags = stable_id("g", sorted(first_tags(context).items()))
            chunks = chunks_stage.newest(context)
            units.append(Unit(f"{row['dictionary_id']}.cots", {**inputs, "cots": cots, "tags": tags, "chunks": chunks}))
    return units


def estimate(of: Quantities) -> Estimate | None:
    if not (wanted := of.study.crosscoder):
        return None
    gigabytes = sum(one.n_features for one in wanted) * 2e-6
    return of.line(NAME, 2 * len(wanted), gigabytes=gigabytes, seconds=of.read * len(wanted) * TOKEN_SECONDS)


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    rows = {row["dictionary_id"]: row for row in codes_stage.dictionaries(context)}
    with all_cores(context.study):
        for unit in units:
            name, part = unit.unit_id.split(".")
            dictionary = read_from(context.store, name)
            tables = (
                _of_weights(context, rows[name], dictionary)
                if part == "weights"
                else _of_cots(context, rows[name], dictionary)
            )
            yield Finished(
                unit,
                {table: _with_name(name, frame) for table, frame in tables.items()},
                {"tags": source_of_tags(context)},
            )


def _with_name(name: str, frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame.assign(dictionary_id=name), preserve_index=False)


# What the weights say


def _of_weights(context: Context, row: Mapping[str, Any], dictionary: "Dictionary") -> dict[str, pd.DataFrame]:
    from backend.crosscoder.readout import nearest, promoted

    logits, neighbours = [], []
    for model, loaded in enumerate(loaded_pair(context.study, row["layer"])):
        raw = dictionary.raw_rows(model)
        found = promoted(raw, loaded)
        vocabulary = np.array([loaded.tokenizer.decode([token]) for token in range(len(loaded.tokenizer))], object)
        for side, ids, effects in (
            ("top", found.top, found.top_effects),
            ("bottom", found.bottom, found.bottom_effects),
        ):
            logits.append(_ranked(ids, token_id=ids, effect=effects).assign(side=side, model_id=loaded.model_id))
            logits[-1]["token"] = vocabulary[logits[-1]["token_id"]]
        indices, cosines = nearest(raw)
        near = _ranked(indices, neighbour=indices, cosine=cosines).assign(model_id=loaded.model_id)
        neighbours.append(near[near["cosine"].notna()])
    return {"feature_logits": pd.concat(logits), "feature_neighbours": pd.concat(neighbours)}


def _ranked(shape: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    """One row a feature and rank of arrays (n_features, n_ranks)."""
    n_features, n_ranks = shape.shape
    ranked = {"feature": np.repeat(np.arange(n_features), n_ranks), "rank": np.tile(np.arange(n_ranks), n_features)}
    return pd.DataFrame(ranked | {name: values.reshape(-1) for name, values in columns.items()})


# What the CoTs say


def _of_cots(context: Context, row: Mapping[str, Any], dictionary: "Dictionary") -> dict[str, pd.DataFrame]:
    from backend.crosscoder.judge import judged

    cots = codes_stage.coded_cots(context, row)
    chunks = context.store.chunks_of(list(cots))
    findings = judged(dictionary, len(SCHEMES), _read(context, row, dictionary, cots, chunks))
    counts, windows = _second_look(context, row, dictionary, cots, findings)
    return {
        "features": features_frame(dictionary, findings),
        "feature_categories": categories_frame(findings),
        "feature_histograms": counts,
        "feature_examples": _examples(dictionary, findings, windows, chunks),
        "dictionary_fits": pd.DataFrame(
            {
                "model_id": codes_stage.models_of(row),
                "n_tokens": findings.n,
                "variance_explained": findings.variance_explained,
                "mean": [mean[: dictionary.width(m)] for m, mean in enumerate(findings.mean.astype(np.float32))],
            }
        ),
    }


def _read(
    context: Context,
    row: Mapping[str, Any],
    dictionary: "Dictionary",
    cots: Mapping[str, Any],
    chunks: Mapping[str, Any],
) -> "Iterator[ReadText]":
    """Every CoT with its activations, codes and labels."""
    from backend.crosscoder.judge import ReadText, labelled

    tags = first_tags(context)
    shards = codes_stage.recorded(codes_stage.recorder_of(context, row), list(cots.values()))
    for name, cot in cots.items():
        tokens = context.store.token_texts(row["dictionary_id"], name)
        members = members_of(cot, tokens, chunks.get(name, []), tags)
        yield ReadText(
            name,
            codes_stage.activations_of(shards, cot),
            _sparse(context, row, cot, dictionary),
            first_row(cot),
            labelled(len(tokens), members, len(SCHEMES)),
        )


def members_of(
    cot: Mapping[str, Any], tokens: Sequence[str], chunks: Sequence[Mapping[str, Any]], tags: Mapping[str, str]
) -> dict[int, list[int]]:
    """Positions of the CoT's tokens that are of each category."""
    members: dict[int, list[int]] = defaultdict(list)
    for chunk in chunks:
        if (column := _COLUMN.get(("function", tags.get(chunk["chunk_id"], "")))) is not None:
            members[column] += range(chunk["token_start"], chunk["token_end"])
    for category, positions in target_tokens(tokens, cot["n_prompt_tokens"], cot["prompt"], cot["text"]).items():
        members[_COLUMN["reasoning", category]] += positions
        members[_COLUMN["before_reasoning", category]] += [position - 1 for position in positions]
    return members


def first_row(cot: Mapping[str, Any]) -> int:
    """Of the codes and activations of the CoT's own tokens, where row r is token r + 1."""
    return max(0, cot["n_prompt_tokens"] - 1)


def _sparse(context: Context, row: Mapping[str, Any], cot: Mapping[str, Any], dictionary: "Dictionary") -> "csr_array":
    """Codes (n_tokens − 1, D) of the CoT's tokens but the first."""
    from scipy.sparse import csr_array

    positions, features, codes = context.store.codes(row["dictionary_id"], cot["cot_id"])
    return csr_array((codes, (positions - 1, features)), shape=(len(cot["token_ids"]) - 1, dictionary.n_features))


def _second_look(
    context: Context, row: Mapping[str, Any], dictionary: "Dictionary", cots: Mapping[str, Any], findings: "Findings"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What needs to know the largest codes and the strongest tokens: rows of feature_histograms, and those of
    `findings.strongest` with their windows.
    """
    from backend.crosscoder.judge import Histograms, windows

    histograms = Histograms(findings.max_activation, is_signed=dictionary.its_kind.is_signed)
    fires_above, parts = dictionary.fires_above.numpy(), []
    strongest = dict(iter(findings.strongest.groupby("text_id")))
    for name, cot in cots.items():
        codes = _sparse(context, row, cot, dictionary)
        judged = codes[first_row(cot) :].tocoo()
        fires = np.abs(judged.data) > fires_above[judged.coords[1]]
        histograms.add(judged.coords[1][fires], judged.data[fires])
        if name in strongest:
            found = windows(codes, strongest[name]["position"], strongest[name]["feature"])
            parts.append(
                strongest[name].assign(
                    window_start=[start for start, _ in found], window_values=[values for _, values in found]
                )
            )
    fired = np.flatnonzero(findings.frequency)
    counted = {
        "feature": fired,
        "edges": [histograms.edges(k) for k in fired.tolist()],
        "counts": list(histograms.counts[fired]),
    }
    return pd.DataFrame(counted), pd.concat(parts) if parts else findings.strongest.assign(
        window_start=[], window_values=[]
    )


def features_frame(dictionary: "Dictionary", findings: "Findings") -> pd.DataFrame:
    """Rows of features, without their dictionary's name."""
    from backend.crosscoder import diff
    from backend.crosscoder.judge import top_categories

    n_functions = len(CATEGORIES)
    top, lift = top_categories(findings.category_fired[:, :n_functions], findings.category_tokens[:n_functions])
    names = np.array([*CATEGORIES, None], object)
    frame = pd.DataFrame(
        {
            "feature": np.arange(dictionary.n_features),
            "nu_eps": findings.nu_eps,
            "nu_r": findings.nu_r,
            "frequency": findings.frequency,
            "mean_activation": findings.mean_activation,
            "max_activation": findings.max_activation,
            "top_category": names[top],
            "top_category_lift": lift,
        }
    )
    for order in (1, 2):
        norms = diff.decoder_norms(dictionary, order)
        frame[f"norm_base_l{order}"] = norms[0]
        is_pair = len(norms) == 2
        frame[f"norm_distilled_l{order}"] = norms[1] if is_pair else np.nan
        frame[f"rdn_l{order}"] = diff.rdn(dictionary, order) if is_pair else np.nan
        frame[f"nrn_l{order}"] = diff.nrn(dictionary, order) if is_pair else np.nan
    frame["decoder_cosine"] = diff.decoder_cosine(dictionary) if is_pair else np.nan
    is_unequal = dictionary.widths is not None
    nrn = diff.nrn(dictionary, "rms") if is_unequal else frame["nrn_l2"]  # the same at equal widths
    frame["class"] = diff.classify(nrn, findings.nu_eps, findings.nu_r)
    return frame


def categories_frame(findings: "Findings") -> pd.DataFrame:
    """Rows of feature_categories, without their dictionary's name: features that fire at all, on categories that
    have tokens.
    """
    fired, present = np.flatnonzero(findings.frequency), np.flatnonzero(findings.category_tokens)
    counts = findings.category_fired[np.ix_(fired, present)]
    schemes = [SCHEMES[column] for column in present]
    frame = pd.DataFrame(
        {
            "feature": np.repeat(fired, len(present)),
            "scheme": [scheme for scheme, _ in schemes] * len(fired),
            "category": [category for _, category in schemes] * len(fired),
            "n_tokens": np.tile(findings.category_tokens[present], len(fired)),
            "n_fired": counts.reshape(-1),
            "mean_activation": findings.category_mean[np.ix_(fired, present)].reshape(-1),
        }
    )
    return frame.assign(frequency=frame["n_fired"] / frame["n_tokens"])


def _examples(
    dictionary: "Dictionary", findings: "Findings", windows: pd.DataFrame, chunks: Mapping[str, Any]
) -> pd.DataFrame:
    norms = dictionary.decoder.norm(dim=2).double().numpy() / dictionary.scale.double().numpy()[:, None]
    frame = windows.rename(columns={"text_id": "cot_id", "code": "activation"})
    contributions = np.abs(frame["activation"].to_numpy()) * norms[:, frame["feature"].to_numpy(np.int64)]
    frame["contribution_base"] = contributions[0]
    frame["contribution_distilled"] = contributions[1] if len(norms) == 2 else np.nan
    frame["chunk_id"] = [
        _chunk_at(chunks.get(cot, []), position)
        for cot, position in zip(frame["cot_id"], frame["position"], strict=True)
    ]
    return frame


def _chunk_at(chunks: Sequence[Mapping[str, Any]], position: int) -> str | None:
    return next((chunk["chunk_id"] for chunk in chunks if chunk["token_start"] <= position < chunk["token_end"]), None)


def source_of_tags(context: Context) -> str | None:
    """Who tagged most of the study's chunks."""
    return next(iter(context.store.tag_sources()), None)


def first_tags(context: Context) -> dict[str, str]:
    """First tag of each chunk, by that source."""
    source = source_of_tags(context)
    return {} if source is None else context.store.first_tags(source)
