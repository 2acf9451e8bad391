"""The embedded model's own SentencePiece vocabulary, learnt from its captions and prompts alone."""

from __future__ import annotations

import io
from collections.abc import Iterable

import sentencepiece

from edge_agent.detectors import prompts


def train_vocabulary(captions: Iterable[str], nouns: Iterable[str], size: int) -> bytes:
    """A SentencePiece model of `size` pieces, id 0 for padding and 1 for unknown. Lower case, as the tokenizer feeds it."""
    sentences = {caption.lower() for caption in captions}
    for noun in nouns:
        for state in prompts.sentences(noun):
            sentences.update(sentence.lower() for sentence in state)
    # Every printable ASCII character, so that any class name can be spelled.
    sentences.update(" ".join(pair) for pair in zip(map(chr, range(33, 127)), map(chr, range(33, 127)), strict=True))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sorted(sentences)),
        model_writer=model,
        vocab_size=size,
        model_type="unigram",
        character_coverage=1.0,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
