"""Faults in the KV cache, in attention over it, and in the products of quantised weights."""

import torch
from torch.nn.functional import pad

import engine.model
from engine.errors import EngineError, PromptError


def _append(plant, change):
    """Let `change(cache, layer, keys, values)` spoil what `append` returns, in place or not."""

    def fault(append):
        def faulty(self, layer, key, value):
            return change(self, layer, *append(self, layer, key, value))

        return faulty

    plant("engine.cache.KVCache.append", fault)


def key_stored_before_rope(plant):
    """The cache gets the keys as they were before their rotation, and attention reads those."""
    raw = []

    def kept(rotate):
        def faulty(x, cos, sin):
            raw[:] = [x]  # of queries and keys, the keys come last
            return rotate(x, cos, sin)

        return faulty

    plant("engine.rope.rotate", kept)
    plant("engine.cache.KVCache.append", lambda append: lambda c, n, k, v: append(c, n, raw[0], v))


def position_off_by_one(plant):
    """What follows a prompt is rotated as if it stood one position later."""

    def fault(tables):
        def faulty(config, positions):
            return tables(config, positions + int(positions[0] > 0))

        return faulty

    plant("engine.rope.tables", fault)


def last_key_overwritten(plant):
    """A new key is written over the one before it too."""

    def overwrite(cache, layer, keys, values):
        if cache.length:
            keys[:, cache.length - 1] = keys[:, cache.length]
        return keys, values

    _append(plant, overwrite)


def values_not_expanded_on_the_first_token(plant):
    """Where one token passes alone, all its heads read the first head's values."""

    def fault(attention):
        def faulty(q, k, v, window=0):
            return attention(q, k, v[:1].expand_as(v) if q.shape[1] == 1 else v, window)

        return faulty

    plant("engine.attention.attention", fault)


def gqa_tiled_in_decode(plant):
    """Where one token passes alone, KV heads are tiled over the query heads, not repeated."""

    def fault(attention):
        def faulty(q, k, v, window=0):
            if q.shape[1] > 1:
                return attention(q, k, v, window)
            group = q.shape[0] // k.shape[0]
            return attention(q, k.repeat(group, 1, 1), v.repeat(group, 1, 1), window)

        return faulty

    plant("engine.attention.attention", fault)


def mask_starts_at_the_cache(plant):
    """The causal mask takes the queries for the first T of the S positions, not for the last."""

    def fault(attention):
        def faulty(q, k, v, window=0):
            start = k.shape[1] - q.shape[1]
            if not start or q.shape[1] == 1:
                return attention(q, k, v, window)
            return attention(pad(q, (0, 0, 0, start)), k, v, window)[:, : q.shape[1]]

        return faulty

    plant("engine.attention.attention", fault)


def window_forgotten_in_decode(plant):
    """Where one token passes alone, it sees everything that the cache holds."""

    def fault(attention):
        return lambda q, k, v, window=0: attention(q, k, v, window if q.shape[1] > 1 else 0)

    plant("engine.attention.attention", fault)


def window_one_too_wide(plant):
    """A query sees one position more than its window when positions before it are cached."""

    def fault(attention):
        def faulty(q, k, v, window=0):
            return attention(q, k, v, window + 1 if window and k.shape[1] > q.shape[1] else window)

        return faulty

    plant("engine.attention.attention", fault)


def layers_share_their_keys(plant):
    """Every layer writes its keys to the same place, and finds there what the last one left."""

    def fault(append):
        def faulty(self, layer, key, value):
            _, values = append(self, layer, key, value)
            keys, _ = append(self, 0, key, value)
            return keys, values

        return faulty

    plant("engine.cache.KVCache.append", fault)


def corrupted_cache_entry(plant):
    """The key of position 3 in layer 1 comes back negated once more follows."""

    def corrupt(cache, layer, keys, values):
        if layer == 1 and cache.length > 3:
            keys = keys.clone()
            keys[:, 3] *= -1
        return keys, values

    _append(plant, corrupt)


def cache_reads_beyond_its_length(plant):
    """Attention also gets the places after the new position, which nobody has filled."""

    def beyond(cache, layer, keys, values):
        end, spare = keys.shape[1], cache.keys.shape[2] - keys.shape[1]
        new = [each[layer, :, end : end + spare] for each in (cache.keys, cache.values)]
        # The new position comes last, so that the mask lets it see the unfilled ones.
        return tuple(
            torch.cat([each[:, :-1], unfilled, each[:, -1:]], dim=1)
            for each, unfilled in zip((keys, values), new, strict=True)
        )

    _append(plant, beyond)


def first_entry_skipped(plant):
    """Attention never sees the first position's value, once there are others."""

    def skip(cache, layer, keys, values):
        if cache.length:
            values = torch.cat([torch.zeros_like(values[:, :1]), values[:, 1:]], dim=1)
        return keys, values

    _append(plant, skip)


def _recomputed(plant, passed):
    """Each pass goes over all ids that the cache has seen: `passed(forward, model, ids, cache)`."""

    def fault(forward):
        def faulty(self, ids, cache=None, **options):
            if cache is None:
                return forward(self, ids, **options)
            cache.ids = [*getattr(cache, "ids", []), *ids]
            logits = passed(forward, self, cache.ids, cache)
            cache.length = len(cache.ids)
            return logits[-1:] if options.get("last_only") else logits[-len(ids) :]

        return faulty

    plant("engine.model.Model.forward", fault)


def cache_disabled(plant):
    """The cache holds nothing; every pass starts from the first token, and its logits are right."""
    _recomputed(plant, lambda forward, model, ids, cache: forward(model, ids))


