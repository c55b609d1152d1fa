"""A shop's exports as they come: semicolons, marks, Windows letters, euros, blanks, double clicks, lost zeros.

Everything is drawn by a seed, so a test knows what stands where.
"""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

PEOPLE, WINES, DAYS = 60, 48, 120
_COLORS, _GRAPES = ("red", "white", "rosé"), ("Riesling", "Merlot", "Rosé d'Anjou", "Müller-Thurgau", "Pinot")
_REGIONS = ("Bordeaux", "Mosel", "Rhône", "Rioja")


def write_dirty_shop(folder: Path, seed: int = 0) -> None:
    """Write `orders.csv` and `wines.csv`, dirty as the exports of a shop."""
    folder.mkdir(parents=True, exist_ok=True)
    random_ = random.Random(seed)
    (folder / "wines.csv").write_bytes("\r\n".join(_wines(random_)).encode("cp1252"))
    (folder / "orders.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(_orders(random_)).encode())


def _wines(random_: random.Random) -> list[str]:
    lines = ["sku;name;price;color;region;grape;vintage"]
    for number in range(WINES):
        grape, vintage = _GRAPES[number % len(_GRAPES)], 2008 + number % 12
        name = "" if number in (9, 30) else f'"{grape} &amp; Söhne {vintage}, No. {number} "'
        price = "ask us" if number == 17 else f"{random_.uniform(5, 60):.2f} €".replace(".", ",")
        color, region = random_.choice(_COLORS), random_.choice(_REGIONS)
        lines.append(f"{number + 1:05d};{name};{price};{color};{region};{grape};{vintage}")
    lines.append(lines[20])  # sku 00020 a second time
    return lines


def _orders(random_: random.Random) -> list[str]:
    lines = ["customer_id;sku;purchased_at;qty;event"]
    start = datetime(2024, 1, 1, 9, tzinfo=UTC)
    for day in range(DAYS):
        for person in random_.sample(range(PEOPLE), 9):
            at = start + timedelta(days=day, minutes=random_.randrange(600))
            # Everybody has a shelf of twelve wines and takes one of it again now and then.
            sku = f"{(person * 5 + random_.randrange(12)) % WINES + 1:05d}"
            customer = f"C{person:04d}" + (" " if random_.random() < 0.05 else "")
            for event in ("view", "cart", "purchase")[: random_.choice((1, 1, 2, 3))]:
                at += timedelta(minutes=1)
                lines.append(f"{customer};{sku};{at:%Y-%m-%d %H:%M:%S};1;{event}")
    for row in range(40, 60):  # Excel ate the zeros
        lines[row] = ";".join(
            part.lstrip("0") if place == 1 else part for place, part in enumerate(lines[row].split(";"))
        )
    for row in (100, 200):  # double clicks
        lines.insert(row, lines[row])
    for row, date in ((300, "03.02.2024 10:15"), (301, "")):  # an old form of dates, and none
        parts = lines[row].split(";")
        lines[row] = ";".join([*parts[:2], date, *parts[3:]])
    for row in (92, 400, 401):  # guests
        lines[row] = ";" + lines[row].split(";", 1)[1]
    lines[500] += ";"  # a field too many
    return lines
