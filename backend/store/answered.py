"""What a rollout's answer is, in one place: SQL that every query about rollouts' answers reads.

Beside the rollouts that a study sampled stand those that were drawn later at one chunk (`added_rollouts`), which go on
where its own end; of two of one id, the study's own counts. An answer is

- `given`, where the model wrote one before it ended or was cut; `published`, where it came with an import; `forced`, of
  the rollouts that are nothing but an answer forced at a chunk;
- `forced at the cap`, where the token cap cut a rollout that had none and one was then forced (`capped_answers`);
- none: NULL, and so is its source.

`given_answer` is the answer without the forcing at the cap, `given_is_correct` its verdict: what there is to compare
with. `added_id` names the later drawing that a rollout is of; NULL: the study's own.
"""

GIVEN, FORCED, PUBLISHED, FORCED_AT_CAP = "given", "forced", "published", "forced at the cap"

_OWN = (
    "rollout_id, chunk_id, cot_id, kind, sample, seed, text, resampled_chunk, similarity, answer, is_correct, grader,"
    " finish, n_tokens, n_kept, departing_chunk, departing_similarity"
)
SAMPLED = (
    f"(SELECT {_OWN}, NULL::VARCHAR AS added_id FROM rollouts UNION ALL SELECT {_OWN}, added_id FROM added_rollouts"
    " WHERE rollout_id NOT IN (SELECT rollout_id FROM rollouts))"
)
ANSWERED = (
    "(SELECT r.* EXCLUDE (answer, is_correct, grader), r.answer AS given_answer, r.is_correct AS given_is_correct,"
    " coalesce(r.answer, f.answer) AS answer, CASE WHEN r.answer IS NULL THEN f.is_correct ELSE r.is_correct END AS"
    " is_correct, CASE WHEN r.answer IS NULL AND f.answer IS NOT NULL THEN f.grader ELSE r.grader END AS grader, CASE"
    f" WHEN r.answer IS NULL THEN CASE WHEN f.answer IS NOT NULL THEN '{FORCED_AT_CAP}' END WHEN r.kind = 'forced'"
    f" THEN '{FORCED}' WHEN r.seed IS NULL THEN '{PUBLISHED}' ELSE '{GIVEN}' END AS answer_source, f.text AS"
    f" forced_text FROM {SAMPLED} r LEFT JOIN capped_answers f USING (rollout_id))"
)
