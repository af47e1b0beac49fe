"""Whether teacher, student and data mean the same by an id, and the cut where they differ in size.

Knows tokens and logits; knows nothing of models. Qwen pads its vocabularies by size of model:
152,064 rows in a large one and 151,936 in a small one, for the same 151,665 tokens. The teacher's
surplus is cut off its logits *before* softmax, so that what is left is a distribution.
"""

import hashlib

from torch import Tensor

from engine.errors import EngineError, FormatError
from engine.tokenizer import Tokenizer


def require_cover(teacher: int, student: int) -> None:
    """Refuse a student that has more tokens than its teacher can judge."""
    if student > teacher:
        raise EngineError(
            f"vocabulary: found a student of {student} tokens and a teacher of {teacher}, "
            "expected the teacher to have at least as many"
        )


def align(teacher_logits: Tensor, vocabulary_size: int) -> Tensor:
    """Teacher logits [..., Vt] as a student of V tokens sees them: [..., V], cut, not copied."""
    require_cover(teacher_logits.shape[-1], vocabulary_size)
    return teacher_logits[..., :vocabulary_size]


def align_kept(
    kept_logits: Tensor, kept_ids: Tensor, vocabulary_size: int
) -> tuple[Tensor, Tensor]:
    """`align` for K kept logits [..., K] of these ids: what lies beyond V gets -inf, at id 0."""
    beyond = kept_ids >= vocabulary_size
    if beyond.all(dim=-1).any():
        raise EngineError(
            f"kept logits: found a position without a token below {vocabulary_size}, expected one"
        )
    return kept_logits.masked_fill(beyond, -float("inf")), kept_ids.masked_fill(beyond, 0)


def check_vocabularies(teacher: Tokenizer, student: Tokenizer) -> None:
    """Refuse tokenizers that mean different tokens by an id that both have.

    Fillers, which pad a vocabulary to a round size, stand for nothing and are equal.
    """
    require_cover(teacher.vocab_size, student.vocab_size)
    pairs = zip(_meanings(teacher), _meanings(student), strict=False)
    wrong = [(i, ours, theirs) for i, (theirs, ours) in enumerate(pairs) if ours != theirs]
    if wrong:
        index, ours, theirs = wrong[0]
        raise FormatError(
            f"vocabulary: found {len(wrong)} tokens that differ, the first at id {index}: "
            f"{ours[0]!r:.60} in the student and {theirs[0]!r:.60} in the teacher, "
            "expected equal tokens at equal ids"
        )


def vocabulary_digest(tokenizer: Tokenizer) -> str:
    """Of all tokens in the order of their ids, without the fillers at the end."""
    meanings = _meanings(tokenizer)
    while meanings and not meanings[-1][0]:
        meanings.pop()
    return hashlib.sha256(repr(meanings).encode()).hexdigest()


def _meanings(tokenizer: Tokenizer) -> list[tuple[bytes, bool]]:
    """Of each id: the bytes that it stands for, and whether it is a control token."""
    return [
        (tokenizer.token_bytes(index, special=True), index in tokenizer.control_ids)
        for index in range(tokenizer.vocab_size)
    ]
