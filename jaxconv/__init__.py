"""Small image classifiers in JAX.

    import jaxconv as jc

    splits = jc.read_splits("photos", image_size=150)
    training = jc.Training(epochs=30, batch_size=32, augmentation=jc.BOOK_AUGMENTATION)
    run = jc.fit(jc.CatsDogsConvNet(classes=len(splits.class_names)), splits, training, workdir="runs/mine")
    print(run.result.last.test_acc)
    print(jc.Predictor("runs/mine").predict(["cat.jpg"]))

The folders of this package are in the order in which data flows; each imports only from those before it: runtime,
config, data, models, training, runs, loop, transfer, analysis. On a CPU, `jc.keep_freed_memory()` before all else makes
training faster at the price of memory.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxconv.analysis.predictor import Predictor as Predictor
    from jaxconv.config import BOOK_AUGMENTATION as BOOK_AUGMENTATION
    from jaxconv.config import Augmentation as Augmentation
    from jaxconv.config import Optimizer as Optimizer
    from jaxconv.config import Training as Training
    from jaxconv.data.arrays import ArraySource as ArraySource
    from jaxconv.data.records import Splits as Splits
    from jaxconv.data.records import read_splits as read_splits
    from jaxconv.loop import fit as fit
    from jaxconv.models import CatsDogsConvNet as CatsDogsConvNet
    from jaxconv.models import DenseNet as DenseNet
    from jaxconv.models import MnistConvNet as MnistConvNet
    from jaxconv.runtime.errors import InputError as InputError
    from jaxconv.runtime.machine import keep_freed_memory as keep_freed_memory

# Imported at their first use, so that a command imports only the modules that it needs.
_PLACES = {
    "analysis.predictor": ["Predictor"],
    "config": ["BOOK_AUGMENTATION", "Augmentation", "Optimizer", "Training"],
    "data.arrays": ["ArraySource"],
    "data.records": ["Splits", "read_splits"],
    "loop": ["fit"],
    "models": ["CatsDogsConvNet", "DenseNet", "MnistConvNet"],
    "runtime.errors": ["InputError"],
    "runtime.machine": ["keep_freed_memory"],
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