def full_prefill_per_token(plant):
    """Every pass fills a new cache from the first position, and its logits are right."""

    def passed(forward, model, ids, cache):
        return forward(model, ids, model.new_cache(len(ids)))

    _recomputed(plant, passed)


def cache_grows_by_one(plant):
    """The cache makes room for exactly what comes, so that every token moves all entries."""

    def fault(reserve):
        def faulty(self, end):
            more = max(0, end - self.keys.shape[2])
            self.keys = pad(self.keys, (0, 0, 0, more))
            self.values = pad(self.values, (0, 0, 0, more))

        return faulty

    plant("engine.cache.KVCache.reserve", fault)


def model_keeps_its_cache(plant):
    """A pass without a cache goes on from where the last one with a cache ended."""

    def fault(run):
        def faulty(self, ids, cache, **options):
            self.last = cache or getattr(self, "last", None)
            return run(self, ids, self.last, **options)

        return faulty

    plant("engine.model.Model._run", fault)


def norm_scales_its_gain(plant):
    """RMSNorm works in place on its gain, so that each pass changes the model."""

    def fault(rms_norm):
        return lambda x, gain, epsilon: rms_norm(x, gain.mul_(1.0001), epsilon)

    plant("engine.attention.rms_norm", fault)


def stale_cache_between_requests(plant):
    """A cache that is emptied keeps its length, so that the next request follows the last one."""
    plant("engine.cache.KVCache.truncate", lambda truncate: lambda self, length=0: None)


def cache_wraps(plant):
    """What does not fit is written over the first positions."""

    def fault(append):
        def faulty(self, layer, key, value):
            if self.length + key.shape[1] > self.capacity:
                self.length = 0
            return append(self, layer, key[:, : self.capacity], value[:, : self.capacity])

        return faulty

    plant("engine.cache.KVCache.append", fault)


def cache_limit_ignored(plant):
    """The cache grows beyond its capacity."""

    def fault(append):
        def faulty(self, layer, key, value):
            self.capacity = max(self.capacity, self.length + key.shape[1])
            return append(self, layer, key, value)

        return faulty

    plant("engine.cache.KVCache.append", fault)


def cache_room_not_required(plant):
    """Nobody asks whether a prompt fits into the cache that it is given."""
    plant("engine.cache.KVCache.require_room", lambda require: lambda self, count: None)


def context_limit_ignored(plant):
    """A prompt may be longer than the context that the model was trained on."""
    plant("engine.model.check_ids", lambda check: lambda ids, start, config: None)


def foreign_cache_accepted(plant):
    """A cache made for another model is used as far as it goes."""

    def fault(append):
        def faulty(self, layer, key, value):
            try:
                return append(self, layer, key, value)
            except PromptError:
                raise
            except EngineError:
                return key, value

        return faulty

    plant("engine.cache.KVCache.append", fault)


def refused_pass_counted(plant):
    """A pass that the cache refuses counts as filled nevertheless."""

    def fault(append):
        def faulty(self, layer, key, value):
            try:
                return append(self, layer, key, value)
            except PromptError:
                self.advance(key.shape[1])
                raise

        return faulty

    plant("engine.cache.KVCache.append", fault)


def _pieces(plant, change):
    """Spoil the decoded pieces of a quantised matrix."""
    plant("engine.weights.Blocks.pieces", lambda pieces: lambda *args: change(list(pieces(*args))))


def product_pieces_reordered(plant):
    """The pieces of a matrix come out last first, so that its rows change places."""
    _pieces(plant, lambda pieces: pieces[::-1])


def product_last_piece_empty(plant):
    """The last piece of a matrix, the short one, is left at zero."""
    _pieces(plant, lambda pieces: [*pieces[:-1], torch.zeros_like(pieces[-1])])


def product_in_bfloat16(plant):
    """Weights are rounded to bfloat16 before they are multiplied."""
    _pieces(plant, lambda pieces: [each.bfloat16().float() for each in pieces])


def product_without_bias(plant):
    """The bias of a product is left out."""
    plant("engine.weights.linear", lambda linear: lambda x, weight, bias=None: linear(x, weight))


def expert_slice_off_by_one(plant):
    """Of a stack of matrices, the next one is taken, and the first after the last."""

    def fault(getitem):
        return lambda self, index: getitem(self, (index + 1) % self.shape[0])

    plant("engine.weights.Blocks.__getitem__", fault)


def long_prompt_in_one_pass(plant):
    """A prompt of any length is one pass, whose memory grows with it."""
    plant(
        "engine.model.Model._in_passes",
        lambda in_passes: (
            lambda self, ids, cache, **options: self._run(ids, cache, route=self.route, **options)
        ),
    )


def _passes(before=lambda cache, start: None):
    """Passes without a check of room, and without a way back; `before` each of them."""

    def fault(in_passes):
        def faulty(self, ids, cache, *, last_only, output):
            start, size, made = cache.length, engine.model.PASS, []
            for at in range(0, len(ids), size):
                before(cache, start)
                options = {"last_only": last_only, "output": output, "route": self.route}
                made.append(self._run(ids[at : at + size], cache, **options))
            cache.length = start + len(ids)
            return made[-1] if last_only else torch.cat(made)

        return faulty

    return fault


def passes_forget_what_came_before(plant):
    """Each pass of a long prompt begins where the first one did."""
    forget = _passes(lambda cache, start: cache.truncate(start))
    plant("engine.model.Model._in_passes", forget)


def passes_without_a_way_back(plant):
    """A long prompt that fails midway, or does not fit, leaves its first passes in the cache."""
    plant("engine.model.Model._in_passes", _passes())
