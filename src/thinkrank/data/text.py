"""Item texts as people wrote them, without the markup that shops wrap around them.

Text is data: control tokens of language models, tags that are not HTML and right-to-left marks pass unchanged. Making
them harmless is the task of whoever puts them into a prompt or a page.
"""

import html

import polars as pl

# Tags that are not in this list, such as <answer> or <|im_end|>, are somebody's text. So is <s>, a token of old models.
_BLOCK_TAGS = "br|p|div|ul|ol|li|h[1-6]|table|thead|tbody|tfoot|tr|td|th|caption"
_INLINE_TAGS = "b|i|em|strong|span|font|a|img"
_TAG = r"(?i)</?(?:{names})(?:\s[^<>]*)?/?>"
_SCRIPT = r"(?is)<(?:script|style)\b[^<>]*>.*?</(?:script|style)\s*>"
_ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});"


def clean_text(texts: pl.Series) -> pl.Series:
    """Unescape HTML entities, strip HTML tags, and turn control characters and runs of whitespace into one space.

    Args:
        texts: any text; null stays null.

    Returns:
        the same length; null where nothing is left.
    """
    name = texts.name
    block, inline = _TAG.format(names=_BLOCK_TAGS), _TAG.format(names=_INLINE_TAGS)
    cleaned = (
        _unescape(texts)
        .str.replace_all(_SCRIPT, " ")
        .str.replace_all(block, " ")
        .str.replace_all(inline, "")
        .str.replace_all(r"[\p{Cc}\s]+", " ")
        .str.strip_chars(" ")
    )
    return cleaned.replace("", None).alias(name)


def clean_lists(lists: pl.Series) -> pl.Series:
    """Clean each text of each list, and drop those of which nothing is left; null stays null."""
    frame = pl.DataFrame({"list": lists}).with_row_index("index")
    texts = frame.drop_nulls("list").filter(pl.col("list").list.len() > 0).explode("list")
    texts = texts.with_columns(clean_text(texts["list"])).drop_nulls("list")
    regrouped = texts.group_by("index", maintain_order=True).agg("list")
    joined = frame.join(regrouped, on="index", how="left", maintain_order="left")
    empty = pl.lit([], dtype=pl.List(pl.String))
    return (
        joined.select(pl.when(pl.col("list").is_null()).then(None).otherwise(pl.col("list_right").fill_null(empty)))
        .to_series()
        .alias(lists.name)
    )


def _unescape(texts: pl.Series) -> pl.Series:
    # A column holds few different entities, so each is looked up once and the column is rewritten in one pass.
    entities = texts.str.extract_all(_ENTITY).drop_nulls().explode().drop_nulls().unique().sort().to_list()
    if not entities:
        return texts
    return texts.str.replace_many(entities, [html.unescape(entity) for entity in entities], leftmost=True)
