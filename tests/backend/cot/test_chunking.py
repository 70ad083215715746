import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.cot.chunking import MIN_CHUNK_CHARS, TokenSpanError, chunk_spans, newest_rule, token_spans
from tests.hanging import ends
from tests.shared_data import published_cots

SENTENCES = st.text(alphabet="ab3. ?!\n\r\tθ…。？」、三", max_size=300) | st.text(max_size=200)


def chunks(text: str) -> list[str]:
    return [text[start:end] for start, end in chunk_spans(text)]


@given(SENTENCES)
def test_joining_the_chunks_gives_the_text_back_byte_for_byte(text):
    assert "".join(chunks(text)).encode("utf-8", "surrogatepass") == text.encode("utf-8", "surrogatepass")


@given(SENTENCES)
def test_spans_are_ordered_not_empty_and_touch(text):
    spans = chunk_spans(text)
    assert all(start < end for start, end in spans)
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert not text or (spans[0][0], spans[-1][1]) == (0, len(text))


@given(SENTENCES)
def test_no_chunk_is_short_unless_it_is_the_only_one(text):
    assert len(chunks(text)) == 1 or all(len(chunk.strip()) >= MIN_CHUNK_CHARS for chunk in chunks(text))


@given(st.text(alphabet="ab .?!\n。」三", max_size=200), st.text(alphabet="ab .?!\n。」、三", max_size=100))
def test_text_after_a_finished_chunk_does_not_move_the_chunks_before_it(text, more):
    """What a rollout continues may not change the chunks in front of it, except the last two,
    which were not finished."""
    assert chunk_spans(text + more)[: max(0, len(chunk_spans(text)) - 2)] == chunk_spans(text)[:-2]


def test_empty_text_has_no_chunk():
    assert chunk_spans("") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tom has 3 apples. Then he buys 4.", ["Tom has 3 apples.", " Then he buys 4."]),
        ("Is it seven apples? Yes it is! So it is seven.", ["Is it seven apples?", " Yes it is!", " So it is seven."]),
        ("The ratio is 3.14 and not 3.15, e.g.", ["The ratio is 3.14 and not 3.15, e.g."]),
        ("A first paragraph\n\nA second paragraph", ["A first paragraph\n\n", "A second paragraph"]),
        ("A first paragraph\nstill the first paragraph", ["A first paragraph\nstill the first paragraph"]),
        ("A first sentence.\n\nA second sentence.\n", ["A first sentence.\n\n", "A second sentence.\n"]),
        ("A first sentence.\n  An indented one.", ["A first sentence.\n", "  An indented one."]),
        ("A first sentence.  \n \n\n  An indented one.", ["A first sentence.  \n \n\n", "  An indented one."]),
        ("A first sentence.\r\n\r\nA second sentence.", ["A first sentence.\r\n\r\n", "A second sentence."]),
        ("Correct.\n\n2. Now multiply by three.", ["Correct.\n\n2.", " Now multiply by three."]),
        ("Wait. Let me count them again.", ["Wait. Let me count them again."]),
        ("Let me count them again. Yes.", ["Let me count them again. Yes."]),
        ("Hm.", ["Hm."]),
        ("   ", ["   "]),
        ("It costs $3.50.That is all", ["It costs $3.50.That is all"]),
        ("So we wait... and then we go on", ["So we wait...", " and then we go on"]),
    ],
)
def test_boundaries(text, expected):
    assert chunks(text) == expected


@pytest.mark.parametrize(
    "sentences",
    [
        [
            "先把两个篮子里的苹果都数一遍。",
            "一共应该有几个苹果呢？",
            "应该是十五个苹果吧！！",
            "等一下，再检查一遍吧。",
        ],
        [
            "老师问道：“这一步到底对不对？”",
            "没有人回答老师的这个问题。",
            "（我们再把条件看一遍吧。）",
            "第二步把结果再除以二。",
        ],
        [
            "まずはりんごの数を数えましょう。",
            "「本当にそれで合っていますか。」",
            "もう一度計算してみます！",
            "答えは十五個のままです。",
        ],
        ["पहले दोनों संख्याएँ जोड़ते हैं।", " क्या यह सही उत्तर है?", " हाँ, उत्तर पंद्रह ही है।"],
        ["هل هذا هو الجواب الصحيح؟", " لنراجع الحساب مرة أخرى.", " نعم، الجواب خمسة عشر."],
        ["کیا یہ جواب درست ہے؟", " پہلے ہم دونوں کو جمع کرتے ہیں۔", " جواب پندرہ ہے بالکل۔"],
        ["먼저 사과의 수를 세어 봅시다.", " 정말 그 답이 맞습니까?", " 다시 한 번 계산해 봅시다!"],
        ["መጀመሪያ ፖሞቹን እንቆጥራለን።", " መልሱ ትክክል ነው ወይስ አይደለም፧", " መልሱ አሥራ አምስት ነው።"],
        ["Նախ հաշվենք խնձորները։", " Պատասխանը տասնհինգն է։"],
        ["ပထမဦးစွာ ပန်းသီးများကို ရေတွက်ပါ။", " အဖြေမှာ ဆယ့်ငါး ဖြစ်သည်။"],
        ["ដំបូងយើងរាប់ផ្លែប៉ោមទាំងអស់។", " ចម្លើយគឺដប់ប្រាំ។"],
        ["まず全体の和を求めることにする．", "次に３．１４を二倍して確かめる．", "よって答えは６．２８である．"],
        ["先生は「三足す四は七です。」と言いました。", "それから次の問題に進みました。"],
        ["Πόσα μήλα έχει τώρα;", " Έχει τρία και αγόρασε τέσσερα."],
        ["一共应该是十五个苹果才对.", "不过真的是这样吗?", "让我从头再算一遍看看!", "So it is 15."],
    ],
)
def test_sentences_end_as_they_do_in_their_script(sentences):
    text = "".join(sentences)
    assert chunks(text) == list(_merged(sentences))


