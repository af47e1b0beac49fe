"""Faults in how a folder of texts becomes a corpus."""

import hashlib
import itertools
import json
from pathlib import Path

from engine.texts import Text
from falsifiers.corpus_cases import composed

IDS = "engine.corpus._Made._ids"


def end_left_out(plant):
    """Nothing separates a text from the next."""
    plant(IDS, lambda ids: lambda self, files: (each[:-1] for each in ids(self, files)))


def spelt_tokens_found(plant):
    """A special token that is spelt in a text becomes that token."""

    def fault(encode):
        return lambda self, texts, **options: encode(self, texts)

    plant("engine.tokenizer.Tokenizer.encode_all", fault)


def bytes_for_tokens(plant):
    """Texts are spelt byte by byte, which decodes to the same text."""

    def fault(encode):
        def faulty(self, texts, **options):
            single = {self.token_bytes(index): index for index in range(256)}
            return [[single[bytes([b])] for b in composed(t).encode()] for t in texts]

        return faulty

    plant("engine.tokenizer.Tokenizer.encode_all", fault)


def last_text_cut(plant):
    """The last text of a half loses its last token before the end."""

    def fault(ids):
        def faulty(self, files):
            *rest, last = ids(self, files)
            yield from rest
            yield [*last[:-2], last[-1]]

        return faulty

    plant(IDS, fault)


def shards_overlap(plant):
    """A shard begins with the last token of the one before."""

    def fault(cut):
        def faulty(ids, size):
            before = []
            for each in cut(ids, size):
                yield [*before, *each]
                before = each[-1:]

        return faulty

    plant("engine.corpus._cut", fault)


def order_of_size(plant):
    """Texts come in the order of their sizes."""

    def fault(ids):
        return lambda self, files: ids(self, sorted(files, key=lambda text: text.bytes))

    plant(IDS, fault)


RANK = "engine.corpus._rank"


def split_by_name(plant):
    """Which files are held out depends on what they are called."""
    plant(RANK, lambda rank: lambda text, seed: f"{seed % 2}{text.name}"[:: 1 - 2 * (seed % 2)])


def split_without_seed(plant):
    """Every seed holds out the same files."""
    plant(RANK, lambda rank: lambda text, seed: rank(text, 0))


def held_out_too_little(plant):
    """A third of what was asked for is held out."""
    plant(
        "engine.corpus.split",
        lambda split: lambda files, held_out, seed: split(files, held_out / 3, seed),
    )


def copies_taken(plant):
    """A text is taken under each of its names, to learn from and to judge by."""

    def fault(find):
        def faulty(folder, *args, **options):
            found = find(folder, *args, **options)
            taken = {text.name for text in found.files}
            digests = {text.digest: text for text in found.files}
            for path in sorted(Path(folder).glob("*.py")):
                name = path.name
                copy = digests.get(_digest(path))
                if copy and name not in taken:
                    object.__setattr__(
                        found, "files", (*found.files, Text(name, copy.bytes, copy.digest))
                    )
            return found

        return faulty

    plant("engine.texts.find_texts", fault)


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def vocabulary_of_all_files(plant):
    """The vocabulary is learned from what is held out too."""
    plant(
        "engine.corpus._trained",
        lambda trained: lambda texts, files, size: trained(texts, texts.files, size),
    )


