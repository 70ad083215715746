"""What stands along an axis or a scale of colour, with formula and source: one text for one term, in every figure.

An axis is titled by terms: "KL(steered ‖ unsteered), nats, log scale" has two. Those of the registries (metrics,
geometry columns) bring their own words; all others stand here, but those of one figure alone, which it brings itself
(`data_figure`). Of two terms that could stand at one place the figure's own counts, then the longer one.
"""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache

from app.shell.untrusted import for_markdown
from app.shell.vocabulary import METRICS
from backend.importance.steered_effects import QUANTITIES
from backend.store.geometry_columns import COLUMNS

Own = tuple[tuple[str, str], ...]  # terms of one figure, in small letters, and their words

# Short names of sources.
_FEATURES = "“Features and Logits” (Dawes 2025)"
_ANCHORS = "“Thought Anchors” (Bogdan et al. 2025)"
_DISTILLED = "“Towards Understanding Distilled Reasoning Models” (Baek and Tegmark 2025)"
_SPRINT = "“Latent Reasoning Sprint 3”"

_KL_STEERED = (
    "KL(p steered ‖ p unsteered) = Σ p steered · ln(p steered / p unsteered) of next-token probabilities, over the"
    f" whole vocabulary, the text given, mean over the tokens that are read; summed in float64. {_FEATURES}, section 3."
)
_BETA = (
    "How far the residual stream is moved: h + β · unit · v, v of unit length; the unit is said beside it."
    f" {_FEATURES}, section 3."
)
_KL_LENS = (
    "Σ p · ln(p / q) of the model's own next-token probabilities p and the lens's q, over the whole vocabulary: what is"
    " lost by reading at this layer. Belrose et al. (2023)."
)
_NRN = (
    "Normalised relative norm: ‖reasoner's decoder row‖ / (‖base's‖ + ‖reasoner's‖), norms L1 or L2 as said: 0 base"
    f" only, ½ shared, 1 reasoner only. {_DISTILLED}."
)
_NU = (
    "Latent scaling: ν = β base / β reasoner, β the least-squares scale of a feature in what the reconstruction leaves"
    " (ε) or makes (r) of a model's activations. 1 / (1 + ν) reads like NRN. Minder et al. (2025)."
)
_INFLUENCE = (
    "Mean over the later chunk's tokens of KL(attention to the earlier chunk's tokens suppressed ‖ base), the text"
    f" given. After {_ANCHORS}."
)
_FREQUENCY = (
    "Tokens on which the feature's code is not 0, over all tokens of what a mark stands for: the texts that were read,"
    " or a category's tokens."
)
_ACCURACY = "Correct answers over those that were judged; the interval is Wilson's where it is said."
_LAYER = "A block, counted from 0; its residual stream is what leaves it."
_SHARE_OF_ANSWERS = "Rollouts with that answer over those that gave one."
_WAVE = "read off the word's point by a linear map. Kantamneni and Tegmark (2025)."
_STEP_OF_PATH = "Of the path of a chain's chunk activations at a layer, in reading order."

