"""Planted violations of the layout that contracts/tollens-layout-v1.yaml must notice.

A fault in source text is no callable that could be planted. So the violation is put where the
checks read: into the text of one file, the list of names, or the statement that a new interpreter
runs. What is shown to be able to fail is thus the whole check behind the reading.
"""


def harness_imports_torch(plant):
    """A measure is compared with torch."""
    write_into(plant, "tollens/bounds.py", "def nan():\n    import torch.nn\n    return torch.nan")


def engine_imports_pytest(plant):
    """The engine looks whether it runs under pytest."""
    write_into(plant, "engine/model.py", "if __debug__:\n    from pytest import approx")


def falsifier_imports_harness(plant):
    """A shared fixture reaches into the harness."""
    write_into(plant, "falsifiers/conftest.py", "from tollens.observing import Observe")


def contract_imports_history(plant):
    """The contract knows how it is recorded."""
    write_into(plant, "tollens/contract.py", "def last():\n    from . import history")


def command_imports_plugin(plant):
    """The command runs the plugin in its own process."""
    write_into(plant, "tollens/cli.py", "from tollens import plugin")


def quant_imports_model(plant):
    """A quantised weight knows the model that it is in."""
    write_into(plant, "engine/quant.py", "from engine.model import Model")


def assert_as_input_check(plant):
    """An argument is checked by an assert."""
    write_into(plant, "engine/moe.py", "def check(k):\n    assert k > 0, k")


def id_bound_elsewhere(plant):
    """A test falsifies the claim of another contract."""
    mark = '@pytest.mark.falsifies("TOLLENS-LAYOUT-001")\ndef test_it():\n    pass'
    write_into(plant, "falsifiers/test_tollens_verdicts.py", mark)


def write_into(plant, file, line):
    def fault(text_of):
        def text(path):
            added = f"\n{line}\n" if path.as_posix().endswith(f"/{file}") else ""
            return text_of(path) + added

        return text

    plant("falsifiers.import_graph.text_of", fault)


def public_name_lost(plant):
    """`tollens.load` is gone."""

    def fault(getattribute):
        def lost(name):
            if name == "load":
                raise AttributeError(name)
            return getattribute(name)

        return lost

    plant("tollens.__getattr__", fault)


def public_name_added(plant):
    """Something more is exported."""
    plant(
        "falsifiers.test_tollens_layout.public_names",
        lambda public_names: lambda module: [*public_names(module), "fold"],
    )


def pydantic_imported_early(plant):
    """The package imports its models."""
    run_before(plant, "tollens", "import pydantic")


def plugin_imports_session(plant):
    """The plugin imports what it may need."""
    run_before(plant, "tollens.plugin", "import tollens.errors")


def run_before(plant, module, statement):
    def fault(loaded_by):
        def loaded(given):
            return loaded_by(f"{statement}\n{given}" if given == f"import {module}" else given)

        return loaded

    plant("falsifiers.import_graph.loaded_by", fault)


def contract_without_test(plant):
    """A contract has no test file of its name."""

    def fault(names_in):
        def names(folder, pattern):
            return [*names_in(folder, pattern), *(["no-test-v1"] if folder == "contracts" else [])]

        return names

    plant("falsifiers.import_graph.names_in", fault)
