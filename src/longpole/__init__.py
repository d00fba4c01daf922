"""longpole: where each training step goes, with evidence. Importing this never imports torch.

import longpole

with longpole.record() as recording:
    for batch in batches:
        ...  # train as ever
print(recording.study())

study = longpole.open("trace.json.gz")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["LongpoleError", "Study", "open", "record"]

if TYPE_CHECKING:
    from longpole.analysis.study import Study
    from longpole.errors import LongpoleError
    from longpole.integrations.api import open, record  # noqa: A004 - longpole.open reads best


def __getattr__(name: str) -> Any:
    """Names are fetched when they are first asked for: numpy and reports cost a quarter of a second."""
    if name == "LongpoleError":
        from longpole.errors import LongpoleError

        return LongpoleError
    if name in __all__:
        from longpole.capture.random_state import undrawn

        with undrawn():
            from longpole.integrations import api

        return getattr(api, name)
    raise AttributeError(f"module 'longpole' has no attribute {name!r}")


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext longpole`: the magics `%longpole` and `%%longpole`."""
    from longpole.integrations.jupyter import register

    register(shell)
