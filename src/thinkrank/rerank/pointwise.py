"""Each candidate for itself: a network on its own features and the user's, trained by clicks.

What any list-wise model must beat: it sees the others only through features in units of the list.
"""

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from thinkrank.rerank.lists import ListBatch, ListEncoder, TrainingBatch
from thinkrank.rerank.losses import point_loss
from thinkrank.rerank.network import ListNetwork, NetworkOptions, NetworkReranker


class PointwiseOptions(NetworkOptions):
    """Hold the options of `Pointwise`."""

    model: Literal["pointwise"] = "pointwise"
    hidden: int = Field(64, ge=1, description="width of the hidden layer")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout after the hidden layer")


class PointwiseNetwork(ListNetwork):
    """Score candidates by a hidden layer on the candidate's and the user's vectors."""

    def __init__(self, encoder: ListEncoder, options: PointwiseOptions) -> None:
        super().__init__(encoder)
        self.head = nn.Sequential(
            nn.Linear(2 * encoder.options.width, options.hidden),
            nn.GELU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden, 1),
        )

    def scores(self, batch: ListBatch) -> Float[Tensor, "B N"]:
        """Return logits of a click."""
        return self.head(self.joint(batch))[:, :, 0]

    def loss(self, batch: TrainingBatch) -> Float[Tensor, ""]:
        """Return the binary cross-entropy, candidate by candidate."""
        return point_loss(self.scores(batch), batch.feedback_BN, batch.mask_BN)

    def count(self, batch: TrainingBatch) -> int:
        """Count the candidates, over which the loss is a mean."""
        return int(batch.mask_BN.sum())


class Pointwise(NetworkReranker[PointwiseOptions]):
    """Re-rank with the pointwise network; see the head of the file."""

    kind = "pointwise"
    config_class = PointwiseOptions
    network_class = PointwiseNetwork
