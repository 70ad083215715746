r"""How "the answer is" is said: the words before an answer, in the languages models think in, and the words after it.

`CUE` ends where an answer begins. Nouns and verbs are given per language; a Markdown emphasis or quotation mark may
stand between them.
"""

import re

# language: nouns for what is stated, what may stand behind the noun, and the verbs that state. A colon, equals sign or
# dash does so in all.
_SAID = {
    "English": (
        "answer|ans|solution|final result|final value",
        r"s?(?: set)?(?: (?:to|of|for) (?:the|this|that|your|our)(?: \w{1,20}){0,4})?"
        r"(?:,? (?:we|you|i|they) (?:get|got|have|find|found|want|need|seek|obtain|obtained))?"
        r"(?:, (?:therefore|then|thus|hence|of course|indeed),)?",
        r"(?<=\])(?=\s*[\d\\$(-])|is|are|equals|would be|will be|must be|should be|comes out (?:to|as)(?: be)?|"
        r"of(?=[\s*]{1,4}[\d\\$(-])|(?<=\bans)\.(?=\s*[\d\\$(-])",
    ),
    "English, choices": ("option|choice|alternative", "", r"is(?=:?[\s*(]{1,6}(?-i:[A-J])\b)"),
    "Chinese": (
        "答案|答|最终结果|最終結果|得数|故选|故選|因此选|所以选|应选|應選|选项|選項",
        "",
        r"(?:应该|應該|应|應|就|便|即)?(?:是|为|為|等于|等於|选|選)|(?-i:(?=\s*[A-J(（]))",
    ),
    "Japanese": ("答え|解答|正解|回答", "", "は|が|を"),
    "Korean": ("정답|답|결과", "", "은|는|이|가"),
    "French": (
        "réponse|reponse|solution|résultat final",
        "(?: finale| correcte| exacte)?(?: est donc)?",
        "est|sera|vaut|sont",
    ),
    "German": ("antwort|endergebnis|ergebnis|lösung", "", "ist|lautet|beträgt|wäre|sind"),
    "Spanish": ("respuesta|solución|solucion|resultado final", "(?: final| correcta)?", "es|será|sería|son"),
    "Portuguese": ("resposta|solução|gabarito|resultado final", "(?: final| correta)?", "é|será|seria|são"),
    "Italian": ("risposta|soluzione|risultato finale", "(?: finale| corretta)?", "è|sarà|sono"),
    "Russian": ("ответ|решение|итог", "(?:ом)?", "равен|будет|является|это"),
    "Ukrainian": ("відповідь", "", "є|це|дорівнює"),
    "Hindi": ("उत्तर|जवाब|हल", "", r"है|होगा|यह है|(?=\s*[\d\\$(])"),
    "Bengali": ("উত্তর", "(?:টি)?", r"হলো|হল|হবে|হচ্ছে|(?=\s*[\d\\$])"),
    "Telugu, Tamil": ("సమాధానం|விடை|பதில்", "", r"(?=\s*[\d\\$])"),
    "Thai": ("คำตอบ", "(?:สุดท้าย|ที่ถูกต้อง)?", "คือ|เป็น"),
    "Arabic": ("الإجابة|الاجابة|الجواب|الحل|الناتج", r"(?:\s(?:النهائية|النهائي|الصحيحة|الصحيح))?", "هي|هو|يساوي"),
    "Persian": ("پاسخ|جواب", r"(?:\s(?:نهایی|درست))?", r"برابر(?:\sبا)?|(?=\s*[\d\\$])"),
    "Hebrew": ("התשובה", r"(?:\s(?:הסופית|הנכונה))?", "היא|הוא"),
    "Vietnamese": ("đáp án|đáp số|câu trả lời|trả lời|kết quả", "(?: cuối cùng| đúng| chính xác)?", "là"),
    "Indonesian": ("jawaban", "(?:nya)?(?: akhir(?:nya)?)?", "adalah|ialah|yaitu"),
    "Swahili": ("jibu", "(?: la mwisho| sahihi)?", "ni"),
    "Turkish": ("cevap|yanıt", "", r"(?=\s*(?:[\d\\$]|(?-i:[A-J])'))"),
    "Polish": ("odpowiedź|odpowiedz", "(?: końcowa)?", "to|brzmi|jest"),
    "Czech": ("odpověď|výsledek", "", "je|zní"),
    "Dutch": ("antwoord", "", "is|luidt"),
    "Scandinavian": ("svar", "(?:et)?", "är|er|blir"),
    "Finnish": ("vastaus", "", "on"),
    "Romanian": ("răspuns", "(?:ul)?(?: final| corect)?", "este"),
    "South Slavic": ("odgovor|одговор|отговор", "(?:ът)?", "je|је|е"),
    "Hungarian": ("válasz|végeredmény", "", r"(?=\s*[\d\\$])"),
    "Malay, Tagalog": ("jawapan|sagot", "(?:nya)?", "ialah|adalah|ay"),
    "Greek": ("απάντηση", "", "είναι"),
}

