"""Which vector is looked at, of the study's library or made from chunks: the same one on every page."""

from app.shell.fields import Field, declare
from app.shell.vocabulary import CATEGORIES

TAGGED = [name for name in CATEGORIES if name not in ("untagged", "unknown")]  # categories that a vector can be of
VECTOR = declare(Field("vector_kept", "vector of the library", None))
MINUS = declare(Field("vector_minus", "chunk that is taken from the vector", None))
CATEGORY = declare(Field("vector_category", "category of the vector", TAGGED, "self_checking"))
