"""How much models are made to write: the same wherever something is sampled."""

from app.shell.fields import Decimal, Field, Whole, declare

SAMPLES = declare(Field("samples", "number of samples", Whole(1, 2**31)))
SEED = declare(Field("seed", "seed", Whole(0, 2**31), "1"))
TEMPERATURE = declare(Field("temperature", "temperature", Decimal(0.0, 2.0)))
NUCLEUS = declare(Field("top_p", "top-p", Decimal(0.01, 1.0)))
