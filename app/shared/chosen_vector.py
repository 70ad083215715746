"""Which vector of the study's library is looked at: the same one on every page."""

from app.shell.fields import Field, declare

VECTOR = declare(Field("vector_kept", "vector of the library", None))