TERMS = {
    # Steering and steepness
    "kl(steered ‖ unsteered)": _KL_STEERED,
    "kl(steered ‖ base)": _KL_STEERED,
    "nats": "Natural logarithms: 1 nat is 1.44 bits.",
    "points of accuracy": "Percentage points: of 100 problems so many more are answered right.",
    "β": _BETA,
    "rms of the residual stream": "√(mean of h²) of the residual stream at the steered position.",
    "norm of the residual stream": "‖h‖ of the residual stream at the steered position.",
    "absolute": "β is itself the length of the step.",
    "lengths of v": "β counts the length of v, from the chunk's own activation to the counterfactual one.",
    "chunks of the chain before the steered token": "0 is the chunk just before it.",
    "geometric mean": "Exponential of the mean of the logarithms.",
    "attention to the chunk's tokens": "What a later token pays to all tokens of the chunk, of 1 that it pays in all.",
    "ε": f"Length of a finite step along a random direction, counted as β is. {_FEATURES}, section 3.",
    "largest / smallest kl": f"Anisotropy: of KL over random directions at one length. {_FEATURES}, section 3.",
    "mean kl of these directions": "Mean over the random directions of KL(steered ‖ unsteered).",
    "ratio to": "KL of a kind of direction over that of the kind named here, at equal β, chunk by chunk.",
    "cv": "Coefficient of variation: standard deviation / mean over random directions.",
    "leading eigenvalue": (
        "The largest eigenvalues, in order, of G = mean over tokens of Jᵀ(diag p − ppᵀ)J, J the derivative of the"
        " logits by the residual stream. Pull-back of the Fisher–Rao metric (Liang et al. 2019; Arvanitidis et al."
        " 2021)."
    ),
    "λ/2": "Half of an eigenvalue of G: KL(β)/β² along its direction as β → 0.",
    "nats per β²": "Of KL(β)/β²: how fast the predictions move.",
    # Studies as points
    "mean nrn, l2": "Mean over the features that fire of the normalised relative norm: 0 base only, 0.5 shared.",
    "parallelogram loss / that of shuffled pairs": "Geometric mean over classes of word pairs; 1 is what chance has.",
    "share of pairs with |cosine| above 0.1": "Of all pairs of the directions, those further from right angles.",
    "ρ within cots, steepness and importance": (
        "Spearman's rank correlation within CoTs of swept steepness and importance."
    ),
    "parameters": "Weights of the model: as its name says, or about as many as a transformer of its shape has.",
    "seed of the study": "From which every other seed of the study follows; unknown where its runs had several.",
    "step of training": "As the checkpoint's name or revision says.",
    # Importance, rollouts and answers
    "spearman ρ": "Rank correlation within CoTs: of what ranks differ from their CoT's mean.",
    "ρ within cots": "Spearman's rank correlation within CoTs: of what ranks differ from their CoT's mean.",
    "half-width": "Half of the 95 % interval of the chunk's importance.",
    "rollouts": f"Continuations that were sampled from before the chunk. {_ANCHORS}.",
    "accuracy": _ACCURACY,
    "share of rollouts with an answer": _SHARE_OF_ANSWERS,
    "share of those with an answer": "Continuations with that answer over those that gave one.",
    "share of correct": "Rollouts, or forced answers, that are correct over those that gave an answer.",
    "share of its own answer": "Rollouts, or forced answers, with the answer that the chain itself gives.",
    "share of the problems' samples": "Samples of that outcome over all samples of the problems.",
    "difference of accuracies": "A share of correct answers less another, in parts of 1.",
    "jsd": (
        "Jensen–Shannon divergence of two distributions of answers under a Dirichlet prior of ½, posterior mean less"
        " its expectation where the two are dealt anew: at most ln 2, below 0 where chance deals them further apart."
    ),
    "pairs of an anchor and its match": "How many of them have that difference.",
    "anchor − match": (
        "What steering does at an anchor less what it does at another chunk of the same chain that is none, steered"
        " alike."
    ),
    "without forced answers": "The metric without the answers that were forced of rollouts that the token cap had cut.",
    "as it counts": "The metric with the answers that were forced of rollouts that the token cap had cut.",
    "chunks read": "How much of the chain stands before the answer: between k − 1 and k the change is chunk k's.",
    "difference of the change points": (
        "Chunks that had been read when the first named settled, less those when the second did: below 0 the first is"
        " earlier. Mean over chains."
    ),
    "chains in which both commit": (
        "Of those: which of the two change points comes first. A change point counts from a Bayes factor of 3."
    ),
    "log-probability": "ln of the probability; of an answer of several tokens their sum.",
    "difficulty of the problem": "As its source states it.",
    "prompt": "The way in which the problems were put to a model.",
    # Lengths and outcomes of continuations
    "thinking tokens": "Sampled tokens that begin before the tag that closes the thought.",
    "thinking, tokens": "Sampled tokens that begin before the tag that closes the thought, mean over continuations.",
    "length, tokens": "All sampled tokens, mean over continuations.",
    "self-reflection words": "Words at which a chain turns back on itself, such as “wait”, per 100 sampled tokens.",
    "answers moved from β = 0": "Samples whose answer is another one than with the same random numbers at β = 0.",
    "share that ends in a loop": "Continuations that come to repeat themselves, over all.",
    "degenerate": "Share of continuations that come to repeat themselves.",
    # Dictionaries and features
    "nrn": _NRN,
    "1 / (1 + ν)": _NU,
    "ν^ε": "ν of what the reconstruction leaves of the activations.",
    "ν^r": "ν of what the dictionary's reconstruction makes of the activations.",
    "features": "Rows of the dictionary: how many.",
    "live features": "Features that fire at all.",
    "share of tokens on which it fires": _FREQUENCY,
    "share of the category's tokens on which it fires": (
        "Of the tokens that belong to the category's target words, in the way that is chosen above (their first tokens,"
        " or the tokens that predict them), those on which the feature's code is not 0."
    ),
    "tokens on which it fires": "Tokens on which the feature's code is not 0.",
    "tokens": "Tokens of the text: one each, or how many.",
    "top k % by firing frequency": (
        "How many features are zeroed: of those above the NRN that is chosen, the k % that fire most on the category."
        f" {_DISTILLED}, figure 2."
    ),
    "change of the target's logit": (
        f"Logit of the target token zeroed less as it was, mean over the category's target tokens. {_DISTILLED}."
    ),
    "change of its log-probability": "ln p of the target token zeroed less as it was, mean over target tokens.",
    "activation f": "The feature's code at a token: f(x) = act(Σ W encoder · a + b).",
    "f·‖w‖": "What the feature adds at a token: its code times the length of the model's decoder row.",
    "logit per unit of f": (
        "Direct effect: unembedding · final norm's scale · decoder row. What later layers make of it is not in it."
    ),
    "tokens seen": "Tokens that the training has read so far.",
    "learning rate": "Step size of the optimiser.",
    "variance explained": "1 − ‖a − reconstruction‖² / ‖a − mean of a‖², over tokens.",
    "l0": "Features that fire on a token, mean over tokens.",
    "dead": "Share of features that fire on none of the held-out tokens.",
    "share of features": "Of all rows of the dictionary.",
    # Directions and their geometry
    "cosine": "u·v / (‖u‖‖v‖): 1 the same direction, 0 orthogonal.",
    "cosine with the vector": "u·v / (‖u‖‖v‖) of the audited vector and each of the study's directions.",
    "pull-back cosine": (
        "uᵀGv / √(uᵀGu · vᵀGv), G the Fisher metric of the outputs pulled back to the residual stream: 1 where two"
        " directions move the predictions alike."
    ),
    "share of pairs in the cell": "Pairs whose cosine and pull-back cosine lie there, over all pairs of the panel.",
    "share of pairs in the bin": "Pairs of two rows of a set whose cosine lies there, over all pairs.",
    "tail mass": (
        "Share of the pairs of rows whose |cosine| exceeds a threshold; isotropic rows have P(|cos| > t) in closed"
        " form. “Feature Geometry”."
    ),
    "ratio of tail masses": "Tail mass of the tuned set over that of the base one: 1 is no difference.",
    "pairs beyond": "Pairs whose |cosine| exceeds the threshold, over the count that isotropic rows would have.",
    "features by how often they fire": "Quarters of the features, in the order of their firing frequency.",
    "one set a model": "The rows of one matrix of each model.",
    "mean angle": (
        "Principal angles between the subspaces of the largest components of both models' residual streams, mean"
        " over the components."
    ),
    "cka": "Debiased linear centred kernel alignment of both models' residual streams: 1 alike up to rotation.",
    "‖reasoner − base‖ / ‖base‖": "Length of the difference of both residual streams at a token, mean over tokens.",
    "kl(base ‖ reasoner)": "Σ p · ln(p / q) of what the logit lenses of both models read at the layer.",
    "kl(reasoner ‖ base)": "Σ p · ln(p / q) of what the logit lenses of both models read at the layer.",
    "effective rank": "exp of the entropy of σ / Σσ, σ the centred cloud's singular values (Roy and Vetterli 2007).",
    "participation ratio": "(Σλ)² / Σλ², λ the eigenvalues of the cloud's covariance.",
    "participation ratio of the steps": "(Σλ)² / Σλ², λ the eigenvalues of the covariance of the path's steps.",
    "intrinsic dimension (twonn)": (
        "From the ratio of the distances to a point's second and first neighbour (Facco et al. 2017); of a chunk, among"
        " its nearest activations."
    ),
    "anisotropy": "Mean cosine of two points of the cloud (Ethayarajh 2019).",
    "progress": f"Net displacement / length of the path: 1 is straight on. {_STEP_OF_PATH}",
    "curvature, mean turning angle": f"Angle between a step and the next one, mean over steps. {_STEP_OF_PATH}",
    "curvature: correct − wrong": ("Mean turning angle of correct chains less that of wrong ones of like length."),
    "effective dimension": f"Participation ratio of its steps. {_STEP_OF_PATH}",
    "correct − wrong": "Mean over correct chains less that over wrong ones of like length.",
    "r²": "1 − squares that are left / squares about the mean, each word predicted from the others.",
    "cos, period": f"Cosine of the number at that period, {_WAVE}",
    "sin, period": f"Sine of the number at that period, {_WAVE}",
    "quadruples": "Share of the pairs of word pairs whose loss is at or below that.",
    "loss": "Of a training, in the unit that is said: lower is better.",
    "parallelogram loss": (
        "‖a − b − c + d‖ / √(‖a‖² + ‖b‖² + ‖c‖² + ‖d‖²) of the rows of two pairs of words: 0 where the one pair differs"
        f" as the other does. {_DISTILLED}, section 6."
    ),
    "loss of the best match": "Parallelogram loss of a side with the side of four distinct rows that has the least.",
    "mean loss over that of shuffled pairs": (
        "Parallelogram loss ‖a − b − c + d‖ / √(‖a‖² + ‖b‖² + ‖c‖² + ‖d‖²) over what pairs dealt anew have: 1 is"
        f" chance. {_DISTILLED}, section 6."
    ),
    "sides": "Share of the sides (differences of two rows) whose best match has a loss at or below that.",
    "umap": "Neighbours lie near each other; distances and axes mean nothing (McInnes et al. 2018).",
    "component": "Principal component of what is drawn, with its share of the variance where it is said.",
    # Influence and attention
    "acts": "The earlier chunk, whose influence is asked.",
    "is acted on": "The later chunk, whose predictions are looked at.",
    "kl divergence": _INFLUENCE,
    "kl of the answer": "KL of the answer's tokens when attention to the chunk is suppressed ‖ base.",
    "attention weight": "Mean attention of the later chunk's tokens on the earlier one's, over heads.",
    "effect on its return": "Share of rollouts that say the later chunk again, with the earlier one kept less without.",
    "step importance": f"As its authors published it. {_ANCHORS}.",
    "mean over later chunks": "Mean over the chunks that follow.",
    "chunks to the last it moves": "How far back the last chunk lies that it moves by the CoT's median pair.",
    "chunks from the one that acts": "Distance of the two chunks, counted in chunks.",
    "kurtosis": (
        "Fisher's, of the mean attention that chunks receive from later ones, the nearest 4 left out; mean over CoTs:"
        f" high where few receive much. Receiver heads of {_ANCHORS}."
    ),
    "layer.head": "An attention head: its layer and number, from 0.",
    "head": "An attention head of the layer, from 0.",
    "attention received": "Mean attention of later chunks' tokens on a token of the chunk.",
    "rank correlation over the pairs of a cot": "Spearman's ρ of two ways over the pairs of chunks, CoT by CoT.",
    # Lenses and latents
    "kl(model ‖ lens)": _KL_LENS,
    "kl to the final layer": _KL_LENS,
    "probability": "Of a token, by what a lens reads: softmax of unembedding · final norm · carried residual stream.",
    "entropy": "−Σ p · ln p over the vocabulary: 0 where one token has all the probability.",
    "rank of": "How many tokens are at least as likely: 1 is the top token.",
    "the rank": "How many tokens are at least as likely: 1 is the top token.",
    "share where": "Problems where the followed word is the top token.",
    "near misses": "Wrong numbers that stand near the answer in a few ways.",
    "wrong numbers": "Numbers that are not the answer.",
    "wrong top numbers": "Top tokens that are a number and not the answer.",
    "answered right": "Share of the problems that are answered right when the answer is forced after so many latents.",
    "even − odd latents": "Mean over even latents less that over odd ones.",
    "latent moved": f"The latent to which a multiple of mean A − mean B is added. {_SPRINT}.",
    "mean a − mean b": f"Multiple of the difference of two mean latents that is added. {_SPRINT}.",
    "random vector": "A random vector of the same length, as a control.",
    "latent": "A hidden state that is fed back as an embedding; number i is the i-th that was run.",
    "latents run": "How many latents have been run; bot is the token that begins the thinking, before them.",
    "paid to": "The earlier position, which is attended to; bot is the token that begins the thinking.",
    "paid at latent": "The latent at which attention is looked at.",
    "share of attention": "Attention weights, mean over heads: what a position gives to all sums to 1.",
    "needed": "Right answers with the latent as it is less those with zeros or a mean in its place.",
    "specific": "Answers that become the donor's under its latent less those under the mean.",
    "mean change of accuracy": "Accuracy moved less unsteered, mean over the cells of the map.",
    "accuracy − unsteered": "Accuracy moved less unsteered, in percentage points.",
    "correlation with the published map": f"Pearson's, cell by cell, with the map of {_SPRINT}.",
    "nearest embedding": "Largest cosine of the latent with any token's embedding.",
    # Places
    "layer": _LAYER,
    "token": "A token of the text, in reading order.",
    "chunk": f"A sentence of the chain, in reading order, from 1. {_ANCHORS}.",
    "chunks": f"Sentences of chains: one each, or how many. {_ANCHORS}.",
    "chunks of the cot": "How long the chain is, in sentences.",
}


