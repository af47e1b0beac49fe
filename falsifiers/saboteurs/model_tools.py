"""Faults in what inspect, bench and fixture tell."""

import statistics
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

from engine.errors import EngineError


def every_expert_counted_as_active(plant):
    """The parameters of experts that a token does not go to are counted as active."""

    def fault(active):
        return lambda metadata, tensors: sum(t.bytes for t in tensors.values())

    plant("engine.inspection._active", fault)


def tensors_folded_by_name_alone(plant):
    """Layers whose tensors have another type disappear in a fold of the first one's."""

    def fault(folds):
        def faulty(tensors):
            first = {}
            for fold in folds(tensors):
                kept = first.setdefault(fold.name, fold)
                layers = tuple(sorted({*kept.layers, *fold.layers}))
                first[fold.name] = replace(kept, layers=layers)
            return first.values()

        return faulty

    plant("engine.inspection._folds", fault)


def a_byte_for_each_parameter(plant):
    """Tensors are taken for as many bytes as they have parameters."""

    def fault(types):
        return lambda tensors: (replace(each, bytes=each.parameters) for each in types(tensors))

    plant("engine.inspection._types", fault)


def inspection_warns_of_nothing(plant):
    """What the engine would refuse is not said."""
    plant("engine.inspection._warnings", lambda warnings: lambda checkpoint: ())


def inspection_refuses_too(plant):
    """A model that the engine refuses cannot be looked at."""

    def fault(warnings):
        def faulty(checkpoint):
            for warning in warnings(checkpoint):
                raise EngineError(warning)
            return ()

        return faulty

    plant("engine.inspection._warnings", fault)


def file_text_printed_as_it_is(plant):
    """Escape sequences in a file reach the terminal."""
    plant("engine.tables._printable", lambda printable: lambda text: text)


def rate_is_the_mean(plant):
    """One slow run pulls the rate: the mean is given as the median."""

    def fault(rate):
        def faulty(group):
            speeds = [sample.amount / sample.seconds for sample in group]
            return replace(rate(group), median=statistics.mean(speeds))

        return faulty

    plant("engine.bench_report._rate", fault)


def runs_not_interleaved(plant):
    """All runs of one prompt length come before the next one's."""

    def fault(samples):
        def faulty(model, plan, *others, **options):
            for size in plan.prompt_tokens:
                one = replace(plan, prompt_tokens=(size,))
                yield from samples(model, one, *others, **options)

        return faulty

    plant("engine.bench.samples", fault)


def decode_without_a_cache(plant):
    """Every decoded token starts from an empty cache, so that it is quick and wrong."""

    def fault(next_token):
        def faulty(model, ids, cache):
            return next_token(model, ids, model.new_cache(len(ids)))

        return faulty

    plant("engine.bench._next_token", fault)


