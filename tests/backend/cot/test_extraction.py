import pytest

from backend.cot.extraction import answer_place, extract_answer
from backend.cot.thoughts import TAGS
from tests.hanging import ends

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

TURNS = [  # texts decoded with their special tokens: what stands behind the end of the turn is another turn
    ("The answer is 15<|im_end|>", "15"),
    ("The answer is 15</s>", "15"),
    ("The answer is 15.<|endoftext|>Human: and 3 + 4? The answer is 7.", "15"),
    ("x</think>The answer is 15.<｜end▁of▁sentence｜>", "15"),
    ("<|begin_of_solution|>The answer is 15.<|end_of_solution|>", "15"),
    ("<|im_end|>\nThe answer is 15", "15"),  # one before the text ends nothing of it
    (r"maybe \boxed{1}<|end|><|start|>assistant<|channel|>final<|message|>The answer is 15.<|return|>", "15"),
    ("<answer>The answer is 15</answer>", "15"),
    ("<answer>x < 3</answer>", "x < 3"),
    ("<answer>We add. 3 + 4 = 7.\nThe answer is 7.</answer>", "7"),
]

RESULTS = [  # behind a closed thought: what a short text comes to
    ("x</think>\n\nThe total number of apples is 3 + 4 = 7.", "7"),
    ("x</think>\n\nShe has 3 + 4 = 7 red apples.", "7 red apples"),
    ("x</think>\n\nShe makes 9 * 2 = $18 every day at the farmer's market.", "$18"),
    ("x</think>\nThe final price is \\(\\$45\\).", "\\$45"),
    ("x</think>\n\nHence y = x + z.", None),
]

PHRASES = [  # other ways in which people and models say it
    ("So, 5 is the answer.", "5"),
    ("Hence $x+1$ is the final answer.", "x+1"),
    ("The answer is 6. If 5 is the answer, we fail.", "6"),
    ("5 is not the answer.", None),
    ("So 18 - 4 = 14, which is the final answer.", "14"),
    ("This gives the final answer of 5.", "5"),
    ("The answer we get is 5.", "5"),
    ("The answer, therefore, is 5.", "5"),
    ("Ans. 5", "5"),
    ("Final answer: No, it is not prime.", "No"),
    ("The answer is 5 as 2+3 = 5.", "5"),
    ("The answer is 1/2 (or 50%).", "1/2"),
    ("The answer is 5 ✅", "5"),
    ("Die Antwort ist 5, da 2+3=5.", "5"),
    ("Doğru cevap B'dir.", "B"),
    ("Kết quả là 5.", "5"),
    ("Odgovor je 5.", "5"),
    ("A válasz: 5", "5"),
    ("#### **42**", "42"),
    ("#### x=3", "x=3"),
    ("##### 5", None),  # a heading of level 5
    (r"\\boxed{5}", "5"),  # escaped twice on its way through JSON
    (r"\framebox[2cm]{5}", "5"),
    (r"\boxed{2} is one root, and \boxed{3} is the other.", "2, 3"),
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
    ("The answer is 15 (3 times 5).", "15"),
    ("The answer is 15 (3 * 5 = 15).", "15"),
    ("The answer is 3 (mod 7).", "3 (mod 7)"),
    ("The answer is 2, 3.", "2, 3"),
    ("The answer is $x=2$ because it fits.", "x=2"),
    ("The answer is 15 as required.", "15"),
    ("Die Antwort ist 15, weil 3 mal 5 15 ist.", "15"),
    ("La réponse est 15 parce que 3 x 5 = 15.", "15"),
    ("答案是15，因为3乘5等于15。", "15"),
]

