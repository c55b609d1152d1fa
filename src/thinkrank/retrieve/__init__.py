"""R²ec: think once about a user, then score the whole catalogue from the thought's last hidden state."""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.retrieve.config import ContrastiveOptions, Preset, R2ecConfig, preset
    from thinkrank.retrieve.contrastive import fit_contrastive
    from thinkrank.retrieve.model import R2ec

__all__ = ["ContrastiveOptions", "Preset", "R2ec", "R2ecConfig", "fit_contrastive", "preset"]

__getattr__ = lazy_names(
    __name__,
    {
        "ContrastiveOptions": "config",
        "Preset": "config",
        "R2ec": "model",
        "R2ecConfig": "config",
        "fit_contrastive": "contrastive",
        "preset": "config",
    },
)
