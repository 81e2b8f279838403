"""`RUN/logs/tensorboard`: the event files of TensorBoard."""

import os
import tempfile

from cluster.record.metrics import StepMetrics
from sharding.storage.files import join, upload
from sharding.storage.urls import local_path

TENSORBOARD_DIRECTORY = "tensorboard"


class TensorBoardSink:
    """Writes event files; for a run behind a URL to this machine's disk, uploaded by `flush`."""

    def __init__(self, logs_dir: str, *, resumed_step: int) -> None:
        """Opens a new event file.

        Args:
            logs_dir: `RUN/logs`.
            resumed_step: the step that training goes on from; later ones that are there are void.
        """
        from torch.utils.tensorboard.writer import SummaryWriter

        self._url = join(logs_dir, TENSORBOARD_DIRECTORY)
        self._local: tempfile.TemporaryDirectory[str] | None = None
        directory = local_path(self._url)
        if directory is None:
            self._local = tempfile.TemporaryDirectory(prefix="polyprag-")
            directory = self._local.name
        self._writer = SummaryWriter(directory, purge_step=resumed_step + 1)

    def write(self, metrics: StepMetrics) -> None:
        """Adds a step's loss, learning rates and speed."""
        for name in ("loss", "experts_lr", "rows_lr"):
            self._writer.add_scalar(name, getattr(metrics, name), metrics.step)
        self._writer.add_scalar("tokens_per_second", metrics.tokens_per_second, metrics.step)

    def flush(self) -> None:
        """Uploads the event files of a run behind a URL."""
        if self._local is None:
            return
        self._writer.flush()
        for name in os.listdir(self._local.name):
            upload(join(self._local.name, name), join(self._url, name))

    def close(self, *, failed: bool = False) -> None:
        """Flushes and closes."""
        try:
            self.flush()
        finally:
            self._writer.close()
            if self._local is not None:
                self._local.cleanup()
