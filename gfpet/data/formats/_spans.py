"""Other spans of a WSC text that a pronoun might refer to, by a fixed rule without a parser.

SuperGLUE's WSC names one span; ranking needs others to set beside it. The rule, on words parted by white space:

1. Names: longest runs of capitalised words. Function words (pronouns, articles, conjunctions and other openers of a
   sentence) are never part of a run; punctuation or a possessive ending at a word ends it, save after titles (`Mr.`).
2. Then pairs of an article or possessive and the lower-case word after it (`the piano`), if that is no function word.
3. Left out: words of span 1 and of the pronoun themselves, spans that share a content word with span 1, repetitions.
4. The first four in this order. If none is left, the pronoun itself.
"""

from __future__ import annotations

from collections.abc import Iterator

OTHERS = 4

_DETERMINERS = frozenset({"the", "a", "an", "his", "her", "their", "its", "my", "our", "your"})
_OPENERS = (
    "i you he she it we they me him us them himself herself itself themselves myself yourself mine yours",
    "hers ours theirs this that these those who whom whose which what when where why how there here and",
    "or but nor so yet if unless because since although though while whereas until before after as than",
    "then at in on by for from to of with without into onto over under about during through between",
    "against not no never all any both each every everyone everybody someone somebody something",
    "everything nobody nothing some many few most several one two three either neither own is was are",
    "were be been am do does did has have had can could will would shall should may might must just even",
    "once only also however finally later now today yesterday thanks please let despite instead still soon",
    "meanwhile fortunately gently",
)
_FUNCTION_WORDS = _DETERMINERS.union(*(line.split() for line in _OPENERS))
_TITLES = frozenset({"mr.", "mrs.", "ms.", "dr.", "st.", "prof.", "gen.", "sgt.", "capt."})
_EDGES = "\"'`“”‘’()[]{}.,;:!?-—…"


def other_spans(text: str, span: str, span_index: int, pronoun: str, pronoun_index: int) -> list[str]:
    """One to four spans of `text` beside `span`, by the rule above.

    Args:
        span: the span in question (SuperGLUE's span 1).
        span_index: its first word, counting words parted by white space.
        pronoun: the pronoun (span 2).
        pronoun_index: its first word.
    """
    words = text.split()
    taken = {*range(span_index, span_index + len(span.split()))}
    taken |= {*range(pronoun_index, pronoun_index + len(pronoun.split()))}
    excluded = _content(span) | _content(pronoun)
    chosen: dict[str, str] = {}
    for found in (*_names(words, taken), *_nouns(words, taken)):
        if _content(found) & excluded or found.lower() in chosen:
            continue
        chosen[found.lower()] = found
        if len(chosen) == OTHERS:
            break
    return list(chosen.values()) or [pronoun]


def _core(word: str) -> str:
    """The word without punctuation around it and without a possessive ending."""
    bare = word if word.lower() in _TITLES else word.strip(_EDGES)
    for ending in ("'s", "’s"):
        bare = bare.removesuffix(ending)
    return bare


def _content(span: str) -> set[str]:
    return {core for word in span.split() if (core := _core(word).lower()) not in _DETERMINERS}


def _names(words: list[str], taken: set[int]) -> Iterator[str]:
    run: list[str] = []
    for position, word in enumerate(words):
        core = _core(word)
        named = core[:1].isupper() and core.lower() not in _FUNCTION_WORDS and position not in taken
        if named:
            run.append(core)
        # What stands after the bare word (a comma, a possessive ending) parts it from the next one.
        if run and (not named or (word.lower() not in _TITLES and not word.endswith(core))):
            yield " ".join(run)
            run = []
    if run:
        yield " ".join(run)


def _nouns(words: list[str], taken: set[int]) -> Iterator[str]:
    for position in range(len(words) - 1):
        determiner, core = words[position].lstrip(_EDGES), _core(words[position + 1])
        if determiner.lower() not in _DETERMINERS or {position, position + 1} & taken:
            continue
        if core.replace("-", "").isalpha() and core.islower() and core not in _FUNCTION_WORDS:
            yield f"{determiner} {core}"
