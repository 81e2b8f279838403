"""The trainer of which `fit` is under attention starts no more of Ray Train than is needed."""

from cluster.ray.attended_training import attended
from cluster.ray.room import workers_demand
from polyprag.config import ClusterConfig


def test_nothing_hands_out_data_sets_of_ray_s() -> None:
    from ray.train.torch import TorchTrainer

    config = ClusterConfig()
    trainer = attended(TorchTrainer, workers_demand(config), config)
    ours, theirs = (
        {type(hook).__name__ for hook in kind(print)._create_default_callbacks()}
        for kind in (trainer, TorchTrainer)
    )
    assert theirs - ours == {"DatasetsCallback"} and not ours - theirs
