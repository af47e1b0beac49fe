"""Planted faults that the falsifiers of contracts/docs-v1.yaml must kill.

A fault in a page is put where pages are read. Where following every page would take long, the fault
comes with one small page in place of all.
"""

import itertools


def docs_link_to_nowhere(plant):
    """A generated page links to a page that is not there."""
    into_reference(plant, "reference/pytest.md", "# pytest's", "# [pytest](gone.md)'s")


def docs_place_lost(plant):
    """A heading that others link to is gone."""
    into_reference(plant, "reference/contract.md", "## Measure", "## Quantity")


def docs_page_not_listed(plant):
    """The navigation leads everywhere but to the tutorial."""

    def fault(filled):
        def without(nav, pages):
            return [each for each in filled(nav, pages) if "Tutorial" not in each]

        return without

    plant("reference.pages.filled", fault)


def docs_table_not_rendered(plant):
    """A table follows its sentence without an empty line, which GitHub's Markdown allows."""
    into_reference(plant, "reference/pytest.md", "\n\n| option", "\n| option")


def docs_option_unknown(plant):
    """A page uses an option that does not exist."""
    after_a_page(plant, "docs/contracts.md", "\n```console\n$ tollens status --brief\n```\n")


def docs_option_in_a_sentence_unknown(plant):
    """A sentence names an option that does not exist."""
    after_a_page(plant, "docs/engine.md", "\nSee `python -m engine bench tiny.gguf --fast`.\n")


def docs_command_unknown(plant):
    """A page uses a command that was renamed."""
    after_a_page(plant, "docs/contracts.md", "\n```console\n$ tollens prove x\n```\n")


def docs_block_broken(plant):
    """A block of Python lost a bracket."""
    after_a_page(plant, "docs/engine.md", "\n```python\nprint((1)\n```\n")


def docs_one_more_left_out(plant):
    """A page has more that nobody runs."""
    after_a_page(plant, "docs/data.md", "\n```console\n$ make oracles\n```\n")


def docs_reason_left_over(plant):
    """The command for which a file stood in is gone."""
    in_a_page(plant, "docs/data.md", "engine corpus notes ", "engine corpus texts ")


def docs_page_unknown_to_the_contract(plant):
    """A page is written, and no evidence depends on it."""
    plant("falsifiers.doc_pages.pages", lambda pages: lambda: [*pages(), "docs/new.md"])
    plant(
        "falsifiers.doc_pages.text_of",
        lambda text_of: lambda page: "" if page == "docs/new.md" else text_of(page),
    )


def docs_output_drifted(plant):
    """A page shows what the command printed once."""
    only_page(plant, "$ tollens explain yaml\nrule: yml\n…\n")


def docs_command_fails(plant):
    """A page has a command that ends with an error."""
    only_page(plant, "$ tollens explain no-such-rule\n")


def docs_harness_says_otherwise(plant):
    """The command prints something else than the page shows."""
    only_page(plant, "$ tollens explain yaml\nrule: yaml\n…\n")
    plant("tollens.cli_options.print_lines", lambda show: lambda lines: show(map(str.upper, lines)))


def docs_block_of_another_language(plant):
    """A session that is not marked as one is not followed."""
    only_page(plant, "$ tollens explain yaml > said\n```\n\n```sh\n$ tollens prove\n")


def docs_commands_skipped(plant):
    """Of each block the reader types the first command alone."""
    only_page(plant, "$ tollens explain yaml > said\n$ tollens explain stale > more\n")
    plant(
        "falsifiers.doc_pages._commands",
        lambda commands: lambda block: itertools.islice(commands(block), 1),
    )


def docs_engine_says_otherwise(plant):
    """The engine prints another size than it wrote."""
    only_page(plant, "$ python -m engine fixture tiny.gguf\ntiny.gguf: 3580000 bytes\n")
    plant("engine.cli_tools.replace", lambda replace: lambda sizes, **_: replace(sizes, layers=1))


def docs_server_answers_otherwise(plant):
    """The server names another model than the page shows."""
    only_page(
        plant,
        "$ python -m engine fixture tiny.gguf\n"
        "$ python -m engine serve tiny.gguf --port 8011 &\nhttp://127.0.0.1:8011\n"
        '$ curl -s http://127.0.0.1:8011/v1/models\n…{"id":"tiny",…\n',
    )
    plant("engine.server.Service._card", lambda card: lambda self: {**card(self), "id": "small"})


def docs_failure_is_fine(plant):
    """The reader never looks at the exit code."""

    def fault(run):
        def careless(self, text):
            printed = run(self, text)
            self.code = 0
            return printed

        return careless

    plant("falsifiers.doc_shell.Shell.run", fault)


def docs_any_output_is_fine(plant):
    """The reader never compares what is printed."""
    plant("falsifiers.doc_shell.differs", lambda differs: lambda page, printed: "")


def docs_any_line_is_fine(plant):
    """Lines are counted and not read."""
    plant("falsifiers.doc_shell._line", lambda line: lambda text: ".*")


def docs_any_usage_is_fine(plant):
    """No command's parser is asked."""
    plant("falsifiers.doc_usage._of_one", lambda check: lambda parts: "")


def docs_any_change_is_fine(plant):
    """A change of a file that is another is passed over."""

    def fault(into):
        def hopeful(self, folder):
            try:
                into(self, folder)
            except ValueError:
                pass

        return hopeful

    plant("falsifiers.doc_pages.Change.into", fault)


def docs_field_missing(plant):
    """A field of the contract is left out."""
    into_reference(plant, "reference/contract.md", "| `kills` |", "| kills |")


def docs_rule_missing(plant):
    """A rule is left out."""
    in_a_page(plant, "docs/rules.md", "| [stale](#stale) |", "| stale |")


def docs_command_missing(plant):
    """A command is left out."""

    def fault(subcommands):
        return lambda *args: (each for each in subcommands(*args) if "verify" not in each[0])

    plant("reference.commands.subcommands", fault)


def docs_option_missing(plant):
    """An option is left out."""
    into_reference(plant, "reference/engine.md", "--max-tokens", "--tokens")


def docs_name_missing(plant):
    """A public name is left out."""

    def fault(entry):
        return lambda name, each: iter(()) if name == "load" else entry(name, each)

    plant("reference.names._entry", fault)


def docs_description_missing(plant):
    """A field is named and not described."""
    into_reference(plant, "reference/contract.md", "| Where to look first. |", "|  |")


def into_reference(plant, page, old, new):
    def fault(generated):
        def faulty():
            made = generated()
            return {**made, page: made[page].replace(old, new)}

        return faulty

    plant("reference.pages.generated", fault)


def after_a_page(plant, page, more):
    def fault(text_of):
        return lambda path: text_of(path) + (more if path == page else "")

    plant("falsifiers.doc_pages.text_of", fault)


def in_a_page(plant, page, old, new):
    def fault(text_of):
        return lambda path: text_of(path).replace(old, new) if path == page else text_of(path)

    plant("falsifiers.doc_pages.text_of", fault)


def only_page(plant, console):
    plant("falsifiers.doc_pages.pages", lambda pages: lambda: ["docs/small.md"])
    plant(
        "falsifiers.doc_pages.text_of", lambda text_of: lambda page: f"```console\n{console}```\n"
    )
