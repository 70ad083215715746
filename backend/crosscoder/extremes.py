"""The features at both ends of NRN, among those that fire: what is labelled first."""

import pandas as pd

from backend.crosscoder.top_features import EVERYWHERE


def extremes(features: pd.DataFrame, nrn: str, n: int) -> pd.DataFrame:
    """Rows of the `n` features of highest and the `n` of lowest value in column `nrn`, with `end` (highest, lowest),
    the outermost of each end first; none of a feature that never fires or whose value is unknown, and none twice. Of
    equal values the feature that fires more often comes first, then the one of lower number. What fires on more than
    half of the tokens stands last at its end.
    """
    fires = features[features[nrn].notna() & (features["frequency"] > 0)]
    down = fires.sort_values([nrn, "frequency", "feature"], ascending=[False, False, True])
    up = fires.sort_values([nrn, "frequency", "feature"], ascending=[True, False, True])
    highest = down.head(min(n, (len(fires) + 1) // 2))
    lowest = up[~up["feature"].isin(highest["feature"])].head(n)
    ends = [_everywhere_last(highest).assign(end="highest"), _everywhere_last(lowest).assign(end="lowest")]
    return pd.concat(ends, ignore_index=True)


def _everywhere_last(rows: pd.DataFrame) -> pd.DataFrame:
    is_everywhere = rows["frequency"] > EVERYWHERE
    return pd.concat([rows[~is_everywhere], rows[is_everywhere]])
