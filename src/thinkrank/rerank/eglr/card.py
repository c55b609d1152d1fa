"""The model card that stands beside saved weights."""

from thinkrank.rerank.eglr.config import EGLRConfig

_CARD = """---
library_name: thinkrank
tags: [recommendation, re-ranking, eglr]
---

# An EGLR re-ranker

It reads a displayed list of candidates and writes it anew, item by item; its catalogue has {num_items:,} items. Mode of
reasoning: {mode}, at most {steps} latent thoughts. The generator is a {generator}, the evaluator a {evaluator}.

```python
import thinkrank

model = thinkrank.load("path/of/this/folder")
ranking = model.rerank(lists.requests, lists.candidates, k=10)  # lists: what load_impressions reads, or Requests and
print(ranking.table(model.catalogue))  # Candidates of one's own, with the columns of schema.json
```

| file | content |
|---|---|
| `config.json` | the whole configuration |
| `schema.json` | the columns of the lists it reads |
| `writer.safetensors` | encoder, generator and reasoner |
| `evaluator.safetensors`, `evaluator_report.json` | what rewarded it, and how far that can be trusted |
| `catalogue.parquet` | the items, by row |

The paper (arXiv 2601.13533) was available to the authors of this code only through readers' notes: what it does not say
is reconstructed. Scores reflect the clicks the model was trained on, the places they were made at included.
"""


def model_card(config: EGLRConfig, num_items: int) -> str:
    """Render the card of a model."""
    return _CARD.format(
        num_items=num_items,
        mode=config.reasoning.mode,
        steps=config.reasoning.max_steps,
        generator=config.generator.kind.replace("_", " "),
        evaluator=config.evaluator.kind.replace("_", "-"),
    )
