"""Record what HF tokenizers makes of a fixed list of difficult strings.

    python3 make_tokenizer_golden.py --tokenizer TOKENIZER.json --out GOLDEN.jsonl

One JSON object a line, ASCII only: {"text": ..., "ids": [...], "decoded": ...}. `decoded` keeps special tokens; it
differs from `text` where NFC changed it. The strings are the same for every tokenizer, plus four built around each of
the tokenizer's own added tokens.
Run with: tokenizers 0.23.
"""

from __future__ import annotations

import argparse
import json
import pathlib

from tokenizers import Tokenizer

PROSE = [
    "", "a", "A sample test", "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "In the beginning God created the heaven and the earth.", "routing", " routing", "Routing", "ROUTING",
    "Experts, tokens and counts; p-values & critical values.", "one\ntwo\nthree", "one\n\ntwo\n\n\nthree",
    "A paragraph that ends in a newline.\n", "\nA paragraph that begins with one.", "antidisestablishmentarianism",
    "Pneumonoultramicroscopicsilicovolcanoconiosis is long.", "e.g., i.e., etc. -- cf. No. 5, p. 12",
    "\u201cCurly quotes\u201d and \u2018single ones\u2019, an em dash \u2014 an ellipsis\u2026", "naïve façade rôle coöperate",
    "MixedCaseIdentifiersAndACRONYMSLikeHTTPServer", "snake_case_name kebab-case-name dot.case.name",
]

SCRIPTS = [
    "生活的真谛是", "今天天气很好,我们去公园散步吧。", "漢字與简体字", "吾輩は猫である。名前はまだ無い。", "カタカナとひらがな", "ﾊﾝｶｸｶﾅ",
    "안녕하세요 세계", "대한민국의 수도는 서울이다.", "Привет, мир! Как дела?", "Съешь ещё этих мягких французских булок",
    "Γειά σου Κόσμε", "Ἐν ἀρχῇ ἦν ὁ λόγος", "שלום עולם", "בְּרֵאשִׁית בָּרָא", "مرحبا بالعالم", "بِسْمِ ٱللَّهِ", "سلام دنیا", "اردو زبان",
    "नमस्ते दुनिया", "क्षत्रिय ज्ञान", "হ্যালো বিশ্ব", "ਸਤ ਸ੍ਰੀ ਅਕਾਲ", "ગુજરાતી ભાષા", "ଓଡ଼ିଆ", "வணக்கம் உலகம்", "నమస్కారం", "ನಮಸ್ಕಾರ", "നമസ്കാരം",
    "ආයුබෝවන්", "สวัสดีชาวโลก", "ສະບາຍດີ", "မင်္ဂလာပါ", "ជំរាបសួរ", "བོད་སྐད", "Բարեւ աշխարհ", "გამარჯობა", "ሰላም ልዑል", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ", "ᐃᓄᒃᑎᑐᑦ",
    "ᠮᠣᠩᠭᠣᠯ", "ꦧꦱꦗꦮ", "ⴰⵣⵓⵍ", "ߒߞߏ", "Ⲙⲉⲧⲣⲉⲙⲛⲭⲏⲙⲓ", "𐌰𐌽𐌰", "𓀀𓀁𓀂", "𒀀𒀁", "𐎀𐎁", "ꙮ", "Tiếng Việt có dấu", "Türkçe İstanbul ıi Iİ", "Łódź żółć gęślą jaźń",
    "Ægir þing ð", "Größe straße ẞ", "Ĉu vi parolas Esperanton?", "Kūpaʻa ʻōlelo Hawaiʻi", "Zażółć", "Dž ǅ ǆ", "ﬁ ﬂ ﬃ ligatures", "ª º ordinal",
]

EMOJI = [
    "😀", "😀😃😄", "Hi 😀!", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪🇫🇷🇯🇵", "1️⃣2️⃣", "❤️ vs ❤", "👨🏿‍💻 codes", "☃☃️", "🤷‍♀️", "emoji😀glued", "🫠🫡🫥", "👁️‍🗨️",
    "🧑🏻‍🤝‍🧑🏿", "⚡️⭐️", "©️ ® ™", "✌🏻✌🏿", "🀄🃏", "\u200d", "\ufe0f", "a\u200db",
]

