"""The last lines that a command of training prints: its results, and what to compare them with."""

from collections.abc import Collection, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxconv.runs.history import EpochResult, Highest, Result


def print_results(results: Sequence["Result"], class_names: Sequence[str], book: str | None) -> None:
    """Print the results of one or several seeds, and two results for comparison.

    These are the accuracy of always answering the most frequent class and, for a run that repeats the book, its result.
    """
    for what, tested in (("last epoch", [r.last for r in results]), ("lowest val_loss", [r.best for r in results])):
        if (found := [one for one in tested if one is not None]) == tested:
            print(f"{what}: {_epochs(found)}  {_accuracies(found)}")
    averaged = [min(10, result.last.epoch) for result in results]
    if max(averaged) > 1:
        mean = _mean([result.val_acc_mean_last_10 for result in results])
        print(f"val_acc, mean of the last {_span(averaged)} epochs: {mean}")
    highest = [result.highest_val_acc for result in results if result.highest_val_acc]
    if any(map(_is_another, results)):
        print(f"highest val_acc: {_epochs(highest)}  {_mean([one.val_acc for one in highest])}")
    counts = [sum(row) for row in results[0].last.confusion]
    share, commonest = max(counts) / sum(counts), class_names[counts.index(max(counts))]
    accuracy = "val_acc" if results[0].last.test_acc is None else "test_acc"
    print(f"baseline (always {commonest!r}): {accuracy} {share:.4f}")
    if never := _never_predicted(results, class_names):
        print(f"never predicted: {', '.join(never)}")
    if book:
        print(f"for comparison: {book}")


def _accuracies(found: Sequence["EpochResult"]) -> str:
    """The accuracies and, if the classes have different numbers of pictures, the mean recall."""
    tested = [one.test_acc for one in found if one.test_acc is not None]
    parts = {"val_acc": [one.val_acc for one in found]} | ({"test_acc": tested} if tested else {})
    if len({*map(sum, found[0].confusion)}) > 1:
        parts["mean recall"] = [one.mean_recall for one in found]
    return "  ".join(f"{name} {_mean(values)}" for name, values in parts.items())


def _never_predicted(results: Sequence["Result"], class_names: Sequence[str]) -> list[str]:
    """The classes that no seed predicts of any picture, at the last epoch."""
    from jaxconv.runs.history import never_predicted

    of_seeds = [{*never_predicted(result.last.confusion)} for result in results]
    return [class_names[label] for label in sorted(set.intersection(*of_seeds))]


def _is_another(result: "Result") -> bool:
    """Whether the epoch of the highest val_acc is neither the last nor the best."""
    epochs = [one.epoch for one in (result.last, result.best) if one]
    return result.highest_val_acc is not None and result.highest_val_acc.epoch not in epochs


def _epochs(found: Sequence["EpochResult | Highest"]) -> str:
    numbers = {one.epoch for one in found}
    return f"epoch{'s' if len(numbers) > 1 else ''} {_span(numbers)}"


def _span(numbers: Collection[int]) -> str:
    """A number; of several seeds the range."""
    return f"{min(numbers)} to {max(numbers)}" if len({*numbers}) > 1 else f"{min(numbers)}"


def _mean(values: Sequence[float]) -> str:
    """A number; of several seeds the mean, the sample standard deviation and the range."""
    around = f" ± {stdev(values):.4f} ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else ""
    return f"{fmean(values):.4f}{around}"
