"""Tries to refute the layout: who may import whom, what is public, and one name in four places.

The oracle is the text of the sources, read by `falsifiers.import_graph`, and the lists below, which
say on purpose again what the overview says.
"""

import ast
import importlib
import re
import sys

import pytest
import yaml

from falsifiers import import_graph

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPENDENCIES = {
    *("filelock", "jinja2", "jsonschema", "markupsafe", "pydantic", "pydantic_core"),
    *("rich", "typer", "yaml"),
}
DEPENDENCIES |= {"cryptography"}  # inside functions only: of the extra `sign`
PYTEST = {"pytest", "_pytest"}
HOOKS = {"tollens.plugin", "tollens.hooks"}

# Each module imports from the layers above its own line only.
LAYERS = {
    "tollens": (
        "verdicts confidence rules watching wrapping",
        "errors",
        "source bounds fingerprints rule_examples workflow_commands",
        "dialect",
        "contract rule_page splice sarif unbound yaml_writer",
        "project difference needs outcomes importing",
        "bindings cli_options scaffold observing",
        "digests",
        "cli_diff evidence revisions saboteurs",
        "past standing circumstances baseline signing attestation cli_import measured",
        "graph history inspection scale",
        "session lint",
        "cli_check cli_sign cli_status review table verification",
        "attachments graph_forms hooks kill_matrix sides",
        "cli_graph moved plugin",
        "since",
        "comment page",
        "cli_report",
        "cli",
    ),
    "engine": (
        "agent attention cli_progress cli_ssh columns dispatch distill.pace distill.ring "
        "distill.stop errors evaluation evaluation.command evaluation.confine "
        "evaluation.values far far.files far.frames llama_child memory metrics triton_kernels",
        "agent.endpoint cache child config cursor disk dispatch.host dispatch.project "
        "distill.curves distill.loss_inputs distill.recipe distill.stream distill.topk "
        "evaluation.estimate evaluation.judge evaluation.sandbox evidence_card far.job "
        "far.project launch line quant refusal texts tokenizer tokenizer_json whole_folder",
        "agent.task connection dispatch.connection dispatch.fetch dispatch.follow "
        "distill.data distill.losses distill.optimiser distill.vocabulary evaluation.problems "
        "far.probe far.watch gguf hf_config mixes peer quant_search request rope text weights",
        "agent.creations agent.edits agent.executions agent.protocol agent.repairs "
        "agent.replacements distill.cached distill.digest distill.linear_loss "
        "evaluation.ledger far.answer gate gguf_keys gguf_writer kernels layout moe packed "
        "route safetensors traffic",
        "agent.tasks agent_bench checkpoint dispatch.verdict distill distill.hf_folder "
        "distill.journal evaluation.humaneval gpu int4 native publish_gguf",
        "chat distill.checkpoint model_card routes",
        "bpe cli_options inspection model publish tokenizer_files",
        "bench cli_agent cli_publish cli_watch corpus distill.student fixture_text generate "
        "profile trace",
        "answer bench_report cli_corpus compare distill.workers evaluation.completing fixture "
        "sides",
        "bench_table cli_eval distill.teachers plot reply tables",
        "cli_bench cli_tools cli_trace delivery distill.guard distill.objective distill.precompute",
        "cli_precompute distill.judge server",
        "distill.loop",
        "distill.run",
        "cli_train dispatch.order",
        "cli_distill dispatch.preflight",
        "dispatch.send",
        "cli_dispatch",
        "cli",
        "__main__",
    ),
}
PUBLIC = {
    "tollens": """
        Contract ContractError Discharge Evidence EvidenceError Finding Kill Level ObserveError
        ProjectError RecordError SaboteurError Status TollensError Verdict load
    """,
    "engine": """
        CHATML EngineError FormatError KVCache Model ModelConfig PromptError RequestError
        TemplateError TensorError Tokenizer generate load load_tokenizer open_checkpoint
        render_chat write_fixture
    """,
    "engine.distill": "kd_logit_gradient kd_loss linear_kd_loss sparse_kd_loss",
}


def shown(violations):
    """Print what was found, for the one who has to mend it; and count it."""
    found = sorted(set(violations))
    print("\n".join(map(str, found)))
    return len(found)


def top(name):
    return name.partition(".")[0]


