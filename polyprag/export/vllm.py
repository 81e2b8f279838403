"""vLLM's plugin: `poly:KEY,KEY` is an adapter that is made when it is first asked for.

vLLM finds it by the entry point `vllm.general_plugins`. It does nothing unless POLYPRAG_VLLM_RUN
names a run; POLYPRAG_VLLM_DIR is where adapters are written (a temporary directory by default), and
POLYPRAG_VLLM_RANK their rank (all experts' by default).
"""

import asyncio
import hashlib
import logging
import os
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

RUN, DIRECTORY, RANK = "POLYPRAG_VLLM_RUN", "POLYPRAG_VLLM_DIR", "POLYPRAG_VLLM_RANK"
_PREFIX = "poly:"
_LOG = logging.getLogger(__name__)


def register() -> None:
    """Registers the resolver with vLLM, which calls this in each of its processes.

    Raises:
        ValueError: the rank isn't a number above 0.
    """
    run = os.environ.get(RUN)
    if not run:
        return
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

    rank = os.environ.get(RANK)
    if rank is not None and (not rank.isdecimal() or not int(rank)):
        raise ValueError(f"{RANK}={rank!r}: must be a number above 0")
    adapters = _Adapters(run, os.environ.get(DIRECTORY), rank=int(rank) if rank else None)

    class MixtureResolver(LoRAResolver):  # type: ignore[misc] # vLLM isn't installed with us
        """Makes adapters of passages."""

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            """Returns the adapter that a name asks for; None where it isn't one of ours."""
            if not lora_name.startswith(_PREFIX):
                return None
            found = await asyncio.to_thread(adapters.of, lora_name)
            if found is None:
                return None
            path, number = found
            return LoRARequest(
                lora_name=lora_name,
                lora_int_id=number,
                lora_path=str(path),
                base_model_name=base_model_name,
            )

    LoRAResolverRegistry.register_resolver("polyprag", MixtureResolver())


class _Adapters:
    """Adapters of one run on disk, made once each."""

    def __init__(self, run: str, directory: str | None, *, rank: int | None) -> None:
        self._run, self._rank = run, rank
        self._directory = Path(directory or tempfile.mkdtemp(prefix="polyprag-adapters-"))
        self._making = threading.Lock()
        self._opened: Any = None

    def of(self, name: str) -> tuple[Path, int] | None:
        """Returns an adapter's directory and its number; None where there is no such passage."""
        from polyprag.errors import PolypragError
        from polyprag.export.run_adapters import RunAdapters

        keys = [unquote(key) for key in name.removeprefix(_PREFIX).split(",")]
        try:
            with self._making:
                if self._opened is None:
                    self._opened = RunAdapters(self._run)
                named = f"{self._opened.experts_sha256} {self._rank} {name}"
                digest = hashlib.sha256(named.encode()).digest()
                path = self._directory / digest.hex()
                if not path.exists():
                    self._opened.write(keys, path, rank=self._rank)
        except PolypragError as error:
            _LOG.warning("%s: %s", name, error)
            return None
        return path, int.from_bytes(digest[:4]) % (2**31 - 1) + 1
