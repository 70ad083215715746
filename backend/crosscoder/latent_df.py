"""The statistics of features that are published beside a crosscoder of the crosscoder_learning layout: `latent_df.csv`,
one row a feature.

| column | what it is |
|---|---|
| (first, without a name) | feature, 0-based |
| dec_base_norm, dec_ft_norm | L2 norm of its decoder row of the base and of the fine-tuned model |
| dec_norm_diff | ½ + ½ · (ft − base) / max(ft, base) of these norms: 0 base only, ½ shared, 1 fine-tuned only; not NRN,
ft / (ft + base) |
| beta_ratio_error, beta_ratio_reconstruction | latent scaling ν^ε and ν^r |
| tag | class of the feature |
| freq, max_act | firing frequency, largest code |

Source of the columns' meaning: arXiv:2504.02922 and the files published with it. Whose texts they were measured on is
not in the file, so none of them is taken for a measurement of ours: on import they say whether the file belongs to
these weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from backend.crosscoder.kinds import DictionaryError

NAME = "latent_df.csv"
_MAX_BYTES = 2**30
_NORMS = ("dec_base_norm", "dec_ft_norm")  # in the order of the decoder's models
_APART = 0.01  # relative; published norms come from weights of lower precision


def latent_df(decoder: Tensor, features: pd.DataFrame) -> pd.DataFrame:
    """Those columns, indexed by feature, of a decoder of shape (base and distilled model, features, width) and the rows
    of all its features in the table `features`; unknown is NaN.
    """
    base, distilled = decoder.double().norm(dim=2).numpy()
    larger = np.maximum(base, distilled)
    return pd.DataFrame(
        {
            "dec_base_norm": base,
            "dec_ft_norm": distilled,
            "dec_norm_diff": (
                0.5 + 0.5 * np.divide(distilled - base, larger, out=np.full_like(larger, np.nan), where=larger > 0)
            ),
            "beta_ratio_error": features["nu_eps"].to_numpy(),
            "beta_ratio_reconstruction": features["nu_r"].to_numpy(),
            "tag": features["class"].to_numpy(),
            "freq": features["frequency"].to_numpy(),
            "max_act": features["max_activation"].to_numpy(),
        },
        index=features["feature"].to_numpy(),
    )


def published(path: Path, decoder: Tensor) -> Mapping[str, Any]:
    """What the file says of the crosscoder whose decoder, shape (models, features, width), is given: its number of
    features by tag.

    Raises DictionaryError for a file that cannot be read, or that is of other weights: another number of features, or
    other norms.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise DictionaryError(f"{path}: its size is {path.stat().st_size:,} bytes; expected at most {_MAX_BYTES:,}.")
    try:
        table = pd.read_csv(path, index_col=0)
        norms = {name: table[name].to_numpy(dtype=np.float64) for name in _NORMS if name in table}
    except (OSError, ValueError) as error:  # of pandas too: its parser's errors are ValueErrors
        raise DictionaryError(
            f"{path}: its content is unreadable ({error}); expected one row a feature, as published."
        ) from error
    n_features = decoder.shape[1]
    if not np.array_equal(table.index, np.arange(n_features)):
        raise DictionaryError(
            f"{path}: its first column has {len(table)} rows, {', '.join(map(str, table.index[:3]))} …; expected 0 to"
            f" {n_features - 1}, the features of the weights beside it, in order. Move the file away to import the"
            " weights without it."
        )
    for name, ours in zip(_NORMS, decoder.double().norm(dim=2).numpy(), strict=False):
        wrong = ~np.isclose(norms.get(name, ours), ours, rtol=_APART, atol=1e-6)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise DictionaryError(
                f"{path}: {name} of feature {first} is {norms[name][first]:.4g}; expected {ours[first]:.4g}, the norm"
                f" in the weights beside it ({int(wrong.sum())} of {n_features} differ). It is of other weights: move"
                " it away, or bring its own."
            )
    tags = table["tag"].astype(str).value_counts() if "tag" in table else pd.Series(dtype=int)
    return {"rows": n_features, "tags": {tag: int(n) for tag, n in tags.items()}}
