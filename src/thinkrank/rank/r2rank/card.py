"""The model card that stands beside saved weights."""

from thinkrank.rank.r2rank.config import R2RankConfig

_CARD = """---
library_name: thinkrank
tags: [recommendation, ranking, r2rank]
base_model: {backbone}
---

# An R2Rank ranker

A low-rank adapter and a scoring head for `{backbone}`. It reads a history of {noun}s and one candidate at a time,
{how}, and gives each pair a score. The order in which candidates are given changes nothing.

```python
import thinkrank

model = thinkrank.load("path/of/this/folder")
history = [model.catalogue.find("a title")]  # catalogue rows, oldest first; or ids
ranking = model.rank([history], [[3, 14, 15]])
print(ranking.table(model.catalogue))
```

| file | content |
|---|---|
| `config.json` | the whole configuration |
| `adapter.safetensors` | the adapter (rank {rank}) |
| `head.safetensors` | the scoring head |
| `catalogue.parquet` | the {num_items:,} items, by row |

The base weights are not included. A thought comes from a small language model: it is a reading of history and
candidate, not a fact about a person. Scores compare candidates of one person only.
"""


def model_card(config: R2RankConfig, num_items: int) -> str:
    """Render the card of a model."""
    how = "writes a short thought about the two" if config.thinks else "asks whether they fit"
    return _CARD.format(
        backbone=config.backbone, noun=config.prompt.noun, num_items=num_items, rank=config.lora.rank, how=how
    )
