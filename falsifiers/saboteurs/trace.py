"""Faults in traces, in what is compared with what, and in how it is told."""

import json

import torch

from engine.errors import EngineError


def std_with_one_less(plant):
    """The deviation is the sample's, which divides by n - 1, and none of a single number."""

    def fault(of):
        def faulty(cls, layer, stage, made):
            found = of(cls, layer, stage, made)
            finite = found.count - found.nonfinite
            if finite < 2 or found.std is None:
                return found
            return found.model_copy(update={"std": found.std * (finite / (finite - 1)) ** 0.5})

        return faulty

    plant("engine.trace.Stage.of", fault)


def statistics_in_float32(plant):
    """The deviation is the root of mean square less squared mean, in float32."""

    def fault(of):
        def faulty(cls, layer, stage, made):
            found, finite = of(cls, layer, stage, made), made[made.isfinite()].float()
            if found.std is None:
                return found
            variance = finite.square().mean() - finite.mean().square()
            return found.model_copy(update={"std": variance.clamp(min=0).sqrt().item()})

        return faulty

    plant("engine.trace.Stage.of", fault)


def maximum_of_absolutes(plant):
    """The maximum is that of the absolute values."""

    def fault(of):
        def faulty(cls, layer, stage, made):
            found = of(cls, layer, stage, made)
            most = None if found.max is None else max(found.max, -found.min)
            return found.model_copy(update={"max": most})

        return faulty

    plant("engine.trace.Stage.of", fault)


def nonfinite_dropped_silently(plant):
    """NaN and infinities are left out, and nobody is told."""

    def fault(of):
        return lambda cls, layer, stage, made: of(cls, layer, stage, made).model_copy(
            update={"nonfinite": 0}
        )

    plant("engine.trace.Stage.of", fault)


def first_token_for_the_last(plant):
    """The row that is traced as the last token's is the first's."""

    def fault(traced):
        return lambda made, tokens: made[:1] if tokens == "last" else traced(made, tokens)

    plant("engine.trace.traced", fault)


def last_token_for_all(plant):
    """A trace of all tokens repeats the last one's row, so that its shape is right."""

    def fault(traced):
        def faulty(made, tokens):
            return made[-1:].expand_as(made) if tokens == "all" else traced(made, tokens)

        return faulty

    plant("engine.trace.traced", fault)


def _relabelled(plant, relabel):
    def fault(call):
        return lambda self, layer, stage, made: call(self, *relabel(layer, stage), made)

    plant("engine.trace._Recorder.__call__", fault)


def layers_counted_from_one(plant):
    """Layers are numbered from 1."""
    _relabelled(plant, lambda layer, stage: (None if layer is None else layer + 1, stage))


def gate_and_up_relabelled(plant):
    """The gate's numbers stand under ffn_up, and the other way round."""
    names = {"ffn_gate": "ffn_up", "ffn_up": "ffn_gate"}
    _relabelled(plant, lambda layer, stage: (layer, names.get(stage, stage)))


def expert_rows_by_first_rank(plant):
    """What experts make is put in the first rank's place, whatever their rank."""

    def fault(at):
        return lambda self, token, rank: at(self, token, torch.zeros_like(rank))

    plant("engine.moe._Gathered.at", fault)


def last_named_for_the_first(plant):
    """The last line outside the band is named as the first."""

    def fault(first):
        def faulty(self):
            outside = [line for line in self.lines if line.fault]
            return outside[-1] if outside else first(self)

        return faulty

    plant("engine.compare.Comparison.first", fault)


def ratio_not_judged(plant):
    """A ratio never leaves the band."""
    plant("engine.compare._outside", lambda outside: lambda ratio, bounds: "")


def cosine_not_judged(plant):
    """A cosine never leaves the band."""
    plant("engine.compare._apart", lambda apart: lambda cosine, least: "")


def one_band_for_every_stage(plant):
    """ffn_gate's narrower band is forgotten."""
    plant("engine.compare.Band.of", lambda of: lambda self, stage: self.ratio)


