"""Compiled programs are kept in the user's cache folder, so that only the first start has to compile them."""

from pathlib import Path
from typing import Any

from platformdirs import user_cache_path


def use_cache() -> Path | None:
    """Keep and look up every compiled program; where, or None where JAX's own settings turned it off.

    JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    import jax

    settings: Any = jax.config  # its names are not known to type checkers
    if not settings.jax_enable_compilation_cache:
        return None
    folder = Path(settings.jax_compilation_cache_dir or user_cache_path("jaxconv") / "compiled")
    settings.update("jax_compilation_cache_dir", str(folder))
    # By default only what took a second to compile is kept: half of the programs of a start.
    settings.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder
