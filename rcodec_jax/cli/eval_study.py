"""`rcodec eval --study-results`: preferences from the answers to a study."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rcodec_jax.cli import output


def run(paths: Sequence[str], *, as_json: bool) -> int:
    """Prints preferences with intervals."""
    from rcodec_jax.evaluate.report import to_plain
    from rcodec_jax.evaluate.study import read_results

    results = read_results(paths)
    rows = [
        (
            found.against,
            f"{100 * found.share:.1f}",
            f"{100 * found.interval[0]:.1f} to {100 * found.interval[1]:.1f}",
            str(found.wins),
            str(found.trials),
        )
        for found in results.preferences
    ]
    text = "\n".join(
        [
            f"answers of {output.counted(results.people, 'participant')}: how often rcodec was "
            "preferred",
            output.table(("against", "%", "95 % interval", "preferred", "trials"), rows),
        ]
    )
    output.report(to_plain(results), text, as_json=as_json, stream=sys.stdout)
    return 0
