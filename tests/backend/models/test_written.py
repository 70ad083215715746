"""Progress in tokens: it moves with every step, and ends at what was written."""

from backend.models.sampling import Sample, SampleRequest, SamplingParameters, sampled_in_steps
from backend.models.written import Written


def test_most_shrinks_to_the_tokens_there_are_as_samples_end():
    written = Written(n_samples=3, longest=10)
    assert (written.tokens, written.most) == (0, 30)
    for _ in range(4):
        written.draw(3)
    written.end([Sample("a", (1, 2, 3), "eos")])  # three tokens and the end token
    assert (written.tokens, written.most) == (12, 24)
    for _ in range(6):
        written.draw(2)
    written.end([Sample("b", (1,) * 10, "cap"), Sample("c", (1,) * 9, "eos")])
    assert written.tokens == written.most == 24 and written.ended == 3


def test_every_step_tells_its_tokens_on_the_shared_and_on_the_plain_way(tiny):
    for family in ("llama", "gemma2"):
        tokens = tiny(family).tokenizer("What is 12 + 30?")["input_ids"]
        requests = [SampleRequest(str(k), "s", len(tokens), k) for k in range(3)]
        written, steps = Written(3, 6), []
        for ended in sampled_in_steps(
            tiny(family), {"s": tokens}, requests, SamplingParameters(1.0, 1.0, 6), drawn=written.draw
        ):
            written.end(ended)
            steps.append(written.tokens)
            assert written.tokens <= written.most <= 18
        assert steps == sorted(steps) and 3 in steps and written.tokens == written.most
