"""The Jacobian lens of one cell alone, for the live worker: J_x h of this text, and how far the averaged lens holds."""

from backend.lens.local import agreement, local_reading
from backend.live.jobs import Reader, Steps
from backend.live.lens_map import lens_of
from backend.live.requests import LensLocal


def lens_local(reader: Reader, request: LensLocal) -> Steps:
    """Its likeliest tokens as [id, word, probability]; what was summed, in words; and the cosine to the average's J h,
    None where no average is named or there is no cosine, with its words.
    """
    loaded = reader.loaded
    reading = local_reading(loaded, reader.read(request.text).encoded, request.layer, range(request.start, request.end))
    log_probs, ids = reading.log_probs.topk(min(request.n, len(reading.log_probs)))
    words = [loaded.tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids.tolist()]
    rows = [[*row] for row in zip(ids.tolist(), words, log_probs.exp().tolist(), strict=True)]
    yield "part", {"top": rows, "words": reading.words, "summed": [reading.summed.start, reading.summed.stop]}
    if request.average.lens_id is not None:
        found = agreement(reading, lens_of(loaded, request.average))
        yield "part", {"agreement": {"cosine": found.cosine, "of": found.of, "words": found.words}}
