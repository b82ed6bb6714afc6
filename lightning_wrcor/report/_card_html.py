"""HTML of a search card: everything that is not `Markup` is escaped, and nothing outside of the file is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that HTML does not allow, and halves of characters, which no file can hold."""

_ENDS = re.compile(r"([|+,_]|&gt;)(?=[^|])")
"""Where the parts of a name end."""


class Markup(str):
    """Text that is HTML already."""


def text(value: object) -> Markup:
    """The value as HTML: escaped, unless it is `Markup`."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(_CONTROL.sub("\ufffd", str(value))))


def joined(parts: Iterable[object], between: str = "\n") -> Markup:
    """Parts one after the other; empty ones are left out."""
    return Markup(between.join(one for one in map(text, parts) if one))


def tag(name: str, *parts: object, **attributes: object) -> Markup:
    """An element. Attributes of None are left out; ``class_`` is ``class``, and ``_`` in other names is ``-``."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>{joined(parts, '')}</{name}>")


def code(value: object) -> Markup:
    """A genotype's name, or another text of machines; lines break where its parts end, if they can."""
    return tag("code", Markup(_ENDS.sub(r"\1<wbr>", text(value))))


def section(key: str, title: str, *parts: object) -> Markup:
    """A part of the card with a heading, to which the list of contents leads."""
    return tag("section", tag("h2", title, id=f"{key}-title"), joined(parts), id=key, aria_labelledby=f"{key}-title")


def bullets(items: Iterable[object]) -> Markup:
    """A list; nothing where there are no items."""
    listed = joined((tag("li", one) for one in items), "")
    return tag("ul", listed) if listed else listed


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Names and values side by side."""
    return tag("dl", joined((tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), ""))


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]], *, name: int = 0) -> Markup:
    """A table; where rows have names of machines, which are long, each is a block of its own on a phone, with all its numbers.

    Args:
        caption: says what it is.
        head: titles of the columns.
        rows: as many cells each. Those before and after the column of names stand to the right, as numbers do.
        name: which column names the row.
    """
    titles = joined(
        (tag("th", title, scope="col", class_=None if place == name else "n") for place, title in enumerate(head)), ""
    )
    body = joined(tag("tr", joined(_cells(row, name, head), "")) for row in rows)
    whole = (tag("thead", tag("tr", titles)), tag("tbody", body))
    stacks = "stacks" if "<code>" in body else None
    return titled(caption, tag("table", *whole, class_=stacks, aria_label=caption))


def titled(caption: str, whole: Markup) -> Markup:
    """A table below its title, which stays where it is while the table scrolls."""
    box = tag("div", whole, class_="scroll", role="region", tabindex="0", aria_label=caption)
    return joined([tag("h3", caption), box])


def _cells(row: Sequence[object], name: int, head: Sequence[object]) -> Iterable[Markup]:
    for place, (cell, title) in enumerate(zip(row, head, strict=True)):
        # The title is shown by the style sheet, where the head is not.
        yield tag("th", cell, scope="row") if place == name else tag("td", cell, class_="n", data_title=title or None)


def settings_table(caption: str, rows: Iterable[tuple[object, object]]) -> Markup:
    """A table of names and values, which are text."""
    body = joined((tag("tr", tag("th", key, scope="row"), tag("td", value)) for key, value in rows))
    return titled(caption, tag("table", tag("tbody", body), class_="settings", aria_label=caption))


def page(title: str, body: Markup) -> str:
    """The whole file.

    Its policy refuses whatever is fetched or run: a name that were not escaped could do nothing.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --box: #f4f5f7; --ink: #16191d; --quiet: #545b64; --line: #d5d9de;
  --mark: #0b5fa5; --warn: #fff3d6; --warn-line: #b37400; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171a; --box: #1e2226; --ink: #e8eaed; --quiet: #a7afb8; --line: #3a4047; --mark: #7fbdf5;
    --warn: #33290f; --warn-line: #d9a441; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem clamp(1rem, 4vw, 2.5rem) 3rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1, h2, h3, p, dd, li, figcaption { overflow-wrap: anywhere; }
