"""What is claimed of each pair of evidence when all of them are looked at: the verdict that the pages say.

The stage `evidence` judges each pair by itself, because a unit of it does not know the others. Here q is taken over all
pairs, and pairs that are not measured apart are told; so that whoever reads the store and not the pages reads the same.
"""

from collections.abc import Iterator, Sequence

import pandas as pd

from backend.evidence.multiple import judged
from backend.schema.tables import TABLES
from precompute.estimates import Estimate, Quantities
from precompute.units import Context, Finished, Unit

NAME, UNIT = "claims", "study"
RULE = 1  # of q, of what is measured apart, and of backend/evidence/verdict.py: raise it when one of them changes


def units(context: Context) -> list[Unit]:
    digest = context.store.associations_digest()
    return [Unit("study", {"associations": digest})] if digest else []


def estimate(of: Quantities) -> Estimate | None:
    return of.line(NAME, 1, gigabytes=0.0, seconds=1.0) if of.study.geometry else None


def compute(context: Context, units: Sequence[Unit]) -> Iterator[Finished]:
    rows = judged(context.store.associations())[list(TABLES[NAME].columns)]
    plain = rows.astype(object).where(rows.notna(), None)
    for unit in units:
        yield Finished(unit, {NAME: pd.DataFrame(plain).to_dict("records")})
