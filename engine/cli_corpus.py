"""The command `corpus`: texts to shards of tokens.

Knows options and what is told; everything else is done by the modules that it calls.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import DownloadColumn, TransferSpeedColumn

from engine import corpus as making
from engine.checkpoint import open_checkpoint
from engine.cli_options import JsonFile, check_json, put, to_json
from engine.cli_progress import progress
from engine.distill.data import HELD_OUT, TRAIN
from engine.errors import EngineError
from engine.texts import NOT_STDLIB, STDLIB_FILES, Texts, find_texts, stdlib, told

VOCABULARY = 4096
EPILOG = """Examples:

python -m engine corpus --stdlib --out corpus --train-vocabulary 4096

python -m engine corpus notes --include '*.md' --out corpus --tokenizer model.gguf

Exit codes: 0 done, 2 bad input."""


def corpus(
    out: Annotated[Path, typer.Option(help="The folder to write; a new one, or empty.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where the texts are.")
    ] = None,
    from_stdlib: Annotated[
        bool, typer.Option("--stdlib", help="The source of Python's own standard library.")
    ] = False,
    include: Annotated[
        list[str] | None, typer.Option(help="Files to take: '*.py'; repeatable.  [default: all]")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Files and folders to leave out; repeatable.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Take this model's tokenizer.")
    ] = None,
    train_vocabulary: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Or train one of N tokens.  [default: {VOCABULARY}]"),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Part to judge by, in whole files.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of files held out.")] = 0,
    json_to: JsonFile = None,
) -> None:
    """Make shards of token ids out of a folder of texts, to learn from and to judge by."""
    check_json(json_to)
    if tokenizer is not None and train_vocabulary is not None:
        raise EngineError("corpus: found --tokenizer and --train-vocabulary, expected one of them")
    # What is wrong with the tokenizer shows before a large folder is read.
    vocabulary = open_checkpoint(tokenizer).metadata if tokenizer else None
    texts = _texts(folder, from_stdlib, include or (), exclude or ())
    with progress("tokenising", None, DownloadColumn(), TransferSpeedColumn()) as advance:
        made = making.write_corpus(
            texts,
            out,
            vocabulary=vocabulary or train_vocabulary or VOCABULARY,
            held_out=held_out,
            seed=seed,
            progress=advance,
        )
    put(json_to, to_json(made), _table(out, made, told(texts.left_out)))


def _texts(
    folder: Path | None, from_stdlib: bool, include: Sequence[str], exclude: Sequence[str]
) -> Texts:
    """The texts of the one source that was named."""
    if folder is not None and not from_stdlib:
        return find_texts(folder, include or ("*",), exclude)
    if folder is None and from_stdlib:
        return find_texts(stdlib(), include or STDLIB_FILES, (*exclude, *NOT_STDLIB))
    raise EngineError("corpus: found neither or both of FOLDER and --stdlib, expected one")


def _table(out: Path, made: Mapping[str, Any], left_out: str) -> Iterator[str]:
    trained = "trained" if made["trained"] else "given"
    yield f"{out}: a {trained} vocabulary of {made['vocabulary_size']:,} tokens"
    yield f"left out: {left_out}"
    yield f"{'':9} {'files':>9} {'bytes':>15} {'tokens':>15} {'shards':>7}  bytes/token"
    for name in (TRAIN, HELD_OUT):
        half = made[name]
        yield (
            f"{name:9} {half['files']:>9,} {half['bytes']:>15,} {half['tokens']:>15,} "
            f"{len(half['shards']):>7}  {half['bytes'] / half['tokens']:.2f}"
        )
