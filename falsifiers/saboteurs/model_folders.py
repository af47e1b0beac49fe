"""Faults in the reading of HF folders: names half matched, files followed, defaults assumed."""

import json

from engine.gguf import RawTensor


def experts_sorted_as_text(plant):
    """Expert 10 comes after expert 1, as sorted names have it."""

    def fault(stacked):
        def faulty(name, parts):
            order = sorted(parts, key=str)
            return stacked(name, {place: parts[index] for place, index in enumerate(order)})

        return faulty

    plant("engine.safetensors._stacked", fault)


def missing_expert_is_the_first(plant):
    """An expert that is not there is filled with expert 0."""

    def fault(stacked):
        def faulty(name, parts):
            some = parts.get(0) or next(iter(parts.values()))
            return stacked(name, {i: parts.get(i, some) for i in range(max(parts) + 1)})

        return faulty

    plant("engine.safetensors._stacked", fault)


def gate_and_up_swapped(plant):
    """Gate and up change places, in dense layers and in experts."""

    def fault(renamed):
        def faulty(tensors):
            swap = {"ffn_gate": "ffn_up", "ffn_up": "ffn_gate"}
            swap |= {f"{a}_exps": f"{b}_exps" for a, b in swap.items()}
            found = {}
            for name, tensor in renamed(tensors).items():
                place = name.split(".")
                found[".".join(swap.get(part, part) for part in place)] = tensor
            return found

        return faulty

    plant("engine.safetensors._renamed", fault)


def bfloat16_taken_for_float16(plant):
    """Sixteen bits are sixteen bits."""

    def fault(raw):
        def faulty(name, tensor):
            found = raw(name, tensor)
            return found._replace(type="F16") if found.type == "BF16" else found

        return faulty

    plant("engine.safetensors._raw", fault)


def rope_base_of_the_old_key(plant):
    """The RoPE base is `rope_theta`, as before transformers 5, or 1e4 where that is missing."""

    def fault(rope):
        return lambda config: {**rope(config), "rope.freq_base": config.get("rope_theta", 1e4)}

    plant("engine.hf_config._rope", fault)


def output_always_tied(plant):
    """The output is the embedding, whatever config.json says."""
    plant("engine.hf_config.is_tied", lambda is_tied: lambda config: True)


def names_matched_anywhere(plant):
    """A tensor is known by the end of its name, and an unknown one keeps its name."""

    def fault(gguf_name):
        def faulty(name):
            known = name[name.find("model.layers.") :].replace(".00.", ".0.")
            try:
                return gguf_name(known)
            except Exception:
                return name

        return faulty

    plant("engine.safetensors._gguf_name", fault)


def shard_path_followed(plant):
    """A shard is wherever the index says, outside of the folder too."""

    def fault(index):
        def faulty(folder):
            path = folder / "model.safetensors.index.json"
            return json.loads(path.read_text())["weight_map"] if path.exists() else {}

        return faulty

    plant("engine.safetensors._index", fault)


def last_shard_wins(plant):
    """A tensor that is in two shards is taken from the last."""

    def fault(read):
        seen = {}

        def faulty(shard):
            names = seen.setdefault(shard.parent, set())
            for name, tensor in list(read(shard)):
                if name not in names:
                    names.add(name)
                    yield name, tensor

        def fresh(shard):
            if shard.name == "model.safetensors":
                seen.pop(shard.parent, None)
            return faulty(shard)

        return fresh

    plant("engine.safetensors._read", fault)


def renormalising_is_the_default(plant):
    """A config that does not say `norm_topk_prob` is taken to mean what the engine does."""

    def fault(hyperparameters):
        return lambda config: hyperparameters({"norm_topk_prob": True, **config})

    plant("engine.hf_config.hyperparameters", fault)


def types_of_values_not_checked(plant):
    """A value of config.json is computed with as it is."""

    def fault(typed):
        return lambda config, key, kind, default: config.get(key, default)

    plant("engine.hf_config._typed", fault)


def json_errors_leak(plant):
    """What is no JSON raises Python's own error."""
    plant("engine.safetensors.read_json", lambda read: lambda path: json.loads(path.read_text()))


def shapes_of_folders_not_compared(plant):
    """Any shape will do, if the tensor is there."""
    plant("engine.layout._check_tensor", lambda check: lambda name, tensor, shape: None)


def shards_read_when_opened(plant):
    """Opening a folder looks into every tensor, as a checksum would."""

    def fault(raw):
        def faulty(name, tensor) -> RawTensor:
            found = raw(name, tensor)
            found.parts[0][: 1 << 26].max()
            return found

        return faulty

    plant("engine.safetensors._raw", fault)
