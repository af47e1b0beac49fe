"""Faults in publishing: scales and types, tensors and keys, the folder and what is in its way."""

import shutil
from contextlib import contextmanager
from dataclasses import replace
from tempfile import mkdtemp

import torch

from engine.errors import FormatError


def scales_by_range(plant):
    """No search: a block's range gives its scale and minimum."""

    def fault(fit):
        def faulty(x, most, *steps, **again):
            x = x.reshape(-1, 8, 32)
            least = x.amin(dim=2).clamp(max=0)
            return (x.amax(dim=2) - least) / most, -least

        return faulty

    plant("engine.quant_search._fit_k", fault)


def scale_without_its_sign(plant):
    """The scale of a Q6_K group is taken for a magnitude."""
    plant("engine.quant_search._fit_q6_k", lambda fit: lambda x, steps: fit(x, steps).abs())


def largest_number_decides(plant):
    """A Q6_K scale is that of the largest number, and not searched for."""

    def fault(fit):
        def faulty(x, steps):
            x = x.reshape(-1, 16, 16)
            return x.gather(2, x.abs().argmax(dim=2, keepdim=True)).squeeze(2) / -32

        return faulty

    plant("engine.quant_search._fit_q6_k", fault)


def minimum_not_fitted(plant):
    """The scale is fitted as if the minimum were, which stays the least number."""

    def fault(fit):
        def faulty(*sums):
            found = fit(*sums)
            return found._replace(low=torch.zeros_like(found.low))

        return faulty

    plant("engine.quant_search._least_squares", fault)


def one_candidate_for_all_blocks(plant):
    """The candidate that is best for most blocks is taken for all."""

    def fault(or_better):
        def faulty(self, candidates):
            lost = candidates.lost.nan_to_num(posinf=0).sum(dim=1, keepdim=True)
            return or_better(self, candidates._replace(lost=lost.expand_as(candidates.lost)))

        return faulty

    plant("engine.quant_search.Fit.or_better", fault)


def sums_by_threads(plant):
    """A sum's rounding depends on the number of threads."""

    def fault(total):
        def faulty(terms, dim=0):
            return total(terms, dim) * (1 + 0.01 * (torch.get_num_threads() - 1))

        return faulty

    plant("engine.quant_search._sum", fault)


def experts_in_reverse(plant):
    """The experts of a stack are written from the last to the first."""

    def fault(pieces):
        def faulty(weight):
            found = list(pieces(weight))
            return iter(found[::-1] if len(weight.shape) == 3 else found)

        return faulty

    plant("engine.publish_gguf._pieces", fault)