h1 { font-size: clamp(1.15rem, 0.95rem + 1.1vw, 1.7rem); line-height: 1.3; margin: 0.15rem 0 0.75rem; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 0.75rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.75rem 0 0.5rem; }
p { margin: 0.6rem 0; max-width: 48rem; }
ul { margin: 0.6rem 0; padding-left: 1.25rem; max-width: 48rem; }
li { margin: 0.3rem 0; }
code { font: 0.92em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
a { color: var(--mark); }
.kind { color: var(--quiet); margin: 0; }
.why { font-size: 1.12rem; line-height: 1.5; }
.quiet, figcaption { color: var(--quiet); }
.box { background: var(--box); border-left: 4px solid var(--mark); border-radius: 4px; padding: 0.7rem 1rem; margin: 1rem 0;
  max-width: 52rem; }
.box p { margin: 0.25rem 0; }
.warning { background: var(--warn); border-left-color: var(--warn-line); }
nav { margin: 1.5rem 0 0; }
nav a { display: inline-block; margin-right: 1.1rem; padding: 0.25rem 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 0.6rem; margin: 1.1rem 0; }
dl div { background: var(--box); border-radius: 6px; padding: 0.5rem 0.8rem; min-width: 0; }
dt { color: var(--quiet); font-size: 0.85rem; }
dd { margin: 0; font-weight: 600; font-size: 1.05rem; }
.figures { columns: 24rem 2; column-gap: 2rem; margin: 1.25rem 0; }
figure { margin: 0; padding-bottom: 1.5rem; max-width: 36rem; break-inside: avoid; }
figure.wide { column-span: all; max-width: none; }
figure img { display: block; width: 100%; max-width: var(--most); height: auto; background: #fff; border-radius: 6px;
  padding: 0.25rem; border: 1px solid var(--line); }
figure img.wide { min-width: var(--least); }
figcaption { font-size: 0.92rem; margin-top: 0.5rem; }
.scroll { overflow-x: auto; margin: 0.5rem 0 1rem; max-width: 100%; }
figure .scroll { margin: 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.8rem 0.35rem 0; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { vertical-align: bottom; font-weight: 600; }
.n { text-align: right; max-width: 9rem; }
.stacks td.n { white-space: nowrap; }
tbody th:has(code) { min-width: 11rem; }
tbody th { font-weight: 400; max-width: 26rem; }
.settings tbody th { min-width: 6rem; max-width: 14rem; color: var(--quiet); }
.settings td { overflow-wrap: anywhere; min-width: 10rem; max-width: 44rem; }
pre { overflow-x: auto; background: var(--box); border-radius: 6px; padding: 0.8rem 1rem; font-size: 0.85rem; }
summary { cursor: pointer; color: var(--mark); }
footer { margin-top: 3rem; border-top: 1px solid var(--line); color: var(--quiet); font-size: 0.9rem; }
@media screen and (max-width: 40rem) {
  body { padding-left: 0.75rem; padding-right: 0.75rem; }
  th, td { padding-right: 0.6rem; }
  .figures { columns: auto; }
  .figures .scroll { margin: 0 -0.75rem; max-width: none; }
  figure img { width: var(--least); max-width: none; }
  tbody th:has(code) { min-width: 8rem; }
  .settings td { min-width: 0; }
  .stacks, .stacks tbody, .stacks tr { display: block; }
  .stacks thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .stacks tr { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; padding: 0.55rem 0; border-bottom: 1px solid var(--line); }
  .stacks th, .stacks td { border: 0; padding: 0; max-width: none; }
  .stacks tbody th { flex: 1 0 80%; width: 80%; }
  .stacks td.n { text-align: left; }
  .stacks td[data-title]::before { content: attr(data-title) " "; color: var(--quiet); }
}
@media print {
  :root { color-scheme: light; --ground: #fff; --box: #f4f5f7; --ink: #000; --quiet: #444; --line: #bbb; --mark: #000;
    --warn: #fff; --warn-line: #000; }
  html { font-size: 10pt; }
  body { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, dl div, .box { break-inside: avoid; }
  .figures { columns: 2; }
  .scroll { overflow: visible; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .stacks td.n { white-space: normal; }
  details::details-content { content-visibility: visible; }
}
"""
