"""How the threads of a matrix product wait for the next one: asleep, so that a machine can be shared.

OpenMP's threads by default spin while they wait, up to a few milliseconds. Alone that saves waking them; beside
another program they keep a core from whoever has work to do, and each waits for the other's spinning
(benchmarks/shared_machine.py).
"""

import os
from collections.abc import Collection, MutableMapping

# GNU's OpenMP (torch's wheels for Linux), LLVM's and Intel's; they read these when they are loaded.
SPINS = "3000"
_SETTINGS = {"GOMP_SPINCOUNT": SPINS, "KMP_BLOCKTIME": "0"}
_POLICY = "OMP_WAIT_POLICY"


def share_cores(environment: MutableMapping[str, str], loaded: Collection[str]) -> bool:
    """Set how threads wait, unless the environment says so already or torch (among the modules `loaded`) has read it.

    Returns whether it was set.
    """
    if "torch" in loaded or any(name in environment for name in (_POLICY, *_SETTINGS)):
        return False
    environment.update(_SETTINGS)
    return True


def share_cores_here() -> bool:
    """The same for this process and those that it starts."""
    import sys

    return share_cores(os.environ, sys.modules)
