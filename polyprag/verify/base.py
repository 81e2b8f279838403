"""Whether the base model that a run's settings name is the one that its encoding was made with."""

from polyprag.config.files import CONFIG_FILE, load_config
from polyprag.encoding.base_check import check_run_base
from polyprag.encoding.manifest import MANIFEST_NAME
from polyprag.encoding.reader import encoding_dir
from polyprag.errors import PolypragError, RunError
from polyprag.pretrained import UnusableModelError
from polyprag.pretrained.where import is_on_this_machine
from polyprag.verify.findings import RunFindings
from sharding.checks.problem import Problem
from sharding.storage.files import exists, join


def verify_base(found: RunFindings, run_dir: str) -> None:
    """Compares the base model with RUN/encoding, whose settings and manifest can be read.

    A model on a hub isn't asked for, and one that isn't on this machine is no damage of the run.

    Args:
        found: of the run so far; gets the problem, or a note.
        run_dir: RUN.
    """
    directory = encoding_dir(run_dir)
    place = run_dir if exists(join(run_dir, CONFIG_FILE)) else directory
    url = join(directory, MANIFEST_NAME)
    try:
        config = load_config(run_dir=place, uses=())
        path = config.model.path
        if not is_on_this_machine(path):
            found.notes.append(f"{url}: its base model {path} is on a hub, and wasn't compared")
            return
        check_run_base(run_dir, config)
    except UnusableModelError as error:
        found.notes.append(f"{url}: its base model wasn't compared: {path}: {error}")
    except RunError as error:
        found.problems.append(Problem(url, f"{url}: {error}"))
    except PolypragError as error:
        found.notes.append(f"{url}: its base model wasn't compared: {error}")