NORMALIZATION = [
    "e\u0301", "\u00e9", "cafe\u0301 caf\u00e9", "A\u030a \u00c5 \u212b", "\u1100\u1161\u11a8", "\uac01", "o\u0323\u0302", "o\u0302\u0323", "q\u0307\u0323", "q\u0323\u0307",
    "\u0344", "\u0958", "\u2126 \u03a9", "\u212a K", "\u0340\u0341", "\u1e9b\u0323", "\ufb1d", "\u2adc", "\U0001d15e", "\u0301", " \u0301", "a\u0301\u0301\u0301", "\u0301a",
    "e\u0300e\u0301e\u0302e\u0303e\u0308", "\u05d1\u05bc\u05b0", "\u0625\u0627\u0655", "\u0b92\u0bd7", "\u1b05\u1b35", "\uf900 \u8c48", "\u2000\u2001", "\u1f71 \u03ac", "\u0374 \u02b9",
    "\u037e ;", "\u0387 \u00b7", "\u1fef `", "\u2260 =\u0338", "\u226e <\u0338", "\u3099\u304b\u3099", "\u304b\u3099", "\u30cf\u309a", "\U0002f800", "\U000110ba", "\ufdfa",
]

WHITESPACE = [
    " ", "  ", "   ", "    ", "     ", "\t", "\t\t", "\t\t\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", "\r\r", "\n\r", " \n", "\n ", " \n ", "  \n  ", "\t\n", "\n\t", " \t ", "\t \t",
    "Hi  Hello", "Hi   Hello", "Hi \n Hello", "trailing ", "trailing  ", "trailing   ", "trailing\n", "trailing \n", "trailing\t", " leading", "  leading", "   leading", "\tleading", "\nleading",
    "a b  c   d    e     f", "a\tb\t\tc", "a\r\nb\r\nc\r\n", "a\rb", "x \r\n y", "a\u00a0b", "a \u00a0 b", "\u00a0", "\u00a0\u00a0", "\u3000", "a\u3000b\u3000\u3000c", "a\u2003b", "\u2009thin", "\u202fnarrow",
    "\u1680ogham", "\u205fmath", "a\u200bb", "\ufeffBOM", "a\ufeffb", "\u2028line", "para\u2029graph", "a\u0085b", "\u0085", "a\x0bb\x0cc", "\x0b\x0c", " \u00a0\u2003\u3000 mixed",
    "!  !", "1  1", "  1", "   !", "    if x:\n        return\n", "word \u0301mark", "\n    \n", "\n\n    def", " " * 23, " " * 24, " " * 25, " " * 26, " " * 48, " " * 49, " " * 100, "\n" * 40, "\t" * 17, "x" + " " * 30 + "y",
]

CONTROLS = [
    "\x00", "a\x00b", "\x01\x02\x03", "\x07bell", "\x08", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x81", "\x9f", "\xad", "soft\xadhyphen", "\u200e\u200f", "\u202eabc\u202c", "\u2060", "\u061c", "\x1c\x1d\x1e\x1f", "a\x1fb",
    "\ud7ff", "\ue000", "\uf8ff", "\ufdd0", "\ufdef", "\ufffd", "\ufffe", "\uffff", "\U0001fffe", "\U0001ffff", "\U0010fffe", "\U0010ffff", "\U000e0001", "\U000f0000", "\ufff9\ufffa\ufffb", "\u0378", "\U00010000", "\u07ff\u0800", "\x7f\x80",
]

