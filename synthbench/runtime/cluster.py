"""A Dask cluster that takes the tasks of a command."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from synthbench.errors import UsageError


def dask_client(address: str, extra: str) -> Any:
    """Return a client of a Dask scheduler (a context manager).

    Parameters
    ----------
    address
        As the scheduler prints it: "tcp://host:8786".
    extra
        The extras of synthbench that install what is needed, for the message.

    Raises
    ------
    UsageError
        Dask is not installed, or no scheduler answers there.
    """
    if find_spec("dask") is None or find_spec("distributed") is None:
        raise UsageError(
            f"--dask needs dask and distributed, which are not installed. Type: pip install "
            f"'synthbench[{extra}]'"
        )
    from distributed import Client

    try:
        return Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"--dask {address}: no scheduler answers there ({' '.join(str(error).split())}). Start "
            "one with dask scheduler, and give the address that it prints (tcp://host:8786)."
        ) from error
