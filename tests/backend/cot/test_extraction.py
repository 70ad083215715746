import time

import pytest

from backend.cot.extraction import answer_place, extract_answer

STATED = [  # in a box, behind GSM8K's mark, in a tag
    (r"So we get \boxed{18}.", "18"),
    (r"First \boxed{3}, then \boxed{\frac{1}{23}}", r"\frac{1}{23}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{ 18 apples }", "18 apples"),
    (r"It is \boxed{4}. No wait, it is \boxed{5", "4"),  # the cut-off box says nothing
    (r"It is \boxed{5", None),
    (r"so we have $\boxed 2$.", "2"),
    (r"The solutions are \boxed{2} and \boxed{3}.", "2, 3"),
    (r"The answer is \boxed{15}.", "15"),
    ("2 + 2 = 4\n#### 1,080", "1,080"),
    ("... so it is. #### 18", "18"),
    ("#### -5", "-5"),
    ("#### $18", "$18"),
    ("####18", "18"),
    ("#### 3/4", "3/4"),
    ("#### 18 dollars", "18 dollars"),
    ("#### A", "A"),
    ("#### Final Answer\n15", "15"),
    ("<answer>15</answer>", "15"),
    (r"<think>x</think><answer>\boxed{15}</answer>", "15"),
    ("[ANSWER]5[/ANSWER]", "5"),
    ('{"answer": "15"}', "15"),
]

HEADINGS = [  # Markdown, not GSM8K's mark
    ("#### Step 2: add them\n3 + 4 = 7.\nThe answer is 7.", "7"),
    ("#### 2. Add them\n3 + 4\n#### 3 Check\nThe answer is 9", "9"),
    ("#### Conclusion\nwe are done", None),
    ("### Final Answer\n\n**15**", "15"),
    ("**Final Answer**\n\n\\boxed{15}", "15"),
    ("**Final Answer:**\n\n$$15$$", "15"),
    ("The value is 3.\n\nAnswer\n\n7", "7"),
]

LAST = [  # the last statement counts, if it is meant
    ("The answer is 7. Wait, the answer is 8.", "8"),
    (r"\boxed{12} is what we get first. But the correct answer is 15.", "15"),
    (r"I thought \boxed{12}. The answer is 15. Indeed \boxed{15}", "15"),
    (r"Not \boxed{3}. The answer is 4.", "4"),
    (r"The answer is 4, not \boxed{3}.", "4"),
    (r"The answer is 4. Is it \boxed{3}? That is wrong.", "4"),
    ("If the answer is 5, then we fail. So the answer is 6.", "6"),
    ("The answer is 6. If the answer is 5, we fail.", "6"),
    ("The answer is 7? No. The answer is 8", "8"),
    ("The answer is not 5.", None),
    ("Final Answer: The final answer is $5$. I hope it is correct.", "5"),
]

AFTER_THINKING = [
    ("Maybe \\boxed{12}? Wait, that is wrong, it is 15.</think>\n\nThe final answer is 15.", "15"),
    ("<think>hm \\boxed{3}</think>\n\nTom has 15 apples.", "15"),
    ("<think>hm \\boxed{3}</think>\n\nTom has **15** apples.", "15"),
    ("<think>so 15</think>15", "15"),
    ("<think>so \\boxed{15}.</think>", "15"),
    ("<think>so \\boxed{15}.</think>\n\n", "15"),
    ("<think>so \\boxed{15}.</think>\n\nThe result follows from the above.", "15"),
    ("[THINK]\\boxed{3}[/THINK]The answer is 4", "4"),
    ("<|channel|>analysis<|message|>maybe the answer is 3<|end|><|channel|>final<|message|>The answer is 4.", "4"),
]

SAID = [
    ("The answer is 7. I hope this helps.", "7"),
    ("The answer is 3.50 dollars.", "3.50 dollars"),
    ("Therefore, the final answer is: **12 apples**", "12 apples"),
    ("Answer: \\(\\frac{3}{4}\\)", r"\frac{3}{4}"),
    ("the final answer is\n\n\\[\n\\frac{1}{2}\n\\]", r"\frac{1}{2}"),
    ("The solution is $x = 4$.", "x = 4"),
    ("The answer to the question is 5.", "5"),
    ("The answer to this problem is therefore 5 cm.", "5 cm"),
    ("Ans: 12", "12"),
    ("The answer is $15$ dollars.", "$15$ dollars"),
    ("The answer is \\$15.", "\\$15"),
    ("the answer is $15.", "$15"),
    ("The answer is 3:30 p.m.", "3:30 p.m."),
    ("The answer is 1,234.5 kg.", "1,234.5 kg"),
    ("The answer is 5 km/h.", "5 km/h"),
    ("The answer is approximately 3.14.", "approximately 3.14"),
    ("The answer is ½.", "½"),
    ("The answer is √2.", "√2"),
    ("The answer is -5.", "-5"),
    ("The answer is (2, 3).", "(2, 3)"),
    ("The answer is [0, 1).", "[0, 1)"),
    ("The answer is {1, 2}.", "{1, 2}"),
    ("The answer is x + y.", "x + y"),
    ("The answer is x = 2, y = 3.", "x = 2, y = 3"),
    ("The answer is what we look for.", None),
    ("The answer is correct.", None),
    ("The answer is in the table.", None),
    ("Tom has 3 apples.", None),
    ("", None),
]

