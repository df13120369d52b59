"""The convnet of section 5.2 on your own pictures, with two classes or more.

    python -m tools.split_folders --source photos --dest data/mine     # photos/<class>/* to train, validation, test
    python -m experiments.folders --data data/mine
    python -m experiments.folders --data data/mine --image-size 96     # smaller pictures train faster
    python -m experiments.folders --data data/mine --flip              # pictures that stay the same when mirrored

--data is a folder of train|validation|test/<class>/*. Other usual names, such as Train, val and valid, are taken too.
Without a validation folder, a fifth of the training pictures is held out. Without a test folder, the results are those
of the validation pictures. A net for two classes has one logit and the book's binary cross-entropy; a net for more
classes has a softmax. --recipe book gives the settings of experiments.catsdogs.
"""

import functools
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import common, photos
from experiments.launch import Experiment, launch
from jaxconv.config import Config, Transfer
from jaxconv.runtime.cli import one_line_errors

if TYPE_CHECKING:
    import flax.linen as nn

    from jaxconv.data.records import Splits
    from jaxconv.runs.history import Result


def begin_with(run: Path) -> tuple[Transfer, Callable[..., "Result"]]:
    """The record of the weights of a run, and a training that begins with them.

    Raises:
        InputError: there is no such run. The training raises it for a run of another net.
    """
    from jaxconv import loop
    from jaxconv.analysis.predictor import Predictor
    from jaxconv.models import weights

    found = Predictor(run).state.variables

    def fit(model: "nn.Module", splits: "Splits", config: Config, workdir: Path, *, title: str) -> "Result":
        assert config.seed is not None
        first = functools.partial(weights.adopt, model, config.data.image_shape, found, config.seed)
        return loop.train(model, splits, config, workdir, title=title, first=first)

    return Transfer(weights=str(run), sha256=weights.checksum(found)), fit


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    assert __doc__
    flags = photos.parser("experiments.folders", __doc__, recipe="folders")
    flags.add_argument("--data", required=True, metavar="DIR", help="folder with train, validation and test")
    flags.add_argument(
        "--image-size", type=int, default=photos.IMAGE_SIZE, metavar="N", help="pixels per side (default: %(default)s)"
    )
    common.add_init_from(flags)
    arguments = flags.parse_args(argv)
    chosen = photos.choose(arguments, arguments.image_size)
    common.start_backend()
    data = Path(arguments.data)
    from jaxconv.data.layout import list_split
    from jaxconv.data.records import read_splits
    from jaxconv.runs.settings import describe_data

    if arguments.summary:
        classes = len(list_split(data, "train").class_names)
        photos.print_summary(photos.net(chosen.dropout, arguments.dtype, classes), arguments.image_size)
        return
    splits = read_splits(data, (arguments.image_size, arguments.image_size))
    better = f"python -m experiments.transfer --data {shlex.quote(str(data))}"
    print(f"for photos, {better} is better and faster: it begins with a pretrained net", flush=True)
    name, model = Path(os.path.abspath(data)).name, photos.net(chosen.dropout, arguments.dtype, len(splits.class_names))
    described, variant = describe_data(splits), chosen.variant
    transfer, fit = None, None
    if run := arguments.init_from:
        variant, (transfer, fit) = f"{variant}-from-{run.name}", begin_with(run)
    experiment = Experiment(
        name=f"folders-{name}",
        variant=variant,
        title=f"{name}, {variant}",
        model=model,
        splits=splits,
        data=described,
        training=chosen.training,
        transfer=transfer,
        fit=fit,
    )
    launch(arguments, experiment)


if __name__ == "__main__":
    main()