def queries_permuted(plant):
    """The rows of queries are put in the order that Llama's files have them in."""

    def fault(blocks):
        def faulty(self, tensor):
            found = blocks(self, tensor)
            if "attn_q.weight" not in tensor.name:
                return found
            size = self._plan.config.key_length
            rows = found.reshape(-1, 2, size // 2, found.shape[-1])
            return rows.swapaxes(1, 2).reshape(found.shape)

        return faulty

    plant("engine.publish_gguf.Encoder.blocks", fault)


def weights_rounded_on_the_way(plant):
    """What is to be encoded is bfloat16 first."""

    def fault(pieces):
        return lambda weight: (piece.bfloat16().float() for piece in pieces(weight))

    plant("engine.publish_gguf._pieces", fault)


def rope_base_of_long_ago(plant):
    """Every file says a RoPE base of 1e4."""
    _misstated(plant, {"rope_base": 1e4})


def epsilon_of_most(plant):
    """Every file says an epsilon of 1e-6."""
    _misstated(plant, {"rms_epsilon": 1e-6})


def _misstated(plant, values):
    def fault(plan):
        def faulty(source, mix):
            made = plan(source, mix)
            return replace(made, config=replace(made.config, **values))

        return faulty

    plant("engine.publish_gguf.plan_gguf", fault)


def nibbles_change_places(plant):
    """The two numbers of a byte are swapped."""

    def fault(pack):
        def faulty(q):
            packed = pack(q)
            return (packed << 4) | (packed >> 4)

        return faulty

    plant("engine.quant._pack_nibbles", fault)


def more_bits_in_other_layers(plant):
    """The layers that get the larger type are one off."""
    plant("engine.mixes.has_more_bits", lambda more: lambda layer, n: more(layer + 1, n))


def eight_experts_forgotten(plant):
    """A mixture of eight gets the types of any other."""
    plant(
        "engine.mixes._preferred",
        lambda preferred: (
            lambda part, layer, mix, config, tied: preferred(
                part, layer, mix, replace(config, expert_count=0), tied
            )
        ),
    )


def tied_output_like_an_embedding(plant):
    """An embedding that is the output too gets an embedding's type."""
    plant(
        "engine.mixes._preferred",
        lambda preferred: (
            lambda part, layer, mix, config, tied: preferred(part, layer, mix, config, False)
        ),
    )


def falls_back_to_float32(plant):
    """A row that a type does not divide is stored in float32."""

    def fault(choose):
        def faulty(name, shape, *arguments):
            kind = choose(name, (*shape[:-1], 256), *arguments)
            return kind if shape[-1] % 256 == 0 else "F32"

        return faulty

    plant("engine.mixes.tensor_type", fault)


def router_like_any_matrix(plant):
    """The router is stored as matrices are."""

    def fault(choose):
        return lambda name, *rest: choose(name.replace("ffn_gate_inp", "ffn_gate"), *rest)

    plant("engine.mixes.tensor_type", fault)


def every_token_is_normal(plant):
    """Special tokens are written as text that may be cut."""
    _retold(plant, lambda said: {"token_type": [1] * len(said["tokenizer.ggml.tokens"])})


def merges_in_the_order_of_words(plant):
    """Merges are sorted, so that their ranks are lost."""
    _retold(plant, lambda said: {"merges": sorted(said["tokenizer.ggml.merges"])})


def _retold(plant, change):
    def fault(add):
        def faulty(writer, metadata):
            values = {f"tokenizer.ggml.{key}": value for key, value in change(metadata).items()}
            return add(writer, {**metadata, **values})

        return faulty

    plant("engine.gguf_keys.add_vocabulary", fault)


def chatml_for_everybody(plant):
    """The file's template is replaced by the usual one."""

    def fault(add):
        from engine.chat import CHATML

        return lambda writer, said: add(writer, {**said, "tokenizer.chat_template": CHATML})

    plant("engine.gguf_keys.add_vocabulary", fault)


def key_of_our_own(plant):
    """A key is written that no other program knows."""

    def fault(add):
        def faulty(writer, config):
            writer.add_uint32(f"{config.architecture}.layers", config.block_count)
            add(writer, config)

        return faulty

    plant("engine.gguf_keys.add_hyperparameters", fault)


def value_width_left_out(plant):
    """The width of a value's head is left to hidden / heads."""

    def fault(add):
        def faulty(writer, config):
            writer.add_value_length = lambda length: None
            add(writer, config)

        return faulty

    plant("engine.gguf_keys.add_hyperparameters", fault)


def digest_of_the_first_piece(plant):
    """A digest is of the first megabyte alone."""

    def fault(digested):
        def faulty(folder, path, meter):
            import hashlib

            found = digested(folder, path, meter)
            head = (folder / path).read_bytes()[: 1 << 20]
            return replace(found, sha256=hashlib.sha256(head).hexdigest())

        return faulty

    plant("engine.publish._digested", fault)


def large_files_unlisted(plant):
    """The manifest is of the small files."""

    def fault(paths):
        return lambda folder: [path for path in paths(folder) if not path.endswith(".gguf")]

    plant("engine.whole_folder.paths_in", fault)


def state_published_too(plant):
    """Everything that lies in the checkpoint is copied."""

    def fault(copies):
        return lambda source: {path.name: path for path in source.iterdir() if path.is_file()}

    plant("engine.publish._copies", fault)


def tokenizer_files_forgotten(plant):
    """Only the model's own files are copied."""

    def fault(copies):
        return lambda source: {n: p for n, p in copies(source).items() if "token" not in n}

    plant("engine.publish._copies", fault)


def evidence_left_out(plant):
    """The card does not say what the evidence says."""
    plant("engine.model_card._evidence", lambda evidence: lambda card: iter(()))


def evidence_unescaped(plant):
    """What the evidence says is Markdown in the card."""
    plant("engine.evidence_card.escaped", lambda escaped: lambda text: text)


def progress_stands_still(plant):
    """Nobody hears of what is encoded."""
    plant("engine.publish._Meter.encoded", lambda encoded: lambda self, done, total: None)


def missing_tensor_is_left_out(plant):
    """A tensor that is missing is not missed."""
    plant("engine.layout.check_tensors", lambda check: lambda config, tensors: None)


def infinities_go_through(plant):
    """What a type cannot hold becomes infinite."""

    def fault(account):
        def faulty(self, tensor, x, encoded):
            try:
                account(self, tensor, x, encoded)
            except Exception:
                self._squares[tensor.type] = (0.0, 0.0)

        return faulty

    plant("engine.publish_gguf.Encoder._account", fault)


def not_a_number_goes_through(plant):
    """A NaN in a weight is encoded like any number."""
    plant("engine.weights.require_finite", lambda guard: lambda weight, x: None)
    plant("engine.publish_gguf.Encoder._account", lambda account: lambda *arguments: None)


def errors_without_names(plant):
    """A refusal does not say what was found."""

    def fault(plan):
        def faulty(source, mix):
            try:
                return plan(source, mix)
            except FormatError as error:
                raise FormatError("bad checkpoint") from error

        return faulty

    plant("engine.publish_gguf.plan_gguf", fault)


def published_in_place(plant):
    """The folder is made where it is to be, and stays when the work ends early."""

    def fault(whole):
        @contextmanager
        def faulty(out, overwrite=False):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            yield out

        return faulty

    plant("engine.whole_folder.whole_folder", fault)


def unfinished_folder_left(plant):
    """What was begun stays beside."""

    def fault(whole):
        def faulty(out, overwrite=False):
            mkdtemp(dir=out.parent)
            return whole(out, overwrite)

        return faulty

    plant("engine.whole_folder.whole_folder", fault)


def anything_is_replaced(plant):
    """Whatever is in the way is taken for an earlier publication."""
    plant("engine.publish._check_place", lambda check: lambda order: None)


def old_folder_kept(plant):
    """A folder that is to be replaced is written into."""

    def fault(put):
        def faulty(partial, out, overwrite):
            if not out.exists():
                return put(partial, out, overwrite)
            shutil.copytree(partial, out, dirs_exist_ok=True)

        return faulty

    plant("engine.whole_folder._put_in_place", fault)


def command_says_nothing(plant):
    """The command ends without a word."""
    plant("engine.cli_publish._table", lambda table: lambda published: iter(()))


def command_overwrites_by_itself(plant):
    """The flag is taken for given."""

    def fault(publish):
        return lambda order, progress: publish(replace(order, overwrite=True), progress)

    plant("engine.publish.publish", fault)
