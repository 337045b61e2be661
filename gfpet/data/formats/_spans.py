"""Other spans of a WSC text that a pronoun might refer to, by a fixed rule without a parser.

SuperGLUE's WSC names one span; ranking needs alternatives. The rule works on words separated by white space:

1. Names: longest runs of capitalised words. Function words (pronouns, articles, conjunctions and other sentence
   openers) are never part of a run. Punctuation or a possessive ending after a word ends the run, except after titles
   (`Mr.`).
2. Then nouns: an article or possessive and the lower-case word after it (`the piano`), unless a function word.
3. Excluded: the words of span 1 and of the pronoun, spans that share a content word with either, repetitions.
4. Take the first four in this order. If there are none, take the pronoun.
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
        span_index: index of its first word, counting words separated by white space.
        pronoun: the pronoun (span 2).
        pronoun_index: index of its first word.
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
    """The word without surrounding punctuation and possessive ending."""
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
        # Text after the bare word (a comma, a possessive ending) ends the run.
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
