"""Faults in what inspect, bench and fixture tell."""

import statistics
from dataclasses import replace

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
            speeds = [sample.tokens / sample.seconds for sample in group]
            return replace(rate(group), median=statistics.mean(speeds))

        return faulty

    plant("engine.bench._rate", fault)


def runs_not_interleaved(plant):
    """All runs of one prompt length come before the next one's."""

    def fault(samples):
        def faulty(model, plan, *clock):
            for size in plan.prompt_tokens:
                yield from samples(model, replace(plan, prompt_tokens=(size,)), *clock)

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
    plant("engine.bench.peak_memory", lambda peak: lambda: (peak() or 0) // 1024)


def interrupt_loses_the_samples(plant):
    """Ctrl-C throws away what was measured."""

    def fault(collect):
        def faulty(source, into, plan):
            complete = collect(source, into, plan)
            if not complete:
                into.clear()
            return complete

        return faulty

    plant("engine.cli_tools._collect", fault)


def interrupt_taken_for_the_end(plant):
    """An interrupted measurement passes for a whole one."""

    def fault(collect):
        def faulty(source, into, plan):
            collect(source, into, plan)
            return True

        return faulty

    plant("engine.cli_tools._collect", fault)


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
    plant("engine.fixture._require_room", lambda require: lambda folder, size: None)
