"""Which importances are decided, in one place: SQL of the table `importance` with the q of every p.

`q` is Benjamini and Hochberg's over the `n_tested` chunks of the study that have a p by the same metric and convention:
of the chunks with q at most Q, one in twenty is expected to be there by chance. It is computed when it is read, so that
it is always of the chunks that there are; both are NULL where the metric has no p.
"""

Q = 0.05
_BY_P = (
    "(SELECT chunk_id, metric, convention, p, row_number() OVER own AS place, count(*) OVER (PARTITION BY metric,"
    " convention) AS n_tested FROM importance WHERE p IS NOT NULL WINDOW own AS (PARTITION BY metric, convention ORDER"
    " BY p))"
)
_Q = (
    "(SELECT chunk_id, metric, convention, n_tested, least(1.0, min(p * n_tested / place) OVER (PARTITION BY metric,"
    f" convention ORDER BY place DESC ROWS UNBOUNDED PRECEDING)) AS q FROM {_BY_P})"
)
DECIDED = f"(SELECT i.*, d.q, d.n_tested FROM importance i LEFT JOIN {_Q} d USING (chunk_id, metric, convention))"
