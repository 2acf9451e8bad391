"""The embedded model's own SentencePiece vocabulary, learnt from its captions and prompts alone."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece

from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.detectors import prompts
from trainer import synthesis
from trainer.io.files import write_whole
from trainer.pretrain.views import KINDS


def make_tokenizer(path: Path, seed: int, size: int) -> Tokenizer:
    """Load the vocabulary of a file; if there is none, train it on captions made at random and write it.

    Args:
        path: the SentencePiece model.
        seed: of the captions.
        size: pieces of the vocabulary.

    Raises EdgeAgentError when the file cannot be written.
    """
    if not path.exists():
        rng = np.random.default_rng([seed, 3])
        kinds = [None, *KINDS]
        captions = [
            synthesis.caption(rng, noun, kinds[rng.integers(len(kinds))])
            for noun in synthesis.NOUNS
            for _ in range(200)
        ]
        spot = np.zeros((3, 3), bool)
        for noun in synthesis.NOUNS:
            for _ in range(50):
                spot[:] = False
                spot[tuple(rng.integers(3, size=2))] = True
                captions.append(synthesis.description(rng, noun, kinds[rng.integers(len(kinds))], spot))
        write_whole(path, train_vocabulary(captions, ["object", *synthesis.NOUNS], size))
    return Tokenizer(path)


def train_vocabulary(captions: Iterable[str], nouns: Iterable[str], size: int) -> bytes:
    """Train a SentencePiece model on captions and on the prompts of nouns, in lower case as the tokenizer feeds it.

    Args:
        captions: sentences.
        nouns: class names, each with the sentences of prompts.sentences.
        size: pieces of the vocabulary; id 0 is padding and 1 unknown.
    """
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