LANGUAGES = [
    ("最终答案是 15。", "15"),
    ("答案：15", "15"),
    ("所以答案是15个苹果。", "15个苹果"),
    ("故选B。", "B"),
    ("答：一共有15个。", "15个"),
    ("因此，答案为 $\\frac{1}{2}$。", "\\frac{1}{2}"),
    ("**最终答案：15**", "15"),
    ("所以，正确答案是（C）。", "（C）"),
    ("最終答案為 15。", "15"),
    ("答えは 15 です。", "15"),
    ("答え：15", "15"),
    ("したがって、最終的な答えは15個です。", "15個"),
    ("正解は (B) です。", "(B)"),
    ("答えは、42である。", "42"),
    ("정답은 15입니다.", "15"),
    ("따라서 답은 15이다.", "15"),
    ("최종 답: 15", "15"),
    ("**정답: 15**", "15"),
    ("La réponse est 15.", "15"),
    ("La réponse finale est : **15**.", "15"),
    ("**Réponse :** 15 pommes", "15 pommes"),
    ("Donc la réponse correcte est (B).", "(B)"),
    ("Die Antwort ist 15.", "15"),
    ("Die Antwort lautet 15 Äpfel.", "15 Äpfel"),
    ("**Antwort:** 15", "15"),
    ("Die endgültige Antwort ist $15$.", "15"),
    ("Endergebnis: 3,5", "3,5"),
    ("La respuesta es 15.", "15"),
    ("La respuesta final es $\\frac{1}{2}$.", "\\frac{1}{2}"),
    ("**Respuesta:** 15", "15"),
    ("A resposta é 15.", "15"),
    ("Resposta final: 15", "15"),
    ("La risposta è 15.", "15"),
    ("La risposta finale è: 15", "15"),
    ("Ответ: 15.", "15"),
    ("Ответ — 15.", "15"),
    ("Окончательный ответ: 15", "15"),
    ("Таким образом, ответ равен 15.", "15"),
    ("**Ответ:** 15 яблок", "15 яблок"),
    ("उत्तर 15 है।", "15"),
    ("अंतिम उत्तर: 15", "15"),
    ("सही उत्तर है 15।", "15"),
    ("الإجابة هي 15.", "15"),
    ("الإجابة النهائية هي: ١٥", "١٥"),
    ("الجواب هو 15", "15"),
    ("Đáp án là 15.", "15"),
    ("Đáp số: 15", "15"),
    ("Câu trả lời cuối cùng là 15.", "15"),
    ("คำตอบคือ 11", "11"),
    ("Jibu ni 11.", "11"),
    ("উত্তর হল 11।", "11"),
    ("సమాధానం 11.", "11"),
    ("Jawabannya adalah 15.", "15"),
    ("Het antwoord is 15.", "15"),
    ("Cevap: 15", "15"),
    ("Odpowiedź: 15", "15"),
    ("Svaret är 15.", "15"),
    ("התשובה היא 15.", "15"),
    ("Η απάντηση είναι 15.", "15"),
    ("Răspunsul este 15.", "15"),
]