def memory_in_kibibytes(plant):
    """Peak memory is given in the unit that the system uses."""
    plant("engine.memory.peak_memory", lambda peak: lambda: (peak() or 0) // 1024)


def interrupt_loses_the_samples(plant):
    """Ctrl-C throws away what was measured."""

    def fault(collect):
        def faulty(source, into, count):
            complete = collect(source, into, count)
            if not complete:
                into.clear()
            return complete

        return faulty

    plant("engine.cli_bench._collect", fault)


def interrupt_taken_for_the_end(plant):
    """An interrupted measurement passes for a whole one."""

    def fault(collect):
        def faulty(source, into, count):
            collect(source, into, count)
            return True

        return faulty

    plant("engine.cli_bench._collect", fault)


def interrupted_file_left(plant):
    """A file that was begun stays."""

    def fault(write):
        def faulty(path, *arguments):
            write(path.with_suffix(".unfinished"), *arguments)
            path.with_suffix(".unfinished").rename(path)

        return faulty

    plant("engine.fixture._write", fault)


def room_not_checked(plant):
    """A file is begun that the disk cannot hold."""
    plant("engine.disk.require_room", lambda require: lambda folder, size: None)


def every_expert_is_read(plant):
    """The bytes of experts that a token does not go to are counted as read."""

    def fault(weight_bytes):
        return lambda config, tensors: weight_bytes(
            replace(config, expert_used_count=config.expert_count), tensors
        )

    plant("engine.traffic.weight_bytes", fault)


def whole_embedding_is_read(plant):
    """The embedding counts as a matrix that each token reads, not as a row."""

    def fault(weight_bytes):
        return lambda config, tensors: sum(
            tensors[name].bytes
            if name == "token_embd.weight"
            else weight_bytes(config, {name: tensors[name], "output.weight": NOTHING})
            for name in tensors
        )

    plant("engine.traffic.weight_bytes", fault)


NOTHING = SimpleNamespace(bytes=0, shape=(1,))


def cache_forgets_the_windows(plant):
    """A layer with a window is taken to read all positions."""

    def fault(cache_bytes):
        def faulty(config, positions, number):
            return cache_bytes(replace(config, sliding_windows=()), positions, number)

        return faulty

    plant("engine.traffic.cache_bytes", fault)


def peer_comes_after_the_engine(plant):
    """All of the engine's turns come before the peer's."""

    def fault(turns):
        def faulty(model, plan, reader, rival, clock):
            yield from turns(model, plan, reader, None, clock)
            yield from turns(model, plan, reader, rival, clock)

        return faulty

    plant("engine.bench._turns", fault)


def ratio_of_the_best(plant):
    """The engine's best run is divided by the peer's median."""

    def fault(compared):
        def faulty(found, peer):
            best = {}
            for each in found:
                key = (each.stage, each.prompt_tokens)
                if each.side == "engine":
                    best[key] = min(best.get(key, each), each, key=lambda s: s.seconds)
            theirs = [each for each in found if each.side == peer]
            return compared([*best.values(), *theirs], peer)

        return faulty

    plant("engine.bench_report.compared", fault)


def share_of_the_best_reading(plant):
    """The share is that of the quickest reading, not of the median."""

    def fault(traffic):
        def faulty(own, per_token, read):
            return traffic(own, per_token, read and replace(read, median=read.most))

        return faulty

    plant("engine.bench_report.traffic", fault)


def peer_left_running(plant):
    """The other engine goes on when the measurement has ended."""

    def fault(rival):
        def faulty(*arguments):
            kept = rival(*arguments)
            LEFT.append(kept)
            return nullcontext(kept.__enter__())

        return faulty

    plant("engine.cli_bench._rival", fault)


LEFT = []  # what is not referred to is closed


def missing_peer_passed_over(plant):
    """Without the other engine the comparison is left out and nothing is said."""
    plant("engine.cli_bench._rival", lambda rival: lambda *arguments: nullcontext())


def last_words_lost(plant):
    """A process that ends does not say why."""
    plant("engine.child.Child._last_words", lambda words: lambda self: "")


def map_counts_as_memory(plant):
    """The mapped file is counted with what is held besides."""
    plant("engine.memory.memory_over", lambda over: lambda files: over([]))


def memory_looked_at_once(plant):
    """What was held and given back is not seen."""

    def fault(watching):
        @contextmanager
        def faulty(look):
            seen = []
            yield seen
            seen.append(look())

        return faulty

    plant("engine.memory.watching", fault)


def projection_counted_as_qkv(plant):
    """The output projection's time is given to queries, keys and values."""

    def fault(stage):
        return lambda weight: "qkv" if stage(weight) == "output projection" else stage(weight)

    plant("engine.profile._stage", fault)


def prompt_counted_in_the_profile(plant):
    """What the prompt cost is shared out among the tokens after it."""

    class Kept(dict):
        def clear(self):
            pass

    def fault(timed):
        class Faulty(timed):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                self.spent = Kept()

        return Faulty

    plant("engine.profile.Timed", fault)


def peer_reads_one_token_of_the_prompt(plant):
    """The peer's prompt is cut to its last token, which makes it quick."""

    def fault(run):
        return lambda self, ids, tokens: run(self, ids[-1:], tokens)

    plant("engine.llama_child.Runner.run", fault)


def peer_decodes_nothing(plant):
    """The peer's decode is not measured."""

    def fault(samples):
        return lambda *arguments: islice(samples(*arguments), 1)

    plant("engine.bench._peer_samples", fault)


def unknown_figure_meets_its_bar(plant):
    """What was not measured passes for met."""

    plant("benchmarks.cpu.reached", lambda reached: lambda b: b.found is None or reached(b))


def every_bar_is_met(plant):
    """A bar is met whatever was found."""
    plant("benchmarks.cpu.reached", lambda reached: lambda bar: True)