NUMBERS = [
    "0", "42", "007", "3.14159", "1,234,567.89", "-1", "+1", "1e-10", "0x1F", "2024-02-29", "12:34:56", "$9.99", "50%", "1/2", "½ ⅓ ¾", "x²+y³", "H₂O", "٠١٢٣", "۴۵۶", "०१२", "০১২", "௧௨", "๑๒๓", "零一二三", "１２３", "Ⅳ ⅻ", "①②③", "➊", "𝟘𝟙𝟚", "𝟬𝟭", "㊿",
    "10th 1st 2nd", "v1.2.3-rc4", "a1b2c3", "123abc", "abc123", "1" * 30, "𐄇", "௰", "৴", "²³¹",
]

CONTRACTIONS = [
    "don't", "it's", "we're", "they've", "I'm", "you'll", "he'd", "DON'T", "IT'S", "WE'RE", "THEY'VE", "I'M", "YOU'LL", "HE'D", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", " 's", "'S", "'T", "'RE", "'sword", "'tis", "'twas", "rock 'n' roll",
    "don\u2019t", "'''", "''s", "'x", "o'clock", "y'all'd've", "the dogs' tails", "'reason", "'very", "'drop", "' s", "1's", "!'s", "\u00e9's", "s's's",
]

PUNCTUATION = [
    "!!!", "???", "...", "....", "?!?!", "---", "--", "\u2014", "***", "###", "////", "\\\\\\", "<<>>", "(((", ")))", "[]{}", "!@#$%^&*()_+", "`~|", "a!b?c.", " !", " !!", "! !", ".,;:", "a...b", "(a)", "( a )", "\"quoted\"", " \"quoted\" ",
    "=" * 80, "-" * 33, "_" * 21, "a" * 64, "ab" * 40, "é" * 20, "日" * 20, "😀" * 10, "¿Qué? ¡No!", "«guillemets»", "„deutsch“", "「日本」", "。、・", "٪؟،", "।॥", "†‡§¶", "←↑→↓", "∀x∈ℝ: ∃y", "∑∏∫√∞", "½±×÷", "░▒▓█", "╔═╗", "♠♣♥♦", "♪♫", "€£¥₹₿", "°C ℉", "№", "⠓⠑⠇⠇⠕",
]

CODE = [
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}", "if (a && b || !c) return -1;", "x = {'key': [1, 2, 3]}", "std::vector<std::pair<int, float>> v{};", "#include <fdroute/fdroute.hpp>",
    "SELECT * FROM t WHERE a <> 'b''c';", "<a href=\"x.html\">link</a>", "&lt;&amp;&#x41;", "https://example.org/a/b?c=d&e=f#g", "user@example.org", "C:\\path\\to\\file", "/usr/share/doc/", "$HOME/${x%.*}", "\\begin{equation} e^{i\\pi}+1=0 \\end{equation}",
    "{\"a\": null, \"b\": [true, false]}", "lambda x: x**2 # square", "a->b; c.*d; e::f", "/* comment */ // another", "\"\\n\\t\\x00\\u00e9\"", "0b1010 0o17 0xff 1_000", "@decorator\nclass A(B, metaclass=C):\n        pass\n", "\tdeep\n\t\tdeeper\n\t\t\tdeepest\n",
    "x<|y|>z", "a|||b", "<|", "|>", "<|endoftext", "endoftext|>", "< |endoftext|>", "<|EndOfText|>",
]

FAMILIES = (PROSE, SCRIPTS, EMOJI, NORMALIZATION, WHITESPACE, CONTROLS, NUMBERS, CONTRACTIONS, PUNCTUATION, CODE)
AROUND = ("{}", "left{}right", "left {} right\n", "{0}{0}  {0}")


def strings(tokenizer: Tokenizer) -> list[str]:
    added = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items())]
    around = [form.format(token) for token in added for form in AROUND]
    return list(dict.fromkeys([text for family in FAMILIES for text in family] + around))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    lines = []
    for text in strings(tokenizer):
        ids = tokenizer.encode(text).ids
        lines.append(json.dumps({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}))
    args.out.write_text("\n".join(lines) + "\n", encoding="ascii")
    print(f"{args.out}: {len(lines)} strings")


if __name__ == "__main__":
    main()
