# ruff: noqa: RUF001 - look-alike characters are what tokenizers must be compared on
"""Choose llama.cpp's name for a tokenizer's way of splitting text, and prove that both tokenizers agree.

llama.cpp's converter knows a vocabulary by a hash, and refuses every other one. The name stands for a set of regular
expressions (``src/llama-vocab.cpp``), so it can be chosen by the patterns that the tokenizer itself holds. Whether the
choice is right is not assumed: both tokenizers must give the same ids on a text that visits the hard places.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from core.errors import ModelUnsupported
from engines.llama_cpp import load_model, tokenize
from engines.tokenizer import encode, leading_bos

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EITHER_CASE = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
QWEN35 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CJK = "[一-龥぀-ゟ゠-ヿ]+"
DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)

# The patterns that a tokenizer splits by, in order, and llama.cpp's names for them. Names of one row differ in
# whether merges are ignored for a piece that is a token itself; the proof decides.
NAMES_BY_PATTERNS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    (GPT2,): ("gpt-2",),
    (r"\p{N}", GPT2): ("smollm",),
    (rf"{CONTRACTIONS}|{WORD}|\p{{N}}{{1,3}}|{REST}",): ("dbrx", "llama-bpe"),
    (rf"{CONTRACTIONS}|{WORD}|\p{{N}}|{REST}",): ("qwen2",),
    (rf"{WORD}|\p{{N}}|{REST}",): ("ufakzeka",),
    (QWEN35,): ("qwen35",),
    (rf"{EITHER_CASE % ('', '')}|\p{{N}}|{CASED_TAIL}",): ("tekken",),
    (rf"{EITHER_CASE % (CONTRACTIONS + '?', CONTRACTIONS + '?')}|\p{{N}}{{1,3}}|{CASED_TAIL}",): ("gpt-4o",),
    (r"\p{N}{1,3}", CJK, DEEPSEEK3): ("deepseek-v3",),
    (r"\p{N}{1,3}", rf"{CONTRACTIONS}|{WORD}|\p{{N}}+|{REST}"): ("minicpm5",),
    (r" ?[^(\s|.,!?…。，、।۔،)]+",): ("bloom",),
    (r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"): ("viking",),
}

# Every name that llama.cpp knows (``llama-vocab.cpp``), for whoever knows better than the table above.
PreTokenizer = Literal[
    "a.x-4.0",
    "afmoe",
    "bailingmoe",
    "bailingmoe2",
    "bloom",
    "chameleon",
    "chatglm-bpe",
    "codeshell",
    "cohere2moe",
    "command-r",
    "dbrx",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-r1-qwen",
    "deepseek-v3",
    "exaone",
    "exaone-moe",
    "exaone4",
    "f2llmv2",
    "falcon",
    "falcon-h1",
    "falcon3",
    "gemma4",
    "gigachat",
    "glm4",
    "glm5",
    "gpt-2",
    "gpt-4o",
    "gpt3-finnish",
    "granite-docling",
    "granite-embed-multi-311m",
    "granite-embed-multi-97m",
    "grok-2",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "jais",
    "jais-2",
    "jina-de",
    "jina-es",
    "jina-v1-en",
    "jina-v2-code",
    "jina-v2-de",
    "jina-v2-es",
    "jina-v5-nano",
    "joyai-llm",
    "kanana2",
    "kimi-k2",
    "kormo",
    "laguna",
    "lfm2",
    "llada-moe",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "llama4",
    "megrez",
    "mellum",
    "mellum2",
    "midm-2.0",
    "minerva-7b",
    "minicpm5",
    "minimax-m2",
    "modern-bert",
    "mpt",
    "olmo",
    "phi-2",
    "pixtral",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "roberta-bpe",
    "sarvam-moe",
    "seed-coder",
    "smaug-bpe",
    "smollm",
    "solar-open",
    "spark2_5",
    "stablelm2",
    "starcoder",
    "superbpe",
    "talkie",
    "tekken",
    "tiny_aya",
    "trillion",
    "ufakzeka",
    "viking",
    "whitespace",
    "youtu",
]

# Each line is one that some pair of tokenizers splits differently.
PROOF_LINES = (
    "The quick brown fox doesn't jump; we've said they'll, I'd, you're, it's, I'M and WE'LL.",
    "one  two   three  \t tabs\t\tand   several    spaces\n\n\nblank lines\r\nand a carriage return\n   \n \n",
    "0 12 345 6789 12345 1234567 3.14159 1,000,000 0x1F 1e-9 ½ ² ٣٤٥ 2026-11-23T10:00:00Z",
    "def f(x: int) -> str:\n\treturn f'{x!r}' if x >= 0 else \"neg\"  # ok?\n\n    a[i+1] **= b<<2; /* c */ //d\n",
    "naïve café Ünïcödé İstanbul ǅ ŉ ﬁ ß Straße ЖЗИ русский Ελληνικά עברית العربية",
    "中文分词测试，日本語のテスト。カタカナ 한국어 띄어쓰기 𠮷野家",
    "🙂👍🏽 \U0001f469\u200d\U0001f467 🇺🇳❤ ✅→∑√∞ ‘quotes’ “double” — dash … ellipsis\u00a0nbsp\u200bzero\u3000wide",
    "CamelCase snake_case HTTPServer2 a/b\\c ~!@#$%^&*()_+`-={}|[]:\";'<>?,./ ... ???!!! ==== ----",
    "<html><b>x</b></html> <|not_special|> [INST] </s> $12.50 50% #tag @name www.example.org/a?b=c&d=e",
    "end with spaces   ",
)


# Where llama.cpp is known to differ, in every file of such a model that anyone serves. A difference here is worth
# knowing, and no reason to refuse the model.
TOLERATED_LINES = (
    # Combining marks: left out of the patterns for tekken and gpt-4o, and not composed for qwen2.
    "العَرَبِيَّة हिन्दी ไทย a\u0301e\u0300 ❤\ufe0f",
    # SentencePiece: llama.cpp puts its space before a text that begins with one, too.
    "  begins with spaces",
)


def candidates(tokenizer: Any) -> Sequence[str]:
    """Return llama.cpp's names for the way in which a source's tokenizer splits text, the likeliest first.

    Raises:
        ModelUnsupported: llama.cpp has no name for it.
    """
    # Not tokenizer.json itself: for some kinds of model transformers splits by rules of its own.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelUnsupported(
            "llama.cpp does not know this vocabulary, and its tokenizer does not say how it splits text."
        )
    patterns = _split_patterns(json.loads(backend.to_str())["pre_tokenizer"])
    names = NAMES_BY_PATTERNS.get(patterns)
    if names is None:
        raise ModelUnsupported(f"llama.cpp has no pre-tokenizer that splits text as this tokenizer does: {patterns}.")
    return names


def _split_patterns(pre_tokenizer: Any) -> tuple[str, ...]:
    """Return the patterns by which a pre-tokenizer of tokenizer.json splits, in order."""
    kind = pre_tokenizer.get("type") if isinstance(pre_tokenizer, dict) else None
    match kind:
        case "Sequence":
            parts = pre_tokenizer.get("pretokenizers") or ()
            return tuple(itertools.chain.from_iterable(_split_patterns(part) for part in parts))
        case "ByteLevel":
            return (GPT2,) if pre_tokenizer.get("use_regex", True) else ()
        case "Digits":
            return (r"\p{N}",) if pre_tokenizer.get("individual_digits") else (r"\p{N}+",)
        case "Split":
            pattern = pre_tokenizer.get("pattern") or {}
            return (str(pattern.get("Regex", pattern.get("String"))),)
        case _:
            return (f"({kind})",)  # matches no row of the table, and is shown in the refusal


def difference(tokenizer: Any, vocabulary: Path, lines: Sequence[str] = PROOF_LINES) -> str | None:
    """Return the first line on which the source's tokenizer and llama.cpp's disagree, or None where they agree.

    Args:
        tokenizer: the source's.
        vocabulary: a GGUF file that holds the vocabulary; it may hold nothing else.
        lines: the texts to compare, each alone and all together.
    """
    with load_model(vocabulary, vocab_only=True) as model:
        for text in (*lines, "\n".join(lines)):
            if tokenize(model, text) != encode(tokenizer, text):
                return text
        bos = leading_bos(tokenizer)
        starts = tokenize(model, "a", add_special=True)[: 1 if bos is not None else 0]
        if starts != ([] if bos is None else [bos]):
            return "the token that begins a text"
    return None
