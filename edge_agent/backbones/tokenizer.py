"""Text to TIPS's token ids: SentencePiece, lower case, no begin or end token, padded with 0 to 64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from edge_agent.errors import CheckpointError

MAX_LENGTH = 64


class Tokenizer:
    """Tokenizes sentences with a SentencePiece model file."""

    def __init__(self, path: Path) -> None:
        """Load the model file. Raises CheckpointError where it is missing or damaged, or sentencepiece is not installed."""
        try:
            import sentencepiece  # only models that read text need it
        except ImportError as error:
            raise CheckpointError(f"reading {path} needs {error.name}: pip install 'edge-agent[text]'") from None
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file; get it with `edge-agent models fetch`") from None
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{path}: not a SentencePiece model ({error}); fetch or copy it again") from None

    def __len__(self) -> int:
        return int(self._pieces.get_piece_size())

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and paddings, each (B, 64) int64; paddings is 1 where padded. Longer sentences are cut."""
        ids = torch.zeros(len(sentences), MAX_LENGTH, dtype=torch.int64)
        paddings = torch.ones_like(ids)
        for row, sentence in enumerate(sentences):
            tokens = self._pieces.encode(sentence.lower())[:MAX_LENGTH]
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
            paddings[row, : len(tokens)] = 0
        return ids, paddings
