"""Measure the gain of each stage from plain Flax to jaxconv's training step on this CPU.

    python -m tools.benchmarks.staircase --rounds 5

The stages of the chapter's net take 32 pictures of 150x150 per step. The stages of a small residual net with batch norm
take 64 pictures of 96x96, and use only the `jit` and the memory setting of jaxconv. Every stage runs in a separate
process. The stages take turns within every round, so that a busy machine slows all of them alike. The table has the
median and the best round.
"""

import contextlib
import functools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxconv.runtime import machine
from jaxconv.runtime.cli import bare_parser, one_line_errors
from jaxconv.runtime.errors import InputError
from tools.bench import describe_machine
from tools.benchmarks.protocol import serve, working

if TYPE_CHECKING:
    import flax.linen as nn
    import optax


class Stage(NamedTuple):
    """A net, and the parts of jaxconv that it uses."""

    heading: str
    net: str
    option: bool = False  # the compiler option, by the project's `jit`
    pool: bool = False  # the gradient of max pooling
    memory: bool = False  # freed memory kept
    conv: bool = False  # jaxconv's convolution: its forward pass in training, and its kernel gradient


STAGES = {
    "plain": Stage("plain Flax and `jax.jit`", "chapter"),
    "option": Stage("+ compiler option", "chapter", True),
    "pool": Stage("+ gradient of max pooling", "chapter", True, True),
    "memory": Stage("+ freed memory kept", "chapter", True, True, True),
    "conv": Stage("+ convolutions: jaxconv's net", "chapter", True, True, True, True),
    "residual": Stage("a residual net, plain Flax and `jax.jit`", "residual"),
    "residual-option": Stage("the same + compiler option", "residual", True),
    "residual-memory": Stage("the same + freed memory kept", "residual", True, memory=True),
}
SHAPES = {"chapter": (32, 150, 150, 3), "residual": (64, 96, 96, 3)}


def build(stage: Stage) -> "nn.Module":
    """A linen module of one logit."""
    import flax.linen as nn

    from jaxconv.models import layers

    class Chapter(nn.Module):
        @nn.compact
        def __call__(self, x: Any, *, train: bool) -> Any:
            for features in (32, 64, 128, 128):
                x = layers.Conv(features)(x) if stage.conv else nn.Conv(features, (3, 3), padding="VALID")(x)
                x = nn.relu(layers.max_pool(x) if stage.pool else nn.max_pool(x, (2, 2), (2, 2)))
            x = nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
            x = nn.relu(nn.Dense(512)(x))
            return nn.Dense(1)(x)

    class Residual(nn.Module):
        @nn.compact
        def __call__(self, x: Any, *, train: bool) -> Any:
            conv = functools.partial(nn.Conv, kernel_size=(3, 3), use_bias=False)
            norm = functools.partial(nn.BatchNorm, use_running_average=not train)
            x = nn.relu(norm()(conv(24)(x)))
            for features in (24, 48, 96, 192):
                strides = 1 if features == 24 else 2
                y = nn.relu(norm()(conv(features, strides=strides)(x)))
                y = norm()(conv(features)(y))
                x = nn.relu(y + norm()(nn.Conv(features, (1, 1), strides, use_bias=False)(x)))
            return nn.Dense(1)(x.mean((1, 2)))

    return Chapter() if stage.net == "chapter" else Residual()


def step_function(model: "nn.Module", tx: "optax.GradientTransformation", labels: Any) -> Callable[..., Any]:
    """A training step in plain JAX: (state, images) to the new state and the loss."""
    import jax
    import jax.numpy as jnp
    import optax

    def step(state: Any, images: Any) -> Any:
        params, collections, moments, key = state
        key, dropout = jax.random.split(key)

        def loss(params: Any) -> Any:
            rngs, x = {"dropout": dropout}, images.astype(jnp.float32) / 255
            kept = [*collections]
            logits, new = model.apply({"params": params, **collections}, x, train=True, rngs=rngs, mutable=kept)
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], labels).mean(), new

        (value, collections), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = tx.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), collections, moments, key), value

    return step


class Worker:
    """One stage, ready to be timed."""

    def __init__(self, name: str, learning_rate: float = 1e-4) -> None:
        stage = STAGES[name]
        if stage.memory:
            machine.keep_freed_memory()  # before JAX starts its threads
        import jax
        import jax.numpy as jnp
        import numpy as np

        from jaxconv.config import Optimizer
        from jaxconv.runtime.compilation import jit
        from jaxconv.training import optimizers

        model, tx = build(stage), optimizers.make(Optimizer(learning_rate=learning_rate), 1)
        rng, shape = np.random.default_rng(0), SHAPES[stage.net]
        self.images = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = jnp.asarray(rng.integers(0, 2, shape[0]).astype(np.float32))
        variables = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape[1:])), train=False))()
        collections, params = {name: v for name, v in variables.items() if name != "params"}, variables["params"]

        def infer(state: Any, images: Any) -> Any:
            return model.apply({"params": state[0], **state[1]}, images.astype(jnp.float32) / 255, train=False)

        compile_ = jit if stage.option else jax.jit
        self._step, self._infer = compile_(step_function(model, tx, labels), donate_argnums=0), compile_(infer)
        self._state = params, collections, tx.init(params), jax.random.key(1)
        self._wait = jax.block_until_ready

    def train(self) -> float:
        """Take a step; returns its loss."""
        self._state, loss = self._step(self._state, self.images)
        return float(loss)

    def infer(self) -> None:
        """Compute the logits of a batch."""
        self._wait(self._infer(self._state, self.images))

    def measure(self, what: str, repeats: int) -> float:
        """The seconds of some steps or predictions, or the peak memory in MB."""
        if what == "peak_mb":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # from kB, Linux's unit
        started = time.perf_counter()
        for _ in range(repeats):
            getattr(self, what)()
        return time.perf_counter() - started


def measure(names: Sequence[str], rounds: int) -> list[str]:
    """The lines of a Markdown table with a row for each stage."""
    lines = ["| | training, images/s | inference, images/s | peak memory, MB |", "|---|---|---|---|"]
    with contextlib.ExitStack() as stack:
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        start = functools.partial(working, data=cache, cache=cache, workers="tools.benchmarks.staircase")
        asks: dict[str, Callable[..., float]] = {name: stack.enter_context(start(name)) for name in names}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
        for what, repeats in {"train": 3, "infer": 6}.items():
            for round_ in range(-1, rounds):  # the first round compiles and warms up; it is not counted
                for name, ask in asks.items():
                    speed = repeats * SHAPES[STAGES[name].net][0] / ask(what, repeats)
                    if round_ >= 0:
                        found[name].setdefault(what, []).append(speed)
        for name, ask in asks.items():
            peak = f"{ask('peak_mb'):,.0f}"
            cells = [f"{median(speeds):.0f} (best {max(speeds):.0f})" for speeds in found[name].values()]
            lines.append(f"| {' | '.join([STAGES[name].heading, *cells, peak])} |")
    return lines


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Measure the stages, and print their table."""
    parser = bare_parser("tools.benchmarks.staircase", __doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="number of rounds (default: %(default)s)")
    only_help = f"stages to measure, of {', '.join(STAGES)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=STAGES, default=[*STAGES], metavar="STAGE", help=only_help)
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        raise InputError(f"--rounds is {arguments.rounds}: give a whole number above 0")
    print("\n".join(measure(arguments.only, arguments.rounds)), flush=True)
    print(", ".join(f"{name} {value}" for name, value in describe_machine().items()))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in STAGES:
        serve(lambda: Worker(sys.argv[1]).measure)
    else:
        main()
