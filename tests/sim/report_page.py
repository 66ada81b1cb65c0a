"""A page of a report, taken apart."""

from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input", "path", "use", "rect", "circle", "line", "wbr"}
NEXT_TO_A_NAME = "\N{NO-BREAK SPACE}"


class Page(HTMLParser):
    """Checks that tags are closed in order; keeps ids, links, words and table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if data[1:] == NEXT_TO_A_NAME:
            return
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(cells[1:] for cells in self.rows if cells and cells[0] == name)

    def rows_after(self, column: str) -> list[list[str]]:
        """Those of the table with this column, and of what follows it."""
        return self.rows[next(at for at, cells in enumerate(self.rows) if column in cells) + 1 :]
