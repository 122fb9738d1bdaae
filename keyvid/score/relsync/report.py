"""RelSync as tables, to be read as they are."""

from keyvid.score.relsync.verdicts import SHIFTS_MS, Estimate, RelSync, Sensitivity
from keyvid.score.report import Table

EXPLANATIONS = (
    "RelSync times 100: 50 where film and reference fit their sound alike, less where the film "
    "fits worse.\nIn brackets the 95 % interval by bootstrap over films. Sounds are off in both "
    "directions, turned around.\nSensitivity: a film with its sound off against itself with its "
    "own; 50 where the judge cannot tell.\nown preferred: how often it scores the own sound "
    "higher; 0.50 is chance."
)


def format_relsync(scores: RelSync) -> str:
    """All tables of a set of films."""
    counts = f"{scores.excerpts} excerpts of {scores.films} films."
    tables = [sensitivity_table(scores)]
    if scores.by_shift:
        tables.insert(0, relsync_table(scores.by_shift))
    return "\n\n".join([counts, *map(str, tables), EXPLANATIONS]) + "\n"


def relsync_table(by_shift: dict[int, Estimate]) -> Table:
    """Against the true films; the first row is the paper's measure."""
    rows = [[_sound(ms), with_interval(of)] for ms, of in by_shift.items()]
    return Table(["sound of the films", "RelSync against the true films"], rows)


def sensitivity_table(scores: RelSync) -> Table:
    """A row per shift, for the films and the true films where they are."""
    header, columns = ["sound"], [scores.sensitivity]
    if scores.true_sensitivity:
        columns.append(scores.true_sensitivity)
    for whose in ("films", "true films")[: len(columns)]:
        header += [f"sensitivity, {whose}", "own preferred"]
    rows = [
        [_sound(ms), *(cell for column in columns for cell in _cells(column[ms]))]
        for ms in SHIFTS_MS
    ]
    return Table(header, rows)


def with_interval(estimate: Estimate) -> str:
    """A mean and its interval, two digits."""
    low, high = estimate.interval
    return f"{estimate.mean:.2f} ({low:.2f} to {high:.2f})"


def _cells(of: Sensitivity) -> tuple[str, str]:
    return with_interval(of.relsync), f"{of.preferred:.2f}"


def _sound(ms: int) -> str:
    return f"{ms} ms off" if ms else "as it is"
