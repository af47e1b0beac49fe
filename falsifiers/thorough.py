"""How long hypothesis looks for a counterexample: the same examples at every run."""

from hypothesis import HealthCheck, Phase, settings

THOROUGH = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