def _merged(sentences):
    """Those under the shortest length of a chunk join the next one, as anywhere."""
    held = ""
    for number, sentence in enumerate(sentences):
        held += sentence
        if len(held.strip()) >= MIN_CHUNK_CHARS or number == len(sentences) - 1:
            yield held
            held = ""


@pytest.mark.parametrize(
    "one_sentence",
    [
        "「これで本当に合っていますか？」、と先生は言いました",  # a comma goes on with the sentence
        "他在这里写道“一共是三个？”，然后就停住了",
        "圆周率大约等于３．１４１５９左右",  # a decimal point
        "这五个字母共有5!种不同的排列方式",  # a factorial
        "第3.2节里已经证明了这一个结论",
        "等等……我再想一想这一步到底对不对",  # dots that hesitate
    ],
)
def test_what_does_not_end_a_sentence_in_other_scripts(one_sentence):
    assert chunks(one_sentence) == [one_sentence]


def test_texts_without_signs_of_other_scripts_are_cut_by_the_first_rule():
    first = ("", "So 3! = 6. Is it? Yes.", "A θ and an … and “quotes.” End", "x; y", "一个苹果", "3.14 三")
    assert {newest_rule(text) for text in first} == {1}
    assert {newest_rule(text) for text in ("It is 三。", "Ok？", "对!好", "है।")} == {2}


def test_splitting_takes_linear_time_whatever_the_white_space():
    for text in (
        "." + " " * 400_000,
        "\n" + " " * 400_000 + "x",
        "\n" * 400_000 + "x",
        "\n \n" * 100_000,
        "One more. " * 40_000,
        "。" * 400_000,
        "。」" * 200_000,
        "。" + " " * 400_000,
        "三" + "!" * 400_000,
        "三!" * 200_000,
    ):
        with ends():
            chunk_spans(text)


def test_our_chunks_of_the_published_cots_are_the_published_chunks():
    for name, text, published in published_cots():
        assert [" ".join(chunk.split()) for chunk in chunks(text)] == [
            " ".join(chunk.split()) for chunk in published
        ], name


# Tokens: the text "Hi: " is the prompt, "One two. Three four five." the CoT.
TEXT = "Hi: One more two. Three four five."
SPANS = [(0, 13), (13, 30)]


def test_tokens_belong_to_the_chunk_in_which_they_start():
    offsets = [(0, 3), (3, 7), (7, 12), (12, 17), (17, 23), (23, 34)]
    assert token_spans(SPANS, offsets, text_start=4) == [(2, 4), (4, 6)]  # (3, 7) starts in the prompt


def test_a_token_across_a_boundary_belongs_to_the_chunk_before():
    offsets = [(0, 4), (4, 12), (12, 20), (20, 34)]
    assert token_spans(SPANS, offsets, text_start=4) == [(1, 3), (3, 4)]


def test_a_chunk_in_which_no_token_starts_has_an_empty_span():
    assert token_spans([(0, 10), (10, 20), (20, 30)], [(0, 4), (4, 30), (30, 34)], text_start=4) == [
        (1, 2),
        (2, 2),
        (2, 3),
    ]


def test_special_tokens_at_either_end_belong_to_no_chunk():
    offsets = [(0, 0), (0, 13), (13, 30), (0, 0)]
    assert token_spans(SPANS, offsets) == [(1, 2), (2, 3)]


def test_a_character_of_several_tokens_stays_in_one_chunk():
    assert token_spans([(0, 1), (1, 2)], [(0, 1), (0, 1), (0, 1), (1, 2), (1, 2)]) == [(0, 3), (3, 5)]


def test_no_spans_and_no_tokens_give_nothing():
    assert token_spans([], [(0, 3)]) == []
    assert token_spans([(0, 3)], []) == [(0, 0)]


def test_offsets_out_of_order_are_refused_by_token():
    with pytest.raises(TokenSpanError, match="token 2 starts at character 1"):
        token_spans([(0, 6)], [(0, 3), (3, 6), (1, 2), (2, 3)])


@given(st.text(alphabet="ab. \n", max_size=200), st.lists(st.integers(1, 9), max_size=200), st.integers(0, 12))
def test_token_spans_tile_the_tokens_of_the_cot(text, widths, prompt_length):
    whole, offsets, place = "p" * prompt_length + text, [], 0
    for width in widths:
        if place >= len(whole):
            break
        offsets.append((place, min(len(whole), place + width)))
        place += width
    spans = chunk_spans(text)
    tokens = token_spans(spans, offsets, text_start=prompt_length)
    inside = [i for i, (start, _) in enumerate(offsets) if start >= prompt_length]
    assert [i for s, e in tokens for i in range(s, e)] == (inside if spans else [])
    for (start, end), (s, e) in zip(spans, tokens, strict=True):
        assert all(start <= offsets[i][0] - prompt_length < end for i in range(s, e))


def calls_for(n_chunks: int) -> int:
    """Calls that it takes to cut so many chunks and find their tokens."""
    text = "One more short sentence. " * n_chunks
    tokens, calls = [(i, i + 4) for i in range(0, len(text), 4)], 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        spans = chunk_spans(text)
        token_spans(spans, tokens)
    finally:
        sys.setprofile(None)
    assert len(spans) == n_chunks
    return calls


def test_the_work_grows_with_the_text_and_not_with_its_square():
    assert calls_for(2000) < 2.2 * calls_for(1000)
