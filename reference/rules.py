"""The rules of `tollens check`, from the table that it applies."""

from tollens.rules import RULES


def rules_page() -> str:
    rows = [f"| `{name}` | {says} | {do} |\n" for name, (says, do) in RULES.items()]
    return (
        "# The rules of `tollens check`\n\n`tollens explain RULE` prints one of them.\n\n"
        f"| rule | what it says | what to do |\n|---|---|---|\n{''.join(rows)}"
    )