CHOICES_AND_WORDS = [
    ("The answer is (C).", "(C)"),
    ("The correct answer is C.", "C"),
    ("The correct option is **(B) 15**.", "(B) 15"),
    ("ANSWER: D", "D"),
    ("Hence, option (B) is correct.", "B"),
    ("The answer is option C.", "C"),
    ("The answer is True.", "True"),
    ("The answer is: yes", "yes"),
    ("The final answer is Tuesday.", "Tuesday"),
    ("Answer: Tuesday", "Tuesday"),
    ("The answer is Paris, the capital of France.", "Paris"),
]

REASONS = [  # are no part of the answer
    ("The answer is 15 because 3 times 5 is 15.", "15"),
    ("The answer is 15, since each has 5.", "15"),
    ("The answer is 15, which is odd.", "15"),
    ("The answer is 15 apples, so he has enough.", "15 apples"),
    ("The answer is 15 (three times five).", "15"),
    ("The answer is 2, 3.", "2, 3"),
    ("The answer is $x=2$ because it fits.", "x=2"),
    ("The answer is 15 as required.", "15"),
    ("Die Antwort ist 15, weil 3 mal 5 15 ist.", "15"),
    ("La réponse est 15 parce que 3 x 5 = 15.", "15"),
    ("答案是15，因为3乘5等于15。", "15"),
]

LANGUAGES = [
    ("最终答案是 15。", "15"), ("答案：15", "15"), ("所以答案是15个苹果。", "15个苹果"), ("故选B。", "B"), ("答：一共有15个。", "15个"),
    ("因此，答案为 $\\frac{1}{2}$。", "\\frac{1}{2}"), ("**最终答案：15**", "15"), ("所以，正确答案是（C）。", "（C）"),
    ("最終答案為 15。", "15"),
    ("答えは 15 です。", "15"), ("答え：15", "15"), ("したがって、最終的な答えは15個です。", "15個"), ("正解は (B) です。", "(B)"),
    ("答えは、42である。", "42"), ("정답은 15입니다.", "15"), ("따라서 답은 15이다.", "15"), ("최종 답: 15", "15"), ("**정답: 15**", "15"),
    ("La réponse est 15.", "15"), ("La réponse finale est : **15**.", "15"), ("**Réponse :** 15 pommes", "15 pommes"),
    ("Donc la réponse correcte est (B).", "(B)"), ("Die Antwort ist 15.", "15"), ("Die Antwort lautet 15 Äpfel.", "15 Äpfel"),
    ("**Antwort:** 15", "15"), ("Die endgültige Antwort ist $15$.", "15"), ("Endergebnis: 3,5", "3,5"), ("La respuesta es 15.", "15"),
    ("La respuesta final es $\\frac{1}{2}$.", "\\frac{1}{2}"), ("**Respuesta:** 15", "15"),
    ("A resposta é 15.", "15"), ("Resposta final: 15", "15"),
    ("La risposta è 15.", "15"), ("La risposta finale è: 15", "15"), ("Ответ: 15.", "15"),
    ("Ответ — 15.", "15"), ("Окончательный ответ: 15", "15"),
    ("Таким образом, ответ равен 15.", "15"), ("**Ответ:** 15 яблок", "15 яблок"), ("उत्तर 15 है।", "15"), ("अंतिम उत्तर: 15", "15"),
    ("सही उत्तर है 15।", "15"), ("الإجابة هي 15.", "15"), ("الإجابة النهائية هي: ١٥", "١٥"), ("الجواب هو 15", "15"), ("Đáp án là 15.", "15"),
    ("Đáp số: 15", "15"), ("Câu trả lời cuối cùng là 15.", "15"), ("คำตอบคือ 11", "11"), ("Jibu ni 11.", "11"), ("উত্তর হল 11।", "11"),
    ("సమాధానం 11.", "11"), ("Jawabannya adalah 15.", "15"), ("Het antwoord is 15.", "15"), ("Cevap: 15", "15"), ("Odpowiedź: 15", "15"),
    ("Svaret är 15.", "15"), ("התשובה היא 15.", "15"), ("Η απάντηση είναι 15.", "15"), ("Răspunsul este 15.", "15"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "answer"), STATED + HEADINGS + LAST + AFTER_THINKING + SAID + CHOICES_AND_WORDS + REASONS + LANGUAGES
)
def test_the_answer_as_it_was_written(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize("text", [text for text, answer in SAID + AFTER_THINKING + LANGUAGES if answer])
def test_the_place_is_where_the_answer_stands(text):
    assert text[slice(*answer_place(text))] == extract_answer(text)


def test_the_place_of_several_boxes_reaches_from_the_first_to_the_last():
    text = r"<think>maybe \boxed{7}</think>So \boxed{2} and \boxed{3}."
    assert extract_answer(text) == "2, 3"
    assert text[slice(*answer_place(text))] == r"2} and \boxed{3"
    assert answer_place("nothing") is None


def test_a_statement_far_from_the_end_is_found_too():
    filler = "We look at the numbers once more.\n" * 500
    assert extract_answer(f"The answer is 7.\n{filler}") == "7"
    assert extract_answer(f"\\boxed{{7}}\n{filler}The answer is not 8.\n{filler}") == "7"


@pytest.mark.parametrize(
    "text",
    [
        "the answer is " * 50_000, "Answer: " * 50_000, "#### 1\n" * 50_000, "\\boxed{1} " * 20_000, "答案" * 100_000, "</think>" * 50_000,
        "the answer is " + "$" * 100_000, "answer" + " " * 200_000 + "is 5", "a" * 300_000, "*" * 200_000, "final answer\n" * 50_000,
        "The answer is not 5. " * 20_000, "solution of " * 50_000, "if " * 100_000, "\n" * 200_000, "<answer>" * 50_000, "**1" * 60_000,
    ],
    ids=lambda text: text[:16],
)  # fmt: skip
def test_time_is_linear_in_the_text(text):
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 2.5
