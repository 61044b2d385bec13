"""The devices that a run trains on: one, those of a host, or those of several hosts.

On several, each device has a copy of the network (a replica) and takes its part of
every batch; gradients, the statistics of batch norms and metrics are those of the whole
batch, so that the number of devices changes rounding alone, and dropout under
TensorFlow: there every replica draws the masks of its part from the same seed.
"""

import keras

from applications.train.distribution.base import Distribution
from applications.train.distribution.data_parallel import DataParallel
from applications.train.distribution.strategies import Mirrored, MultiWorker


def create(settings):
    """The `Distribution` of --distribution; to be called before all that computes."""
    kind, backend = settings.distribution, keras.backend.backend()
    if kind == "none":
        return Distribution()
    needs, why = "tensorflow", ""
    if kind == "data_parallel":
        needs, why = "jax", "; elsewhere Keras does not shard the data and says nothing"
    if backend != needs:
        raise ValueError(
            f"--distribution={kind} must run on the {needs} backend, got "
            f"{backend}{why}."
        )
    kinds = {"mirrored": Mirrored, "multi_worker": MultiWorker}
    kinds["data_parallel"] = DataParallel
    return kinds[kind](settings)