@pytest.mark.falsifies("TOLLENS-LAYOUT-001")
def test_the_harness_the_engine_and_the_falsifiers_keep_apart(observe):
    edges = import_graph.graph("tollens", "engine", "falsifiers")
    violations = set()
    for name, found in edges.items():
        for each in found:
            foreign = top(each) not in sys.stdlib_module_names | {"tollens"} | DEPENDENCIES
            if top(name) == "tollens" and foreign and not (name in HOOKS and top(each) in PYTEST):
                violations.add((name, each))
            if top(name) == "engine" and top(each) in {"tollens", "falsifiers", *PYTEST}:
                violations.add((name, each))
    for name in edges:
        others = re.match(r"falsifiers\.(conftest|(saboteurs\.|test_)(?!tollens_))", name)
        for each in import_graph.reached(name, edges) if others else ():
            if top(each) == "tollens":
                violations.add((name, each))
    observe("violations", shown(violations))
    observe("modules", len(edges))


@pytest.mark.falsifies("TOLLENS-LAYOUT-002")
@pytest.mark.parametrize("package", LAYERS)
def test_imports_inside_a_package_go_one_way(observe, package):
    edges = import_graph.graph(package)
    ranks = {
        f"{package}.{name}": rank
        for rank, layer in enumerate(LAYERS[package])
        for name in layer.split()
    }
    inside = edges.keys() - {package}
    violations = {
        (name, each)
        for name in inside & ranks.keys()
        for each in edges[name] & {package, *inside}
        if ranks.get(each, len(ranks)) >= ranks[name]
    }
    observe("upward_imports", shown(violations))
    observe("unranked_modules", shown(inside ^ ranks.keys()))
    command = import_graph.reached(f"{package}.cli", edges)
    observe("command_reaches_pytest", shown(command & {*HOOKS, "tollens.session", *PYTEST}))


@pytest.mark.falsifies("TOLLENS-LAYOUT-003")
@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_these(observe, package):
    module, expected = importlib.import_module(package), set(PUBLIC[package].split())
    observe("lost_or_unexpected_names", shown(expected ^ set(public_names(module))))
    observe("unimportable_names", shown(name for name in expected if not hasattr(module, name)))


def public_names(module):
    return module.__all__


@pytest.mark.falsifies("TOLLENS-LAYOUT-004")
def test_importing_the_harness_is_quick_and_light(observe):
    seconds, loaded = min(import_graph.loaded_by("import tollens") for _ in range(5))
    heavy = {"torch", "numpy", "engine", "pydantic", "yaml", "jsonschema"}
    observe("seconds", seconds)
    observe("heavy_modules", shown({top(name) for name in loaded} & heavy))
    _, active = import_graph.loaded_by("import tollens.plugin")
    ours = {name for name in active if top(name) == "tollens"}
    observe("modules_of_an_idle_plugin", shown(ours - {"tollens", "tollens.plugin"}))
    observe("heavy_modules", shown({top(name) for name in active} & heavy))


@pytest.mark.falsifies("TOLLENS-LAYOUT-005")
def test_contract_falsifiers_and_evidence_bear_one_name(observe):
    contracts = set(import_graph.names_in("contracts", "*.y*ml"))
    tests = import_graph.names_in("falsifiers", "test_*.py")
    named = {f"{name.removeprefix('test_').replace('_', '-')}-v1" for name in tests}
    evidence = {path.parent.name for path in (import_graph.ROOT / "evidence").glob("*/*.json")}
    observe("lonely_names", shown((contracts ^ named) | (evidence - contracts)))
    misplaced = set()
    for name in contracts & named:
        text = (import_graph.ROOT / f"contracts/{name}.yaml").read_text()
        contract = yaml.load(text, Loader=LOADER)
        declared = {each["id"] for each in contract["falsifiers"]}
        bound = marks(name.removesuffix("-v1").replace("-", "_"))
        misplaced |= {(name, each) for each in declared ^ bound}
        misplaced |= {(name, contract["id"])} if contract["id"] != name else set()
    observe("misplaced_ids", shown(misplaced))
    observe("contracts", len(contracts))


def marks(area):
    """The ids that the test file of an area falsifies."""
    tree = ast.parse(import_graph.text_of(import_graph.ROOT / f"falsifiers/test_{area}.py"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    marked = [each for each in calls if ast.unparse(each.func) == "pytest.mark.falsifies"]
    return {argument.value for each in marked for argument in each.args}


@pytest.mark.falsifies("TOLLENS-LAYOUT-006")
def test_the_packages_hold_no_assert_statement(observe):
    files = {**import_graph.modules("tollens"), **import_graph.modules("engine")}
    asserts = {
        (name, node.lineno)
        for name, path in files.items()
        for node in ast.walk(ast.parse(import_graph.text_of(path)))
        if isinstance(node, ast.Assert)
    }
    observe("assert_statements", shown(asserts))
    observe("modules", len(files))
