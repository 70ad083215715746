"""The spaces that word pairs are compared in, by name; `cleaning.py` makes them."""

CLEANINGS = {  # by name: words, help
    "raw": ("as they are", "the residual stream itself"),
    "centred": ("mean taken away", "less the mean of the words that the principal components are fitted on"),
    "distractors": (
        "length and frequency projected out",
        "linear discriminants of word length and of frequency (by token id) are removed, then the mean",
    ),
    "discriminants": (
        "discriminants of the classes",
        "only the discriminants of b − a by class are kept, each half of the pairs seen through those of the other"
        " (Li et al. 2024, cross-fitted)",
    ),
}
FITTED_ON = {
    "class": "the class's words",
    "classes": "the words of all classes",
    "vocabulary": "words of the vocabulary",
}
NO_PCA = 0  # components: all dimensions
