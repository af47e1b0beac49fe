"""The command `publish`: a checkpoint becomes a folder that others load.

Knows options and progress; everything else is done by the modules that it calls.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, TransferSpeedColumn

from engine.cli_options import JsonFile, check_json, put, to_json
from engine.cli_progress import progress
from engine.columns import bytes_text
from engine.publish import Order, Published
from engine.publish import publish as publish_folder
from engine.publish_gguf import PUBLISHED

EPILOG = """Examples:

python -m engine publish runs/student/best --out student --quantize Q4_K_M

python -m engine publish best --out student --quantize F16 --overwrite
--evidence runs/student/dispatch.json --evidence runs/student/metrics.jsonl

DIR then holds the safetensors as they are, the GGUF, README.md (the model card), the evidence
and SHA256SUMS. It comes into being whole or not at all."""


def publish(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A HF folder: config.json, safetensors, …")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.")],
    quantize: Annotated[
        str, typer.Option(metavar="|".join(PUBLISHED), help="The types in the GGUF.")
    ] = "Q4_K_M",
    name: Annotated[str, typer.Option(help="The model's name; else DIR's.")] = "",
    evidence: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="JSON or .jsonl of a run, for the card; repeatable."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="For the card, such as apache-2.0.")
    ] = None,
    base_model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What it was made from; repeatable.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a DIR that publish wrote.")
    ] = False,
    json_to: JsonFile = None,
) -> None:
    """Write a checkpoint as safetensors and GGUF, with tokenizer, template, card and digests."""
    check_json(json_to)
    order = Order(
        source=checkpoint,
        out=out,
        mix=quantize,
        name=name,
        licence=licence,
        base_models=tuple(base_model or ()),
        evidence=tuple(evidence or ()),
        overwrite=overwrite,
    )
    columns = (DownloadColumn(), TransferSpeedColumn())
    with progress(f"publishing {out.name}", None, *columns) as advance:
        published = publish_folder(order, advance)
    put(json_to, to_json({**asdict(published), "folder": str(out)}), _table(published))


def _table(published: Published) -> Iterator[str]:
    yield f"{published.folder}: {len(published.files)} files"
    for file in published.files:
        yield f"  {file.path:<52} {bytes_text(file.bytes):>10}  {file.sha256[:12]}"
    for loss in published.losses:
        yield (
            f"  {loss.type:<6} {loss.tensors:>5} tensors {loss.parameters:>15,} numbers, "
            f"error {loss.error:.2e}"
        )
