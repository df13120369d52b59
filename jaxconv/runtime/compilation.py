"""Compilation: the `jit` of this project, and the cache of compiled programs."""

import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from platformdirs import user_cache_path

from jaxconv.runtime.errors import InputError

# On a CPU, XLA uses the library YNNPACK for convolutions. Its backward pass is several times slower than XLA's own
# convolutions (tools/benchmarks/README.md). With this experimental option, YNNPACK does not compute convolutions.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def start_backend() -> None:
    """Start JAX's backend.

    Raises:
        InputError: JAX_PLATFORMS names a kind of device that is not there.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # for CUDA without its plugin, JAX has no more than an assertion
        named = os.environ.get("JAX_PLATFORMS")
        reason = str(error).strip().partition(" (set JAX")[0].partition("\n")[0] or "its plugin is not installed"
        cure = f"JAX_PLATFORMS is {named}; leave it out, or set it to cpu" if named else "set JAX_PLATFORMS=cpu"
        raise InputError(f"JAX finds no device ({reason}): {cure}") from error


@functools.cache
def compiler_options() -> dict[str, str]:
    """The compiler options of `jit` on the default backend: `CPU_OPTIONS` on a CPU, none elsewhere.

    This starts the backend. If the version of jaxlib does not know the options, there are none, after one warning.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(
            f"this version of XLA refuses jaxconv's compiler options, and convolutional nets train at about half the "
            f"speed on this CPU ({reason})",
            stacklevel=2,
        )
        return {}
    return CPU_OPTIONS


class jit:
    """`jax.jit` with `compiler_options`, chosen at the first call: importing a module starts no backend.

    JAX refuses a function with compiler options inside another `jit`, `scan` or `grad`, so only outermost functions use
    this. The wrapped functions are pure and undecorated, so you can scan, differentiate and jit them.
    """

    def __init__(self, function: Callable[..., Any], **arguments: Any) -> None:
        functools.update_wrapper(self, function)
        self._function, self._arguments = function, arguments

    @functools.cached_property
    def compiled(self) -> Any:
        """The function, compiled by `jax.jit`."""
        return jax.jit(self._function, compiler_options=compiler_options(), **self._arguments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the compiled function."""
        return self.compiled(*args, **kwargs)


def use_cache() -> Path | None:
    """Turn on JAX's compilation cache. Return its folder, or None if it is off.

    JAX_COMPILATION_CACHE_DIR sets another folder; JAX_ENABLE_COMPILATION_CACHE=false turns the cache off.
    """
    settings: Any = jax.config  # its names are not known to type checkers
    if not settings.jax_enable_compilation_cache:
        return None
    folder = Path(settings.jax_compilation_cache_dir or user_cache_path("jaxconv") / "compiled")
    settings.update("jax_compilation_cache_dir", str(folder))
    # By default, only programs that took a second to compile are cached: half of the programs of a start.
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder
