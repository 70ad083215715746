"""Which vector is looked at, of the study's library or made from chunks: the same one on every page."""

from app.shell.fields import Field, Whole, declare
from app.shell.vocabulary import CATEGORIES
from backend.models.word_contexts import CONTEXTS, USUAL

TAGGED = [name for name in CATEGORIES if name not in ("untagged", "unknown")]  # categories that a vector can be of
VECTOR = declare(Field("vector_kept", "vector of the library", None))
MINUS = declare(Field("vector_minus", "chunk that is taken from the vector", None))
CATEGORY = declare(Field("vector_category", "category of the vector", TAGGED, "self_checking"))

# b − a + c, by field of DirectionSpec: the choice, and the label of its entry
WORDS_OF_ANALOGY = {
    f"word_{name}": (declare(Field(f"analogy_word_{name}", f"word {name} of the analogy", None)), label)
    for name, label in (("b", "b"), ("a", "− a"), ("c", "+ c"))
}
CHUNKS_OF_ANALOGY = {
    f"chunk_{name}": (declare(Field(f"analogy_chunk_{name}", f"chunk {name} of the analogy", None)), label)
    for name, label in (("b", "Chunk b"), ("a", "− chunk a"), ("c", "+ chunk c"))
}
FEATURES_OF_ANALOGY = {
    f"feature_{name}": (
        declare(Field(f"analogy_feature_{name}", f"feature {name} of the analogy", Whole(0, 10**9), of="dictionary")),
        label,
    )
    for name, label in (("b", "Feature b"), ("a", "− feature a"), ("c", "+ feature c"))
}
CONTEXT = declare(Field("analogy_context", "in what the words of the analogy are read", CONTEXTS, USUAL))
