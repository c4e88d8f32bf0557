"""How many programs JAX has compiled in this process, whatever they are called."""

from jax import monitoring

_COUNT = [0]


def _listen(event: str, *_, **__) -> None:
    _COUNT[0] += event == "/jax/core/compile/backend_compile_duration"


monitoring.register_event_duration_secs_listener(_listen)


def compiled() -> int:
    """Programs compiled so far, or read from a cache of compiled ones."""
    return _COUNT[0]
