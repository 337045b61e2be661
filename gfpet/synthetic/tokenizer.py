"""The tokenizer of the synthetic benchmark: one token per known word, bytes for everything else, so that it encodes any
text without loss.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gfpet.synthetic import lexicon, prose, tasks
from gfpet.synthetic.facts import Facts, facts_of_seed

END = "<|endoftext|>"
PAD = "<pad>"
SENTINELS = 8
"""Number of sentinel tokens `<extra_id_0>`, ..., for span corruption with encoder-decoder models."""

PROMPTS = (
    "Question: Answer: Answer: Yes Answer: No Answer: Maybe",
    "Question\nAnswer\nIs it\nDoes it\nQuestion: Does it mean the same in both?\nIn this text, it refers to",
    "Today it was glad because it was sad, so it was glad.",
    "Is it by the? only. always. as a. Of them, one: it. @highlight\nThere was",
    " What does it wear? Where does it live? How does it work?",
    " true false yes no maybe right wrong",
)
"""The words of the prompts; used for the vocabulary only."""


def vocabulary_texts(facts: Facts) -> list[str]:
    """Texts with every word of the corpus and the tasks, in each form in which it may occur."""
    values = [*((a, v) for a, vs in lexicon.VALUES.items() for v in vs), *(("kind", kind) for kind in lexicon.KINDS)]
    name = next(iter(facts.entities))
    forms: list[str] = [f" {entity}" for entity in facts.entities]
    for attribute, value in values:
        filled = {"name": name, "value": value}
        for form in lexicon.STATEMENTS[attribute]:
            forms += [f" {form.format(**filled)}", f" one {form.format(**filled).lower()}"]
        if attribute != "kind":
            extra = (lexicon.QUESTIONS, lexicon.EVENTS)
            forms += [f" {table[attribute].format(**filled)}" for table in extra]
            forms += [f" {form.format(**filled)}" for form in lexicon.UNKNOWN[attribute]]
    forms += [f" {word}" for word in (*lexicon.HOMONYMS, *lexicon.PLACES)]
    plain = {"a": name, "b": name, "name": name, "first": name, "second": name, "place": "gate", "word": "bat"}
    for scene in (*prose.CHATTER, *tasks.SCENES, *tasks.PAIR_SCENES, *tasks.WIC_SCENES):
        forms.append(f" {scene.format(**plain)}")
    forms += [f"{opener}: {scene.split()[0]}" for opener in prose.OPENERS for scene in tasks.SCENES]
    forms += [scene.format(**plain) for scene in (*tasks.SCENES, *tasks.PAIR_SCENES, *tasks.WIC_SCENES)]
    forms += [prose.SELECTION_WORDS, *PROMPTS, " ".join(prose.OPENERS), "today it"]
    return forms


def build_tokenizer(facts: Facts | None = None) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer; its vocabulary is 256 bytes, the words of the synthetic language and special tokens.

    A known word is one token; anything else is split into bytes. Causal models pad with the end of text, too; `<pad>`
    and the sentinels are for encoder-decoder models.
    """
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = {
        piece for form in vocabulary_texts(facts or facts_of_seed()) for piece, _ in splitter.pre_tokenize_str(form)
    }
    specials = [END, PAD, *(f"<extra_id_{number}>" for number in range(SENTINELS))]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*specials, *alphabet, *sorted(words - set(alphabet))]
    model = models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=specials[2:],
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def save_tokenizer(folder: Path, facts: Facts | None = None) -> None:
    """Write the tokenizer to `folder`, for `AutoTokenizer.from_pretrained`."""
    build_tokenizer(facts).save_pretrained(str(folder))
