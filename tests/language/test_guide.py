"""The example of docs/guide/language.md runs as it stands."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "language.md"


def test_the_guides_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, str(GUIDE), "exec"), names)
    assert "torch.Size([64])" in capsys.readouterr().out
    gradients = [p.grad for name, p in names["backbone"].model.named_parameters() if "lora_B" in name]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
