"""Every table of a study, column by column: the one place that says what is stored.

Unit files (Parquet) and generations (DuckDB) both have exactly these columns. Unknown is NULL. Times are UTC. Vectors
are lists of float32; text is stored as the model or the author wrote it.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 16

TEXT, INT, REAL, BOOL, TIME = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us")
VECTOR, REALS, INTS, TEXTS = pa.list_(pa.float32()), pa.list_(pa.float64()), pa.list_(pa.int64()), pa.list_(pa.string())
_IN_DUCKDB = {
    TEXT: "VARCHAR",
    INT: "BIGINT",
    REAL: "DOUBLE",
    BOOL: "BOOLEAN",
    TIME: "TIMESTAMP",
    VECTOR: "FLOAT[]",
    REALS: "DOUBLE[]",
    INTS: "BIGINT[]",
    TEXTS: "VARCHAR[]",
}


@dataclass(frozen=True)
class Filled:
    """Which stage fills a table, and the words of a page where it has not.

    `none` is said where nothing of it is there. A stage that every study runs also says `of`, SQL of the number of
    things that it is for, and `done`, of how many of them it has done; where that is fewer, and not none, the page says
    `some` with {left} and {of} put in.
    """

    stage: str
    none: str
    of: str | None = None
    done: str | None = None
    some: str | None = None


@dataclass(frozen=True)
class Table:
    """`columns` maps a name to (type, meaning); `key` is unique and is the order rows are stored in. `filled` has one
    entry for each stage whose first table this is, `since` the schema version that it came in with.
    """

    key: tuple[str, ...]
    columns: dict[str, tuple[pa.DataType, str]]
    about: str
    filled: tuple[Filled, ...] = ()
    since: int = 6  # or before

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema([(name, dtype) for name, (dtype, _) in self.columns.items()])

    @property
    def types_in_duckdb(self) -> dict[str, str]:
        return {name: _IN_DUCKDB[dtype] for name, (dtype, _) in self.columns.items()}

    @property
    def in_duckdb(self) -> str:
        """The columns of CREATE TABLE."""
        return ", ".join(f'"{name}" {dtype}' for name, dtype in self.types_in_duckdb.items())


_READ = "SELECT count(*) FROM chunks WHERE token_start IS NOT NULL"  # chunks whose tokens a model has
# Of a row of rollouts: the token cap cut it before it gave an answer, and we sampled it.
CAPPED = "kind = 'resample' AND finish = 'cap' AND answer IS NULL AND seed IS NOT NULL"
_ROLLOUT: dict[str, tuple[pa.DataType, str]] = {
    "rollout_id": (TEXT, "id"),
    "chunk_id": (TEXT, "the chunk before which it starts"),
    "cot_id": (TEXT, "of cots"),
    "kind": (TEXT, "resample, or forced (answer forced right there)"),
    "sample": (INT, "0-based"),
    "seed": (INT, "seed of this rollout's random numbers; NULL for imports"),
    "text": (TEXT, "continuation from before the chunk; NULL where only its first sentence was published"),
    "resampled_chunk": (TEXT, "its first chunk; NULL for forced"),
    "similarity": (REAL, "cosine of the sentence embeddings of chunk and resampled chunk; NULL where either is empty"),
    "answer": (TEXT, "as written; NULL where none was given (see capped_answers)"),
    "is_correct": (BOOL, "NULL where there is no answer"),
    "grader": (TEXT, "judge and version"),
    "finish": (TEXT, "eos or cap; NULL when unknown"),
    "n_tokens": (INT, "sampled tokens; NULL when unknown"),
    "n_kept": (
        INT,
        "chunks of the CoT, from this one on, that it writes token for token up to the first token of the next: of so"
        " many following chunks it is a rollout, too; NULL when unknown, or where those that start there are cut later",
    ),
    "departing_chunk": (TEXT, "where n_kept > 0: what it writes first at the last chunk that it reaches"),
    "departing_similarity": (REAL, "cosine of that and the chunk there; NULL where either is empty"),
}
# Of `backend.importance.conventions`, in their order; and values as others wrote them.
CONVENTIONS = ("jsd", "jsd_numbers", "ta", "fl", "paper", "published")
_IMPORTANCE: dict[str, tuple[pa.DataType, str]] = {
    "chunk_id": (TEXT, "of chunks"),
    "metric": (TEXT, "see docs/importance.md"),
    "convention": (TEXT, f"{', '.join(CONVENTIONS)}, or all for metrics that no convention changes"),
    "value": (REAL, "nats, a difference of accuracies, or a share; NULL where undefined"),
    "ci_low": (REAL, "95 % interval over rollouts (bootstrap; jsd: posterior); NULL where undefined or not published"),
    "ci_high": (REAL, "likewise"),
    "p": (REAL, "of a permutation of the two groups of rollouts; NULL where the metric has none or is undefined"),
    "n": (INT, "rollouts of the convention's p, or of the share, that took part"),
    "n_comparator": (
        INT,
        "rollouts of the convention's q, which p is compared with; NULL where nothing is compared",
    ),
    "written": (
        REAL,
        "what the publisher wrote where that is no value (an undefined one written as 0); NULL elsewhere",
    ),
    "reason": (TEXT, "why what was written is no value; NULL elsewhere"),
}

TABLES: dict[str, Table] = {
    "runs": Table(
        ("run_id",),
        {
            "run_id": (TEXT, "id of one command run on the study"),
            "command": (TEXT, "run, refresh, arrays, keep, or import and its format"),
            "study": (TEXT, "name of the study"),
            "started_at": (TIME, "UTC"),
            "seed": (INT, "the study's seed"),
            "parameters": (TEXT, "JSON: the whole study file as it was understood"),
            "versions": (TEXT, "JSON: Python and library versions, schema version"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
            "warnings": (TEXTS, "what an import or a stage had to leave out, in words"),
        },
        "one row a command that wrote to the study",
    ),
    "models": Table(
        ("model_id",),
        {
            "model_id": (TEXT, "id, from name, revision and dtype"),
            "name": (TEXT, "hub id, folder, or embedded:NAME"),
            "role": (TEXT, "base, distilled, or model; latent of one that thinks in latents"),
            "revision": (
                TEXT,
                (
                    "hub commit, or sha256 of the weights; BASE+ADAPTER of a merged adapter; NULL when an import does"
                    " not say"
                ),
            ),
            "dtype": (TEXT, "dtype of the forward passes that are compared; NULL when an import does not say"),
            "family": (TEXT, "transformers' model_type; NULL when unknown"),
            "n_layers": (INT, "blocks"),
            "d_model": (INT, "width of the residual stream"),
            "vocab_size": (INT, "rows of the unembedding"),
        },
        "one row a language model",
    ),
    "problems": Table(
        ("problem_id",),
        {
            "problem_id": (TEXT, "id"),
            "source": (
                TEXT,
                "generator, gsm8k, math, file, thought-anchors, seed-study, arrays (a notebook's)",
            ),
            "source_key": (TEXT, "the source's own name or number of the problem"),
            "level": (INT, "difficulty, 1 (easy) to 5; NULL when unknown"),
            "question": (TEXT, "as asked"),
            "answer": (TEXT, "ground truth"),
            "solution": (TEXT, "worked solution; NULL when none"),
            "difficulty": (
                REAL,
                "0 to 1 among the problems it was chosen from (problems.hardest); NULL where nothing was chosen",
            ),
        },
        "one row a problem",
        filled=(Filled("problems", "There are no problems.", of="SELECT 1", done="SELECT count(*) > 0 FROM problems"),),
    ),
    "cots": Table(
        ("cot_id",),
        {
            "cot_id": (TEXT, "id"),
            "problem_id": (TEXT, "of problems"),
            "model_id": (TEXT, "of models"),
            "run_id": (TEXT, "of runs"),
            "prompt_name": (TEXT, "of the prompt it was sampled under; published for imports, whatever theirs was"),
            "sample": (INT, "0-based number of the sample for this problem, model and prompt"),
            "seed": (INT, "seed of this sample's random numbers; NULL for imports"),
            "prompt": (TEXT, "everything before the CoT, chat template included"),
            "think_close": (
                TEXT,
                "the tag that closes the thought that the CoT is; NULL where it is not written between think tags",
            ),
            "text": (TEXT, "the chain of thought: exactly what its chunks tile"),
            "after_text": (TEXT, "what the model wrote after closing its thinking; NULL where it has no think tags"),
            "token_ids": (INTS, "prompt + CoT, one tokenisation; NULL where the tokenizer is not at hand"),
            "n_prompt_tokens": (INT, "tokens of the prompt"),
            "n_tokens": (INT, "tokens of the CoT"),
            "finish": (TEXT, "eos, or cap when the token cap cut it; NULL when unknown"),
            "answer": (TEXT, "answer as written; NULL where none was given, even when forced"),
            "answer_source": (TEXT, "given, forced or published"),
            "is_correct": (BOOL, "judged equal to the ground truth; NULL where there is no answer to judge"),
            "grader": (TEXT, "judge and version"),
        },
        "one row a sampled chain of thought",
        filled=(
            Filled(
                "cots",
                "No problem has a chain of thought yet.",
                of="SELECT count(*) FROM problems",
                done="SELECT count(*) FROM cots",
            ),
        ),
    ),
    "prompts": Table(
        ("prompt_name", "model_id"),
        {
            "prompt_name": (TEXT, "boxed, plain, steps, or the study's own name"),
            "model_id": (TEXT, "of models"),
            "text": (TEXT, "the user's turn; {question} stands for the question"),
            "system": (TEXT, "a system turn before it; NULL: none"),
            "worked": (BOOL, "worked examples come first, because it has them and no thought is opened"),
            "manner": (
                TEXT,
                "how a thought begins: template, opened, off, none or untemplated (backend/cot/prompts.py)",
            ),
            "settings": (
                TEXT,
                "JSON: arguments of the chat template, its name, and whether the model thinks, where they were set",
            ),
            "wording": (TEXT, "JSON: all that what is asked depends on, but the model and those settings"),
        },
        "one row a prompt and model that is asked under it",
    ),
    "problem_accuracy": Table(
        ("problem_id", "model_id", "prompt_name"),
        {
            "problem_id": (TEXT, "of problems"),
            "model_id": (TEXT, "of models"),
            "prompt_name": (TEXT, "of the prompt of these CoTs, as in cots"),
            "n": (INT, "CoTs judged"),
            "n_correct": (INT, "of them correct"),
            "accuracy": (REAL, "n_correct / n; NULL when n = 0"),
            "ci_low": (REAL, "Wilson 95 % interval"),
            "ci_high": (REAL, "Wilson 95 % interval"),
            "candidate": (BOOL, "accuracy in [0.2, 0.8] (Dawes 2025)"),
        },
        "one row a problem, model and prompt",
    ),
    "chunks": Table(
        ("chunk_id",),
        {
            "chunk_id": (TEXT, "id"),
            "cot_id": (TEXT, "of cots"),
            "chunk_index": (INT, "0-based reading order"),
            "char_start": (INT, "in the CoT's text"),
            "char_end": (INT, "exclusive; spans tile the CoT"),
            "text": (TEXT, "cot.text[char_start:char_end]"),
            "token_start": (INT, "in cots.token_ids; NULL where there are no tokens"),
            "token_end": (INT, "exclusive"),
        },
        "one row a sentence of a CoT",
        filled=(
            Filled(
                "chunks",
                "No chain of thought is cut into chunks yet.",
                of="SELECT count(*) FROM cots",
                done="SELECT count(DISTINCT cot_id) FROM chunks",
                some="{left} of {of} CoTs are not cut into chunks.",
            ),
            Filled("tokens", "No model of the study has read the imported chains of thought."),
        ),
    ),
    "categories": Table(
        ("chunk_id", "source", "rank"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "source": (TEXT, "classifier (name and version), published, or the labelling model"),
            "rank": (INT, "0 is the tag that gives the colour"),
            "category": (TEXT, "Thought Anchors' function tag"),
            "score": (REAL, "probability of the tag; NULL where the source gives none"),
        },
        "one row a chunk, source and tag",
        filled=(
            Filled(
                "categories",
                "No chunk has a category yet.",
                of="SELECT count(*) FROM chunks",
                done="SELECT count(DISTINCT chunk_id) FROM categories",
                some="{left} of {of} chunks have no category.",
            ),
        ),
    ),
    "rollouts": Table(
        ("rollout_id",),
        _ROLLOUT,
        "one row a resampled continuation",
        filled=(
            Filled(
                "rollouts",
                "Nothing has been resampled yet: no rollouts, no importance.",
                of=_READ,
                done="SELECT count(DISTINCT chunk_id) FROM rollouts",
            ),
        ),
    ),
    "added_rollouts": Table(
        ("rollout_id",),
        {**_ROLLOUT, "added_id": (TEXT, "of added: the drawing that it is of")},
        "one row a continuation that was drawn later at one chunk, from where the study's own end: as those in"
        " rollouts, among which it counts",
        since=8,
    ),
    "added": Table(
        ("added_id",),
        {
            "added_id": (TEXT, "id"),
            "created_at": (TIME, "UTC"),
            "cot_id": (TEXT, "of cots"),
            "chunk_id": (TEXT, "the chunk whose metric was to be known better"),
            "model_id": (TEXT, "of models: who wrote the CoT, and these rollouts"),
            "metric": (TEXT, "whose interval was looked at after each batch"),
            "convention": (TEXT, "of importance"),
            "half_width": (REAL, "half of the 95 % interval to stop at, in the metric's unit"),
            "stopped": (TEXT, "why it ended: narrow, most, person (who stopped it) or fault"),
            "n": (INT, "rollouts that were drawn, at the chunk and at the next one"),
            "seed": (INT, "the study's"),
            "looks": (TEXT, "JSON: the metric with its interval after each batch, of all rollouts there were then"),
            "parameters": (TEXT, "JSON: sampling, batch, most, encoder"),
            "versions": (TEXT, "JSON: Python and library versions, schema version"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
        },
        "one row a drawing of more rollouts at one chunk, kept beside the study like live runs",
        since=8,
    ),
    "capped_answers": Table(
        ("rollout_id",),
        {
            "rollout_id": (TEXT, "of rollouts or added_rollouts: one that the token cap cut before it gave an answer"),
            "chunk_id": (TEXT, "the chunk before which that starts"),
            "cot_id": (TEXT, "of cots"),
            "seed": (INT, "seed of the forced answer's random numbers"),
            "text": (TEXT, "the words that force an answer, and what the model wrote after them"),
            "answer": (TEXT, "as written; NULL where none came, even when forced"),
            "answer_source": (TEXT, "forced at the cap; NULL where there is no answer"),
            "is_correct": (BOOL, "NULL where there is no answer"),
            "grader": (TEXT, "judge and version"),
            "finish": (TEXT, "eos or cap, of the forced answer"),
            "n_tokens": (INT, "tokens sampled after the words that force"),
            "as_sampled": (
                BOOL,
                "prompt, chain and rollout, read again as one text, are as many tokens as were sampled",
            ),
        },
        "one row a rollout that was cut and then made to answer; the rollout's own row stays as it is",
        filled=(
            Filled(
                "capped_answers",
                "Rollouts that the token cap cut before they gave an answer have not been made to answer: they take no"
                " part in any accuracy.",
                of=f"SELECT count(*) FROM rollouts WHERE {CAPPED}",
                done="SELECT count(*) FROM capped_answers",
                some="{left} of {of} rollouts that were cut without an answer have not been made to answer.",
            ),
        ),
        since=8,
    ),
    "answer_clusters": Table(
        ("cot_id", "answer"),
        {
            "cot_id": (TEXT, "of cots"),
            "answer": (TEXT, "as written in one or more of the CoT's rollouts"),
            "cluster": (TEXT, "the answer that stands for all those judged equal to it: the most frequent of them"),
            "n": (INT, "rollouts of the CoT that gave it"),
            "grader": (TEXT, "judge and version"),
        },
        "one row a CoT and distinct rollout answer: which answers count as one outcome",
    ),
    "importance": Table(
        ("chunk_id", "metric", "convention"),
        _IMPORTANCE,
        "one row a chunk, metric and convention",
        filled=(
            Filled(
                "importance",
                "No chunk has an importance yet.",
                of="SELECT count(DISTINCT chunk_id) FROM rollouts WHERE answer IS NOT NULL",
                done="SELECT count(DISTINCT chunk_id) FROM importance WHERE convention <> 'published'",
                some="{left} of {of} resampled chunks with an answer have no importance.",
            ),
            Filled("resilience", "It is not known yet how often a chunk's content returns in its rollouts."),
        ),
    ),
    "importance_given": Table(
        ("chunk_id", "metric", "convention"),
        _IMPORTANCE,
        "one row a chunk, metric and convention of a CoT that has answers forced at the cap or rollouts drawn later:"
        " the metric without them",
        since=8,
    ),
    "step_importance": Table(
        ("source_chunk_id", "target_chunk_id", "convention"),
        {
            "source_chunk_id": (TEXT, "of chunks"),
            "target_chunk_id": (TEXT, "a later chunk of the same CoT"),
            "convention": (TEXT, "published, or published_suppression of attention to the source suppressed"),
            "value": (REAL, "importance of the source for the target, as its publisher scaled it"),
        },
        "one row a pair of sentences and convention",
    ),
    "influences": Table(
        ("source_chunk_id", "target_chunk_id", "model_id", "suppressed"),
        {
            "source_chunk_id": (TEXT, "of chunks: the one that is not attended to"),
            "target_chunk_id": (TEXT, "of chunks: a later one of the same CoT"),
            "model_id": (TEXT, "of models: who reads the CoT"),
            "suppressed": (TEXT, "where: all, layers A-B (0-based, both included), or head L.H"),
            "kl": (
                REAL,
                "mean over the target's tokens of KL(attention to the source's tokens suppressed ‖ base), nats, full"
                " vocabulary",
            ),
            "log_kl": (REAL, "mean over the same tokens of ln(KL + 1e-9), the form of Thought Anchors' code"),
            "n_tokens": (INT, "the target's tokens averaged"),
        },
        "one row a pair of chunks of a CoT, model that reads, and part of the model that is suppressed",
        filled=(
            Filled(
                "influence",
                "This study does not suppress attention to chunks. A study file with [influence] does.",
            ),
        ),
        since=12,
    ),
    "chunk_influences": Table(
        ("chunk_id", "model_id", "suppressed"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "model_id": (TEXT, "of models: who reads the CoT"),
            "suppressed": (TEXT, "as in influences"),
            "answer_kl": (
                REAL,
                "mean over the answer's tokens of KL with this chunk suppressed, nats; NULL where no answer follows",
            ),
            "n_answer": (INT, "the answer's tokens averaged"),
            "noise": (
                REAL,
                "mean KL over all later tokens when they are computed again the same way with nothing suppressed: what"
                " rounding alone gives; NULL where nothing follows",
            ),
            "out_influence": (REAL, "mean of kl over the later chunks; NULL for the last"),
            "in_influence": (
                REAL,
                "mean of kl over the earlier chunks, of what they do to this one; NULL for the first",
            ),
            "last_reader": (
                INT,
                "chunks from this one to the last that it moves by at least the CoT's median pair; NULL for the last,"
                " 0 where it moves none as far",
            ),
            "n_later": (INT, "later chunks averaged"),
            "n_earlier": (INT, "earlier chunks averaged"),
        },
        "one row a chunk, model that reads, and part of the model that is suppressed",
        since=12,
    ),
    "chunk_attention": Table(
        ("source_chunk_id", "target_chunk_id", "model_id"),
        {
            "source_chunk_id": (TEXT, "of chunks: the one that is attended to"),
            "target_chunk_id": (TEXT, "of chunks: a later one of the same CoT"),
            "model_id": (TEXT, "of models: who reads the CoT"),
            "attention": (
                REAL,
                "mean over layers and heads, and over the target's and the source's tokens, of the attention weight",
            ),
            "n_source": (INT, "tokens of the source"),
            "n_target": (INT, "tokens of the target"),
        },
        "one row a pair of chunks of a CoT and model that reads",
        filled=(
            Filled(
                "attention",
                "This study does not keep the attention between chunks. A study file with [influence] does.",
            ),
        ),
        since=12,
    ),
    "head_attention": Table(
        ("source_chunk_id", "target_chunk_id", "model_id"),
        {
            "source_chunk_id": (TEXT, "as in chunk_attention"),
            "target_chunk_id": (TEXT, "as in chunk_attention"),
            "model_id": (TEXT, "as in chunk_attention"),
            "by_head": (VECTOR, "the same mean of each head, n_layers · n_heads values, layer by layer"),
        },
        "one row a pair of chunks of a CoT and model that reads; the largest of these tables, often left out of a pack",
        since=12,
    ),
    "receiver_heads": Table(
        ("model_id", "layer", "head"),
        {
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "head": (INT, "0-based query head"),
            "kurtosis": (
                REAL,
                "Fisher kurtosis over chunks of the mean attention that each receives from chunks at least"
                " influence.nearest later; mean over CoTs; NULL where no CoT has one",
            ),
            "low": (REAL, "bootstrap 95 % interval over problems; NULL where there are too few"),
            "high": (REAL, "likewise"),
            "shuffled": (
                REAL,
                "the same when, at each distance, the attention that pairs of chunks get is dealt anew within the CoT;"
                " mean over deals",
            ),
            "shuffled_low": (REAL, "2.5 % quantile over deals"),
            "shuffled_high": (REAL, "97.5 % quantile over deals"),
            "placed": (
                REAL,
                "the same of the attention that place and length alone give: each pair's value is the mean of the head"
                " over other problems' pairs at such a distance, place of the source and lengths of both; NULL where"
                " there is one problem",
            ),
            "rank": (INT, "1 for the largest kurtosis of the model; NULL where it is unknown"),
            "n_cots": (INT, "CoTs averaged: those with enough chunks"),
            "n_problems": (INT, "their problems"),
        },
        "one row a model and head",
        filled=(
            Filled(
                "receivers",
                "No receiver heads are known in this study: [influence] asks for them, and CoTs of at least its"
                " `nearest` (4) and four chunks are needed.",
            ),
        ),
        since=12,
    ),
    "receiver_reliability": Table(
        ("model_id", "number"),
        {
            "model_id": (TEXT, "of models"),
            "number": (INT, "0-based, of the split of the problems into halves"),
            "spearman": (REAL, "rank correlation of the heads' kurtosis between the halves"),
            "shared": (INT, "heads among the first `top` of both halves"),
            "top": (INT, "heads looked at"),
            "by_chance": (REAL, "shared heads expected if the halves had nothing in common"),
            "n_cots_a": (INT, "CoTs of the one half"),
            "n_cots_b": (INT, "of the other"),
        },
        "one row a model and split of the study",
        since=12,
    ),
    "received_attention": Table(
        ("chunk_id", "model_id", "layer", "head"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "of receiver_heads"),
            "head": (INT, "of receiver_heads"),
            "received": (
                REAL,
                "mean attention that the chunk receives from chunks at least influence.nearest later; NULL where there"
                " is none so far away",
            ),
            "n_later": (INT, "such later chunks"),
        },
        "one row a chunk, model and head of the first ranks",
        since=12,
    ),
    "resampled_influences": Table(
        ("source_chunk_id", "target_chunk_id", "convention"),
        {
            "source_chunk_id": (TEXT, "of chunks: kept or replaced"),
            "target_chunk_id": (TEXT, "of chunks: a later one, that is looked for in what was written"),
            "convention": (TEXT, "of similarity: how a written sentence counts as like the target"),
            "kept": (REAL, "share of rollouts after the source that write a sentence like the target"),
            "replaced": (REAL, "the same of rollouts that wrote something else in the source's place"),
            "effect": (REAL, "kept − replaced"),
            "low": (REAL, "95 % interval of the effect (Newcombe's hybrid score)"),
            "high": (REAL, "likewise"),
            "p": (REAL, "two-sided, Fisher's exact test of the two shares"),
            "n_kept": (INT, "rollouts that kept the source"),
            "n_replaced": (INT, "rollouts that wrote something dissimilar"),
        },
        "one row a pair of chunks of a CoT with rollouts of both",
        filled=(
            Filled(
                "resampled_influence",
                "Whether a later sentence comes back without this one is known where rollouts are stored with their"
                " texts, and [influence] asks for it.",
            ),
        ),
        since=12,
    ),
    "influence_agreement": Table(
        ("model_id", "writer_id", "first", "second"),
        {
            "model_id": (TEXT, "of models: who reads; none where neither way has a model that reads"),
            "writer_id": (TEXT, "of models: who wrote the CoTs; all for any"),
            "first": (TEXT, "suppression, attention, resampling, published or published_suppression"),
            "second": (TEXT, "another of these"),
            "spearman": (REAL, "rank correlation over the pairs of a CoT, mean over CoTs"),
            "low": (REAL, "bootstrap 95 % interval over problems; NULL where there are too few"),
            "high": (REAL, "likewise"),
            "at_distance": (
                REAL,
                "mean of what remains when, at each distance, the pairs of a CoT are dealt anew: what distance alone"
                " gives",
            ),
            "p": (REAL, "one-sided, of that null"),
            "n_cots": (INT, "CoTs with at least 6 pairs known to both"),
            "n_problems": (INT, "their problems"),
            "n_pairs": (INT, "pairs of chunks"),
        },
        "one row a reading model, writer and two ways to the same question",
        filled=(
            Filled(
                "influence_agreement",
                "The ways to influence are not set against each other in this study: [influence] asks for it.",
            ),
        ),
        since=12,
    ),
    "activations": Table(
        ("chunk_id", "model_id", "layer"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "model_id": (TEXT, "whose residual stream"),
            "layer": (INT, "0-based block whose output it is"),
            "vector": (VECTOR, "mean residual stream over the chunk's tokens, d_model values"),
            "rms": (REAL, "root mean square of the residual stream, averaged over the chunk's tokens"),
            "n_tokens": (INT, "tokens averaged"),
        },
        "one row a chunk and layer",
        filled=(
            Filled(
                "activations",
                "This study has no activations yet.",
                of=_READ,
                done="SELECT count(DISTINCT chunk_id) FROM activations",
                some="{left} of {of} chunks have no activation.",
            ),
        ),
    ),
    "reference_chunks": Table(
        ("reference_id", "chunk_id"),
        {
            "reference_id": (TEXT, "of what is in the set"),
            "model_id": (TEXT, "of models: who reads the chunks"),
            "name": (TEXT, "the set's name: sweep.reference of the study file"),
            "convention": (
                TEXT,
                "of importance: the importance by which the set's anchors are chosen; NULL: none was known",
            ),
            "chunk_id": (TEXT, "of chunks: one of those that study-wide means and tangents are made of"),
            "steered": (
                BOOL,
                "importance of its CoT was known when the set was frozen: anchors and the rest are taken from these",
            ),
        },
        "one row a chunk of a reference set, frozen when directions are first made",
        filled=(Filled("reference", "No set of chunks is frozen yet for directions to rest on."),),
        since=7,
    ),
    "references_in_use": Table(
        ("model_id",),
        {
            "model_id": (TEXT, "of models"),
            "reference_id": (TEXT, "of reference_chunks: the set that the model's directions rest on"),
        },
        "one row a model that reads what is steered",
        since=7,
    ),
    "maps": Table(
        ("model_id", "layer", "method"),
        {
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "method": (TEXT, "umap_2d, umap_3d or pca_3d"),
            "n": (INT, "chunks placed"),
            "seed": (INT, "seed of the fit"),
            "parameters": (TEXT, "JSON: n_neighbors, min_dist, metric, versions, alignment"),
            "trustworthiness": (
                REAL,
                "share of neighbours that are true ones, k = 12 or fewer; NULL when n is too small",
            ),
            "explained_variance": (REALS, "PCA: share for each component; NULL for UMAP"),
        },
        "one row a fitted map",
        filled=(
            Filled(
                "maps",
                "The activations have not been mapped yet.",
                of="SELECT count(DISTINCT (model_id, layer)) FROM activations",
                done="SELECT count(DISTINCT (model_id, layer)) FROM maps",
                some="{left} of {of} layers have no map.",
            ),
        ),
    ),
    "projections": Table(
        ("chunk_id", "model_id", "layer", "method"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "method": (TEXT, "of maps"),
            "x": (REAL, "first coordinate"),
            "y": (REAL, "second coordinate"),
            "z": (REAL, "third coordinate; NULL for 2-D maps"),
        },
        "one row a chunk and map",
    ),
    "directions": Table(
        ("direction_id",),
        {
            "direction_id": (TEXT, "id"),
            "kind": (
                TEXT,
                "a kind that a study sweeps, eigen (of G at the chunk) or counterfactual; live runs: see `experiments`",
            ),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "chunk_id": (TEXT, "the chunk it was made from; NULL for directions of the whole study"),
            "norm": (REAL, "length before it was made a unit vector"),
            "vector": (VECTOR, "unit vector, d_model values"),
            "seed": (INT, "of a random direction; NULL otherwise"),
            "parameters": (TEXT, "JSON: how it was made, with counts"),
        },
        "one row a steering direction",
    ),
    "kl_curves": Table(
        ("curve_id",),
        {
            "curve_id": (TEXT, "id, from chunk, direction, layer, position and unit"),
            "chunk_id": (TEXT, "of chunks: where it is steered"),
            "direction_id": (TEXT, "of directions"),
            "kind": (TEXT, "the direction's kind"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "position": (
                TEXT,
                "anchor: the token before the chunk; chunk: every token that predicts one of the chunk's",
            ),
            "unit": (TEXT, "of beta: rms, norm or absolute"),
            "betas": (REALS, "magnitudes"),
            "kl": (REALS, "KL(steered || base), nats, mean over the chunk's tokens, one for each beta"),
            "noise_floor": (REAL, "mean KL of the same forward repeated with other padding, nats"),
            "n_tokens": (INT, "tokens averaged"),
        },
        "one row a chunk, direction, layer and position",
        filled=(
            Filled(
                "sweep",
                "No chunk has been steered, so there is no KL(β) and no steepness.",
                of=_READ,
                done="SELECT count(DISTINCT chunk_id) FROM kl_curves",
            ),
        ),
    ),
    "steepness": Table(
        ("curve_id",),
        {
            "curve_id": (TEXT, "of kl_curves"),
            "chunk_id": (TEXT, "of chunks"),
            "direction_id": (TEXT, "of directions"),
            "kind": (TEXT, "the direction's kind"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "position": (TEXT, "anchor or chunk"),
            "unit": (TEXT, "of beta"),
            "steepness": (
                REAL,
                "|a| of the least-squares a·b² + c·b + d, nats per unit beta²; NULL with fewer than 4 known points",
            ),
            "r2": (REAL, "of that fit"),
            "amplitude": (REAL, "coefficient of the pure square fit, nats per unit beta²"),
            "amplitude_r2": (REAL, "of that fit"),
            "n_betas": (INT, "known points"),
            "below_floor": (BOOL, "every point of the curve lies at or below the noise floor"),
        },
        "one row a curve",
    ),
    "experiments": Table(
        ("experiment_id",),
        {
            "experiment_id": (TEXT, "id, from the model and everything that was asked of it"),
            "kind": (TEXT, "stream, curve, continue or dose"),
            "created_at": (TIME, "UTC"),
            "cot_id": (TEXT, "of cots; NULL for a typed text"),
            "chunk_id": (TEXT, "of chunks; NULL for a typed text"),
            "model_id": (TEXT, "of the model that was steered; it need not be one of the study's"),
            "model": (TEXT, "its name"),
            "written_by": (TEXT, "name of the model that wrote the CoT; NULL for a typed text"),
            "sentence": (TEXT, "the intervention in words"),
            "layers": (INTS, "0-based blocks edited; NULL where no residual stream was"),
            "place": (TEXT, "anchor, chunk, onward or prompt; NULL likewise"),
            "operation": (TEXT, "add, replace, ablate, cap or rotate; NULL likewise"),
            "beta": (REAL, "magnitude; NULL where there are several, or none"),
            "unit": (TEXT, "of beta: rms, norm or absolute; NULL where there is none"),
            "direction_kind": (TEXT, "the direction's kind; NULL where there is none"),
            "direction": (TEXT, "JSON: how the direction was made; NULL where there is none"),
            "vector": (VECTOR, "unit vector, d_model values; NULL for edits of the text"),
            "prompt": (TEXT, "everything before the chain of thought, chat template included"),
            "text": (TEXT, "the chain of thought after the prompt that was read or continued"),
            "parameters": (TEXT, "JSON: everything else that shaped the result"),
            "seed": (INT, "seed of the sampling; NULL where nothing was sampled"),
            "results": (TEXT, "JSON: what was measured"),
            "state": (TEXT, "finished, or stopped by a person"),
            "seconds": (REAL, "time it took; NULL when unknown"),
            "versions": (TEXT, "JSON: Python and library versions, schema version"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
        },
        "one row a live steering run",
    ),
    "experiment_samples": Table(
        ("experiment_id", "arm", "beta", "sample"),
        {
            "experiment_id": (TEXT, "of experiments"),
            "arm": (
                TEXT,
                (
                    "base (as it was), changed, flipped (the sign of beta), random (a direction of the same norm);"
                    " beside a new wording same (the sentence again) and paraphrase"
                ),
            ),
            "beta": (REAL, "magnitude; NULL where the text was edited"),
            "sample": (
                INT,
                "0-based; the same number in two arms means the same random numbers; along β, number r · n + k of arm"
                " random is sample k of n under random vector r, with the random numbers of sample k",
            ),
            "seed": (INT, "seed of this sample's random numbers"),
            "text": (TEXT, "continuation"),
            "answer": (TEXT, "as written; NULL where none was given"),
            "is_correct": (BOOL, "NULL where there is no answer, or no ground truth"),
            "grader": (TEXT, "judge and version; NULL where nothing was judged"),
            "finish": (TEXT, "eos, or cap when the token cap cut it; NULL when unknown"),
            "n_tokens": (INT, "sampled tokens"),
            "reflection_words": (INT, "self-reflection words in the continuation"),
            "repetition": (REAL, "share of repeated word 4-grams; NULL for a text too short to have any"),
            "compression_ratio": (REAL, "bytes over compressed bytes; NULL for an empty text"),
        },
        "one row a sampled continuation of a live run",
    ),
    "experiment_thoughts": Table(
        ("experiment_id", "arm", "beta", "sample"),
        {
            "experiment_id": (TEXT, "of experiments"),
            "arm": (TEXT, "of experiment_samples"),
            "beta": (REAL, "of experiment_samples"),
            "sample": (INT, "of experiment_samples"),
            "n_thinking": (INT, "sampled tokens before the tag that closes the thought; all where none does"),
            "n_answer": (
                INT,
                "sampled tokens after that tag, whose own are neither; NULL where the text has no tag that says where"
                " the answer begins",
            ),
            "thought": (TEXT, "closed, open (it never ended: the lengths are bounds) or untagged"),
        },
        "one row a sampled continuation of a live run: how many of its tokens think, and how many answer; none of runs"
        " kept before version 8",
        since=8,
    ),
    "vectors": Table(
        ("vector_id",),
        {
            "vector_id": (TEXT, "id, from the values, the layer and the model"),
            "name": (TEXT, "what people call it; one vector's alone"),
            "created_at": (TIME, "when it was kept; UTC"),
            "model_id": (TEXT, "of the model that it was kept for; it need not be one of the study's"),
            "model": (TEXT, "its name"),
            "revision": (TEXT, "of the model, as in models; NULL when unknown"),
            "layer": (INT, "0-based block whose output it is of"),
            "norm": (REAL, "length of the vector"),
            "vector": (VECTOR, "as it was given, of any length, d_model values; steered along as a unit vector"),
            "sha256": (TEXT, "of the vector's float32 values, little-endian"),
            "kind": (TEXT, "how it was made: a kind of direction; file where it was uploaded"),
            "made": (TEXT, "JSON: how it was made, in words and by its parameters; of a file its name, key and sha256"),
        },
        "one row a vector of the study's library",
        since=8,
    ),
    "vector_audits": Table(
        ("audit_id",),
        {
            "audit_id": (TEXT, "id, from the vector, the model and everything that was asked of it"),
            "vector_id": (TEXT, "of vectors"),
            "created_at": (TIME, "UTC"),
            "model_id": (TEXT, "of the model that was steered"),
            "model": (TEXT, "its name"),
            "parameters": (TEXT, "JSON: everything else that shaped the result, seeds and ids included"),
            "results": (TEXT, "JSON: what was measured, chunk by chunk and text by text"),
            "state": (TEXT, "finished, or stopped by a person"),
            "seconds": (REAL, "time it took; NULL when unknown"),
            "versions": (TEXT, "JSON: Python and library versions, schema version"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
        },
        "one row an audit of a vector: its KL beside random vectors of its norm, or what it does to lengths and loops",
        since=8,
    ),
    "typed_texts": Table(
        ("text_id",),
        {
            "text_id": (TEXT, "id, from the text"),
            "text": (TEXT, "what somebody typed, too long for a link, which names it by its id"),
            "created_at": (TIME, "UTC"),
        },
        "one row a typed text that links of the dashboard name",
        since=8,
    ),
    "training_runs": Table(
        ("training_id",),
        {
            "training_id": (
                TEXT,
                "id, from the trained model and the record of its training, or a dictionary's settings and texts",
            ),
            "model_id": (TEXT, "of models: what was trained; NULL for a dictionary of their activations"),
            "kind": (
                TEXT,
                "lora: a low-rank adapter of a language model; crosscoder, or sae of one model: a dictionary",
            ),
            "base": (TEXT, "name of the model it was trained from; NULL if none"),
            "started_at": (TIME, "UTC; NULL when unknown"),
            "seconds": (REAL, "time it took, or has taken so far; NULL when unknown"),
            "seed": (INT, "seed of the training; NULL when unknown"),
            "parameters": (TEXT, "JSON: the recipe, and all else that the record says of how it was done"),
            "n_tokens": (INT, "tokens seen so far, without padding; one seen twice counts twice"),
            "n_weights": (INT, "weights that learned"),
            "versions": (TEXT, "JSON: Python and library versions"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
        },
        "one row a training of a model or of a dictionary, finished or not",
        filled=(Filled("training", "No model was trained for this study."),),
    ),
    "training_metrics": Table(
        ("training_id", "metric", "step"),
        {
            "training_id": (TEXT, "of training_runs"),
            "metric": (
                TEXT,
                (
                    "loss (of lora: nats per completion token; of a dictionary: squared error of scaled activations,"
                    " and the penalty) or learning_rate; of a dictionary also l0, dead_share, variance_explained_base"
                    " and variance_explained_distilled"
                ),
            ),
            "step": (INT, "1-based"),
            "tokens": (INT, "tokens seen so far, this step's among them, without padding"),
            "value": (REAL, "of this step alone; NULL where unknown"),
        },
        "one row a step of a training and metric",
    ),
    "dictionaries": Table(
        ("dictionary_id",),
        {
            "dictionary_id": (TEXT, "id, from weights and rule: the same however the dictionary came here"),
            "kind": (TEXT, "l1, batchtopk, relu, topk, jumprelu or linear"),
            "base_model_id": (TEXT, "of models: the base model, or the only one"),
            "distilled_model_id": (TEXT, "of models; NULL for a sparse autoencoder of one model"),
            "layer": (INT, "0-based block whose output it reads"),
            "n_features": (INT, "features"),
            "d_model": (INT, "width of the residual stream; NULL where its models have different ones"),
            "k": (INT, "codes a token; NULL where its rule fixes no number"),
            "scale": (REALS, "one for each model: activations are multiplied by it before they are encoded"),
            "source": (TEXT, "trained, or the layout of the file that it was read from"),
            "training_id": (TEXT, "of training_runs; NULL for one that was read from a file"),
            "n_tokens": (INT, "tokens it was trained on, each counted once; NULL when unknown"),
            "sha256": (TEXT, "of its weights: dictionaries/ID/dictionary.safetensors, in the study's folder"),
            "parameters": (TEXT, "JSON: settings, texts, or what its file says"),
        },
        "one row a crosscoder of two models, or a sparse autoencoder of one",
        filled=(Filled("crosscoder", "This study has no dictionary of activations yet."),),
    ),
    "dictionary_fits": Table(
        ("dictionary_id", "model_id"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "model_id": (TEXT, "of models"),
            "n_tokens": (INT, "tokens of the study's CoTs, without their prompts"),
            "variance_explained": (REAL, "1 − Σ‖a − â‖² / Σ‖a − mean‖² over these tokens"),
            "mean": (VECTOR, "mean residual stream of these tokens, d_model values: what mean ablation puts in"),
        },
        "one row a dictionary and model: how well it reconstructs the activations of the study's CoTs",
    ),
    "saes": Table(
        ("sae_id",),
        {
            "sae_id": (TEXT, "id, from the settings and all that it was trained on"),
            "model_id": (TEXT, "of models: whose layer it is; of random_weights, the first of that architecture"),
            "layer": (INT, "0-based block whose output it reads"),
            "seed": (INT, "of its first weights and the order of batches"),
            "trained_on": (TEXT, "model, gaussian or random_weights (backend/feature_geometry/trained_on.py)"),
            "n_features": (INT, "features"),
            "k": (INT, "codes a token"),
            "tokens": (INT, "that it learned from, repetitions counted"),
            "distinct_tokens": (INT, "of them, different ones"),
            "held_out_tokens": (INT, "of problems that nothing was learned from, on which the next three are measured"),
            "variance_explained": (REAL, "1 − Σ‖a − â‖² / Σ‖a − mean‖²"),
            "l0": (REAL, "features that fire on a token, mean"),
            "dead": (REAL, "share of the features that fire on none of the held-out tokens"),
            "dictionary_id": (TEXT, "of its weights, as of dictionaries"),
            "path": (TEXT, "dictionaries/ID in the study's folder; NAME.dictionaries/ID beside a portable file"),
            "sha256": (TEXT, "of its weights; they may be missing: a pack has the rows alone"),
            "parameters": (TEXT, "JSON: settings, texts, versions, seconds"),
        },
        "one row a small TopK autoencoder of a layer, or of a cloud that stands in for its activations",
        filled=(
            Filled(
                "saes",
                "No small autoencoder was trained at the layers of this study's models, nor on clouds that stand in for"
                " them.",
            ),
        ),
        since=11,
    ),
    "sae_features": Table(
        ("sae_id", "feature"),
        {
            "sae_id": (TEXT, "of saes"),
            "feature": (INT, "row of the decoder"),
            "frequency": (REAL, "share of the held-out tokens on which it fires"),
        },
        "one row a feature of a small autoencoder",
        since=11,
    ),
    "sae_tails": Table(
        ("sae_id", "rows", "exceedance"),
        {
            "sae_id": (TEXT, "of saes"),
            "rows": (TEXT, "all; live: those that fire on a held-out token; distinct: of live, no duplicates"),
            "exceedance": (REAL, "share of isotropic pairs whose |cosine| is above the threshold"),
            "threshold": (REAL, "|cosine|, by the exact law at the rows' width"),
            "n_rows": (INT, "decoder rows"),
            "n_pairs": (INT, "pairs of them"),
            "share": (REAL, "of the pairs whose |cosine| is above it; NULL without pairs"),
        },
        "one row a small autoencoder, choice of rows and exceedance",
        since=11,
    ),
    "spliced_losses": Table(
        ("dictionary_id", "cot_id", "model_id"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "cot_id": (TEXT, "of cots"),
            "model_id": (TEXT, "of models: the one that reads the CoT, be it its writer or not"),
            "n_tokens": (INT, "tokens of the CoT, prompt left out: those that are predicted"),
            "loss": (REAL, "of the model as it is: nats a token, float32 forward"),
            "loss_spliced": (
                REAL,
                "with the reconstruction in place of the residual stream, at every token but the prompt's first",
            ),
            "loss_zeroed": (REAL, "with zero in its place there"),
            "loss_averaged": (REAL, "with dictionary_fits.mean in its place there"),
        },
        "one row a dictionary, model and CoT, of those drawn: next-token losses with the reconstruction spliced in, and"
        " the two baselines",
        filled=(
            Filled(
                "splices", "It is not known yet what the models lose when they read this dictionary's reconstruction."
            ),
        ),
    ),
    "features": Table(
        ("dictionary_id", "feature"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "feature": (INT, "0-based"),
            "norm_base_l1": (REAL, "L1 norm of its decoder row of the base model"),
            "norm_distilled_l1": (
                REAL,
                "of the distilled model; NULL for a sparse autoencoder, like all that compares two models",
            ),
            "norm_base_l2": (REAL, "L2 norm"),
            "norm_distilled_l2": (REAL, "L2 norm"),
            "rdn_l1": (
                REAL,
                "distilled norm over base norm, L1; infinite where the base row is zero, NULL where both are",
            ),
            "rdn_l2": (REAL, "likewise, L2"),
            "nrn_l1": (REAL, "RDN / (1 + RDN), L1: 0 base only, 0.5 shared, 1 distilled only"),
            "nrn_l2": (REAL, "likewise, L2"),
            "decoder_cosine": (REAL, "between its two rows; NULL where one is zero, or the models' widths differ"),
            "nu_eps": (REAL, "latent scaling of the error, base over distilled; NULL where nothing was measured"),
            "nu_r": (REAL, "latent scaling of the reconstruction, likewise"),
            "class": (
                TEXT,
                (
                    "base only, shared, distilled only or suspect, by nrn_l2 (of models of unequal width by the NRN of"
                    " norms over √width) and latent scaling; NULL where it cannot be known"
                ),
            ),
            "frequency": (
                REAL,
                (
                    "share of the tokens of dictionary_fits on which it fires: its code is not 0, or in a linear"
                    " dictionary beyond the threshold that dictionaries.parameters says"
                ),
            ),
            "mean_activation": (
                REAL,
                "size of the code, mean over the tokens on which it fires; NULL where there are none",
            ),
            "max_activation": (REAL, "largest size of a code; NULL likewise"),
            "top_category": (
                TEXT,
                "function tag on which it fires most, relative to how often it fires; NULL where it fires too rarely",
            ),
            "top_category_lift": (REAL, "frequency on chunks of that tag over its frequency on all tagged chunks"),
        },
        "one row a feature, measured on the study's CoTs without their prompts",
        filled=(Filled("features", "Its features have not been measured yet."),),
    ),
    "null_dictionaries": Table(
        ("null_id",),
        {
            "null_id": (TEXT, "id, from the dictionary that it stands beside, its kind and its number"),
            "dictionary_id": (TEXT, "of dictionaries: trained with the same settings, on the same tokens"),
            "null": (TEXT, "same, noise, frozen_encoder, frozen_decoder or planted"),
            "number": (INT, "0-based, of its kind"),
            "seed": (INT, "of its first weights, the order of batches, and what is drawn; number 0 has the study's"),
            "n_features": (INT, "features"),
            "n_tokens": (INT, "tokens it was trained on, each counted once"),
            "n_judged": (INT, "tokens of the study's CoTs, without their prompts, on which it is measured"),
            "variance_explained_base": (REAL, "of the base model's activations there"),
            "variance_explained_distilled": (REAL, "of what stands in the distilled model's place"),
            "l0": (REAL, "features that fire on a token, mean"),
            "dead_share": (REAL, "features that fire on none of these tokens"),
            "parameters": (TEXT, "JSON: settings, texts, seconds"),
        },
        "one row a null of a crosscoder: the same training where it is known what there is to be found",
        filled=(Filled("null_pairs", "No null pair was trained beside this dictionary."),),
        since=13,
    ),
    "null_features": Table(
        ("null_id", "feature"),
        {
            "null_id": (TEXT, "of null_dictionaries"),
            "feature": (INT, "0-based"),
            "nrn_l1": (REAL, "as of features; NULL where both rows are zero"),
            "nrn_l2": (REAL, "likewise, L2"),
            "nu_eps": (REAL, "as of features"),
            "nu_r": (REAL, "as of features"),
            "class": (TEXT, "as of features"),
            "frequency": (REAL, "share of null_dictionaries.n_judged tokens on which it fires; 0: dead"),
            "top_category": (TEXT, "as of features"),
            "top_category_lift": (REAL, "as of features"),
            "peak_share": (
                REAL,
                "of the tokens on which it fires most, at most 20, those that are its commonest; NULL where it is dead",
            ),
        },
        "one row a feature of a null",
        since=13,
    ),
    "planted_directions": Table(
        ("null_id", "direction"),
        {
            "null_id": (TEXT, "of null_dictionaries"),
            "direction": (INT, "0-based"),
            "strength": (REAL, "its length, in mean norms of (distilled − base) over the learned tokens"),
            "share": (REAL, "of the tokens, chosen by text and position, on which it is added to the second model"),
            "feature": (INT, "of null_features: the live one whose second row is nearest; NULL where none is live"),
            "cosine": (REAL, "between that row and the direction"),
        },
        "one row a direction that was planted",
        since=13,
    ),
    "null_categories": Table(
        ("null_id", "feature", "scheme", "category"),
        {
            "null_id": (TEXT, "of null_dictionaries"),
            "feature": (INT, "of null_features"),
            "scheme": (TEXT, "reasoning or before_reasoning, as in feature_categories"),
            "category": (TEXT, "self-reflection, deductive, alternative or contrastive"),
            "n_tokens": (INT, "tokens of the category"),
            "n_fired": (INT, "of them, those on which the feature fires; above 0"),
        },
        "one row a feature of a null and reasoning category on whose tokens it fires; of planted ones there are none",
        filled=(
            Filled(
                "null_evidence",
                "What the features of this dictionary's nulls fire on and would be called is not known yet.",
            ),
        ),
        since=15,
    ),
    "null_peaks": Table(
        ("null_id", "feature"),
        {
            "null_id": (TEXT, "of null_dictionaries: a frozen decoder"),
            "feature": (INT, "of null_features"),
            "tokens": (TEXTS, "texts of the tokens on which it fires most, the commonest first, at most 5"),
            "counts": (INTS, "how many of its examples each of them is"),
            "n_examples": (INT, "its strongest tokens, at most 20, chosen as those of feature_examples"),
            "promoted": (TEXTS, "texts of the 5 tokens that its row promotes most in the distilled model"),
        },
        "one row a feature of a frozen decoder that fires: what a suggested name is made of",
        since=15,
    ),
    "feature_categories": Table(
        ("dictionary_id", "feature", "scheme", "category"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "feature": (INT, "of features"),
            "scheme": (
                TEXT,
                (
                    "function: tokens of chunks by their first tag; reasoning: first tokens of a reasoning category's"
                    " target words; before_reasoning: the tokens that predict those"
                ),
            ),
            "category": (TEXT, "function tag, or self-reflection, deductive, alternative or contrastive"),
            "n_tokens": (INT, "tokens of the category"),
            "n_fired": (INT, "of them, those on which the feature fires"),
            "frequency": (REAL, "n_fired / n_tokens"),
            "mean_activation": (REAL, "size of the code, mean over those on which it fires; NULL where there are none"),
        },
        "one row a feature that fires at all, and category that has tokens",
    ),
    "feature_examples": Table(
        ("dictionary_id", "feature", "rank"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "feature": (INT, "of features"),
            "rank": (INT, "0 is the largest code, of a linear dictionary by its size"),
            "cot_id": (TEXT, "of cots; the strongest tokens of different CoTs come before second ones of the same"),
            "chunk_id": (TEXT, "of chunks: the chunk of the token; NULL where no chunk has it"),
            "position": (INT, "the token, in cots.token_ids"),
            "activation": (REAL, "code"),
            "contribution_base": (
                REAL,
                "norm of what it adds to the reconstruction of the base model, in units of the residual stream",
            ),
            "contribution_distilled": (REAL, "likewise; NULL for a sparse autoencoder"),
            "window_start": (INT, "first token of the window, in cots.token_ids"),
            "window_values": (VECTOR, "the feature's code at each token of the window"),
        },
        "one row a feature and token on which it fires strongly",
    ),
    "feature_logits": Table(
        ("dictionary_id", "feature", "model_id", "side", "rank"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "feature": (INT, "of features"),
            "model_id": (TEXT, "of models"),
            "side": (TEXT, "top: most promoted, or bottom: most suppressed"),
            "rank": (INT, "0 is the strongest"),
            "token_id": (INT, "in the model's vocabulary"),
            "token": (TEXT, "its text"),
            "effect": (
                REAL,
                "decoder row in units of the residual stream, times the final norm's weight, times the unembedding",
            ),
        },
        "one row a feature, model and token that it promotes or suppresses when it writes straight to the logits",
    ),
    "feature_neighbours": Table(
        ("dictionary_id", "feature", "model_id", "rank"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "feature": (INT, "of features"),
            "model_id": (TEXT, "of models: whose decoder rows are compared"),
            "rank": (INT, "0 is the nearest"),
            "neighbour": (INT, "of features"),
            "cosine": (REAL, "of the two decoder rows"),
        },
        "one row a feature, model and near feature; none where the row is zero",
    ),
    "feature_histograms": Table(
        ("dictionary_id", "feature"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "feature": (INT, "of features"),
            "edges": (REALS, "of the bins, from 0 (of a linear dictionary from minus it) to max_activation"),
            "counts": (INTS, "tokens in each bin; the last has its upper edge too"),
        },
        "one row a feature that fires at all: its codes when it fires",
    ),
    "cot_codes": Table(
        ("dictionary_id", "cot_id"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "cot_id": (TEXT, "of cots"),
            "tokens": (TEXTS, "text of each token of cots.token_ids; joined they are prompt + CoT"),
            "positions": (INTS, "of the tokens, in cots.token_ids, one for each code that is not 0; rising"),
            "features": (INTS, "of features, one for each code"),
            "codes": (VECTOR, "activation of the feature at the token"),
        },
        "one row a dictionary and CoT: the codes of all its tokens, prompt included, but the first, both models reading"
        " the same tokens",
        filled=(Filled("codes", "This chain of thought has no codes of this dictionary yet."),),
    ),
    "feature_interventions": Table(
        ("intervention_id",),
        {
            "intervention_id": (TEXT, "id, from all that was asked"),
            "dictionary_id": (TEXT, "of dictionaries"),
            "created_at": (TIME, "UTC: when it was asked for"),
            "sentence": (TEXT, "the change in words"),
            "operation": (TEXT, "zero, scale, steer, patch or reconstruct"),
            "features": (INTS, "of features: those that are changed; none for reconstruct"),
            "chosen_by": (TEXT, "how the features were chosen, in words"),
            "factor": (REAL, "of scale; NULL for the others"),
            "beta": (REAL, "of steer, in units of the code; NULL for the others"),
            "keep_error": (
                BOOL,
                "whether the dictionary's error stays in; else the reconstruction replaces the residual stream",
            ),
            "problems": (TEXTS, "of problems: those that the models solve"),
            "n_samples": (INT, "samples a problem, arm and model"),
            "seed": (INT, "of the samples' random numbers, and of the random features"),
            "parameters": (TEXT, "JSON: sampling, and everything else that shaped the result"),
            "versions": (TEXT, "JSON: Python and library versions, schema version"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
        },
        "one row a change of features whose effect on accuracy was asked for, be its samples there already or not",
        filled=(Filled("interventions", "Nothing was asked of this dictionary yet: the page Interventions asks."),),
    ),
    "feature_intervention_arms": Table(
        ("intervention_id", "model_id", "arm"),
        {
            "intervention_id": (TEXT, "of feature_interventions"),
            "model_id": (TEXT, "of models: the one that is changed, and solves the problems"),
            "arm": (
                TEXT,
                (
                    "base (no edit), changed, reconstruct, random (the change on other features that fire about as"
                    " often), or twin (on features of the dictionary's frozen-decoder twin that do)"
                ),
            ),
            "arm_id": (
                TEXT,
                "of feature_intervention_samples; equal arms of several interventions have one id and are sampled once",
            ),
            "feature_sets": (
                TEXT,
                "JSON: lists of changed features, taken in turn by samples; none for base, one empty for reconstruct",
            ),
            "null_id": (TEXT, "of null_dictionaries: whose features a twin arm's are; NULL for the others"),
        },
        "one row an intervention, model and arm",
    ),
    "feature_intervention_samples": Table(
        ("arm_id", "problem_id", "sample"),
        {
            "arm_id": (TEXT, "of feature_intervention_arms"),
            "problem_id": (TEXT, "of problems"),
            "sample": (
                INT,
                "0-based; the same number of a problem means the same random numbers in every arm and in both models",
            ),
            "model_id": (TEXT, "of models"),
            "seed": (INT, "seed of this sample's random numbers"),
            "features": (INTS, "of features, in a twin arm of null_features: those that were changed in it"),
            "text": (TEXT, "all that the model wrote after the prompt"),
            "answer": (TEXT, "as written; NULL where none was given"),
            "is_correct": (
                BOOL,
                "judged equal to the ground truth; NULL where there is no answer, or it could not be judged",
            ),
            "grader": (TEXT, "judge and version; NULL where nothing was judged"),
            "finish": (TEXT, "eos, or cap when the token cap cut it"),
            "n_tokens": (INT, "sampled tokens"),
            "reflection_words": (INT, "self-reflection words in the text"),
            "repetition": (REAL, "share of repeated word 4-grams; NULL for a text too short to have any"),
            "compression_ratio": (REAL, "bytes over compressed bytes; NULL for an empty text"),
            "degenerate": (BOOL, "whether the text ends in a loop"),
        },
        "one row a sampled solution under an arm",
    ),
    "feature_intervention_thoughts": Table(
        ("arm_id", "problem_id", "sample"),
        {
            "arm_id": (TEXT, "of feature_intervention_arms"),
            "problem_id": (TEXT, "of problems"),
            "sample": (INT, "of feature_intervention_samples"),
            "n_thinking": (INT, "sampled tokens before the tag that closes the thought; all where none does"),
            "n_answer": (
                INT,
                "sampled tokens after that tag, whose own are neither; NULL where the text has no tag that says where"
                " the answer begins",
            ),
            "thought": (TEXT, "closed, open (it never ended: the lengths are bounds) or untagged"),
        },
        "one row a sampled solution under an arm: how many of its tokens think, and how many answer; none of samples"
        " kept before version 8",
        since=8,
    ),
    "feature_ablations": Table(
        ("dictionary_id", "model_id", "category", "scheme", "nrn_above", "top_percent", "control", "measure"),
        {
            "dictionary_id": (TEXT, "of dictionaries"),
            "model_id": (TEXT, "of models: the one whose features are zeroed and whose target tokens are looked at"),
            "category": (
                TEXT,
                (
                    "self-reflection, deductive, alternative or contrastive: whose target words' first tokens are"
                    " looked at"
                ),
            ),
            "scheme": (
                TEXT,
                "whose firing frequency ranks the features: reasoning or before_reasoning, as in feature_categories",
            ),
            "nrn_above": (REAL, "t: features with nrn_l1 above it are zeroed"),
            "top_percent": (
                REAL,
                "k: and among so many % of all features by that frequency, those that never fire there left out",
            ),
            "control": (
                TEXT,
                "features, or random: as many others in their place that fire about as often on the study's CoTs",
            ),
            "measure": (TEXT, "logit, or log_probability in nats: of the target token"),
            "n_features": (INT, "zeroed at once, at every token but the first, the reconstruction's error kept"),
            "features": (INTS, "which; NULL for random, where they differ from CoT to CoT"),
            "n_targets": (INT, "target tokens"),
            "n_cots": (INT, "CoTs that they are in"),
            "n_problems": (INT, "problems of these CoTs"),
            "before": (REAL, "measure without the ablation, mean over targets"),
            "effect": (REAL, "measure with it less without, mean over targets; NULL where there is no such feature"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems, and over sets of random; NULL for fewer than two"),
            "ci_high": (REAL, "likewise"),
            "frequency": (REAL, "mean over the zeroed features of features.frequency; NULL where there are none"),
            "removed": (
                REAL,
                "mean over tokens of ‖what is taken out‖ / ‖residual stream‖, and then over CoTs; NULL likewise",
            ),
            "seed": (INT, "of the draws of targets, sets and intervals"),
            "parameters": (TEXT, "JSON: layer, most targets, most of a CoT, sets of random, bootstrap draws"),
        },
        "one row a model of the pair, reasoning category, choice of features, control and measure: the ablation effect",
        filled=(
            Filled(
                "ablations", "No features have been zeroed yet, so what the target words lose without them is unknown."
            ),
        ),
    ),
    "fisher": Table(
        ("curve_id",),
        {
            "curve_id": (TEXT, "id, as in kl_curves, whether or not the curve was swept"),
            "chunk_id": (TEXT, "of chunks: where it is steered"),
            "direction_id": (TEXT, "of directions"),
            "kind": (TEXT, "the direction's kind"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "position": (TEXT, "anchor or chunk, as in kl_curves"),
            "unit": (TEXT, "of beta: rms, norm or absolute"),
            "fisher_steepness": (
                REAL,
                "½·vᵀGv times the unit's size squared, nats per unit beta²: the limit of KL(β)/β² as β → 0, no fit",
            ),
            "n_tokens": (INT, "tokens averaged"),
        },
        "one row a chunk, direction, layer and position: the exact steepness at β = 0",
        filled=(
            Filled(
                "geometry",
                "Exact geometry has not been computed for this study: Fisher steepness, tr(G)/2d,"
                " eigenvalues, dimension, before and after are unknown. Put a table [geometry] into the"
                " study file, and run it:",
            ),
        ),
    ),
    "local_geometry": Table(
        ("chunk_id", "model_id", "layer", "position", "unit"),
        {
            "chunk_id": (TEXT, "of chunks: where it is steered"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "position": (TEXT, "anchor or chunk, as in kl_curves"),
            "unit": (
                TEXT,
                "of beta; G below holds the unit's size squared: β along a unit vector v costs ½·β²·vᵀGv nats",
            ),
            "isotropic_steepness": (
                REAL,
                "tr(G)/2d by Hutchinson's estimator: the mean of ½·vᵀGv over directions, nats per unit beta²",
            ),
            "isotropic_se": (REAL, "its standard error over the probes"),
            "n_probes": (INT, "random probes of the trace"),
            "eigenvalues": (
                REALS,
                "leading eigenvalues of G, largest first; NULL where they were not asked for at this chunk",
            ),
            "eigen_residual": (REAL, "largest ‖Gv − λv‖ / λ₁ over the eigenpairs kept; NULL likewise"),
            "participation_ratio": (REAL, "(Σλ)²/Σλ² of G, by Hutchinson; NULL where unknown"),
            "participation_se": (REAL, "its standard error (jackknife over the probes); NULL likewise"),
            "on_manifold_steepness": (
                REAL,
                "mean of ½·vᵀGv over the leading tangents of the nearest chunks; NULL where there are too few",
            ),
            "off_manifold_steepness": (
                REAL,
                "mean over as many random directions orthogonal to those tangents; NULL likewise",
            ),
            "n_tangents": (INT, "tangents averaged; NULL likewise"),
            "epsilons": (
                REALS,
                "magnitudes of the finite steps along random directions; NULL where they were not made at this chunk",
            ),
            "random_kl": (REALS, "mean over the random directions of KL, nats, one for each magnitude; NULL likewise"),
            "random_cv": (
                REALS,
                (
                    "coefficient of variation of the directional KLs, likewise; NULL where the mean is below the noise"
                    " floor"
                ),
            ),
            "n_random": (INT, "random directions of the finite steps; NULL likewise"),
            "anisotropy_ratio": (
                REAL,
                "largest over smallest directional KL at magnitude 1; NULL where the latter is below the floor",
            ),
            "n_below_floor": (
                INT,
                "random directions whose KL at magnitude 1 is at or below the noise floor; NULL likewise",
            ),
            "noise_floor": (REAL, "as in kl_curves, nats; NULL likewise"),
            "entropy": (
                REAL,
                "of the unsteered predictions of the chunk's tokens, nats, mean over them; NULL where there are none",
            ),
            "n_tokens": (INT, "tokens averaged"),
            "seed": (INT, "of the probes and random directions"),
        },
        "one row a chunk, layer and position: what can be said of G without choosing a direction",
    ),
    "random_steps": Table(
        ("chunk_id", "model_id", "layer", "position", "unit"),
        {
            "chunk_id": (TEXT, "of chunks: where it is steered"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "position": (TEXT, "anchor or chunk, as in kl_curves"),
            "unit": (TEXT, "of the magnitudes: rms, norm or absolute"),
            "epsilons": (REALS, "magnitudes of the steps; NULL where the chunk has no tokens"),
            "random_kl": (REALS, "mean over the random directions of KL, nats, one for each magnitude; NULL likewise"),
            "random_cv": (
                REALS,
                "coefficient of variation of the directional KLs; NULL where the mean is at or below the noise floor",
            ),
            "kl_at_1": (REALS, "KL at magnitude 1, nats, one for each direction in the order of their numbers"),
            "n_random": (INT, "random directions"),
            "n_below_floor": (INT, "of them, those whose KL at magnitude 1 is at or below the noise floor"),
            "anisotropy_ratio": (
                REAL,
                "largest over smallest KL at magnitude 1; NULL where the latter is at or below the floor",
            ),
            "noise_floor": (REAL, "as in kl_curves, nats; NULL likewise"),
            "n_tokens": (INT, "tokens averaged"),
            "seed": (INT, "from which, with chunk, layer, position and number, each direction's own follows"),
        },
        "one row a chunk, layer and position: finite steps along random directions, its own",
        filled=(
            Filled(
                "random_steps",
                "No finite steps along random directions have been made at every chunk. Put a table [random_steps]"
                " into the study file where it has none, and run it:",
            ),
        ),
        since=8,
    ),
    "pullback_parts": Table(
        ("model_id", "layer", "part"),
        {
            "model_id": (TEXT, "of models: whose metric it is"),
            "layer": (INT, "0-based block, at whose output the step is made"),
            "part": (TEXT, "the half, and the number of a block of its chunks"),
            "half": (TEXT, "a or b: no problem is in both"),
            "chunk_ids": (TEXTS, "of chunks: whose metrics are summed"),
            "position": (TEXT, "anchor or chunk, as in kl_curves"),
            "unit": (TEXT, "of the step: rms, norm or absolute"),
        },
        "one row a block of chunks whose exact metrics are summed",
        filled=(
            Filled(
                "pullback",
                "The exact metric has not been averaged over chunks, so that pull-back cosines are not known. Put a"
                " table [pullback] into the study file where it has none, and run it:",
            ),
        ),
        since=11,
    ),
    "pullback_rows": Table(
        ("model_id", "layer", "part", "row"),
        {
            "model_id": (TEXT, "of models"),
            "layer": (INT, "as in pullback_parts"),
            "part": (TEXT, "as in pullback_parts"),
            "row": (INT, "coordinate of the residual stream, from 0"),
            "sums": (VECTOR, "that row of the sum of the chunks' metrics: nats per unit² twice over, as KL is ½·vᵀGv"),
        },
        "one row a coordinate of each summed metric",
        since=11,
    ),
    "pullback_sets": Table(
        ("set_id",),
        {
            "set_id": (TEXT, "id"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block whose output the rows are added to, and the metric is taken at"),
            "kind": (TEXT, "kind of set: mlp_out, attention_out or dictionary"),
            "dictionary_id": (TEXT, "of dictionaries; NULL for the model's own rows"),
            "n_rows": (INT, "rows compared"),
            "n_left_out": (INT, "rows without a length, or beyond the most that are compared"),
            "n_chunks": (INT, "chunks that the metric is averaged over"),
            "participation_ratio": (REAL, "(tr Ḡ)² / tr Ḡ²: how many directions share the metric"),
            "error_of_halves": (REAL, "‖Ḡ_a − Ḡ_b‖ / 2‖Ḡ‖ (Frobenius), a and b being the halves"),
            "correlation_of_halves": (
                REAL,
                "of pull-back cosines of drawn pairs under the one half's metric and the other's",
            ),
            "difference_of_halves": (REAL, "root mean square of the difference of these"),
            "cosine_small": (REAL, "median of |cosine| of isotropic pairs, exact"),
            "cosine_large": (REAL, "what |cosine| of one isotropic pair in 1,000 exceeds, exact"),
            "pullback_small": (REAL, "median of |pull-back cosine| of isotropic pairs, drawn"),
            "pullback_large": (REAL, "what that of one isotropic pair in 1,000 exceeds, drawn"),
        },
        "one row a set of directions whose pull-back cosines are known",
        filled=(
            Filled(
                "interference",
                "No pull-back cosines have been computed. Put a table [pullback] into the study file where it has none,"
                " and run it:",
            ),
        ),
        since=11,
    ),
    "pullback_shares": Table(
        ("set_id", "drawn"),
        {
            "set_id": (TEXT, "of pullback_sets"),
            "drawn": (TEXT, "rows: the set itself; covariance: drawn with its mean and covariance; isotropic"),
            "n_pairs": (INT, "pairs of rows"),
            "n_duplicates": (INT, "of them, those with a cosine above 0.9, which are in no share"),
            "n_orthogonal": (INT, "pairs with |cosine| at most cosine_small"),
            "n_alike": (INT, "pairs with |cosine| above cosine_large"),
            "hidden": (REAL, "of the orthogonal ones, the share with |pull-back cosine| above pullback_large"),
            "hidden_low": (REAL, "95 %, jackknife over groups of rows"),
            "hidden_high": (REAL, "likewise"),
            "apart": (
                REAL,
                "of the alike ones, the share with |pull-back cosine| at most pullback_small; NULL without any",
            ),
            "apart_low": (REAL, "likewise"),
            "apart_high": (REAL, "likewise"),
        },
        "one row a set of directions, or of rows drawn in its place",
        since=11,
    ),
    "pullback_bins": Table(
        ("set_id", "drawn", "cosine_bin", "pullback_bin"),
        {
            "set_id": (TEXT, "of pullback_sets"),
            "drawn": (TEXT, "as in pullback_shares"),
            "cosine_bin": (INT, "of 40 from −1 to 1, from 0"),
            "pullback_bin": (INT, "likewise, of the pull-back cosine"),
            "n": (INT, "pairs; bins without any have no row"),
        },
        "one row a bin of both cosines",
        since=11,
    ),
    "pullback_pairs": Table(
        ("set_id", "relation", "rank"),
        {
            "set_id": (TEXT, "of pullback_sets"),
            "relation": (TEXT, "hidden: looks orthogonal and interferes; apart: looks alike and does not"),
            "rank": (INT, "from 1: by |nats| of hidden ones, by |cosine| of those apart"),
            "first": (INT, "number of the row in its set"),
            "second": (INT, "likewise"),
            "cosine": (REAL, "plain"),
            "pullback_cosine": (REAL, "uᵀḠv / √(uᵀḠu · vᵀḠv)"),
            "nats": (REAL, "uᵀḠv of the unit rows: the interference at β = 1, and β² times it at β"),
            "by_half": (REALS, "pull-back cosine under each half's metric"),
        },
        "one row a pair of directions whose two cosines differ most",
        since=11,
    ),
    "neighbourhoods": Table(
        ("chunk_id", "model_id", "layer"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "k": (INT, "nearest chunk activations of the same model that were used, the chunk itself left out"),
            "n": (INT, "chunks with activations there"),
            "dimension_twonn": (REAL, "intrinsic dimension of those activations by TwoNN; NULL where it cannot be had"),
            "dimension_mle": (REAL, "by maximum likelihood (Levina and Bickel 2004); NULL likewise"),
            "curvature": (
                REAL,
                "mean principal angle, radians, between its tangent space and those of its neighbours; NULL likewise",
            ),
            "density": (
                REAL,
                (
                    "log of 1 / distance to the k-th neighbour, distances in units of their median over chunks; NULL"
                    " likewise"
                ),
            ),
            "residual_norm": (REAL, "norm of the chunk activation"),
        },
        "one row a chunk and layer: the cloud of chunk activations around it",
        filled=(
            Filled(
                "neighbourhoods",
                "The clouds around the chunks have not been measured yet: no dimension, no curvature, no density.",
            ),
        ),
    ),
    "causation_pairs": Table(
        ("pair_id",),
        {
            "pair_id": (TEXT, "id"),
            "model_id": (TEXT, "of models: which is steered"),
            "anchor_id": (TEXT, "of chunks: its importance is at or above the threshold"),
            "match_id": (TEXT, "of chunks: the non-anchor that it is compared with"),
            "anchor_importance": (REAL, "counterfactual importance (KL) when the pair was drawn, nats"),
            "match_importance": (REAL, "likewise"),
            "convention": (TEXT, "of both importances"),
            "threshold": (REAL, "importance from which a chunk is an anchor"),
            "rule": (TEXT, "how the match was chosen, in words"),
            "same_cot": (BOOL, "the match is of the anchor's CoT"),
            "share_apart": (REAL, "how far apart they stand in their CoTs, 0 being the first chunk and 1 the last"),
            "length_ratio": (REAL, "tokens of the anchor over tokens of the match"),
            "kind": (TEXT, "of direction"),
            "layer": (INT, "0-based block"),
            "place": (TEXT, "where along the text they are steered"),
            "unit": (TEXT, "of beta"),
            "beta": (REAL, "magnitude"),
            "n": (INT, "continuations of each arm from each start"),
            "n_random": (INT, "random directions of the control"),
            "seed": (INT, "from which the seeds of the samples follow"),
        },
        "one row an anchor and the chunk that it is compared with when both are steered",
        filled=(
            Filled(
                "causation",
                "No anchor has been steered beside another chunk. Put a table [causation] into the study file, and"
                " run it:",
            ),
        ),
        since=8,
    ),
    "causation_samples": Table(
        ("pair_id", "role", "start", "arm", "sample"),
        {
            "pair_id": (TEXT, "of causation_pairs"),
            "role": (TEXT, "of the chunk in the pair: anchor or match"),
            "start": (TEXT, "where it starts: before the chunk or after it"),
            "arm": (TEXT, "base: unsteered; steered; random: along a random direction of the same length"),
            "sample": (INT, "0-based; the same number draws with the same random numbers in every arm"),
            "chunk_id": (TEXT, "of chunks"),
            "direction_id": (TEXT, "of directions; NULL where unsteered"),
            "seed": (INT, "of its random numbers"),
            "text": (TEXT, "what follows the chunk, or replaces it and follows"),
            "forced_text": (
                TEXT,
                "what was added, and written then, to make one answer that was cut without an answer; NULL: nothing",
            ),
            "resampled_chunk": (TEXT, "its first chunk; NULL after the chunk"),
            "similarity": (
                REAL,
                "cosine of the sentence embeddings of chunk and resampled chunk; NULL after the chunk",
            ),
            "answer": (TEXT, "as written; NULL where none was given, even when forced"),
            "answer_source": (TEXT, "given, or forced at the cap; NULL where there is no answer"),
            "cluster": (TEXT, "the answer that stands for all of this chunk's samples judged equal to it"),
            "is_correct": (BOOL, "NULL where there is no answer"),
            "grader": (TEXT, "judge and version"),
            "finish": (TEXT, "eos, or cap when the token cap cut it"),
            "n_tokens": (INT, "sampled tokens"),
        },
        "one row a continuation, from before or after a steered chunk, of one arm",
        since=8,
    ),
    "causation_effects": Table(
        ("pair_id", "role", "arm", "quantity", "convention"),
        {
            "pair_id": (TEXT, "of causation_pairs"),
            "role": (TEXT, "of the chunk in the pair: anchor or match"),
            "arm": (TEXT, "steered or random, against base"),
            "quantity": (TEXT, "see backend/importance/steered_effects.py"),
            "convention": (TEXT, "of the metric of importance; all where none changes it"),
            "chunk_id": (TEXT, "of chunks"),
            "value": (REAL, "the effect: of an importance, steered less unsteered; NULL where undefined"),
            "ci_low": (REAL, "95 % interval over samples; NULL where undefined"),
            "ci_high": (REAL, "likewise"),
            "unsteered": (REAL, "the importance in base; NULL for what is no importance"),
            "steered": (REAL, "the importance in the arm; likewise"),
            "n": (INT, "samples that took part, on the smaller side"),
        },
        "one row an effect of steering a chunk",
        since=8,
    ),
    "before_after": Table(
        ("chunk_id", "direction_id", "side", "unit", "beta"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "direction_id": (TEXT, "of directions"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "side": (TEXT, "before: steered at the last token before the chunk; after: at the chunk's last token"),
            "unit": (TEXT, "of beta"),
            "beta": (REAL, "magnitude"),
            "kl_rest": (
                REAL,
                "KL(steered || base), nats, mean over the tokens of the CoT after the chunk; NULL for the last chunk",
            ),
            "n_rest": (INT, "tokens averaged"),
            "kl_answer": (REAL, "the same over the tokens of the answer alone; NULL where the text has none"),
            "n_answer": (INT, "tokens averaged"),
            "noise_floor": (REAL, "of the rest of the CoT, nats; NULL where unknown"),
        },
        "one row a chunk, direction, side and magnitude: steering just before a chunk against just after it",
        filled=(Filled("before_after", "No chunk has been steered just before and just after it yet."),),
    ),
    "claims": Table(
        ("x", "kind", "model_id", "layer", "position", "unit", "metric", "convention", "subset"),
        {
            **{name: (TEXT, "as in associations") for name in ("x", "kind", "model_id")},
            "layer": (INT, "as in associations"),
            **{name: (TEXT, "as in associations") for name in ("position", "unit", "metric", "convention", "subset")},
            "q": (
                REAL,
                "Benjamini and Hochberg's, over all pairs of the subset; NULL where p is, or not measured apart",
            ),
            "p_allowed": (REAL, "what the pair's p may be at most to be claimed among the others; NULL likewise"),
            "shared": (TEXT, "why the pair can never be claimed: what x and y share; empty where they are apart"),
            "verdict": (
                TEXT,
                "inverse, direct or none: the association that is claimed; NULL where it was never judged",
            ),
        },
        "one row a pair and subset of associations: what is claimed of it when all pairs are looked at",
        filled=(Filled("claims", "It has not been said yet which pairs are associated, all of them looked at."),),
        since=8,
    ),
    "counterfactuals": Table(
        ("chunk_id", "model_id", "layer"),
        {
            "chunk_id": (TEXT, "of chunks: an anchor, or the non-anchor that it is compared with"),
            "model_id": (TEXT, "of models: the one that reads"),
            "layer": (INT, "0-based block"),
            "direction_id": (
                TEXT,
                "of directions: v, its activation − the counterfactual one; NULL where there is none",
            ),
            "norm": (REAL, "length of v, in units of the residual stream; NULL likewise"),
            "activation_norm": (REAL, "length of its activation"),
            "cosine": (REAL, "of its activation and the counterfactual one"),
            "n_rollouts": (INT, "dissimilar rollouts whose first chunks the counterfactual activation is the mean of"),
            "n_texts": (INT, "different texts among them"),
            "is_anchor": (BOOL, "importance at least the threshold"),
            "matched_chunk_id": (TEXT, "the chunk that it is compared with, of the same CoT; NULL where there is none"),
            "importance": (REAL, "by which anchors are chosen: counterfactual importance (KL)"),
            "convention": (TEXT, "of that importance"),
            "threshold": (REAL, "importance from which a chunk is an anchor"),
            "noise_floor": (REAL, "of KL on the rest of the CoT after it, nats; NULL for the last chunk"),
            "why_not": (TEXT, "why it has no v; NULL elsewhere"),
        },
        "one row a chunk and layer: what sets an anchor apart from what the model writes in its place",
        filled=(
            Filled(
                "anchors",
                "No anchor of this study has been steered towards its counterfactuals, just before it and just after"
                " it. Put a table [anchors] into the study file, and run it:",
            ),
        ),
        since=8,
    ),
    "anchor_steering": Table(
        ("chunk_id", "model_id", "layer", "arm", "number", "place", "beta"),
        {
            "chunk_id": (TEXT, "of counterfactuals"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "arm": (
                TEXT,
                "counterfactual: along v; random: along a random direction of v's length; alternative: along the"
                " chunk's activation less that of one text; random_alternative: a random direction of that length",
            ),
            "number": (INT, "0-based, of the random direction or the alternative"),
            "place": (
                INT,
                "chunks of the CoT before the steered place, whose last token is steered: the chunk's own number from 0"
                " is just before it, that and 1 just after it",
            ),
            "beta": (REAL, "lengths of the vector that are added: −1 to 0"),
            "direction_id": (TEXT, "of directions"),
            "norm": (REAL, "length of what β = −1 takes away"),
            "kl_rest": (
                REAL,
                "KL(steered || base), nats, mean over the CoT's tokens after the chunk (of a place behind it, after the"
                " place); NULL where there are none",
            ),
            "n_rest": (INT, "tokens averaged"),
            "kl_answer": (REAL, "the same over the tokens of the answer; NULL where the text has none after the place"),
            "n_answer": (INT, "tokens averaged"),
        },
        "one row a chunk, vector, place and magnitude: steering towards the counterfactual",
        since=8,
    ),
    "anchor_attention": Table(
        ("chunk_id", "model_id", "layer", "side", "arm", "number"),
        {
            "chunk_id": (TEXT, "of counterfactuals"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block that is steered"),
            "side": (TEXT, "before or after, at β = −1; none of unsteered"),
            "arm": (TEXT, "unsteered, counterfactual or random, as in anchor_steering"),
            "number": (INT, "0-based, of the random direction"),
            "attention": (
                REAL,
                "share of their attention that the CoT's tokens after the chunk pay to its tokens: mean over them, over"
                " heads and over the layers above the steered one",
            ),
            "by_layer": (REALS, "the same at each of these layers, from the one above the steered one on"),
            "n_keys": (INT, "tokens of the chunk"),
            "n_queries": (INT, "tokens after it"),
        },
        "one row a chunk, side and vector: attention to the chunk; none of models whose attention is not over the whole"
        " text",
        since=8,
    ),
    "registered": Table(
        ("kind", "name"),
        {
            "kind": (TEXT, "metric, column (of geometry) or direction"),
            "name": (TEXT, "as its values bear it"),
            "own_label": (TEXT, "what it is called"),
            "unit": (TEXT, "as on an axis; empty for a direction"),
            "own_meaning": (TEXT, "in a sentence"),
            "signed": (BOOL, "may be below 0; NULL where that was not said"),
            "colour": (TEXT, "of a direction, #RRGGBB; NULL elsewhere"),
            "made_by": (TEXT, "arrays: its values were handed over; code: they were computed by what was registered"),
            "source": (TEXT, "the code, or SQL, that computes it, as far as it could be read; NULL for arrays"),
            "sha256": (TEXT, "of that source, or of the values that were handed over"),
            "version": (TEXT, "of the module that registered it, or its rule; NULL where neither is said"),
            "run_id": (TEXT, "of runs"),
        },
        "one row a metric, geometry column or kind of direction that is not Anchorscope's own: its words stay where its"
        " code is not",
        since=16,
    ),
    "kept_columns": Table(
        ("x", "chunk_id", "kind", "model_id", "layer", "position", "unit"),
        {
            "x": (TEXT, "name of the geometry column, of registered"),
            "chunk_id": (TEXT, "of chunks"),
            "kind": (TEXT, "the direction's kind; none for columns without a direction"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block; -1 for what is of no layer"),
            "position": (TEXT, "anchor or chunk; none for columns without one"),
            "unit": (TEXT, "of beta; none for columns without one"),
            "value": (REAL, "NULL where unknown"),
            "se": (REAL, "standard error of the value; NULL where unknown"),
            "n": (INT, "how many things it rests on; NULL where unknown"),
        },
        "one row a chunk of a geometry column that is not Anchorscope's own",
        since=16,
    ),
    "associations": Table(
        ("x", "kind", "model_id", "layer", "position", "unit", "metric", "convention", "subset"),
        {
            "x": (
                TEXT,
                (
                    "geometry column: steepness, amplitude, fisher_steepness, isotropic_steepness, …; or an importance"
                    " metric"
                ),
            ),
            "kind": (
                TEXT,
                "the direction's kind; none for columns without a direction; of an importance metric its convention",
            ),
            "model_id": (TEXT, "of models; of an importance metric the CoTs' writer"),
            "layer": (INT, "0-based block; -1 for an importance metric"),
            "position": (TEXT, "anchor or chunk; none for columns without one"),
            "unit": (TEXT, "of beta; none for columns without one"),
            "metric": (TEXT, "of importance"),
            "convention": (TEXT, "of importance"),
            "subset": (
                TEXT,
                "all, or away_from_origin: without the chunks whose |x| and |importance| are at or below their medians",
            ),
            "n": (INT, "chunks with both values"),
            "n_cots": (INT, "of those chunks"),
            "n_problems": (INT, "of those chunks"),
            "n_missing": (INT, "chunks left out because either is unknown"),
            "n_zero_x": (INT, "x exactly 0 among the n"),
            "n_zero_y": (INT, "importance exactly 0 among the n"),
            "within": (
                REAL,
                "rank correlation within CoTs, which leads; NULL where either is constant there, or before version 6",
            ),
            "within_low": (REAL, "bootstrap 95 % interval over problems"),
            "within_high": (REAL, "likewise"),
            "within_null_low": (REAL, "2.5th percentile with importance permuted within CoTs"),
            "within_null_high": (REAL, "97.5th percentile"),
            "p": (REAL, "two-sided, importance permuted within CoTs"),
            "p_problems": (REAL, "two-sided, Student's t over the problems' own sums within CoTs: do they agree"),
            "spearman": (REAL, "rank correlation over all chunks; NULL where either is constant or n < 3"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems"),
            "ci_high": (REAL, "likewise"),
            "null_low": (REAL, "2.5th percentile of that rho under those permutations"),
            "null_high": (REAL, "97.5th percentile"),
            "kendall": (REAL, "Kendall's tau-b"),
            "kendall_low": (REAL, "bootstrap 95 % interval over problems"),
            "kendall_high": (REAL, "likewise"),
            "partial": (REAL, "rank correlation within CoTs given the covariates; NULL where they are unknown"),
            "partial_p": (REAL, "two-sided, residual importance permuted within CoTs"),
            "partial_p_problems": (REAL, "two-sided, over the problems' own sums"),
            "covariates": (TEXTS, "what was held fixed, those known here"),
            "verdict": (
                TEXT,
                (
                    "inverse, direct or none, of the pair by itself: every condition of backend/evidence/verdict.py but"
                    " q and that the two are measured apart; what is claimed is in `claims`; NULL before version 6"
                ),
            ),
            "n_planted": (
                INT,
                "effects of each size that were planted to know the rule's power here; 0 or NULL where it is unknown",
            ),
            "planted_rho": (REALS, "their sizes: rank correlation within CoTs, on average"),
            "planted_found": (REALS, "share of each size that the rule claims, q aside"),
            "planted_p": (
                REALS,
                "what p must be allowed for 9 in 10 of each size to be claimed; 1 where no p would do",
            ),
            "details": (
                TEXT,
                "JSON: zero-inflated parts, fits with AIC and cross-validated R², Theil–Sen, mixed model, why unknown",
            ),
            "n_bootstrap": (INT, "bootstrap draws"),
            "n_permutations": (INT, "permutations"),
            "seed": (INT, "of both"),
        },
        "one row a pair of a geometry column and an importance metric: does one fall or rise with the other; q, which"
        " rests on all pairs of the study, is added when they are read",
        filled=(
            Filled(
                "evidence",
                "The pairs of this study have not been tested, so what relates to importance is only known"
                " one pair at a time. Put a table [geometry] into the study file where it has none, and run"
                " it:",
            ),
        ),
    ),
}

_BY_RANK = TABLES["feature_ablations"]
TABLES["firing_ablations"] = Table(
    _BY_RANK.key,
    _BY_RANK.columns
    | {
        "top_percent": (REAL, "k: and among so many % of the features that fire on it at all, by that frequency"),
    },
    "one row a model of the pair, reasoning category, choice of features, control and measure: the ablation effect, as"
    " in feature_ablations, with k of the features that fire there",
    filled=(
        Filled(
            "firing_ablations",
            "Features have not been zeroed by their rank among those that fire on a category's words yet.",
        ),
    ),
    since=8,
)

TABLES["twin_ablations"] = Table(
    ("dictionary_id", "model_id", "ranked", "category", "scheme", "nrn_above", "top_percent", "measure"),
    {
        "dictionary_id": (TEXT, "of dictionaries"),
        "model_id": (TEXT, "of models: as in feature_ablations"),
        "ranked": (TEXT, "whose row this stands beside: all, of feature_ablations, or firing, of firing_ablations"),
        **{name: _BY_RANK.columns[name] for name in ("category", "scheme", "nrn_above")},
        "top_percent": (REAL, "k, as there"),
        "measure": _BY_RANK.columns["measure"],
        "null_id": (TEXT, "of null_dictionaries: the frozen decoder whose features are zeroed"),
        "n_features": (INT, "zeroed at once, as many as there, that fire about as often"),
        "n_targets": (INT, "target tokens, the same as there"),
        "n_cots": (INT, "CoTs that they are in"),
        "n_problems": (INT, "problems of these CoTs"),
        "effect": (REAL, "measure with it less without, mean over targets"),
        "ci_low": (REAL, "bootstrap 95 % interval over problems and sets; NULL for fewer than two"),
        "ci_high": (REAL, "likewise"),
        "set_effects": (REALS, "effect of each set, on the CoTs that it was zeroed in; the sets take CoTs in turn"),
        "frequency": (REAL, "mean over the zeroed features of null_features.frequency"),
        "removed": (REAL, "as in feature_ablations"),
        "seed": (INT, "of the draws of targets, sets and intervals"),
        "parameters": (TEXT, "JSON: layer, most targets, most of a CoT, sets, bootstrap draws"),
    },
    "one row a row of feature_ablations or firing_ablations with features: the same with features of a frozen decoder",
    filled=(
        Filled("twin_ablations", "No features of a frozen-decoder twin have been zeroed beside this dictionary's yet."),
    ),
    since=15,
)

TABLES |= {
    "lenses": Table(
        ("lens_id",),
        {
            "lens_id": (
                TEXT,
                "id, from the model, the kind and all that it was fitted on, or from the values of a file",
            ),
            "model_id": (TEXT, "of models"),
            "kind": (TEXT, "tuned or jacobian; the logit lens has nothing to store"),
            "variant": (TEXT, "kinds of position that it was fitted on, joined by +, or all; of a file its name"),
            "source": (TEXT, "fitted, or file where it was brought"),
            "n_tokens": (INT, "positions that it was fitted on; NULL where a file does not say"),
            "n_problems": (INT, "of these; a text of a file counts as one; NULL where a file does not say"),
            "corpus": (TEXT, "sha256 of the texts and positions, held-out ones too; NULL of a file"),
            "seed": (INT, "of the split, the draw of positions and their order; NULL of a file"),
            "dtype": (TEXT, "dtype of the forward passes; NULL where a file does not say"),
            "revision": (TEXT, "of the model; NULL where a file does not say"),
            "parameters": (TEXT, "JSON: settings of the fit, or what the file says of itself"),
            "versions": (TEXT, "JSON: Python and library versions, schema version"),
            "commit": (TEXT, "commit of this code, with + when files were changed; NULL outside a checkout"),
        },
        "one row a lens with fitted parts; how long it took is the sum over its layers",
        filled=(Filled("lens", "No tuned lens has been fitted. Put a table [lens] into the study file, and run it:"),),
        since=9,
    ),
    "lens_layers": Table(
        ("lens_id", "layer"),
        {
            "lens_id": (TEXT, "of lenses"),
            "layer": (INT, "0-based block whose output it reads; never the last"),
            "kept": (
                TEXT,
                "what validation chose: tuned (after the descent), ridge (its start) or identity (neither gains beyond"
                " its interval: this layer is read as the logit lens reads it); averaged of a Jacobian lens; file where"
                " it was brought",
            ),
            "ridge": (REAL, "strength of the ridge, a share of the stream's mean variance; NULL of a file"),
            "kl_identity": (REAL, "KL(model ‖ logit lens), nats, mean over the validation positions; NULL of a file"),
            "kl_ridge": (REAL, "likewise, of the ridge start"),
            "kl_tuned": (REAL, "likewise, where it is least on the descent; NULL where that makes no step"),
            "gain": (REAL, "nats by which the better of the two lies below the identity, paired; NULL of a file"),
            "gain_low": (REAL, "bootstrap 95 % interval over problems; NULL with fewer than two"),
            "gain_high": (REAL, "likewise"),
            "n_tokens": (INT, "validation positions; NULL of a file"),
            "n_problems": (INT, "of these"),
            "steps": (INT, "of the descent, up to where its validation KL was least; NULL of a file"),
            "seconds": (REAL, "that this layer took, its share of the forward passes included; NULL of a file"),
            "cosine": (
                REAL,
                "of a Jacobian lens, between the averages over every second text: of the matrices, or the mean over the"
                " rows of named tokens where there are no matrices; NULL of others, and of fewer than two texts",
            ),
        },
        "one row a lens and layer that it reads: how it was fitted, and why it was kept",
        since=9,
    ),
    "lens_rows": Table(
        ("lens_id", "layer", "row"),
        {
            "lens_id": (TEXT, "of lenses"),
            "layer": (INT, "0-based block whose output it reads"),
            "row": (INT, "0-based coordinate of the last block's output"),
            "values": (VECTOR, "(d_model,): this row of the map less the identity, W of h + W h + b or J − I"),
            "bias": (REAL, "this coordinate of b; 0 for a Jacobian lens"),
        },
        "one row a row of the map of a lens at a layer; none where the identity was kept",
        since=9,
    ),
    "lens_quality": Table(
        ("model_id", "lens_id", "layer", "positions"),
        {
            "model_id": (TEXT, "of models"),
            "lens_id": (TEXT, "of lenses; logit is the logit lens"),
            "kind": (TEXT, "logit, tuned or jacobian"),
            "layer": (INT, "0-based block; at the last one every lens is the model"),
            "positions": (TEXT, "kind of position that the stream stands on, or all"),
            "kl": (REAL, "KL(model ‖ lens), nats, mean over held-out positions; NULL where there are none"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems; NULL with fewer than two"),
            "ci_high": (REAL, "likewise"),
            "agrees": (REAL, "share of these positions at which lens and model have the same top token"),
            "baseline": (
                REAL,
                "KL(model ‖ frequencies of the tokens that follow the training positions), nats, same positions: a lens"
                " that is no better knows nothing of the text",
            ),
            "gain": (REAL, "baseline − kl, paired"),
            "gain_low": (REAL, "bootstrap 95 % interval over problems: no gain is shown where it is not above 0"),
            "gain_high": (REAL, "likewise"),
            "n_tokens": (INT, "held-out positions"),
            "n_problems": (INT, "of these; a text of a file counts as one"),
        },
        "one row a lens, layer and kind of position: how far the lens is from what the model says in the end, on"
        " problems that no lens learned from",
        filled=(
            Filled(
                "lens_quality",
                "It is not known how far any lens is from what the model says in the end. Put a table [lens] into the"
                " study file where it has none, and run it:",
            ),
        ),
        since=9,
    ),
}

TABLES |= {
    "jacobian_tokens": Table(
        ("lens_id", "token_id"),
        {
            "lens_id": (TEXT, "of lenses"),
            "token_id": (INT, "of the model's vocabulary"),
            "text": (TEXT, "the token, space included"),
            "roles": (TEXTS, "what it is named for: end of thinking, a reasoning category, word, or answer"),
            "constant": (
                REAL,
                "what the model adds to this token's logit after the final norm's division (a bias); where that is 0"
                " for all, sign and order of the logits that jacobian_rows give are exact",
            ),
        },
        "one row a named token of a Jacobian lens; a word or an answer is known by its first token",
        filled=(
            Filled(
                "jacobian",
                "No Jacobians have been averaged. Put a table [jacobian] into the study file where it has none, and run"
                " it:",
            ),
        ),
        since=9,
    ),
    "jacobian_rows": Table(
        ("lens_id", "layer", "token_id"),
        {
            "lens_id": (TEXT, "of lenses"),
            "layer": (INT, "0-based block whose output it reads; at the last one it is the token's own cotangent"),
            "token_id": (INT, "of jacobian_tokens"),
            "values": (
                VECTOR,
                "(d_model,): uᵀ J, u being the token's row of the unembedding times the final norm's gain: its product"
                " with a stream is the token's logit up to the size of J h",
            ),
            "cosine": (REAL, "between the averages over every second text; NULL at the last layer, or of one text"),
        },
        "one row a layer and named token of a Jacobian lens",
        since=9,
    ),
    "jacobian_convergence": Table(
        ("lens_id", "n_texts"),
        {
            "lens_id": (TEXT, "of lenses"),
            "n_texts": (INT, "averaged so far"),
            "relative_change": (
                REAL,
                "‖new mean − old mean‖ / ‖new mean‖ as this text came in, mean over layers; NULL of the first",
            ),
        },
        "one row a text of a Jacobian lens, in the order in which they were averaged",
        since=9,
    ),
}
TABLES["answer_readings"] = Table(
    ("chunk_id", "side", "model_id", "lens_id", "layer"),
    {
        "chunk_id": (TEXT, "of chunks"),
        "cot_id": (TEXT, "of cots"),
        "side": (
            TEXT,
            "where the chain is cut and the answer forced: after the chunk; of the first chunk also before it",
        ),
        "model_id": (TEXT, "of models: the one that reads, whoever wrote the chain"),
        "lens_id": (TEXT, "of lenses; logit is the logit lens"),
        "lens": (TEXT, "kind of lens: logit, tuned or jacobian"),
        "layer": (INT, "0-based block; the last one is the model itself, stored under logit alone"),
        "answer": (TEXT, "the answer that the chain itself gives, as written"),
        "n_tokens": (INT, "tokens of it in this model"),
        "logprob": (REAL, "log-probability of the whole answer after the forcing words: sum over its tokens, nats"),
        "first_logprob": (REAL, "of its first token alone, nats"),
        "other_answer": (
            TEXT,
            "control: the most frequent other answer of the rollouts of this problem's chains; NULL where there is"
            " none",
        ),
        "other_n_tokens": (INT, "tokens of it; NULL likewise"),
        "other_logprob": (REAL, "as logprob; NULL likewise"),
        "other_first_logprob": (REAL, "as first_logprob; NULL likewise"),
    },
    "one row a cut of a chain, reading model, lens and layer: how probable the chain's own answer is there when it is"
    " forced",
    filled=(
        Filled(
            "commitment",
            "No model has read how probable the answer is after each chunk. Put a table [commitment] into the study"
            " file where it has none, and run it:",
        ),
    ),
    since=9,
)

TABLES |= {
    "latent_problems": Table(
        ("problem_id",),
        {
            "problem_id": (TEXT, "of problems"),
            "place": (INT, "0-based, in the order in which they were drawn: the scored ones come first"),
            "is_scored": (BOOL, "whether it is scored; means, vectors and lenses are made from the others"),
            "intermediates": (TEXTS, "results of its steps in their order; the last one is the answer"),
            "operands": (TEXTS, "numbers of the question"),
            "has_distractor": (BOOL, "whether one of them is of no use"),
        },
        "one row a problem that latent models are asked",
        filled=(
            Filled("latents", "No model has thought in latents. Put a table [latent] into the study file, and run it:"),
        ),
        since=10,
    ),
    "latent_models": Table(
        ("model_id",),
        {
            "model_id": (TEXT, "of models"),
            "layout": (TEXT, "of its files"),
            "sibling": (TEXT, "latent, pause (learned embeddings, no recurrence) or none (no latents)"),
            "training_seed": (INT, "that it was trained with; NULL when unknown"),
            "task": (TEXT, "kind of problem that it was trained on; NULL when unknown"),
            "n_latents": (INT, "that it was trained with, at most"),
            "n_weights": (INT, "parameters, tied ones once"),
            "facts": (TEXT, "JSON: what its files say of its training"),
        },
        "one row a model that thinks in latents, beside its row of models",
        since=10,
    ),
    "latent_runs": Table(
        ("model_id", "problem_id", "n_latents"),
        {
            "run_id": (TEXT, "id"),
            "model_id": (TEXT, "of models"),
            "problem_id": (TEXT, "of problems"),
            "n_latents": (INT, "that were run before the answer was forced"),
            "token_ids": (INTS, "that were written, greedily, without the end"),
            "text": (TEXT, "what they say"),
            "answer": (TEXT, "its last number, commas removed; NULL where it has none"),
            "is_correct": (BOOL, "NULL where there is no answer"),
            "finish": (TEXT, "eos or cap"),
        },
        "one row a plain run: a model, a problem and a number of latents",
        since=10,
    ),
    "latents": Table(
        ("model_id", "problem_id", "step"),
        {
            "latent_id": (TEXT, "id"),
            "model_id": (TEXT, "of models"),
            "problem_id": (TEXT, "of problems"),
            "step": (INT, "latents run so far: 0 is the last token before the first"),
            "h": (VECTOR, "last hidden state there, after the final norm, (d_model,)"),
            "z": (VECTOR, "embedding that was fed there, (d_model,); NULL at step 0"),
        },
        "one row a latent: they are the chunks of such a run",
        since=10,
    ),
    "latent_needs": Table(
        ("need_id",),
        {
            "need_id": (TEXT, "id"),
            "model_id": (TEXT, "of models"),
            "problem_id": (TEXT, "of problems; scored ones alone"),
            "replacement": (
                TEXT,
                "what took the place of the latent: zero, mean or swap (another problem's); plain: nothing, without: no"
                " latents were run, as the model was trained to answer then",
            ),
            "step": (INT, "the latent, from 1; NULL: all of them"),
            "place": (TEXT, "whole or z; NULL where nothing was replaced"),
            "after": (TEXT, "whether later latents were recomputed or kept; NULL where nothing was replaced"),
            "donor_id": (TEXT, "problem whose latent a swap takes; NULL where none will do"),
            "answer": (TEXT, "last number of what was written; NULL where it has none, or nothing could be put there"),
            "is_correct": (BOOL, "no number is not right; NULL where nothing could be put there"),
            "is_donors": (BOOL, "whether it is the donor's; NULL without a donor or where nothing could be put there"),
        },
        "one row a problem, model and replacement of one latent or of all",
        filled=(
            Filled("latent_needs", "No latent has been replaced yet, so it is not known which are needed. Run it:"),
        ),
        since=10,
    ),
}

_READING: dict[str, tuple[pa.DataType, str]] = {
    "model_id": (TEXT, "of models"),
    "lens": (TEXT, "logit, tuned, tuned_alone, difference, or embedding (nearest input embedding, by cosine)"),
    "layer": (INT, "0-based block whose output is read, before the final norm; -1 is z, and n_layers is h"),
}
_SUBSET = (TEXT, "all scored problems, or those that the model needs latents for, or solves with none")
TABLES |= {
    "latent_readings": Table(
        ("model_id", "problem_id", "lens", "layer"),
        {
            "model_id": (TEXT, "of models"),
            "problem_id": (TEXT, "of problems; a scored one"),
            "lens": _READING["lens"],
            "layer": _READING["layer"],
            "first_step": (INT, "latents run before the first reading; each next one is one latent later"),
            "token_ids": (INTS, "likeliest token at each step, or the one with the nearest embedding"),
            "probabilities": (VECTOR, "of that token; NULL of an embedding"),
            "cosines": (VECTOR, "with the nearest embedding; NULL of the other lenses"),
            "entropies": (VECTOR, "nats; NULL of an embedding"),
            "roles": (
                TEXTS,
                "words that are followed: answer; other (another problem's answer, a control); operand (a number of the"
                " question that is no result, another); intermediate 1, 2, …; word and a named one",
            ),
            "ranks": (
                INTS,
                "of each followed word at every step, word by word: 1 + how many tokens are likelier; 0 of a word that"
                " the model has no token for",
            ),
            "log_probs": (VECTOR, "likewise, nats; NULL of an embedding"),
        },
        "one row a model, problem, lens and layer: what is read at every latent; the last layer stands under logit",
        filled=(
            Filled(
                "latent_readings",
                "Latents have not been read yet. Put a table [latent] into the study file where it has none, and run"
                " it:",
            ),
        ),
        since=10,
    ),
    "latent_tokens": Table(
        ("model_id", "token_id"),
        {
            "model_id": (TEXT, "of models"),
            "token_id": (INT, "of its vocabulary"),
            "text": (TEXT, "the token, space included"),
        },
        "one row a token that a reading of latents names",
        since=10,
    ),
    "latent_lens_quality": Table(
        ("model_id", "variant", "layer", "step"),
        {
            "model_id": (TEXT, "of models"),
            "variant": (TEXT, "positions that the tuned lens was fitted on: all, or the number of latents run at one"),
            "layer": (INT, "0-based block whose output it reads; never the last"),
            "step": (INT, "latents run where it is measured"),
            "kept": (TEXT, "what validation chose: tuned, ridge (its start) or identity (neither gains)"),
            "ridge": (REAL, "strength of the ridge, a share of the stream's mean variance"),
            "steps": (INT, "of the descent, up to where its validation KL was least"),
            "kl_logit": (REAL, "KL(model ‖ logit lens), nats, mean over scored problems"),
            "kl": (REAL, "KL(model ‖ this lens), likewise"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems; NULL with fewer than two"),
            "ci_high": (REAL, "likewise"),
            "gain": (REAL, "kl_logit − kl, paired"),
            "gain_low": (REAL, "bootstrap 95 % interval over problems"),
            "gain_high": (REAL, "likewise"),
            "n_problems": (INT, "scored problems; none of them is one that a lens was fitted on"),
            "n_fitted": (INT, "problems that it was fitted on"),
            "n_validation": (INT, "problems by which validation chose"),
            "seed": (INT, "of the split and of the descent"),
        },
        "one row a tuned lens of latents, layer and position: how far it is from what the model says there",
        since=10,
    ),
    "latent_parity": Table(
        ("model_id", "lens", "layer", "subset", "role", "measure"),
        {
            **_READING,
            "subset": _SUBSET,
            "role": (TEXT, "cell of the whole reading, or a followed word (latent_readings.roles)"),
            "measure": (TEXT, "entropy (nats), log_prob (nats), log_rank (log10), or top (share where it is first)"),
            "odd": (REAL, "mean over problems and latents 1, 3, …"),
            "even": (REAL, "mean over problems and latents 2, 4, …"),
            "difference": (REAL, "even − odd, mean over problems"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems"),
            "ci_high": (REAL, "likewise"),
            "p": (REAL, "two-sided, flips of the signs of problems"),
            "without_line": (
                REAL,
                "the same with each problem's straight line over the latents taken out; NULL below 4",
            ),
            "without_line_low": (REAL, "bootstrap 95 % interval over problems"),
            "without_line_high": (REAL, "likewise"),
            "without_line_p": (REAL, "two-sided, flips of the signs of problems"),
            "p_steps": (REAL, "share of divisions of the latents whose difference is at least as large"),
            "n_divisions": (INT, "ways to divide them into as many even and odd ones"),
            "n_problems": (INT, "whose value is known at every latent"),
        },
        "one row a quantity of a reading: its even latents against its odd ones",
        since=10,
    ),
    "latent_near_misses": Table(
        ("model_id", "lens", "layer", "step", "kind", "measure"),
        {
            **_READING,
            "step": (INT, "latents run"),
            "kind": (TEXT, "twice, operand, close, or any of them"),
            "measure": (TEXT, "probability (on wrong numbers), or top (problems whose top token is a wrong number)"),
            "share": (REAL, "of it on near misses, mean over problems; NULL where no problem takes part"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems"),
            "ci_high": (REAL, "likewise"),
            "chance_answers": (REAL, "the same share if numbers were drawn as answers of problems that are not scored"),
            "excess_answers": (REAL, "share − that, paired"),
            "excess_answers_low": (REAL, "bootstrap 95 % interval over problems"),
            "excess_answers_high": (REAL, "likewise"),
            "p_answers": (REAL, "two-sided, flips of the signs of problems"),
            "chance_readings": (REAL, "the same share if numbers were drawn from the readings of other problems here"),
            "excess_readings": (REAL, "share − that, paired"),
            "excess_readings_low": (REAL, "bootstrap 95 % interval over problems"),
            "excess_readings_high": (REAL, "likewise"),
            "p_readings": (REAL, "two-sided, flips of the signs of problems"),
            "n_problems": (INT, "that take part"),
        },
        "one row a reading, position and kind of near miss: how often it is said, beside chance",
        since=10,
    ),
    "latent_difference_readings": Table(
        ("model_id", "layer", "earlier", "later"),
        {
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block whose output is read"),
            "earlier": (INT, "latents run"),
            "later": (INT, "likewise, more of them"),
            "token_ids": (INTS, "likeliest tokens of mean[later] − mean[earlier] under the logit lens"),
            "probabilities": (VECTOR, "of these"),
            "opposite_ids": (INTS, "likewise of mean[earlier] − mean[later]"),
            "opposite_probabilities": (VECTOR, "of these"),
        },
        "one row a pair of latents: the lens of the difference of their means, over problems that are not scored",
        since=10,
    ),
    "latent_components": Table(
        ("model_id", "space", "layer", "component"),
        {
            "model_id": (TEXT, "of models"),
            "space": (TEXT, "h, z, k (keys without their position) or v"),
            "layer": (INT, "0-based block whose keys or values they are; -1 is z, and n_layers is h"),
            "component": (INT, "from 1, the largest variance first"),
            "share": (REAL, "of the variance of what they were fitted on; NULL where there is none"),
            "captured": (REAL, "of the variance of the scored problems' latents"),
            "between_steps": (
                REAL,
                "of the scored problems' variance along it, the share between the means of steps; NULL where there is"
                " none",
            ),
            "n_fitted": (INT, "latents that they were fitted on, of problems that are not scored"),
            "n_problems": (INT, "scored problems"),
        },
        "one row a principal component of latents, all steps together",
        since=10,
    ),
    "latent_projections": Table(
        ("model_id", "space", "layer", "problem_id"),
        {
            "model_id": (TEXT, "of models"),
            "space": (TEXT, "of latent_components"),
            "layer": (INT, "likewise"),
            "problem_id": (TEXT, "of problems; one of the first 200 scored ones"),
            "first_step": (INT, "latents run at the first of its places"),
            "n_components": (INT, "coordinates of a place"),
            "coordinates": (VECTOR, "of each step on each component, step by step"),
        },
        "one row a problem: where its latents lie on the components",
        since=10,
    ),
    "latent_attention": Table(
        ("model_id", "subset", "split", "layer", "head", "step", "part"),
        {
            "model_id": (TEXT, "of models"),
            "subset": _SUBSET,
            "layer": (INT, "0-based block"),
            "split": (TEXT, "into which parts the question is cut: clause, or kind (words and numbers)"),
            "head": (INT, "0-based; -1 is the mean over heads"),
            "step": (INT, "latents run where the attention is paid"),
            "place": (INT, "0-based, of the part among all parts, as they stand in a text"),
            "part": (
                TEXT,
                "what it is paid to: first token, a part of the question, start of the thinking, or a latent by its"
                " number",
            ),
            "share": (REAL, "of its attention on all tokens of that part, mean over problems"),
            "ci_low": (REAL, "bootstrap 95 % interval over problems"),
            "ci_high": (REAL, "likewise"),
            "n_problems": (INT, "problems"),
        },
        "one row a head, position and part of the text: where a latent looks",
        since=10,
    ),
}

TABLES |= {
    "latent_steerings": Table(
        ("steering_id",),
        {
            "steering_id": (TEXT, "id of a map: a model, a move and a coefficient; or the vectors fitted to a model"),
            "model_id": (TEXT, "of latent_models"),
            "kind": (TEXT, "differences (of two mean latents, beside random vectors) or fitted (by gradient)"),
            "space": (TEXT, "in which vectors are added: z, h, kv, k or v"),
            "vectors": (TEXT, "space of which the vectors are; another one only where h is added in z, as published"),
            "rotated": (BOOL, "whether keys were averaged and added as stored, turned by their positions"),
            "scored_means": (BOOL, "whether the means are of the scored problems"),
            "coefficient": (REAL, "of mean[A] − mean[B]; NULL of fitted ones"),
            "typical_length": (REAL, "root mean square length of the differences, the coefficient left out"),
            "n_random": (INT, "random vectors, of that length in each part; NULL of fitted ones"),
            "fitting_steps": (INT, "steps of Adam; NULL of differences"),
            "fitting_rate": (REAL, "its rate, in bounds over √width; NULL likewise"),
            "fitting_batch": (INT, "problems in a step; NULL likewise"),
            "n_fitted_on": (
                INT,
                "problems fitted on: those not scored that the model solves at the end; NULL likewise",
            ),
            "n_latents": (INT, "latents run at the end"),
            "n_means": (INT, "problems that the means are of"),
            "seed": (INT, "of random vectors and of fitting"),
            "problem_ids": (TEXTS, "of problems: the scored ones, in the order of the cells' answers"),
            "truths": (TEXTS, "their right answers"),
            "texts": (TEXTS, "the distinct things that were written"),
            "answers": (TEXTS, "the answer of each; NULL where it has none"),
            "first_answers": (TEXTS, "the answer of its first token alone; NULL likewise"),
        },
        "one row a map of steered latents",
        filled=(
            Filled(
                "latent_steering",
                "No latent has been steered. Put a table [latent] into the study file where it has none, with spaces"
                " and coefficients, and run it:",
            ),
        ),
        since=10,
    ),
    "latent_steering_cells": Table(
        ("steering_id", "vector", "target", "exit"),
        {
            "steering_id": (TEXT, "of latent_steerings"),
            "vector": (TEXT, "A-B of a pair, random-N, fitted-BOUND, or none"),
            "target": (INT, "the latent that was moved, from 1; 0 where none was"),
            "exit": (INT, "latents run when the answer was forced: the target (early exit), or all (the end)"),
            "kind": (TEXT, "pair, random, fitted, or none (unsteered)"),
            "a": (INT, "first latent of the pair; NULL of other kinds"),
            "b": (INT, "second latent of the pair, after the first; NULL likewise"),
            "bound": (REAL, "length allowed to a fitted vector, in typical lengths; NULL of other kinds"),
            "length": (REAL, "of what was added, all layers together"),
            "n": (INT, "problems"),
            "n_right": (INT, "whose whole answer is right; one that was not given is not"),
            "n_unsteered": (INT, "right without steering, after as many latents"),
            "n_gained": (INT, "right with it alone"),
            "n_lost": (INT, "right without it alone"),
            "low": (REAL, "95 % interval of the paired difference of accuracies (Newcombe)"),
            "high": (REAL, "likewise"),
            "p": (REAL, "exact McNemar, two-sided; not adjusted for the map"),
            "answers": (INTS, "of each problem: its place, from 0, among the distinct texts of the map"),
        },
        "one row a vector at one target latent and exit",
        since=10,
    ),
    "shapes": Table(
        ("model_id", "points", "layer", "category", "measure"),
        {
            "model_id": (TEXT, "of models"),
            "points": (TEXT, "what the cloud is of: chunks (their activations) or tokens (of CoTs, drawn at random)"),
            "layer": (INT, "0-based block whose output it is"),
            "category": (TEXT, "first tag of the chunks; all: every chunk, or tokens of any"),
            "measure": (
                TEXT,
                "effective_rank (of singular values), participation_ratio, corrected_participation_ratio, twonn or"
                " anisotropy (mean cosine of points of different problems)",
            ),
            "n": (INT, "points"),
            "n_problems": (INT, "of these"),
            "value": (REAL, "NULL where the cloud is too small, or has no such number"),
            "low": (REAL, "95 % interval, a jackknife over problems; NULL likewise"),
            "high": (REAL, "likewise"),
            "isotropic": (
                REAL,
                "mean over draws of as many standard normal points in as many dimensions; NULL likewise",
            ),
            "isotropic_sd": (REAL, "standard deviation of the draws; NULL likewise"),
            "matched": (
                REAL,
                "mean over draws of as many normal points of the same mean and covariance; NULL likewise",
            ),
            "matched_sd": (REAL, "standard deviation of the draws; NULL likewise"),
            "any_category": (
                REAL,
                "mean over draws of as many chunks of any category; NULL likewise, and for category all",
            ),
            "any_category_sd": (REAL, "standard deviation of the draws; NULL likewise"),
        },
        "one row a cloud of activations and measure of its shape",
        filled=(
            Filled(
                "shape",
                "The shape of the whole has not been measured: no effective rank, no dimension, no anisotropy. Put a"
                " table [shape] into the study file where it has none, and run it:",
            ),
        ),
        since=11,
    ),
    "curve_sets": Table(
        ("model_id", "curve"),
        {
            "model_id": (TEXT, "of models"),
            "curve": (TEXT, "weekdays, months or integers"),
            "context": (TEXT, "what stood before each word"),
            "n": (INT, "words that were read"),
            "n_tokens": (INT, "tokens of each word in its context; NULL where none was read"),
            "n_last": (INT, "different last tokens, at which the words were read; NULL likewise"),
            "dropped": (TEXTS, "words with another number of tokens, left out"),
            "reason": (TEXT, "why no word was read; NULL where some were"),
            "planted": (REAL, "share of the variance that planted circles have; NULL where no word was read"),
            "power": (REAL, "share of them, in noise and of as many words, that the smooth null finds; NULL likewise"),
        },
        "one row a set of words whose order is known, and model",
        filled=(
            Filled(
                "curves",
                "It is not known whether integers, weekdays or months lie on circles. Put a table [curves] into the"
                " study file where it has none, and run it:",
            ),
        ),
        since=11,
    ),
    "curves": Table(
        ("model_id", "curve", "layer"),
        {
            "model_id": (TEXT, "of models"),
            "curve": (TEXT, "of curve_sets"),
            "layer": (INT, "0-based block whose output it is"),
            "n": (INT, "words"),
            "n_parameters": (INT, "regressors of the Fourier fit, and of the polynomial, beside the constant"),
            "dimensions": (INT, "principal components, fitted on these words, in which all is measured"),
            "variance": (REAL, "their share of the variance"),
            "autocorrelation": (REAL, "of the words' points along their order, at lag 1"),
            "fourier": (REAL, "predictive R² of the Fourier fit, each word predicted from the others"),
            "fourier_low": (REAL, "95 % interval, a jackknife over words (integers: tens); NULL where there is none"),
            "fourier_high": (REAL, "likewise"),
            "polynomial": (REAL, "predictive R² of a polynomial of as many parameters"),
            "polynomial_low": (REAL, "95 % interval; NULL where there is none"),
            "polynomial_high": (REAL, "likewise"),
            "difference": (REAL, "Fourier less polynomial"),
            "difference_low": (REAL, "95 % interval; NULL where there is none"),
            "difference_high": (REAL, "likewise"),
            "smooth_kind": (TEXT, "the kind of smooth random curve that comes nearest to the words: largest p"),
            "smooth_median": (REAL, "R² of the Fourier fit to random smooth curves of the same singular values"),
            "smooth_high": (REAL, "95th percentile of it"),
            "smooth_p": (REAL, "share of such curves that reach the words' R²"),
            "permuted_median": (REAL, "R² of the Fourier fit to the same points in random order"),
            "permuted_high": (REAL, "95th percentile of it"),
            "permuted_p": (REAL, "share of such orders that reach the words' R²"),
            "digits_median": (REAL, "R² with the digits dealt anew; NULL where words are not split into digits"),
            "digits_high": (REAL, "95th percentile of it; NULL likewise"),
            "digits_p": (REAL, "share of such deals that reach the words' R²; NULL likewise"),
        },
        "one row a set of words, model and layer: circle or helix, polynomial, and what smooth curves give",
        since=11,
    ),
    "curve_points": Table(
        ("model_id", "curve", "layer", "period", "place"),
        {
            "model_id": (TEXT, "of models"),
            "curve": (TEXT, "of curve_sets"),
            "layer": (INT, "0-based block whose output it is"),
            "period": (INT, "of the circle"),
            "place": (INT, "0-based place of the word in its set's order"),
            "word": (TEXT, "the word"),
            "x": (REAL, "cos of its angle, as its activation says by the fit to the other words; NULL where unknown"),
            "y": (REAL, "sin likewise; on a perfect circle x² + y² = 1"),
        },
        "one row a word and circle",
        since=11,
    ),
    "paths": Table(
        ("cot_id", "model_id", "layer"),
        {
            "cot_id": (TEXT, "of cots"),
            "model_id": (TEXT, "whose residual stream"),
            "layer": (INT, "0-based block whose output it is"),
            "n_chunks": (INT, "chunks with activations, at least 3"),
            "progress": (REAL, "net displacement over path length; NULL where there is no such number"),
            "curvature": (REAL, "mean turning angle between successive steps, radians; NULL likewise"),
            "effective_dimension": (REAL, "participation ratio of the steps; NULL likewise"),
            "shuffled_progress": (REAL, "mean over random orders of the same chunks; NULL likewise"),
            "shuffled_curvature": (REAL, "likewise"),
            "shuffled_effective_dimension": (REAL, "likewise"),
            "walk_progress": (
                REAL,
                "mean over random walks of as many chunks with the step covariance of the layer; NULL likewise",
            ),
            "walk_curvature": (REAL, "likewise"),
            "walk_effective_dimension": (REAL, "likewise"),
        },
        "one row a CoT of at least 3 chunks, and layer: its path through its chunks' activations",
        filled=(
            Filled(
                "paths",
                "The paths of the chains of thought have not been measured: no progress, no curvature, no dimension."
                " Put a table [paths] into the study file where it has none, and run it:",
            ),
        ),
        since=11,
    ),
    "path_steps": Table(
        ("chunk_id", "model_id", "layer"),
        {
            "chunk_id": (TEXT, "of chunks"),
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "step_length": (REAL, "distance from the activation of the chunk before it; NULL for the first chunk"),
            "step_progress": (
                REAL,
                "part of the way from the first to the last chunk that this step makes, along that line: the steps of a"
                " CoT sum to 1; NULL for the first chunk, and where both ends coincide",
            ),
            "turning_angle": (
                REAL,
                "radians between the step into the chunk and the step out of it; NULL for the first and the last chunk"
                " and beside a step of length 0",
            ),
        },
        "one row a chunk of such a CoT, and layer",
        since=11,
    ),
    "path_outcomes": Table(
        ("model_id", "layer", "comparison", "measure"),
        {
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "comparison": (
                TEXT,
                "unmatched, matched (equally many chunks), matched_to_order (less each CoT's mean over random orders),"
                " or within_problem",
            ),
            "measure": (TEXT, "progress, curvature or effective_dimension"),
            "n_correct": (INT, "correct CoTs in strata with both kinds"),
            "n_wrong": (INT, "wrong ones"),
            "n_strata": (INT, "such strata"),
            "difference": (REAL, "correct − wrong, mean over strata; NULL where there is no such stratum"),
            "low": (REAL, "bootstrap 95 % interval over problems; NULL where there is none"),
            "high": (REAL, "likewise"),
            "p": (REAL, "two-sided, verdicts dealt anew within strata; NULL where there is no such stratum"),
            "sd": (REAL, "standard deviation within strata; NULL where there is none"),
            "planted": (REALS, "differences that were planted, in such standard deviations; NULL likewise"),
            "power": (REALS, "share of worlds with each of them in which p ≤ 0.05; NULL likewise"),
        },
        "one row a comparison of correct and wrong CoTs, measure and layer",
        since=11,
    ),
}

_SPACE: dict[str, tuple[pa.DataType, str]] = {
    "layer": (INT, "0-based block whose output the words' vectors are"),
    "cleaning": (TEXT, "raw, centred, distractors or discriminants (docs/feature-geometry.md)"),
    "fitted_on": (TEXT, "what principal components are fitted on: class, classes or vocabulary"),
    "components": (INT, "principal components; 0: all dimensions"),
    "word_class": (TEXT, "of word_classes"),
}
TABLES |= {
    "parallelograms": Table(
        ("model_id", *_SPACE),
        {
            "model_id": (TEXT, "of models"),
            **_SPACE,
            "n_pairs": (INT, "word pairs"),
            "n_quadruples": (INT, "two pairs each that share no word"),
            "loss": (REAL, "mean parallelogram loss over the quadruples; NULL where there are none"),
            "null": (REAL, "mean over shuffled pairs: the class's outputs dealt anew among its inputs"),
            "null_low": (REAL, "2.5th percentile of the shuffles' means"),
            "null_high": (REAL, "97.5th percentile"),
            "p": (REAL, "share of shuffles with as low a mean loss, one-sided, (k + 1) / (N + 1)"),
            "ratio": (REAL, "loss over null: below 1, outputs lie as their own inputs say"),
            "ratio_low": (REAL, "95 % interval over pairs, those that share words together"),
            "ratio_high": (REAL, "likewise"),
            "losses": (REALS, "losses that 0, 5, …, 100 % of the quadruples are below"),
            "null_losses": (REALS, "the same of shuffled pairs"),
        },
        "one row a model, space and class of word pairs",
        filled=(
            Filled(
                "parallelograms",
                "No word pairs have been read yet. Put a table [parallelograms] into the study file where it has none,"
                " and run it:",
            ),
        ),
        since=11,
    ),
    "word_classes": Table(
        ("word_class",),
        {
            "word_class": (TEXT, "name of its file"),
            "source": (TEXT, "folder of the file"),
            "n_pairs": (INT, "pairs of the file"),
            "n_kept": (INT, "that take part: both words are one token of every model"),
            "n_input": (INT, "left out: the input is several tokens of a model"),
            "n_output": (INT, "left out: the output is"),
            "n_both": (INT, "left out: both are"),
            "n_duplicate": (INT, "left out: stands there already, or its two words are one"),
            "parameters": (TEXT, "JSON: how words are read, and from where the others were drawn"),
        },
        "one row a class of word pairs",
        since=11,
    ),
    "word_readings": Table(
        ("model_id", "layer"),
        {
            "model_id": (TEXT, "of models"),
            "layer": (INT, "0-based block"),
            "context": (TEXT, "in what words are read: phrase, bos or alone"),
            "n_words": (INT, "words of the vocabulary that were drawn"),
            "norm_median": (REAL, "length of their vectors"),
            "norm_largest": (REAL, "likewise"),
            "first_share": (REAL, "share of their variance along the first principal component"),
        },
        "one row a model and layer: how words lie there before anything is taken away",
        since=11,
    ),
    "parallelogram_comparisons": Table(
        ("base_model_id", "distilled_model_id", *_SPACE),
        {
            "base_model_id": (TEXT, "of models"),
            "distilled_model_id": (TEXT, "of models; both read the same words"),
            **_SPACE,
            "n": (INT, "word pairs; of all classes: classes"),
            "difference": (REAL, "mean loss of the distilled model less that of the base model"),
            "low": (REAL, "95 % interval over pairs; of all classes over classes"),
            "high": (REAL, "likewise"),
            "p": (REAL, "two-sided, by test"),
            "log_ratio": (REAL, "natural logarithm of the distilled model's ratio to its null over the base model's"),
            "log_ratio_low": (REAL, "95 % interval, likewise"),
            "log_ratio_high": (REAL, "likewise"),
            "log_ratio_p": (REAL, "two-sided"),
            "test": (TEXT, "name of the test"),
        },
        "one row a pair of models, space and class, and one of all classes",
        since=11,
    ),
    "parallelogram_examples": Table(
        ("model_id", *_SPACE, "place"),
        {
            "model_id": (TEXT, "of models"),
            **_SPACE,
            "place": (INT, "1 is the quadruple of the least loss; −1 that of the largest"),
            "a": (TEXT, "input of the first pair"),
            "b": (TEXT, "its output"),
            "c": (TEXT, "input of the second pair"),
            "d": (TEXT, "its output"),
            "loss": (REAL, "parallelogram loss"),
        },
        "one row a quadruple of words among the best and the worst of its class",
        since=11,
    ),
    "feature_quadruple_searches": Table(
        ("dictionary_id", "model_id", "searched", "draw"),
        {
            "dictionary_id": (TEXT, "of dictionaries or of saes"),
            "model_id": (TEXT, "whose decoder rows they are"),
            "searched": (TEXT, "rows, or a null: shuffled, covariance or turned (docs/feature-geometry.md)"),
            "draw": (INT, "from 0, of a null"),
            "n_rows": (INT, "rows that take part"),
            "n_dead": (
                INT,
                "left out: features that never fired (of an autoencoder: on no held-out token), and rows of zeros",
            ),
            "n_alike": (INT, "left out: cosine above 0.9 to a row that takes part"),
            "n_sides": (INT, "differences of two rows that were matched with each other"),
            "smallest": (REAL, "least loss"),
            "median": (REAL, "over sides, of the loss of the best match"),
            "losses": (REALS, "best losses that 0, 5, …, 100 % of the sides are below"),
            "seed": (INT, "of sides and draws"),
        },
        "one row a search for parallelograms among decoder rows",
        since=11,
    ),
    "feature_quadruples": Table(
        ("dictionary_id", "model_id", "place"),
        {
            "dictionary_id": (TEXT, "of dictionaries or of saes"),
            "model_id": (TEXT, "whose decoder rows they are"),
            "place": (INT, "1 has the least loss"),
            "a": (INT, "feature"),
            "b": (INT, "feature: b − a is one side"),
            "c": (INT, "feature"),
            "d": (INT, "feature: d − c is the other"),
            "loss": (REAL, "parallelogram loss of their unit rows"),
            "cosine": (REAL, "of the two sides"),
        },
        "one row a quadruple of features among the best found",
        since=11,
    ),
}


TABLES |= {
    "cosine_sets": Table(
        ("set_id",),
        {
            "set_id": (TEXT, "id of the rows and of how they were counted"),
            "kind": (TEXT, "what its rows are (backend/feature_geometry/row_sets.py)"),
            "model_id": (TEXT, "of models; NULL of a published dictionary's model"),
            "model": (TEXT, "the model's name"),
            "role": (TEXT, "base, tuned (the distilled model, or a published tuned one), or model"),
            "layer": (INT, "0-based block; NULL of an unembedding"),
            "source": (TEXT, "of dictionaries or of saes, or the path of a published file; NULL of a model's own rows"),
            "trained_on": (TEXT, "model, gaussian or random_weights, of an autoencoder of saes; NULL of others"),
            "seed": (INT, "of that autoencoder's training; NULL of others"),
            "null_of": (TEXT, "the set that these rows were drawn to resemble; NULL of a set itself"),
            "drawn_from": (TEXT, "what they have of it (backend/feature_geometry/covariance_nulls.py); NULL likewise"),
            "n_total": (INT, "rows of the whole set"),
            "n_rows": (INT, "of them, those that were looked at: all, or some that were drawn"),
            "d": (INT, "values of a row"),
            "n_zero": (INT, "rows that are zero, and have no direction"),
            "n_dead": (INT, "rows of features that never fired; NULL where firing is not known"),
            "n_duplicates": (
                INT,
                "of the others, those whose cosine with an earlier row is above 0.9, or connects them",
            ),
            "linked_above": (REAL, "cosine from which cosine_pairs knows all clusters; NULL where no links are kept"),
        },
        "one row a set of directions, or rows drawn in its stead",
        filled=(
            Filled(
                "cosines",
                "It is not known yet how the directions of this study lie to each other. Put a table [cosines] into the"
                " study file where it has none, and run it:",
            ),
        ),
        since=11,
    ),
    "cosine_tails": Table(
        ("set_id", "subset"),
        {
            "set_id": (TEXT, "of cosine_sets"),
            "subset": (
                TEXT,
                "all rows; live, without dead ones; distinct, without duplicates either; or fired 1 to fired 4, the"
                " quarters of live rows by how often they fire",
            ),
            "n_rows": (INT, "rows with a direction"),
            "n_pairs": (INT, "of them"),
            "frequency_low": (REAL, "of a quarter: how often its rarest fires; NULL of others"),
            "frequency_high": (REAL, "likewise its most frequent"),
            "first_edge": (REAL, "|cosine| above which bins begin"),
            "bin_width": (REAL, "of |cosine|; the last bin has no upper edge"),
            "negative": (INTS, "pairs in each bin of −cosine, from the first edge up"),
            "positive": (INTS, "pairs in each bin of cosine"),
        },
        "one row a set and choice of its rows: how many pairs lie where in the tails",
        since=11,
    ),
    "cosine_exceedances": Table(
        ("set_id", "subset", "mark"),
        {
            "set_id": (TEXT, "of cosine_sets"),
            "subset": (TEXT, "of cosine_tails"),
            "mark": (TEXT, "0.1 (as published), or the share of isotropic pairs that lie beyond: 1e-3 or 1e-6"),
            "threshold": (REAL, "|cosine|"),
            "n_beyond": (INT, "pairs above it"),
            "n_negative": (INT, "of them, those below minus it"),
            "share": (REAL, "n_beyond over all pairs; NULL of fewer than four rows"),
            "ci_low": (REAL, "95 % interval, rows being the sample (docs/feature-geometry.md)"),
            "ci_high": (REAL, "likewise"),
            "expected": (REAL, "share of isotropic pairs at this width: the exact law"),
            "touching": (INTS, "pairs above it with a row of each of 16 groups (row number modulo 16)"),
            "group_rows": (INTS, "rows of each group"),
        },
        "one row a set, choice of its rows and threshold: the tail mass",
        since=11,
    ),
    "cosine_pairs": Table(
        ("set_id", "a", "b"),
        {
            "set_id": (TEXT, "of cosine_sets"),
            "a": (INT, "row of the set"),
            "b": (INT, "row of the set, after a"),
            "cosine": (REAL, "of the two; five decimals, its size rounded up"),
            "is_drawn": (BOOL, "one of its bin's, of which so many are drawn at most"),
            "is_link": (BOOL, "one of the pairs by which rows are connected, the strongest first"),
            "token_a": (TEXT, "of an unembedding, the token; NULL of others"),
            "token_b": (TEXT, "likewise"),
        },
        "one row a pair that is kept",
        since=11,
    ),
}

TABLES["divergence"] = Table(
    ("base_model_id", "distilled_model_id", "layer", "positions", "measure"),
    {
        "base_model_id": (TEXT, "of models"),
        "distilled_model_id": (TEXT, "of models; both read the same tokens"),
        "layer": (INT, "0-based block whose output is compared"),
        "positions": (
            TEXT,
            "all, prompt or cot (what was written after the prompt); the first token of a text is none",
        ),
        "measure": (
            TEXT,
            "relative_norm (‖distilled − base‖ / ‖base‖ a token, mean), cka (linear, debiased), principal_angle (mean,"
            " degrees), kl (of the logit lenses, KL(base ‖ distilled), nats) or kl_reverse (KL(distilled ‖ base))",
        ),
        "value": (REAL, "0 (cka: 1) exactly where both are equal bit for bit; NULL where there are too few positions"),
        "low": (REAL, "95 % interval, a jackknife over groups of problems; NULL with fewer than two"),
        "high": (REAL, "likewise"),
        "control": (
            REAL,
            "of the base alone: at the same token in another problem (principal_angle: on half of the problems against"
            " the other half); NULL where there is none",
        ),
        "n_control": (INT, "positions of the control"),
        "null": (
            REAL,
            "where nothing is shared: base against distilled at any token of another problem (cka: over all pairings at"
            " random, exactly; principal_angle: random subspaces); NULL where there is none",
        ),
        "null_sd": (
            REAL,
            "standard deviation of the null over its draws (of a mean: its standard error); NULL likewise",
        ),
        "angles": (REALS, "each principal angle, degrees, rising: as many as components; NULL of other measures"),
        "n_tokens": (INT, "positions; those that several texts begin with count once"),
        "n_problems": (INT, "of these"),
    },
    "one row a layer, measure and kind of position: how far the residual streams of the base and the distilled model"
    " are apart on the same tokens",
    filled=(
        Filled(
            "diverge",
            "It is not known at which layers the base and the distilled model part. Put a table [diverge] into the"
            " study file where it has none, and run it:",
        ),
    ),
    since=11,
)


FILLED = {filled.stage: filled for table in TABLES.values() for filled in table.filled}


def as_document() -> str:
    """docs/schema.md: the tables with their columns and meanings."""
    names = {
        TEXT: "text",
        INT: "int",
        REAL: "float64",
        BOOL: "bool",
        TIME: "timestamp",
        VECTOR: "float32[]",
        REALS: "float64[]",
        INTS: "int[]",
        TEXTS: "text[]",
    }
    parts = [
        "# Schema\n\nEvery table of a study, column by column; `python -m backend.schema.tables > docs/schema.md`"
        f" writes this file. Unknown is NULL.\nSchema version: {SCHEMA_VERSION}."
    ]
    for name, table in TABLES.items():
        lines = [
            f"## `{name}`",
            "",
            f"{table.about[0].upper()}{table.about[1:]}. Key: {', '.join(f'`{column}`' for column in table.key)}."
            + "".join(f" Stage: {filled.stage}." for filled in table.filled[:1]),
            "",
            "| column | type | meaning |",
            "| --- | --- | --- |",
        ]
        lines += [f"| `{column}` | {names[dtype]} | {meaning} |" for column, (dtype, meaning) in table.columns.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(as_document(), end="")
