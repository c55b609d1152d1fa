"""The model card that stands beside saved weights."""

from thinkrank.retrieve.r2ec.config import R2ecConfig

_CARD = """---
library_name: thinkrank
tags: [recommendation, retrieval, r2ec]
base_model: {backbone}
---

# An R²ec retriever

A low-rank adapter and an item table for `{backbone}`. It reads a history of {noun}s, can write a short thought about
what the person wants, and scores all {num_items:,} {noun}s of its catalogue from the last hidden state.

```python
import thinkrank

model = thinkrank.R2ec.from_pretrained("path/of/this/folder")
ranking = model.retrieve([["item id", "another item id"]], k=10, think=True)
ranking.table(model.catalogue)
```

| file | content |
|---|---|
| `config.json` | the whole configuration |
| `adapter.safetensors` | the adapter (rank {rank}) |
| `head.safetensors` | temperature, centres, item residuals and the item table |
| `catalogue.parquet` | the items, by row |

The base weights are not included. The thought comes from a small language model: it is a reading of the history, not a
fact about a person. Scores reflect the data the model was trained on, popularity included.
"""


def model_card(config: R2ecConfig, num_items: int) -> str:
    """Render the card of a model."""
    return _CARD.format(backbone=config.backbone, noun=config.prompt.noun, num_items=num_items, rank=config.lora.rank)
