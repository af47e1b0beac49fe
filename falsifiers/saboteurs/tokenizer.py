"""Faults in the way from text to token ids and back, and in what a file says of its tokens."""

from unicodedata import normalize

from tokenizers import pre_tokenizers


def _pipeline(plant, change):
    """Plant a fault in how the pipeline of (model, pre, added, normalize) is put together."""

    def fault(pipeline):
        return lambda *parts: pipeline(*change(*parts))

    plant("engine.tokenizer._pipeline", fault)


def merges_in_dictionary_order(plant):
    """Merges rank by their spelling, as after a trip through a sorted dictionary."""

    def fault(init):
        return lambda self, tokens, types, merges, *rest: init(
            self, tokens, types, sorted(merges), *rest
        )

    plant("engine.tokenizer.Tokenizer.__init__", fault)


def special_tokens_not_split(plant):
    """<|im_end|> is merged like any other text, so that the model sees no end of a turn."""
    _pipeline(plant, lambda bpe, pre, added, normalize: (bpe, pre, [], normalize))


def special_tokens_always_split(plant):
    """Control tokens are found in text even where the caller asked for plain text."""

    def fault(encode):
        return lambda self, text, **options: encode(self, text, **options | {"special": True})

    plant("engine.tokenizer.Tokenizer.encode", fault)


def pre_tokenizer_of_gpt2(plant):
    """Text is cut as in GPT-2: digits in runs, punctuation and new lines apart."""
    plant(
        "engine.tokenizer.byte_level",
        lambda original: lambda pre: pre_tokenizers.ByteLevel(add_prefix_space=False),
    )


def space_put_before_text(plant):
    """A space is put before the text, as GPT-2's tokenizers may."""

    def fault(encode):
        return lambda self, text, **options: encode(self, f" {text}", **options)

    plant("engine.tokenizer.Tokenizer.encode", fault)


def text_not_composed(plant):
    """A letter and its accent stay two characters, which Qwen never saw in training."""
    _pipeline(plant, lambda bpe, pre, added, normalize: (bpe, pre, added, False))


def text_always_composed(plant):
    """Text is composed even where the caller asked for its own code points."""
    _pipeline(plant, lambda bpe, pre, added, normalize: (bpe, pre, added, True))


def composed_before_special_tokens(plant):
    """The whole text is composed first, so that an accent after <|im_end|> breaks the token."""

    def fault(encode):
        return lambda self, text, **options: encode(
            self, normalize("NFC", text) if options.get("normalize", True) else text, **options
        )

    plant("engine.tokenizer.Tokenizer.encode", fault)


def byte_alphabet_shifted(plant):
    """Bytes that do not print are written one character further on than GPT-2 writes them."""

    def fault(bytes_of):
        def faulty(token, kind):
            return bytes_of("".join(chr(ord(c) - 1) if ord(c) > 256 else c for c in token), kind)

        return faulty

    plant("engine.tokenizer._bytes_of", fault)


def control_tokens_shown(plant):
    """Control tokens are part of the text, so that <|im_end|> reaches the user."""

    def fault(token_bytes):
        return lambda self, index, *, special=False: token_bytes(self, index, special=True)

    plant("engine.tokenizer.Tokenizer.token_bytes", fault)


def special_tokens_never_shown(plant):
    """Control tokens are left out even where the caller asked for them."""

    def fault(token_bytes):
        return lambda self, index, *, special=False: token_bytes(self, index)

    plant("engine.tokenizer.Tokenizer.token_bytes", fault)


def fillers_found_in_text(plant):
    """[PAD151700] in a user's text becomes a token that was never trained."""
    plant("engine.tokenizer._kind", lambda original: lambda index, token, kind: kind)


def byte_tokens_spelt_out(plant):
    """A byte token is shown as its name, <0xE4>."""

    def fault(bytes_of):
        return lambda token, kind: token.encode() if kind == 6 else bytes_of(token, kind)

    plant("engine.tokenizer._bytes_of", fault)


def stream_splits_characters(plant):
    """Each token of a stream is decoded on its own."""

    def fault(feed):
        return lambda self, index: self._tokenizer.token_bytes(index).decode(errors="replace")

    plant("engine.tokenizer.StreamDecoder.feed", fault)


def stream_forgets_its_end(plant):
    """A character that was never completed is dropped and not shown as U+FFFD."""
    plant("engine.tokenizer.StreamDecoder.flush", lambda original: lambda self: "")


def stream_holds_back(plant):
    """All text comes at once, when the stream ends."""

    def late_feed(feed):
        def faulty(self, index):
            self.held = getattr(self, "held", "") + feed(self, index)
            return ""

        return faulty

    def late_flush(flush):
        return lambda self: getattr(self, "held", "") + flush(self)

    plant("engine.tokenizer.StreamDecoder.feed", late_feed)
    plant("engine.tokenizer.StreamDecoder.flush", late_flush)


def only_eos_ends(plant):
    """Of the file's end-of-generation ids only `eos_token_id` is used."""

    def fault(end_ids):
        def faulty(metadata, count):
            kept = "tokenizer.ggml.eos_token_id"
            return end_ids({k: v for k, v in metadata.items() if k == kept}, count)

        return faulty

    plant("engine.tokenizer._end_ids", fault)


def end_texts_forgotten(plant):
    """Only the file's keys end a generation: with a base model's keys, a chat never ends."""

    def fault(init):
        def faulty(self, tokens, types, merges, pre, end_ids=()):
            init(self, tokens, types, merges, pre)
            self.eos_ids = frozenset(end_ids)

        return faulty

    plant("engine.tokenizer.Tokenizer.__init__", fault)


def token_ids_unchecked(plant):
    """An end-of-generation id outside the vocabulary is taken as it is."""

    def fault(end_ids):
        return lambda metadata, count: set()

    plant("engine.tokenizer._end_ids", fault)


def duplicates_accepted(plant):
    """Two tokens with one text are taken: one of them can never be written."""

    def fault(distinct):
        def faulty(metadata, key):
            try:
                return distinct(metadata, key)
            except Exception as error:
                if "times" not in str(error):
                    raise
                return metadata[f"tokenizer.ggml.{key}"]

        return faulty

    plant("engine.tokenizer._distinct", fault)


def error_names_no_key(plant):
    """Bad metadata is refused, but the message does not say under which key."""
    plant("engine.tokenizer._unfit", lambda original: lambda key, *said: original("?", *said))


def folder_specials_are_plain(plant):
    """A folder's special tokens are taken for user-defined ones, which are shown to the user."""

    def fault(added):
        return lambda *source: {i: (token, 4) for i, (token, _) in added(*source).items()}

    plant("engine.tokenizer_json._added", fault)


def folder_has_one_end(plant):
    """Of the ids at which a folder's generation ends, the first is used."""
    plant(
        "engine.tokenizer_json._end_ids",
        lambda original: lambda *source: original(*source)[:1],
    )


def folder_merges_reversed(plant):
    """A folder's merges are ranked from the last to the first."""
    plant(
        "engine.tokenizer_json._merges",
        lambda original: lambda *source: reversed(list(original(*source))),
    )


def folder_not_padded(plant):
    """A folder's vocabulary is as long as its tokens, and shorter than the model's."""

    def fault(vocabulary):
        return lambda path, tokenizer, size: vocabulary(path, tokenizer, 0)

    plant("engine.tokenizer_json._vocabulary", fault)


def folder_unchecked(plant):
    """A folder's tokenizer is taken for one like Qwen2's, whatever it is."""
    plant("engine.tokenizer_json._check_qwen2", lambda original: lambda *source: None)
