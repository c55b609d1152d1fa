"""R²ec: think once about a user, then score the whole catalogue from the thought's last hidden state."""

from typing import TYPE_CHECKING

from thinkrank._lazy import lazy_names

if TYPE_CHECKING:
    from thinkrank.retrieve.config import ContrastiveOptions, R2ecConfig, RecpoOptions
    from thinkrank.retrieve.contrastive import fit_contrastive
    from thinkrank.retrieve.model import R2ec
    from thinkrank.retrieve.presets import Preset, preset
    from thinkrank.retrieve.recpo import fit_recpo
    from thinkrank.retrieve.rules import RuleWriter

__all__ = [
    "ContrastiveOptions",
    "Preset",
    "R2ec",
    "R2ecConfig",
    "RecpoOptions",
    "RuleWriter",
    "fit_contrastive",
    "fit_recpo",
    "preset",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ContrastiveOptions": "config",
        "Preset": "presets",
        "R2ec": "model",
        "R2ecConfig": "config",
        "RecpoOptions": "config",
        "RuleWriter": "rules",
        "fit_contrastive": "contrastive",
        "fit_recpo": "recpo",
        "preset": "presets",
    },
)