# Terms of several figures' titles, which mean the same in each of them. Every other one stands in one file of figures.
SHARED = frozenset(
    {
        "accuracy",
        "chunk",
        "chunks",
        "cosine",
        "f·‖w‖",
        "kl(steered ‖ unsteered)",
        "layer",
        "logit per unit of f",
        "nats",
        "nrn",
        "share of tokens on which it fires",
        "token",
        "tokens seen",
        "β",
    }
)


def plain(title: str) -> str:
    """A title without Plotly's marks, on one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", title))).strip()


def terms_of(title: str, own: Own = ()) -> list[str]:
    """The terms of a title that have words, in the order in which they stand in it."""
    return list(_written(title, own))


def _written(title: str, own: Own) -> dict[str, str]:
    """The same, and how each is written there, which but for capitals is as it stands here."""
    found, rest = list[tuple[int, str, str]](), plain(title)
    for term, pattern in (*_by_length(term for term, _ in own), *_patterns()):
        if (match := pattern.search(rest)) is not None:
            found.append((match.start(), term, match[0]))
            rest = pattern.sub(lambda match: "\0" * len(match[0]), rest)
    return {term: written for _, term, written in sorted(found)}


@lru_cache(maxsize=512)
def explained(titles: tuple[str, ...], own: Own = ()) -> str:
    """What the titles' terms mean, each once, in Markdown; empty where none has words."""
    terms = {term: written for title in titles for term, written in _written(title, own).items()}
    words = {**_words(), **dict(own)}
    return "\n\n".join(f"**{for_markdown(terms[term])}**: {for_markdown(words[term], 600)}" for term in terms)


