"""How much models are made to write: the same wherever something is sampled."""

from app.shell.fields import Field, Whole, declare

SAMPLES = declare(Field("samples", "number of samples", Whole(1, 2**31)))
SEED = declare(Field("seed", "seed", Whole(0, 2**31), "1"))