def ratio_upside_down(plant):
    """The ratio is A's deviation over B's."""
    plant("engine.compare._ratio", lambda ratio: lambda a, b: ratio(b, a))


def cosine_over_all_rows_at_once(plant):
    """One cosine over all rows hides a single row that is wrong."""

    def fault(least_cosine):
        return lambda a, b: least_cosine(a.reshape(1, -1), b.reshape(1, -1))

    plant("engine.compare.least_cosine", fault)


def experts_compared_by_rank(plant):
    """What experts made is compared rank by rank, whichever experts they are."""

    def fault(in_common):
        return lambda a, chosen_a, b, chosen_b: (a.flatten(0, 1), b.flatten(0, 1))

    plant("engine.compare._in_common", fault)


def prompts_compared_by_length(plant):
    """Two prompts of the same length are taken for the same."""

    def fault(require_same):
        def faulty(what, a, b, x, y):
            if not what.startswith("token "):
                require_same(what, a, b, x, y)

        return faulty

    plant("engine.compare._require_same", fault)


def lying_trace_believed(plant):
    """A trace that says it counts the last token is not held to it."""
    plant("engine.trace.Trace.require_whole", lambda check: lambda self: None)


def refusal_without_reason(plant):
    """Two traces are refused without saying why."""

    def fault(require_alike):
        def faulty(a, b):
            try:
                require_alike(a, b)
            except EngineError as error:
                raise EngineError("these traces cannot be compared") from error

        return faulty

    plant("engine.compare.require_alike", fault)


def nan_in_json(plant):
    """A statistic that is not there is written as NaN, which is no JSON."""

    def fault(to_json):
        def faulty(self):
            document = json.loads(to_json(self))
            for stage in document["stages"]:
                stage["std"] = float("nan") if stage["nonfinite"] else stage["std"]
            return json.dumps(document)

        return faulty

    plant("engine.trace.Trace.to_json", fault)


def any_json_is_a_trace(plant):
    """A file is read without being checked."""

    def fault(read_trace):
        def faulty(path):
            try:
                return read_trace(path)
            except EngineError:
                return None

        return faulty

    plant("engine.trace.read_trace", fault)


def outside_ends_well(plant):
    """Nothing that was found to be outside the band reaches the exit code."""
    plant("engine.compare.Comparison.first", lambda first: lambda self: None)


def tokens_left_unsaid(plant):
    """The table does not say which tokens it counts."""
    plant("engine.tables._counted", lambda counted: lambda trace: f"{trace.layers} layers")


def table_in_full_precision(plant):
    """Numbers are printed with all their digits."""
    plant("engine.tables._number", lambda number: lambda x, form="": f"{x!s:>24}")


def minimum_printed_as_mean(plant):
    """A column of the table shows another statistic."""

    def fault(trace_table):
        def faulty(trace):
            stages = [stage.model_copy(update={"mean": stage.min}) for stage in trace.stages]
            return trace_table(trace.model_copy(update={"stages": tuple(stages)}))

        return faulty

    plant("engine.tables.trace_table", fault)


def dash_taken_for_a_file(plant):
    """--json - is taken for the name of a file."""
    plant("engine.cli_options._is_stdout", lambda is_stdout: lambda path: False)


def means_drawn_one_layer_late(plant):
    """Points stand one layer to the right."""

    def fault(draw):
        def faulty(panel, name, stages):
            draw(panel, name, [s.model_copy(update={"layer": s.layer + 1}) for s in stages])

        return faulty

    plant("engine.plot._draw_stage", fault)


def missing_drawn_as_zero(plant):
    """Small ratios are drawn as 0."""
    plant("engine.plot._drawn", lambda drawn: lambda number: 0.0 if number == 1 else drawn(number))


def first_place_not_marked(plant):
    """The plot does not show where the band is left first."""
    plant("engine.plot._mark_first", lambda mark: lambda comparison, panel, last: None)