SET_ASIDE = [  # while the rules were made
    ("Thus, the total is 45. So, the answer is $45.", "$45"),
    ("Therefore, John spent $45 in total.\n\nAnswer: $45", "$45"),
    ("The final answer is: \\[ \\boxed{\\frac{5}{9}} \\]", "\\frac{5}{9}"),
    ("So the answer is A) 5.", "A) 5"),
    ("I think the answer is B: blue.", "B: blue"),
    ("**Answer: C**", "C"),
    ("Answer: (D) None of the above", "(D) None of the above"),
    ("The best answer is B.", "B"),
    ("So option C is the correct one.", "C"),
    ("Thus (A) is correct.", "A"),
    ("### Answer\n\nB", "B"),
    ("The correct choice is: E", "E"),
    ("Final answer: 2, 3 and 5", "2, 3 and 5"),
    ("The solutions are x = 1 and x = -2.", "x = 1 and x = -2"),
    ("The solution set is \\{1, 2\\}.", "\\{1, 2\\}"),
    ("so the answers are 3 and 4.", "3 and 4"),
    ("Therefore the answer would be 12 meters.", "12 meters"),
    ("The answer is $\\frac{3}{4}$, since the odds are 3 to 1.", "\\frac{3}{4}"),
    ("The answer is 3/4 (three quarters).", "3/4"),
    ("The answer is 5 — five apples.", "5"),
    ("The answer is 5; we are done.", "5"),
    ("Answer: 5\n\nExplanation: because 2+3=5.", "5"),
    ("Answer: 5. This follows from 2+3.", "5"),
    ("the answer is 24 hours, i.e. one day.", "24 hours"),
    ("The answer is 0.5 or 1/2.", "0.5 or 1/2"),
    ("The answer is 10 a.m.", "10 a.m."),
    ("The answer is 5 ft. 6 in.", "5 ft. 6 in."),
    ("Hmm, is the answer 12? Let me check. 12*2=24, no. So the answer is 13.", "13"),
    ("The answer is 13. Let me double check: 13*2=26. Yes, 13.", "13"),
    ("I first guessed the answer is 10, but the correct answer is 11.", "11"),
    ("My answer is not 10; it's 11. The answer is 11", "11"),
    ("<think>\n\\boxed{5}\n</think>\n**Solution**\n\nStep 1: add 2 and 3.\n\n**Final Answer**\n$$\\boxed{6}$$", "6"),
    ("<think>The answer is 5.</think>\n\nThe answer is **6**.", "6"),
    ("</think>\n\n$\\boxed{8}$ apples.", "8"),
    ("<think>a</think>\n\n#### Solution\nWe add.\n\n#### Answer\n42", "42"),
    ("<think>a</think>\n# Result\n\nThe result is 42.", "42"),
    ("<think>hmm the answer is 3. No!</think>\n\n3 + 4 = 7", "3 + 4 = 7"),
    ("<think>ok \\boxed{9}", "9"),
    ("So \\boxed{9}. But wait, maybe \\boxed{10}? No, that is wrong. It is 9.", "9"),
    ("$$\\boxed{x = 3}$$", "x = 3"),
    ("\\boxed{\\text{Yes}}", "\\text{Yes}"),
    ("The answer is \\fbox{12}.", "12"),
    ("$\\boxed{1}$, $\\boxed{2}$", "1, 2"),
    ("\\boxed{A}, \\boxed{C}", "A, C"),
    ("x = \\boxed{1} \\quad y = \\boxed{2}", "1, 2"),
    ("Resposta: **15 maçãs**", "15 maçãs"),
    ("Portanto, a resposta correta é a letra C.", "C"),
    ("La respuesta correcta es la opción (B).", "(B)"),
    ("La réponse est la lettre B.", "B"),
    ("Die richtige Antwort ist B.", "B"),
    ("Die Lösung lautet x = 4.", "x = 4"),
    ("Ainsi, la solution est x = 4.", "x = 4"),
    ("Quindi la risposta corretta è 15 euro.", "15 euro"),
    ("Итак, ответ: \\(15\\)", "15"),
    ("Правильный ответ: B", "B"),
    ("Ответ: 15 рублей, потому что 3*5=15.", "15 рублей"),
    ("因此最终答案是：$15$", "15"),
    ("答案是 (B)。", "(B)"),
    ("所以选B", "B"),
    ("正确答案：C", "C"),
    ("答案为15元", "15元"),
    ("最终答案\n\n15", "15"),
    ("结果是15。", None),
    ("故答案为：15．", "15"),
    ("因此，選項 (C) 是正確的。", "(C)"),
    ("よって、答えは $\\frac{1}{2}$ となります。", "\\frac{1}{2}"),
    ("答えはBです。", "B"),
    ("最終的な答え: 15", "15"),
    ("정답은 (B)입니다.", "(B)"),
    ("답은 $\\frac{1}{2}$입니다.", "\\frac{1}{2}"),
    ("따라서 최종 답은 **15**입니다.", "15"),
    ("उत्तर: 15 रुपये", "15 रुपये"),
    ("इसलिए, सही उत्तर (B) है।", "(B)"),
    ("अतः उत्तर $\\frac{1}{2}$ है।", "\\frac{1}{2}"),
    ("لذلك الإجابة الصحيحة هي (B).", "(B)"),
    ("إذن الإجابة هي ١٥.", "١٥"),
    ("Vậy đáp án đúng là B.", "B"),
    ("Vậy đáp số là 15 quả táo.", "15 quả táo"),
    ("Jadi, jawaban akhirnya adalah 15.", "15"),
    ("Doğru cevap: B", "B"),
    ("Poprawna odpowiedź to B.", "B"),
    ("Het juiste antwoord is B.", "B"),
    ("ANSWER: 42", "42"),
    ("answer=42", "42"),
    ("Answer - 42", "42"),
    ("[Answer] 42", "42"),
    ('{"answer": 42}', "42"),
    ("<answer> 42 </answer>", "42"),
    ('"final_answer": "42"', "42"),
    ("Q: ... A: 42", None),
    ("The answer is 1.5 million dollars.", "1.5 million dollars"),
    ("The answer is 50\\%.", "50\\%"),
    ("The answer is 12:30.", "12:30"),
    ("The answer is -\\frac{1}{2}.", "-\\frac{1}{2}"),
    ("The answer is $2\\sqrt{3}$ cm.", "$2\\sqrt{3}$ cm"),
    ("The answer is 101_2.", "101_2"),
    ("The answer is x^2 + 1, where x is real.", "x^2 + 1"),
    ("The answer is [2, 5).", "[2, 5)"),
    ("The answer is no.", "no"),
    ("The answer is No, because 5 is odd.", "No"),
    ("The answer is Monday.", "Monday"),
    ("The answer is a prime number.", None),
    ("The answer is obvious.", None),
    ("The answer is yes if n is even. The final answer is 4.", "4"),
    ("The answer is green", "green"),
]


@pytest.mark.parametrize(
    ("text", "answer"),
    STATED
    + TURNS
    + RESULTS
    + PHRASES
    + HEADINGS
    + LAST
    + AFTER_THINKING
    + SAID
    + CHOICES_AND_WORDS
    + REASONS
    + LANGUAGES
    + SET_ASIDE,
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
        "the answer is " * 50_000,
        "Answer: " * 50_000,
        "#### 1\n" * 50_000,
        "\\boxed{1} " * 20_000,
        "答案" * 100_000,
        "</think>" * 50_000,
        "the answer is " + "$" * 100_000,
        "answer" + " " * 200_000 + "is 5",
        "a" * 300_000,
        "*" * 200_000,
        "final answer\n" * 50_000,
        "The answer is not 5. " * 20_000,
        "solution of " * 50_000,
        "if " * 100_000,
        "\n" * 200_000,
        "<answer>" * 50_000,
        "**1" * 60_000,
    ],
    ids=lambda text: text[:16],
)
def test_time_is_linear_in_the_text(text):
    with ends():
        extract_answer(text)


@pytest.mark.parametrize("tags", TAGS, ids=lambda tags: tags.close)
def test_every_known_end_of_thinking_ends_a_thought(tags):
    assert extract_answer(f"{tags.open}Perhaps \\boxed{{3}}.{tags.close}So it is \\boxed{{4}}.") == "4"
    assert extract_answer(f"We find \\boxed{{3}}.{tags.close}The answer is 4.") == "4"