def vocabulary_of_half_the_size(plant):
    """Fewer tokens are learned than were asked for."""
    plant(
        "engine.corpus._trained",
        lambda trained: lambda texts, files, size: trained(texts, files, max(259, size // 2)),
    )


WRITTEN = "engine.corpus.write_tokenizer"


def _altered(change):
    """A fault that changes tokenizer.json and tokenizer_config.json after they are written."""

    def fault(write):
        def faulty(folder, metadata):
            write(folder, metadata)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                told = json.loads((folder / name).read_text("utf-8"))
                change(told)
                (folder / name).write_text(json.dumps(told), "utf-8")

        return faulty

    return fault


def merges_in_reverse(plant):
    """Merges are written last first."""
    plant(WRITTEN, _altered(lambda told: told.get("model", {"merges": []})["merges"].reverse()))


def special_tokens_are_text(plant):
    """Special tokens are no longer found in text."""

    def change(told):
        if "added_tokens" in told:
            told["added_tokens"] = []

    plant(WRITTEN, _altered(change))


def template_left_out(plant):
    """The chat template is not written."""

    def change(told):
        if "chat_template" in told:
            told["chat_template"] = "{{ messages[0].content }}"

    plant(WRITTEN, _altered(change))


def left_out_in_silence(plant):
    """Nobody is told what was left out."""
    plant("engine.texts.told", lambda told: lambda left_out: "nothing")


def links_followed(plant):
    """A link is read as the file that it leads to."""

    def fault(refused):
        def faulty(path, exclude):
            reason = refused(path, exclude)
            return None if reason == "links" else reason

        return faulty

    plant("engine.texts._refused", fault)


def hidden_taken(plant):
    """Hidden files and folders are read like others."""

    def fault(refused):
        def faulty(path, exclude):
            reason = refused(path, exclude)
            return None if reason == "hidden" else reason

        return faulty

    plant("engine.texts._refused", fault)


def other_encodings_guessed(plant):
    """What is not UTF-8 is taken for a text."""

    def fault(read):
        def faulty(path):
            data, reason = read(path)
            return (
                (data.decode("latin-1").encode(), None) if reason == "not UTF-8" else (data, reason)
            )

        return faulty

    plant("engine.texts._read", fault)
    plant(
        "engine.texts.Texts.read",
        lambda read: lambda self, text: (self.folder / text.name).read_bytes().decode("latin-1"),
    )


def _manifest_with(plant, more):
    def fault(write):
        def faulty(texts, out, **options):
            told = {**write(texts, out, **options), **more(texts)}
            (out / "manifest.json").write_text(json.dumps(told))
            return told

        return faulty

    plant("engine.corpus.write_corpus", fault)


def path_in_the_manifest(plant):
    """The manifest says where the texts lay."""
    _manifest_with(plant, lambda texts: {"folder": str(texts.folder)})


def date_in_the_manifest(plant):
    """The manifest says when it was written."""
    ticks = itertools.count()
    _manifest_with(plant, lambda texts: {"date": next(ticks)})


def files_as_the_system_lists_them(plant):
    """Texts come in an order that depends on the folder."""

    def fault(find):
        def faulty(folder, *args, **options):
            found = find(folder, *args, **options)
            back = len(str(folder)) % 2
            object.__setattr__(found, "files", found.files[:: 1 - 2 * back])
            return found

        return faulty

    plant("engine.texts.find_texts", fault)


def partial_left_behind(plant):
    """What was begun stays when it fails."""
    plant("engine.corpus.shutil.rmtree", lambda rmtree: lambda path, **options: None)


def full_folder_taken(plant):
    """What is in the folder is replaced."""

    def fault(write):
        def faulty(texts, out, **options):
            for path in out.glob("*"):
                if path.is_file():
                    path.unlink()
            return write(texts, out, **options)

        return faulty

    plant("engine.corpus.write_corpus", fault)


def corpus_room_unchecked(plant):
    """The disk is not asked."""
    plant("engine.disk.require_room", lambda require: lambda folder, size: None)


def changed_text_taken(plant):
    """A text that changed while the corpus was made is taken as it is now."""
    plant(
        "engine.texts.Texts.read",
        lambda read: lambda self, text: (self.folder / text.name).read_text("utf-8"),
    )


def library_with_its_tests(plant):
    """The tests of the standard library are taken for the library."""

    def fault(find):
        return lambda folder, include, exclude: find(folder, include, ("site-packages",))

    plant("engine.texts.find_texts", fault)


def two_sources_taken(plant):
    """A folder and the standard library at once: one of them is dropped without a word."""

    def fault(texts):
        def faulty(folder, from_stdlib, include, exclude):
            return texts(None if from_stdlib else folder, from_stdlib, include, exclude)

        return faulty

    plant("engine.cli_corpus._texts", fault)