def own_words(words: Mapping[str, str]) -> Own:
    """A figure's own words, by terms as its titles have them; of those that say nothing none."""
    return tuple((plain(term).lower(), said) for term, said in words.items() if plain(term) and said)


def meaning(term: str) -> str:
    """What a term means, with formula and source."""
    return _words()[term]


@cache
def _words() -> dict[str, str]:
    """What each term means; of several of one name the first counts."""
    found = dict(TERMS)
    for label, words in _registered():
        found.setdefault(label.lower(), words)
    return found


def _registered() -> Iterator[tuple[str, str]]:
    for column in COLUMNS.values():
        yield column.label, f"{column.meaning} In {column.unit}."
    for metric in METRICS.values():
        yield metric.axis, metric.meaning
        yield metric.label, metric.meaning
    for effect in QUANTITIES.values():
        yield effect.label, effect.meaning


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return _by_length(_words())


def _by_length(terms: Iterable[str]) -> list[tuple[str, re.Pattern[str]]]:
    """The longest term first."""
    return [(term, _pattern(term)) for term in sorted(terms, key=lambda term: (-len(term), term))]


def _pattern(term: str) -> re.Pattern[str]:
    """The term as a word of its own."""
    before, after = (r"(?<!\w)" if term[0].isalnum() else "", r"(?!\w)" if term[-1].isalnum() else "")
    return re.compile(before + re.escape(term) + after, re.IGNORECASE)


def without_words(titles: Iterable[str], own: Own = ()) -> set[str]:
    """Titles of which no term has words."""
    return {plain(title) for title in titles if plain(title) and not terms_of(title, own)}