NOUNS = tuple(dict.fromkeys(noun for nouns, _, _ in _SAID.values() for noun in nouns.split("|")))  # in small letters
_OPEN = r"[ \t*_\"'»“”`)\]]{0,8}"
_SKIPPED = (
    r"(?:[ \t*_\"'“”«:：=]{0,12}(?:(?:that|therefore|thus|then|hence|simply|just|indeed|clearly|"
    r"option|choice|letter|donc|l'option|la lettre|a letra|la letra|la lettera|also|"
    r"daher|somit|luego|entonces|por lo tanto|portanto|quindi|dunque|la opción|a"
    r" opção|l'opzione|вариант)(?![A-Za-z])|选项|選項|选|選|项|"
    r"一共有?|总共有?|共有)[\s,]{0,3}){0,2}"
)
_VERBS = "|".join(
    rf"(?:{nouns}){behind}(?:{_OPEN}(?:{verbs})(?-i:(?![a-zà-ÿ]))|{_OPEN}[:：=—–﹕]|{_OPEN}\s-(?=\s))"
    for nouns, behind, verbs in _SAID.values()
)
_CLOSED = r"(?:[:：]?[ \t]{0,4}\n\s{0,8})?[ \t*_\"'“”«`]{0,8}"
# To be matched where a noun begins: it ends where the answer does.
CUE = re.compile(rf"(?<![a-zà-ÿа-я])(?:{_VERBS})(?:[ \t*_]{{0,8}}\n\s{{0,8}})?{_SKIPPED}{_CLOSED}", re.IGNORECASE)
# The same for a title, "### Final answer", with the answer below; what stands before the noun in its line is matched by
# TITLE.
TITLE_CUE = re.compile(rf"\w{{2,12}}(?: finale?)?[*_: \t]{{0,8}}\n\s{{0,8}}{_SKIPPED}{_CLOSED}", re.IGNORECASE)
TITLE = re.compile(
    r"[#*_ \t]{0,10}(?:(?:the|final|la|die|endgültige|correct)[ ]+){0,3}(?:最终|最終|最后|正确)?的?", re.IGNORECASE
)

CHOSEN = re.compile(  # "option (B) is correct", "(B) is the right answer"
    r"(?:\b(?:option|choice|answer|alternative)\s{1,3}[*(]{0,3}([A-J])\b[)*]{0,3}|"
    r"\(([A-J])\))\s{1,3}(?:is|must be|would be)\s{1,3}(?:the\s{1,3})?"
    r"(?:correct|right|best)",
)

IS_ANSWER = re.compile(  # "so 5 is the answer", "= 5, which is the answer"
    r"(?<![\w.$])(\$[^$\n]{1,60}\$|\\\([^\n]{1,60}?\\\)|(?:\\\$|[$€£])?-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?"
    r"(?:\s(?!which|that|this|it\b)[^\W\d_]{1,12})?)[*]{0,2},?\s+(?:(?:which|that|and\s+(?:this|that|it))\s+)?"
    r"(?:is|must\s+be|would\s+be)\s+(?:the|our|my|your)\s+(?:(?:final|correct|required|desired|right)\s+)?answer\b"
)

