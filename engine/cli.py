"""The command line: `python -m engine run|serve|distill|eval|publish|…`.

Knows options, streams and exit codes; everything else is done by the modules that it calls.
Exit codes: 0 done, 2 bad input (one line on stderr), 130 interrupted.
"""

import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from engine.chat import ChatTemplate, render_chat
from engine.checkpoint import open_checkpoint
from engine.cli_options import Device, ModelPath, RouteName, open_route, say
from engine.errors import EngineError, naming
from engine.generate import generate
from engine.model import Model
from engine.routes import choose
from engine.text import TextStream
from engine.tokenizer import Tokenizer

# The modules of further commands, imported when one is asked for: a command needs less memory and
# starts sooner without the others. `module:function` is a command, with the module's EPILOG; a
# module alone has an app of them.
LATER = {
    "trace": "cli_trace:trace",
    "bench": "cli_bench:bench",
    "bench-agent": "cli_agent:bench_agent",
    "inspect": "cli_tools",
    "fixture": "cli_tools",
    "corpus": "cli_corpus:corpus",
    "distill": "cli_distill",
    "dispatch": "cli_dispatch",
    "watch": "cli_dispatch",
    "publish": "cli_publish:publish",
    "eval": "cli_eval",
}


class Commands(TyperGroup):
    """Those that are here, and those of `LATER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *LATER]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        name, _, function = LATER[cmd_name].partition(":")
        module = import_module(f"engine.{name}")
        if function:
            one = typer.Typer(rich_markup_mode=None)
            one.command(epilog=module.EPILOG)(getattr(module, function))
            return get_command(one)
        several: Any = get_command(module.app)
        return several.commands.get(cmd_name, several)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Qwen2, Qwen3 and Qwen3-MoE models, from GGUF files and Hugging Face folders.",
)


@app.command(epilog='Example: python -m engine run tiny.gguf --prompt "Hello" --max-tokens 32')
def run(
    model: ModelPath,
    prompt: Annotated[str, typer.Option(help="What to say to the model.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k most probable; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the most probable mass.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Drop what is rarer than this × best.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes the drawing repeatable.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; repeatable.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw/--chat", help="Continue the text, or answer it as a chat.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    device: Device = "cpu",
    route: RouteName = "auto",
) -> None:
    """Generate text from a prompt, streamed as it comes."""
    file = open_checkpoint(model)
    with naming(model):
        tokenizer = Tokenizer.from_metadata(file.metadata)
    if not raw:
        template = ChatTemplate.from_metadata(file.metadata, model)
        prompt = render_chat(template, [{"role": "user", "content": prompt}])
    ids = tokenizer.encode(prompt)
    choice = open_route(route, device)
    started = time.perf_counter()
    tokens = generate(
        Model.from_checkpoint(file, device, choice.route),
        ids,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        stop_ids=tokenizer.eos_ids,
    )
    text = TextStream(tokenizer, stop or ())
    if not as_json:
        for _, piece in _written(tokens, text):
            print(piece, end="", flush=True)
        print()
        return
    made, pieces = zip(*_written(tokens, text), strict=True)
    seconds = round(time.perf_counter() - started, 3)
    report = {"text": "".join(pieces), "prompt_ids": ids, "ids": made[:-1], "seconds": seconds}
    report |= {"route": choice.reason}
    print(json.dumps(report, ensure_ascii=False))


def _written(tokens: Iterator[int], text: TextStream) -> Iterator[tuple[int | None, str]]:
    """Each token with the text that is final after it, and at last None with what is left."""
    for token in tokens:
        yield token, text.feed(token)
        if text.stopped:
            break
    yield None, text.flush()


@app.command(epilog="Example: python -m engine serve tiny.gguf --port 8000")
def serve(
    model: ModelPath,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    name: Annotated[str | None, typer.Option(help="Model name; else the file's stem.")] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="ENGINE_API_KEY", help="Clients must present it; better set by env."),
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait.")] = 16,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request at most.")] = 1 << 20,
    max_prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prompt at most; else the context.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds for a request, its wait included.")
    ] = 600.0,
    drain: Annotated[
        int, typer.Option(min=0, help="Seconds that answers may go on after a signal to stop.")
    ] = 30,
    device: Device = "cpu",
    route: RouteName = "auto",
) -> None:
    """Serve a model over the OpenAI API; prints the URL. GET /health says when it is ready."""
    # Imported here so that `run` and `fixture` work without the extra `serve`.
    from engine.answer import Served
    from engine.server import Settings
    from engine.server import serve as serve_forever

    if api_key == "":
        raise EngineError("--api-key: found nothing, expected at least one character")
    settings = Settings(
        name or model.stem, api_key, max_waiting, max_body, max_prompt_tokens, timeout, drain
    )
    choice = choose(route, device)

    def load() -> Served:
        served = Served.open(model, device, choice.route)
        say(choice)
        return served

    serve_forever(load, settings, host, port)


def main() -> None:
    """Run the command line; a known error becomes one line on stderr and exit code 2."""
    try:
        app()
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
