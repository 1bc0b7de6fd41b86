"""Documents in Markdown for scripts/check-docs: their fenced blocks, and faults of their text that need no server."""
import dataclasses, pathlib, re

COLUMNS = 100
# The longest documents, by name.
LONGEST = {"README.md": 150}
# Folders and files of the repository whose text may cite documents.
SOURCES = ("src", "scripts", "deploy", "tests/it", "tests/e2e", "migrations", ".ci", "Dockerfile", "docker-compose.yml",
           ".env.example", "Cargo.toml")
FENCE = re.compile(r"^( *)(`{3,}|~{3,}) *(.*)$")
EXEMPT = re.compile(r"^ *<!-- not run: (.+?)(?:; checked by (scripts/[\w-]+))? -->$", re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
# A path of the repository. A name that goes on with an ellipsis or a placeholder is no citation.
CITED = re.compile(r"(?<![\w/.@-])((?:docs|scripts|src|tests|deploy|migrations|fuzz|\.ci)/[\w./-]*\w|[A-Z]{4,}\.md)"
                   r"(?![\w/.-]*[…*{<$])")
CITED_BY_SOURCES = re.compile(r"(?<![\w/.-])(docs/[\w-]+\.md|[A-Z]{4,}\.md)(#[\w-]+)?")


@dataclasses.dataclass
class Block:
    """A fenced block. `line` is that of its opening fence; `exempt` is the reason why it isn't run, or None."""
    line: int
    language: str
    words: list
    text: str
    exempt: str = None
    checked_by: str = None


class Document:
    """A text in Markdown, with its name for messages."""

    def __init__(self, name, text):
        self.name, self.text = name, text
        self.blocks, self.prose = [], []
        self._read()

    def _read(self):
        """Fills `blocks`, and `prose` with (number, line) of all lines outside of them."""
        open_fence, comment, last = None, "", ""
        for number, line in enumerate(self.text.splitlines(), 1):
            found = FENCE.match(line)
            if open_fence is None and found:
                indent, open_fence, info = len(found[1]), found[2], found[3].split()
                exempt = EXEMPT.match(last)
                block = Block(number, info[0] if info else "", info[1:], "", *(exempt.groups() if exempt else ()))
                lines = []
            elif open_fence is not None:
                if found and found[2].startswith(open_fence) and not found[3]:
                    block.text = "".join(f"{one}\n" for one in lines)
                    self.blocks.append(block)
                    open_fence, last = None, ""
                else:
                    lines.append(line[min(indent, len(line) - len(line.lstrip())):])
            else:
                self.prose.append((number, line))
                # A comment may take several lines; blank lines may follow it.
                if comment or line.lstrip().startswith("<!--"):
                    comment = f"{comment} {line.strip()}".strip()
                    if comment.endswith("-->"):
                        last, comment = comment, ""
                elif line.strip():
                    last = line
        if open_fence is not None:
            raise SystemExit(f"{self.name}: a block that begins in line {block.line} has no end")

    def anchors(self):
        """The anchors of its headings, as GitHub makes them, and those that are written out."""
        anchors, counts = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", self.text)), {}
        for _, line in self.prose:
            heading = re.match(r"#{1,6} +(.*?) *#*$", line)
            if heading:
                title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
                slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
                count = counts[slug] = counts.get(slug, -1) + 1
                anchors.add(f"{slug}-{count}" if count else slug)
        return anchors


def find_faults(tree, documents):
    """Faults of the documents' text: long lines, links and citations that lead nowhere, files of the repository that
    cite a document or an anchor which isn't there. Returns the faults and how many references were looked at."""
    faults, references = [], 0
    known = {document.name: document for document in documents}

    def load(path):
        name = path.relative_to(tree).as_posix()
        if name not in known:
            known[name] = Document(name, path.read_text())
        return known[name]

    def resolve(where, target, anchor):
        nonlocal references
        references += 1
        if not target.exists() or tree not in (target, *target.parents):
            faults.append(f"{where}: there is no {target.relative_to(tree) if tree in target.parents else target}")
        elif anchor and target.suffix == ".md" and anchor not in load(target).anchors():
            faults.append(f"{where}: {target.relative_to(tree)} has no heading #{anchor}")

    for document in documents:
        lines = document.text.splitlines()
        most = LONGEST.get(document.name)
        if most and len(lines) > most:
            faults.append(f"{document.name}: {len(lines)} lines; at most {most} are allowed")
        for number, line in document.prose:
            where = f"{document.name}:{number}"
            # A line without a space, such as an address, can't be wrapped.
            if len(line) > COLUMNS and not line.lstrip().startswith("|") and " " in line.strip():
                faults.append(f"{where}: {len(line)} columns; wrap at {COLUMNS}")
        for number, line in enumerate(lines, 1):
            where = f"{document.name}:{number}"
            for cited in CITED.findall(LINK.sub("", line)):
                resolve(where, tree / cited, None)
        # A link's text may be wrapped.
        prose = "\n".join(re.sub(r"`[^`]*`", "", line) for _, line in document.prose)
        for link in LINK.findall(prose):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (tree / document.name).parent / path if path else tree / document.name
            resolve(f"{document.name}: the link {link}", target.resolve(), anchor)
        for block in document.blocks:
            if block.checked_by:
                resolve(f"{document.name}:{block.line}", tree / block.checked_by, None)

    for source in SOURCES:
        root = tree / source
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if not path.is_file() or {"node_modules", "__pycache__"} & set(path.parts):
                continue
            try:
                text = path.read_text()
            except UnicodeDecodeError:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                for name, anchor in CITED_BY_SOURCES.findall(line):
                    # include_str! names files beside the source.
                    beside = path.parent / name
                    target = beside if beside.exists() else tree / name
                    resolve(f"{path.relative_to(tree)}:{number}", target, anchor[1:])
    return faults, references