HYPOTHETICAL = re.compile(
    r"\b(?:if|whether|suppose|supposing|assuming|assume|unless|maybe|perhaps|not|instead of|rather "
    r"than|si|wenn|falls|если|如果|假设)\b[^.\n]{0,24}$",
    re.IGNORECASE,
)
REJECTED = re.compile(
    r"[}$*).\s]{0,6}(?:\?|(?:[,.;—-]\s{0,3})?(?:but\s|no,?\s|wait,?\s|hmm,?\s|actually,?\s){0,3}(?:that|this|it|which|das|cela|eso)?\s{0,2}"
    r"(?:is|'s|was|seems|looks|can't be|cannot be|ist|est|es)\s{0,2}(?:clearly\s|obviously\s|"
    r"definitely\s)?(?:wrong|incorrect|not\s(?:right|correct|possible)|impossible|falsch|faux|incorrecto)\b)",
    re.IGNORECASE,
)

REASON = re.compile(  # what follows an answer and is no part of it
    r"\s*[,;:—–-]*\s*\(?\s*\b(?:because|since|which|as\s(?=[\d$\\(])|as\s(?:the|we|it|there|this|each|he|she|they|required|desired|requested|expected)|so\sthat|where|when|given\sthat|"
    r"due\sto|based\son|from\s(?:the|our)|after|according\sto|by\s(?:the|using|adding|our|applying|multiplying|dividing)|obtained|found\sby|using|"
    r"is|are|was|and\s(?:this|that|it|we|the\s\w+\sis|therefore|thus|so|not|hence|I)|but|not|therefore|thus|hence|if|weil|denn|da\s(?:die|der|das|wir|es)|parce\sque|car|puisque|"
    r"porque|pues|ya\sque|pois|já\sque|perché|poiché|потому|так\sкак|поскольку|vì|bởi\svì|karena|bo|ponieważ|omdat|çünkü)\b"
    r"|\s*[,;(]?\s*(?:i\.e\.|e\.g\.|that\sis,|meaning\s)|\s+[—–-]{1,2}\s+(?=[^\W\d_]{2,})|;\s*(?=[^\W\d_]{2,})"
    r"|\s*[,，、(（]?\s*(?:因为|因為|由于|由於|所以|因此|なぜなら|だから|から|왜냐하면|때문|क्योंकि|لأن|כי|เพราะ)"
    r"|\s*,\s*da\s|\s*,\s*(?:it|this|that|they|he|she|we)\s|\s+\((?:or|also|i\.e)\b"
    r"|\s*,\s*(?:so|as|and\s(?:so|we|it|that)|making|giving|leaving|with)\s|,\s(?:the|a|an)\s(?=[a-z])|\s+\((?!(?:mod|in\sbase|base)\b|[A-J]\))(?=[^()]{0,80}?(?:(?<!\\)\b(?!sin|cos|tan|log|exp|sqrt|mod)[^\W\d_]{3,}|=))|,\s+(?!and\b|or\b|und\b|et\b)[^\W\d_]{4,}\s",
    re.IGNORECASE,
)

COPULA_BEHIND = re.compile(  # the verb that closes a sentence in Japanese, Korean, Hindi, Bengali, Turkish, Persian
    r"\s*(?:です|でした|である|だ|となります|になります|となる|になる|입니다|이다|이에요|예요|이며|임|है|हैं|होगा|होगी|是正确的|是正確的|হবে|হয়|'?[dt][ıiuü]r|است|می‌باشد|になりました|ですね|ます)\s*$"
)

_WORDS = (
    "true false yes no none both neither infinity infinite undefined vrai faux oui non wahr falsch ja nein sí verdadero"
    " falso sim não verdadeiro sì vero да нет верно неверно 是 否 对 错 正确 错误 はい いいえ 正しい 예 아니요 참 거짓"
    " हाँ नहीं सही गलत نعم لا صحيح خطأ có không đúng sai"
)
WORDS = frozenset(_WORDS.split())
